//! Histories recorded from real servers, replayed against today's code: whatever it decided then, at each
//! row, it decides now. A saga that is under way was begun by an older program and goes on by this one,
//! so what differs here breaks orders that exist.
//!
//! A file is what `guichet saga show ID -o json` says of a saga that has come to rest. CONTRIBUTING.md
//! says how to record one; those that are here are never changed.

use chrono::DateTime;
use contract::{Outcome, SagaId, StepKind};
use saga::{
    Action, Definition, Input, Instance, Now, ReplyInput, Send, SignalKind, Transition, order,
    start, step,
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Draws of chance that are tried for one row.
const DRAWS: u64 = 64;
/// Spreads them over all that a seed can be (2^64 by the golden ratio).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// What was decided at a row, in words: of the history, or of today's code.
#[derive(Debug, PartialEq, Eq)]
struct Decided {
    state: String,
    status: String,
    code: Option<String>,
    next: Option<(String, String, i64)>,
}

fn recorded(row: &Value) -> Decided {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let next = &row["next"];
    Decided {
        state: text(&row["state"]).expect("a state"),
        status: text(&row["status"]).expect("a status"),
        code: text(&row["code"]),
        next: text(&next["step"]).map(|step| {
            let kind = text(&next["kind"]).expect("a kind");
            (step, kind, next["attempt"].as_i64().expect("an attempt"))
        }),
    }
}

fn today(definition: &Definition, transition: &Transition) -> Decided {
    let next = |send: Send| {
        let step = definition
            .step(send.step)
            .expect("a step of the definition");
        let kind = send.kind.name().to_owned();
        (step.name.to_string(), kind, i64::from(send.attempt))
    };
    Decided {
        state: transition.log.state.name().to_owned(),
        status: transition.next.status(definition).name().to_owned(),
        code: transition.log.code.clone(),
        next: transition.send.map(next),
    }
}

/// The input that a row of the history was made of.
fn input(definition: &Definition, saga: &Instance, row: &Value) -> Input {
    let code = row["code"].as_str().map(str::to_owned);
    let number = |name: &Value| {
        let name = name.as_str().expect("a step's name");
        let named = definition.steps.iter().find(|s| s.name.as_str() == name);
        named.expect("a step of the definition").number
    };
    match row["input"].as_str().expect("an input") {
        "reply" => Input::Reply(ReplyInput {
            seq: saga.seq,
            outcome: serde_json::from_value::<Outcome>(row["outcome"].clone()).expect("an outcome"),
            code,
            retry_after_ms: None,
        }),
        "wake" => Input::Wake,
        // The history does not say which kind it was, but what it caused.
        "signal" => Input::Signal {
            step: number(&row["step"]),
            kind: match row["next"]["kind"].as_str() {
                Some("probe") => SignalKind::Nudge,
                _ => SignalKind::Decision,
            },
        },
        "end" => Input::End {
            reason: code.expect("a reason"),
        },
        "operator" if row["detail"]["action"] == "migrate" => {
            let (from, to) = (
                labelled(&row["detail"]["from"]),
                labelled(&row["detail"]["to"]),
            );
            let (from, to) = (from.id, Arc::new(to));
            Input::Migrate { from, to }
        }
        "operator" => Input::Act(action(&row["detail"], number)),
        other => panic!("no input is called {other}"),
    }
}

fn labelled(label: &Value) -> Definition {
    let mut versions = order::versions().into_iter();
    let found = versions.find(|version| *label == version.label().as_str());
    found.expect("a version")
}

fn action(told: &Value, number: impl Fn(&Value) -> u8) -> Action {
    let audit = told["audit"].as_i64().unwrap_or_default();
    match told["action"].as_str().expect("an action") {
        "retry" => Action::Retry,
        "correct" => Action::Correct {
            step: number(&told["step"]),
        },
        "resolve" => Action::Resolve {
            step: number(&told["step"]),
        },
        "abandon" => Action::Abandon {
            approver: told["by"].as_str().expect("a person").to_owned(),
        },
        "pause" => Action::Pause { audit },
        "resume" => Action::Resume { audit },
        other => panic!("no action is called {other}"),
    }
}

/// Replays one; returns what it reached, for a look at what the corpus is good for.
fn replay(history: &Value, file: &Path) -> BTreeSet<String> {
    let rows = history["timeline"].as_array().expect("a timeline");
    // The version that it has come to in the end; until its move it ran by the one that it began by.
    let mut moves = rows.iter().map(|row| &row["detail"]);
    let moved = moves.find(|told| told["action"] == "migrate");
    let mut by = labelled(moved.map_or(&history["definition"], |told| &told["from"]));
    let id: SagaId = serde_json::from_value(history["id"].clone()).expect("an id");
    let at = |row: &Value| {
        let at = row["at"].as_str().expect("a time");
        DateTime::parse_from_rfc3339(at)
            .expect("a time")
            .timestamp_millis()
    };
    let mut reached = BTreeSet::new();
    let mut saga: Option<Instance> = None;
    for row in rows {
        let definition = &by;
        let transition = match &saga {
            None => {
                let ms = at(row);
                start(definition, id, 1, Now::new(ms, 0))
            }
            Some(saga) => {
                let input = input(definition, saga, row);
                // The jitter was drawn otherwise: the time of a pause has come when it is told so.
                let due = saga.wake_at.filter(|_| input == Input::Wake);
                let ms = at(row).max(due.unwrap_or(0));
                let decide = |seed| {
                    step(definition, saga, &input, Now::new(ms, seed))
                        .unwrap_or_else(|why| panic!("{}: {row}: {why}", file.display()))
                };
                // Whether one more pause fits into the budget may hang on its draw, which nobody wrote
                // down: some draw has to lead to what was decided.
                let was = recorded(row);
                let draws = (0..DRAWS).map(|n| decide(n.wrapping_mul(SPREAD)));
                let mut same = draws.filter(|drawn| today(definition, drawn) == was);
                same.next().unwrap_or_else(|| decide(0))
            }
        };
        let (was, is) = (recorded(row), today(definition, &transition));
        assert_eq!(is, was, "{}: {row}", file.display());
        let rev = transition.next.rev;
        assert_eq!(row["rev"], rev, "{}: {row}", file.display());
        let kind = row["kind"]
            .as_str()
            .map_or(String::new(), |kind| format!(" {kind}"));
        let by_a_person = row["code"].as_str().filter(|_| row["input"] == "operator");
        let outcome = row["outcome"].as_str().or(by_a_person).unwrap_or_default();
        reached.insert(format!(
            "{}{kind} {outcome}",
            row["input"].as_str().unwrap_or_default()
        ));
        if row["code"] == "migrate" {
            by = labelled(&row["detail"]["to"]);
        }
        saga = Some(transition.next);
    }
    assert_eq!(
        history["definition"],
        by.label().as_str(),
        "{}",
        file.display()
    );
    let saga = saga.expect("a history has a beginning");
    assert_eq!(history["state"], saga.state.name(), "{}", file.display());
    assert_eq!(
        history["attention"],
        saga.flags.attention,
        "{}",
        file.display()
    );
    let was_moved = if moved.is_some() { "moved, " } else { "" };
    reached.insert(format!("{was_moved}ends {}", saga.state.name()));
    reached
}

fn files(label: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/histories")
        .join(label);
    let entries =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    files
}

#[test]
fn what_was_decided_once_is_decided_today() {
    for definition in order::versions() {
        let label = definition.label();
        let mut reached = BTreeSet::new();
        for file in files(&label) {
            let text = fs::read_to_string(&file).expect("a file");
            let history: Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(history["definition"], label.as_str(), "{}", file.display());
            reached.extend(replay(&history, &file));
        }
        let own = MUST_BY_VERSION.iter().filter(|(of, _)| *of == label);
        for must in MUST.iter().chain(own.map(|(_, must)| must)) {
            assert!(
                reached.contains(*must),
                "{label}: no history has `{must}`: {reached:?}"
            );
        }
    }
}

/// What the histories of each version have to have among them.
const MUST: &[&str] = &[
    "start ",
    "reply do done",
    "reply do rejected",
    "reply do retry",
    "reply do waiting",
    "reply probe unknown",
    "reply undo done",
    "reply undo retry",
    "reply undo rejected",
    "operator do pause",
    "operator do resume",
    "operator retry",
    "operator do correct",
    "operator correct",
    "operator resolve",
    "operator abandon",
    "ends completed",
    "ends compensated",
    "ends abandoned",
];

/// What those of one version have to have besides. One that was moved is of the version that it came to.
const MUST_BY_VERSION: &[(&str, &str)] = &[
    ("order@2", "operator do migrate"),
    ("order@2", "moved, ends completed"),
    ("order@2", "moved, ends compensated"),
];

/// Kinds are written as the bus has them.
#[test]
fn kinds_have_one_name() {
    for kind in [StepKind::Do, StepKind::Undo, StepKind::Probe] {
        assert_eq!(serde_json::to_value(kind).expect("JSON"), kind.name());
    }
}
