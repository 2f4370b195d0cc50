//! A deadline that is near is told, once, and what can be asked about is asked about.

use super::{T0, after, now, order_at, reply};
use contract::{Outcome, StepKind};
use saga::{
    DEADLINE_NEAR, Definition, Illegal, Input, Instance, SignalKind, State, Transition, step,
};

const MINUTE: i64 = 60_000;
/// Four fifths of the time that a customer has at his bank, and the end of it.
const NEAR: i64 = T0 + 12 * MINUTE;
const END: i64 = T0 + 15 * MINUTE;

/// An order whose first `done` steps are done, and whose next one waits.
fn waits(done: usize) -> (Definition, Instance) {
    let (definition, at) = order_at(done);
    let waiting = after(&definition, &at, &reply(&at, Outcome::Waiting, ""), T0);
    assert_eq!(waiting.state, State::Waiting);
    (definition, waiting)
}

fn wake(definition: &Definition, saga: &Instance, ms: i64) -> (Transition, Option<String>) {
    let woken = step(definition, saga, &Input::Wake, now(ms)).expect("its time has come");
    let code = woken.log.code.clone();
    (woken, code)
}

#[test]
fn a_payment_that_waits_is_asked_about_before_its_time_is_over() {
    let (definition, waiting) = waits(2);
    assert_eq!(waiting.wake_at, Some(NEAR));
    let (asks, code) = wake(&definition, &waiting, NEAR);
    assert_eq!(code.as_deref(), Some(DEADLINE_NEAR));
    assert_eq!(
        asks.send.map(|send| (send.step, send.kind)),
        Some((2, StepKind::Probe))
    );
    let paid = reply(&asks.next, Outcome::Done, "");
    let issuing = after(&definition, &asks.next, &paid, NEAR + 1);
    assert_eq!(issuing.cursor.map(|at| at.step), Some(3), "he had paid");
    assert!(!issuing.flags.warned);

    let not_yet = reply(&asks.next, Outcome::Waiting, "");
    let again = after(&definition, &asks.next, &not_yet, NEAR + 1);
    assert_eq!((again.state, again.wake_at), (State::Waiting, Some(END)));
    let (last, code) = wake(&definition, &again, END);
    assert_eq!(
        (code, last.next.cursor.map(|at| at.kind)),
        (None, Some(StepKind::Probe))
    );
    let over = reply(&last.next, Outcome::Waiting, "");
    let undone = after(&definition, &last.next, &over, END + 1);
    assert_eq!(undone.reason.as_deref(), Some("authentication_failed"));
}

#[test]
fn a_review_that_is_nearly_over_is_told_and_nothing_is_sent() {
    let (definition, waiting) = waits(1);
    let day = 24 * 60 * MINUTE;
    let (told, code) = wake(&definition, &waiting, T0 + day * 4 / 5);
    assert_eq!((code.as_deref(), told.send), (Some(DEADLINE_NEAR), None));
    assert_eq!(
        (told.next.state, told.next.wake_at),
        (State::Waiting, Some(T0 + day))
    );
    assert_eq!(told.next.seq, waiting.seq);
    let (undone, code) = wake(&definition, &told.next, T0 + day);
    assert_eq!(
        (undone.next.reason.as_deref(), code),
        (Some("review_expired"), None)
    );
}

#[test]
fn a_look_over_the_moment_does_not_forget_to_warn() {
    let (definition, waiting) = waits(2);
    let kind = SignalKind::Nudge;
    let nudge =
        |saga: &Instance, ms| after(&definition, saga, &Input::Signal { step: 2, kind }, ms);
    // Over the moment itself somebody looks: it is told right behind it.
    let looking = nudge(&waiting, NEAR - 1);
    let late = after(
        &definition,
        &looking,
        &reply(&looking, Outcome::Waiting, ""),
        NEAR + 5,
    );
    assert_eq!(late.wake_at, Some(NEAR + 6));
    assert_eq!(
        wake(&definition, &late, NEAR + 6).1.as_deref(),
        Some(DEADLINE_NEAR)
    );
}

#[test]
fn who_is_woken_when_all_is_over_is_not_warned() {
    let (definition, waiting) = waits(2);
    assert_eq!(wake(&definition, &waiting, END).1, None);
}

#[test]
fn the_orders_own_time_is_warned_of_once() {
    let (definition, paying) = order_at(2);
    let late = Instance {
        wake_at: Some(T0 + 8 * MINUTE),
        budget_until: Some(END),
        ..paying
    };
    let (near, code) = wake(&definition, &late, T0 + 8 * MINUTE);
    assert_eq!(code.as_deref(), Some(DEADLINE_NEAR));
    let again = near.next.wake_at.expect("a resend");
    assert_eq!(
        wake(&definition, &near.next, again).1,
        None,
        "it is told once"
    );
}

/// Its row says of a wait only when it ends, and nothing of a warning; or it was warned of, and a program that
/// does not know that wrote the row since.
#[test]
fn what_a_program_without_warnings_has_written_ends_at_its_end() {
    let day = 24 * 60 * MINUTE;
    for (done, end, reason) in [
        (1, T0 + day, "review_expired"),
        (2, END, "authentication_failed"),
    ] {
        let (definition, waiting) = waits(done);
        let old = Instance {
            wake_at: Some(end),
            ..waiting
        };
        let early = step(&definition, &old, &Input::Wake, now(end - 1));
        assert_eq!(early.err(), Some(Illegal::NotDue));
        let (mut over, code) = wake(&definition, &old, end);
        assert_eq!(code, None, "there is nothing to warn of any more");
        if over.send.is_some_and(|send| send.kind == StepKind::Probe) {
            let not_yet = reply(&over.next, Outcome::Waiting, "");
            over = step(&definition, &over.next, &not_yet, now(end + 1)).expect("an answer");
        }
        assert_eq!(over.next.reason.as_deref(), Some(reason));

        let (definition, waiting) = waits(done);
        let near = waiting.wake_at.expect("it is woken");
        let (mut warned, _) = wake(&definition, &waiting, near);
        warned.next.flags.warned = false;
        let kind = warned.next.cursor.map(|at| at.kind);
        if kind == Some(StepKind::Probe) {
            let not_yet = reply(&warned.next, Outcome::Waiting, "");
            warned = step(&definition, &warned.next, &not_yet, now(near + 1)).expect("an answer");
        }
        let at = warned.next.wake_at.expect("it is woken");
        let (again, code) = wake(&definition, &warned.next, at);
        let warns = at < end;
        assert_eq!(
            code.as_deref(),
            warns.then_some(DEADLINE_NEAR),
            "once more, at most"
        );
        assert!(!warns || again.next.reason.is_none(), "and it goes on");
    }
}
