//! `every-end-undoes`, `unknown-is-a-result` and `failed-undo-is-work`: what the history of a saga that was
//! undone has to show.

use super::{ABANDONED, Found, people};
use crate::{
    Evidence,
    books::{Books, Definition, Moment, Saga},
};
use std::collections::BTreeMap;
use uuid::Uuid;

const DO: Option<i16> = Some(1);
const UNDO: Option<i16> = Some(2);
const DONE: Option<i16> = Some(1);
const REJECTED: Option<i16> = Some(2);
const RETRY: Option<i16> = Some(3);
const UNKNOWN: Option<i16> = Some(4);
const PROBE: Option<i16> = Some(3);
/// Inputs of a history: what a worker answered, and that its time has come.
const REPLY: i16 = 2;
const WAKE: i16 = 3;
/// The reasons of an end that came from elsewhere than from a step. It may have waited for the outcome of what
/// was under way, and is decided by it.
const ENDINGS: [&str; 4] = [
    "customer_cancelled",
    "operator_ended",
    "definition_withdrawn",
    "deadline_exceeded",
];
/// Of what a step's tries were spent in vain.
const STEP_FAILED: &str = "step_failed";

/// The sagas that were undone, or given up with what could not be, with their histories.
fn undone(evidence: &Evidence) -> Vec<(&Saga, Vec<&Moment>)> {
    let mut histories: BTreeMap<Uuid, Vec<&Moment>> = BTreeMap::new();
    for moment in &evidence.books.history {
        histories.entry(moment.saga_id).or_default().push(moment);
    }
    let sagas = evidence.books.sagas.iter();
    let sagas = sagas.filter(|saga| saga.state == 5 || saga.state == ABANDONED);
    let with_history = sagas.map(|saga| {
        let mut history = histories.remove(&saga.id).unwrap_or_default();
        history.sort_unstable_by_key(|moment| moment.rev);
        (saga, history)
    });
    with_history.collect()
}

/// The steps of a definition: number and name, in the order in which they run.
fn steps(definitions: &[Definition], id: i16) -> Vec<(i16, String)> {
    let definition = definitions.iter().find(|definition| definition.id == id);
    let steps = definition.and_then(|definition| definition.body["steps"].as_array());
    let steps = steps.into_iter().flatten().filter_map(|step| {
        let number = i16::try_from(step["number"].as_i64()?).ok()?;
        Some((number, step["name"].as_str()?.to_owned()))
    });
    steps.collect()
}

pub(super) fn every_end_undoes(evidence: &Evidence, found: &mut Found<'_>) {
    for (saga, history) in undone(evidence) {
        let subject = format!("saga {}", saga.id);
        let steps = steps(&evidence.books.definitions, saga.definition);
        let mut first_undos = Vec::new();
        for (place, (number, name)) in steps.iter().enumerate() {
            let of_step = |moment: &&&Moment| moment.next_step == Some(*number);
            let first = history
                .iter()
                .filter(of_step)
                .find(|moment| moment.next_kind == UNDO);
            first_undos.extend(first.map(|moment| (moment.rev, place, name)));
            let begun = history
                .iter()
                .filter(of_step)
                .rfind(|moment| moment.next_kind == DO);
            let Some(begun) = begun else { continue };
            let settled = history.iter().any(|moment| {
                moment.step == Some(*number)
                    && moment.rev > begun.rev
                    && (moment.kind == UNDO && moment.outcome == DONE
                        || moment.kind != UNDO && moment.outcome == REJECTED)
            });
            if !settled && !people::taken_over(&evidence.books, saga).contains(name.as_str()) {
                found.that(
                    &subject,
                    format!("{name} was begun and neither undone nor refused"),
                );
            }
        }
        first_undos.sort_unstable();
        for pair in first_undos.windows(2).filter(|pair| pair[1].1 > pair[0].1) {
            found.that(
                &subject,
                format!("{} was undone before {}", pair[0].2, pair[1].2),
            );
        }
    }
}

pub(super) fn unknown_is_a_result(evidence: &Evidence, found: &mut Found<'_>) {
    asked_about(evidence, found);
    for (saga, history) in undone(evidence) {
        for (number, name) in steps(&evidence.books.definitions, saga.definition) {
            let of_step =
                |moment: &&&Moment| moment.step == Some(number) && moment.outcome.is_some();
            let last = history
                .iter()
                .filter(of_step)
                .rfind(|moment| moment.kind != UNDO);
            let Some(last) = last else { continue };
            let taken_over = people::taken_over(&evidence.books, saga).contains(name.as_str());
            if taken_over || matches!(last.outcome, DONE | REJECTED) {
                continue;
            }
            let undone = history.iter().filter(of_step).any(|moment| {
                moment.rev > last.rev && moment.kind == UNDO && moment.outcome == DONE
            });
            if !undone {
                let detail = format!("what became of {name} is not known, and it was not undone");
                found.that(format!("saga {}", saga.id), detail);
            }
        }
    }
}

/// Where it is not known what became of a step it is asked, before it is undone, tried again or taken for anything.
/// A step of ours is asked by the same `do` once more, which its history also calls a probe.
fn asked_about(evidence: &Evidence, found: &mut Found<'_>) {
    let books = &evidence.books;
    let sagas: BTreeMap<Uuid, &Saga> = books.sagas.iter().map(|saga| (saga.id, saga)).collect();
    for moment in books.history.iter().filter(|moment| moment.kind == DO) {
        let Some((saga, step)) = sagas.get(&moment.saga_id).zip(moment.step) else {
            continue;
        };
        let reason = saga.reason.as_deref().unwrap_or_default();
        let ended_from_elsewhere = ENDINGS.contains(&reason);
        let is_undone = (moment.next_step, moment.next_kind) == (moment.step, UNDO);
        let is_asked = (moment.next_step, moment.next_kind) == (moment.step, PROBE);
        let spent = match moment.input {
            // Nobody answered; a wait that is over and the saga's own deadline have reasons of their own.
            WAKE => is_undone && reason == STEP_FAILED,
            REPLY if moment.outcome == RETRY => is_undone && !ended_from_elsewhere,
            REPLY if moment.outcome == UNKNOWN => {
                let has_ended = is_undone && ended_from_elsewhere;
                !has_ended && !is_asked && !is_retriable(books, saga.definition, step)
            }
            _ => false,
        };
        if spent {
            let name = people::step_name(books, saga.definition, step).unwrap_or("a step");
            let detail = format!(
                "nobody asked what had become of {name}, at revision {}",
                moment.rev
            );
            found.that(format!("saga {}", saga.id), detail);
        }
    }
}

/// Whether it comes after the pivot and is only ever tried again.
fn is_retriable(books: &Books, definition: i16, number: i16) -> bool {
    let definition = books.definitions.iter().find(|one| one.id == definition);
    let steps = definition.and_then(|definition| definition.body["steps"].as_array());
    let mut steps = steps.into_iter().flatten();
    steps.any(|step| {
        step["number"].as_i64() == Some(i64::from(number)) && step["class"] == "retriable"
    })
}

pub(super) fn failed_undo_is_work(evidence: &Evidence, found: &mut Found<'_>) {
    for saga in &evidence.books.sagas {
        for step in people::taken_over(&evidence.books, saga) {
            if !failed(evidence, saga, step) {
                let detail = format!("a person took over {step}, and nothing of it had failed");
                found.that(format!("saga {}", saga.id), detail);
            }
        }
    }
    for saga in evidence
        .books
        .sagas
        .iter()
        .filter(|saga| saga.failed_undo != 0)
    {
        let subject = format!("saga {}", saga.id);
        if saga.failed_undo & !saga.maybe_in_force != 0 {
            found.that(&subject, "a failed undo is not counted as in force");
        }
        if !saga.ended() && (saga.flags & 4 == 0 || saga.flagged_at_ms.is_none()) {
            found.that(&subject, "an undo failed, and no person is asked");
        }
        if saga.state == 3 && saga.step.is_none() && saga.maybe_in_force & !saga.failed_undo != 0 {
            found.that(&subject, "an undo failed, and others are left lying");
        }
    }
}

/// Whether an undo of this step failed, or the step after the pivot that only a person can help.
fn failed(evidence: &Evidence, saga: &Saga, step: &str) -> bool {
    evidence.books.history.iter().any(|moment| {
        moment.saga_id == saga.id
            && matches!(moment.outcome, Some(outcome) if Some(outcome) != DONE)
            && (moment.kind == UNDO || step == "notify")
            && moment
                .step
                .and_then(|number| people::step_name(&evidence.books, saga.definition, number))
                == Some(step)
    })
}
