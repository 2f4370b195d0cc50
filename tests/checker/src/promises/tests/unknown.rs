//! A step of which nothing was heard is asked about before anything else is done about it.

use super::{GOOD, ended_for, id, moment, sound};
use crate::{
    Evidence,
    books::Moment,
    promises::{Violation, judge},
};
use serde_json::json;

const DO: i16 = 1;
const UNDO: i16 = 2;
const PROBE: i16 = 3;
const DONE: i16 = 1;
const RETRY: i16 = 3;
const UNKNOWN: i16 = 4;

/// The second order, of nobody whose wish is known, with another history and reason.
fn ended(reason: &str, history: Vec<Moment>) -> Evidence {
    let mut evidence = sound();
    evidence.journal.drain(..3);
    evidence.books.sagas[1].reason = Some(reason.to_owned());
    evidence.books.history = history;
    evidence
}

/// A command that nobody answered until its time was over, and what was decided then.
fn unanswered(rev: i32, asked: (i16, i16), next: (i16, i16)) -> Moment {
    Moment {
        input: 3,
        outcome: None,
        ..moment(rev, Some(asked), 0, Some(next))
    }
}

/// It was sent again; nobody answered.
fn again(rev: i32, asked: (i16, i16)) -> Moment {
    let sent = unanswered(rev, asked, asked);
    Moment {
        next_seq: Some(sent.seq),
        ..sent
    }
}

fn undone(from: i32, step: i16) -> Vec<Moment> {
    vec![moment(from, Some((step, UNDO)), DONE, None)]
}

fn convicts(evidence: &Evidence) -> bool {
    let violations = judge(evidence);
    let is_it = |one: &Violation| one.promise == "unknown-is-a-result";
    assert!(violations.iter().all(is_it), "{violations:#?}");
    !violations.is_empty()
}

/// The story that the simulation tells of a product that skips its probes: the effect came about, its answer was
/// lost, the command was sent again in vain until its time was over, and the step was undone.
#[test]
fn a_step_that_nobody_answered_for_is_asked_about_before_it_is_undone() {
    let begun = || {
        vec![
            moment(1, None, 0, Some((0, DO))),
            again(2, (0, DO)),
            again(3, (0, DO)),
        ]
    };
    let skipped = [
        begun(),
        vec![unanswered(4, (0, DO), (0, UNDO))],
        undone(5, 0),
    ]
    .concat();
    assert!(convicts(&ended("step_failed", skipped)));
    let asked = vec![
        unanswered(4, (0, DO), (0, PROBE)),
        unanswered(5, (0, PROBE), (0, UNDO)),
    ];
    let asked = [begun(), asked, undone(6, 0)].concat();
    assert!(!convicts(&ended("step_failed", asked)));
}

#[test]
fn tries_that_are_spent_are_asked_about_whatever_the_last_one_said() {
    let last = |next| moment(2, Some((0, DO)), RETRY, Some(next));
    let begun = || vec![moment(1, None, 0, Some((0, DO)))];
    for reason in ["step_failed", "payment_unavailable"] {
        let skipped = [begun(), vec![last((0, UNDO))], undone(3, 0)].concat();
        assert!(convicts(&ended(reason, skipped)), "{reason}");
        let asked = vec![
            last((0, PROBE)),
            moment(3, Some((0, PROBE)), RETRY, Some((0, UNDO))),
        ];
        let asked = [begun(), asked, undone(4, 0)].concat();
        assert!(!convicts(&ended(reason, asked)), "{reason}");
    }
    // Its customer had ended it, or its own time was over: then it is undone at once.
    for reason in ["customer_cancelled", "deadline_exceeded"] {
        let undone = [begun(), vec![last((0, UNDO))], undone(3, 0)].concat();
        assert!(!convicts(&ended(reason, undone)), "{reason}");
    }
}

/// What was answered `unknown` is neither tried again, nor taken for done, nor for not done.
#[test]
fn an_unknown_outcome_is_asked_about_before_anything_else_is_done() {
    let after = |next: (i16, i16)| {
        let mut evidence = sound();
        let of_the_good = |one: Moment| Moment {
            saga_id: id(GOOD),
            ..one
        };
        let history = [
            moment(1, None, 0, Some((0, DO))),
            moment(2, Some((0, DO)), UNKNOWN, Some(next)),
            moment(3, Some(next), DONE, None),
        ];
        evidence.books.history.extend(history.map(of_the_good));
        evidence
    };
    assert!(!convicts(&after((0, PROBE))));
    assert!(convicts(&after((0, DO))));
    assert!(convicts(&after((1, DO))));
    // What comes after the pivot is tried again and never undone.
    let mut evidence = after((4, DO));
    let history = &mut evidence.books.history;
    for moment in history.iter_mut().filter(|one| one.saga_id == id(GOOD)) {
        moment.step = moment.step.map(|_| 4);
        moment.next_step = moment.next_step.map(|_| 4);
    }
    assert!(convicts(&evidence));
    evidence.books.definitions[0].body["steps"][2]["class"] = json!("retriable");
    assert!(!convicts(&evidence));
}

/// And nothing else is explained by it.
#[test]
fn what_stayed_unknown_is_explained_by_a_fault_that_keeps_it_so() {
    let accused = |reason: &str, declared: bool, probed: bool| {
        let mut evidence = sound();
        ended_for(&mut evidence, reason);
        evidence.excused.spent = declared;
        if probed {
            let ended = &mut evidence.books.history[2];
            (ended.kind, ended.state) = (Some(PROBE), 3);
        }
        let violations = judge(&evidence);
        violations.iter().any(|one| one.promise == "prompt-end")
    };
    assert!(!accused("step_failed", true, true));
    assert!(accused("step_failed", false, true), "it was not declared");
    assert!(accused("step_failed", true, false), "nobody has asked");
    assert!(accused("payment_unavailable", true, true));
    assert!(accused("deadline_exceeded", true, true));
}
