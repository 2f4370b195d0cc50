//! Histories recorded from real servers, replayed against today's code: whatever it decided then, at each
//! row, it decides now. A saga that is under way was begun by an older program and goes on by this one,
//! so what differs here breaks orders that exist.
//!
//! A file is what `guichet saga show ID -o json` says of a saga that has come to rest. CONTRIBUTING.md
//! says how to record one; those that are here are never changed.

use chrono::DateTime;
use contract::{Outcome, SagaId, StepKind, StepName, outage};
use saga::{
    Action, DEADLINE_NEAR, Definition, Input, Instance, Now, ReplyInput, Send, SignalKind,
    StepDefinition, Steps, Transition, order, start, step,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Draws of chance that are tried for one row.
const DRAWS: u64 = 64;
/// Sagas that one may have been at the same time.
const WAYS_MAX: usize = 64;
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
    // What its owner had heard of the provider from other sagas: nothing, or that it is away.
    let of_a_payment = |step: &&StepDefinition| StepName::OF_A_PAYMENT.contains(&step.name);
    let of_a_payment = by.steps.iter().filter(of_a_payment);
    let away: Steps = of_a_payment.map(|step| step.number).collect();
    let mut codes = rows.iter().filter_map(|row| row["code"].as_str());
    let was_away = codes.any(outage::says_away);
    let heard = [Some(Steps::default()), was_away.then_some(away)];
    let mut reached = BTreeSet::new();
    // What it may have been: one, but while more hangs on what nobody wrote down than a row shows.
    let mut sagas: Vec<Instance> = Vec::new();
    for row in rows {
        let (definition, was) = (&by, recorded(row));
        let place = format!("{}: {row}", file.display());
        let mut ways = Vec::new();
        if sagas.is_empty() {
            ways.push(Ok(start(definition, id, 1, Now::new(at(row), 0))));
        }
        for saga in &sagas {
            let input = input(definition, saga, row);
            // The jitter was drawn otherwise: the time of a pause has come when it is told so.
            let due = saga.wake_at.filter(|_| input == Input::Wake);
            let ms = at(row).max(due.unwrap_or(0));
            for open in heard.into_iter().flatten() {
                let decide = |seed| {
                    let now = Now {
                        open,
                        ..Now::new(ms, seed)
                    };
                    step(definition, saga, &input, now)
                };
                // Whether one more pause fits into the budget may hang on its draw: some draw has to lead to
                // what was decided.
                let mut draws = (0..DRAWS).map(|n| decide(n.wrapping_mul(SPREAD)));
                let is_same = |way: &Transition| today(definition, way) == was;
                let same = draws.find(|way| way.as_ref().is_ok_and(is_same));
                ways.push(same.unwrap_or_else(|| decide(0)));
            }
        }
        sagas = Vec::new();
        let mut others = Vec::new();
        for way in ways {
            match way {
                Ok(way) if today(definition, &way) == was => {
                    assert_eq!(row["rev"], way.next.rev, "{place}");
                    if !sagas.contains(&way.next) {
                        sagas.push(way.next);
                    }
                }
                Ok(way) => others.push(format!("{:?}", today(definition, &way))),
                Err(why) => others.push(why.to_string()),
            }
        }
        let known = !sagas.is_empty() && sagas.len() <= WAYS_MAX;
        assert!(known, "{place}: then {was:?}, now {others:#?}");
        let kind = row["kind"]
            .as_str()
            .map_or(String::new(), |kind| format!(" {kind}"));
        let by_a_person = row["code"].as_str().filter(|_| row["input"] == "operator");
        let outcome = row["outcome"].as_str().or(by_a_person).unwrap_or_default();
        reached.insert(format!(
            "{}{kind} {outcome}",
            row["input"].as_str().unwrap_or_default()
        ));
        if row["kind"] == "probe" && row["input"] == "reply" {
            let step = row["step"].as_str().unwrap_or_default();
            reached.insert(format!("{step} probe {outcome}"));
        }
        if row["code"] == "migrate" {
            by = labelled(&row["detail"]["to"]);
        }
    }
    assert_eq!(
        history["definition"],
        by.label().as_str(),
        "{}",
        file.display()
    );
    let told = |saga: &Instance| {
        let (state, attention) = (saga.state.name(), saga.flags.attention);
        json!([state, saga.reason, attention])
    };
    let was = json!([history["state"], history["reason"], history["attention"]]);
    let saga = sagas.iter().find(|saga| told(saga) == was);
    let may_be: Vec<Value> = sagas.iter().map(told).collect();
    let saga = saga.unwrap_or_else(|| panic!("{}: then {was}, now {may_be:?}", file.display()));
    let was_moved = if moved.is_some() { "moved, " } else { "" };
    reached.insert(format!("{was_moved}ends {}", saga.state.name()));
    if let Some(reason) = history["reason"].as_str() {
        let warned = rows.iter().any(|row| row["code"] == DEADLINE_NEAR);
        let was_warned = if warned { "warned, " } else { "" };
        reached.insert(format!("{was_warned}ends for {reason}"));
    }
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
    "reply probe done",
    "reply probe rejected",
    "reply probe unknown",
    "reply undo done",
    "reply undo retry",
    "reply undo rejected",
    "signal do ",
    "end do ",
    "wake do ",
    "wake probe ",
    "wake undo ",
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
    "ends for deadline_exceeded",
    "warned, ends for payment_unavailable",
    "warned, ends for authentication_failed",
    "ends for definition_withdrawn",
];

/// What those of one version have to have besides. One that was moved is of the version that it came to.
const MUST_BY_VERSION: &[(&str, &str)] = &[
    ("order@2", "capture probe done"),
    ("order@2", "capture probe rejected"),
    ("order@2", "capture probe unknown"),
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
