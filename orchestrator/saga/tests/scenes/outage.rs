//! A step whose outside is away.

use super::{T0, after, end, now, order_at, reply, version_at};
use contract::{Outcome, StepKind};
use saga::{DEADLINE_NEAR, Definition, Input, Instance, Now, State, Steps, order, step};

const MINUTE: i64 = 60_000;

/// The time, with the breakers of `pay` and `capture` open.
fn without_pay(ms: i64) -> Now {
    Now {
        open: Steps::from_iter([2, 5]),
        ..now(ms)
    }
}

fn closed_off(definition: &Definition, saga: &Instance, input: &Input, ms: i64) -> Instance {
    let transition = step(definition, saga, input, without_pay(ms)).expect("a legal input");
    assert_eq!(transition.send, None, "nothing is sent to it");
    transition.next
}

/// An order that comes to pay while that is away.
pub(crate) fn held_back() -> (Definition, Instance) {
    let (definition, checking) = order_at(1);
    let done = reply(&checking, Outcome::Done, "");
    let held = closed_off(&definition, &checking, &done, T0);
    assert_eq!(held.seq, checking.seq, "no command was decided");
    (definition, held)
}

#[test]
fn an_order_that_comes_to_it_waits_before_its_command_and_goes_on_with_all_its_time() {
    let (definition, held) = held_back();
    let cursor = held.cursor.expect("before pay");
    assert_eq!(
        (cursor.step, cursor.kind, cursor.attempt, cursor.outstanding),
        (2, StepKind::Do, 1, false)
    );
    assert_eq!((held.state, held.wake_at), (State::Running, Some(T0 + 1)));
    let later = T0 + 5 * MINUTE;
    let sent = step(&definition, &held, &Input::Wake, now(later)).expect("it is due");
    assert_eq!(sent.send.expect("its command").attempt, 1);
    assert!(sent.next.budget_until >= Some(later + MINUTE - 1));
    // Woken in spite of it, as by an owner who does not know: still nothing is sent.
    let again = closed_off(&definition, &held, &Input::Wake, later);
    assert_eq!((again.seq, again.cursor), (held.seq, held.cursor));
}

#[test]
fn what_it_answers_meanwhile_costs_no_try_and_no_time() {
    let (definition, mut saga) = order_at(2);
    let mut ms = T0;
    for _ in 0..20 {
        let away = reply(&saga, Outcome::Retry, "provider_unreachable");
        saga = closed_off(&definition, &saga, &away, ms);
        let cursor = saga.cursor.expect("before pay");
        assert_eq!((cursor.attempt, cursor.outstanding), (1, false));
        ms += 20_000;
        saga = after(&definition, &saga, &Input::Wake, ms); // it is let through
        assert!(saga.budget_until >= Some(ms + MINUTE - 1));
        if ms > T0 + 9 * MINUTE {
            break;
        }
    }
    // A refusal is one, and an answer that says something else costs a try.
    let busy = reply(&saga, Outcome::Retry, "provider_busy");
    let tried = step(&definition, &saga, &busy, without_pay(ms)).expect("current");
    assert_eq!(tried.next.cursor.expect("again").attempt, 2);
    let paid = step(
        &definition,
        &saga,
        &reply(&saga, Outcome::Done, ""),
        without_pay(ms),
    );
    assert_eq!(paid.expect("current").send.expect("the pivot").step, 3);
}

#[test]
fn its_deadline_ends_it_and_says_why() {
    let (definition, held) = held_back();
    let late = T0 + 10 * MINUTE;
    let ended = step(&definition, &held, &Input::Wake, without_pay(late)).expect("due");
    assert_eq!(ended.next.reason.as_deref(), Some("payment_unavailable"));
    let undo = ended.send.expect("undos are never held back");
    assert_eq!((undo.step, undo.kind), (2, StepKind::Undo));
    let ended = after(&definition, &held, &Input::Wake, late);
    assert_eq!(ended.reason.as_deref(), Some("deadline_exceeded"));
    let cancelled = step(&definition, &held, &end(), without_pay(T0)).expect("it may end");
    assert!(cancelled.send.is_some());
}

/// The pivot may have been done, but its command is not out: there is no outcome to wait for.
#[test]
fn a_capture_that_is_held_back_is_undone_at_the_deadline_and_not_tried_for_ever() {
    let (definition, capturing) = version_at(order::v2(), 4);
    let away = reply(&capturing, Outcome::Retry, "provider_unreachable");
    let held = closed_off(&definition, &capturing, &away, T0);
    assert!(held.pivot_maybe() && !held.pivot_done());
    let held = closed_off(&definition, &held, &Input::Wake, T0 + 5 * MINUTE);
    let late = T0 + 10 * MINUTE;
    let ended = step(&definition, &held, &Input::Wake, without_pay(late)).expect("due");
    assert_eq!(ended.next.state, State::Compensating);
    assert_eq!(ended.next.reason.as_deref(), Some("payment_unavailable"));
    let undo = ended.send.expect("undos are never held back");
    assert_eq!((undo.step, undo.kind), (5, StepKind::Undo));
    // What is out may be done, and decides.
    let out = after(&definition, &held, &Input::Wake, late - 10_000);
    let out = after(&definition, &out, &Input::Wake, late);
    assert_eq!(out.state, State::Running);
    assert_eq!(out.reason.as_deref(), Some("deadline_exceeded"));
}

/// No answer is to come, and another try would be begun after the deadline: whether the last one had its effect
/// its undo finds out.
#[test]
fn a_capture_between_two_tries_is_not_tried_after_the_deadline() {
    let (definition, capturing) = version_at(order::v2(), 4);
    let late = T0 + 10_000; // the capture's own time is not over
    let capturing = Instance {
        deadline: late,
        ..capturing
    };
    let busy = reply(&capturing, Outcome::Retry, "busy");
    let saga = after(&definition, &capturing, &busy, late - 1);
    assert_eq!(saga.wake_at, Some(late), "no pause is longer");
    let ended = step(&definition, &saga, &Input::Wake, now(late)).expect("due");
    assert_eq!(ended.next.state, State::Compensating);
    assert_eq!(ended.next.reason.as_deref(), Some("deadline_exceeded"));
    let undo = ended.send.expect("undos are never held back");
    assert_eq!((undo.step, undo.kind), (5, StepKind::Undo));
}

#[test]
fn who_is_held_back_is_warned_of_his_deadline() {
    let (definition, held) = held_back();
    let near = saga::warns_at(&definition, &held);
    assert_eq!(near, T0 + 8 * MINUTE);
    let warned = step(&definition, &held, &Input::Wake, without_pay(near)).expect("due");
    assert_eq!(warned.log.code.as_deref(), Some(DEADLINE_NEAR));
    assert_eq!((warned.send, warned.next.flags.warned), (None, true));
}

/// Too few orders to tell an outage by: the payment's own time is spent, and asking finds nobody.
#[test]
fn a_payment_whose_time_is_spent_on_it_says_why() {
    let (definition, mut saga) = order_at(2);
    let mut ms = T0;
    while saga.state == State::Running {
        let out = saga.cursor.is_some_and(|cursor| cursor.outstanding);
        let input = match out {
            true => reply(&saga, Outcome::Retry, "provider_unreachable"),
            false => {
                ms = saga.wake_at.expect("it is tried again");
                Input::Wake
            }
        };
        saga = after(&definition, &saga, &input, ms);
    }
    assert_eq!(saga.reason.as_deref(), Some("payment_unavailable"));
    assert!(ms - T0 > MINUTE && ms - T0 <= 2 * MINUTE, "{}", ms - T0);
}

#[test]
fn a_probe_and_an_undo_are_sent_whatever_is_away() {
    let (definition, paying) = order_at(2);
    let unknown = reply(&paying, Outcome::Unknown, "");
    let probe = step(&definition, &paying, &unknown, without_pay(T0)).expect("current");
    assert_eq!(probe.send.expect("asked").kind, StepKind::Probe);
    let undo = step(&definition, &paying, &end(), without_pay(T0)).expect("it may end");
    assert_eq!(undo.send.expect("undone").kind, StepKind::Undo);
}

/// A pause between two tries that took longer than planned was nobody's fault.
#[test]
fn a_try_that_comes_late_has_the_time_that_was_left_when_it_was_due() {
    let (definition, paying) = order_at(2);
    let busy = reply(&paying, Outcome::Retry, "provider_busy");
    let pausing = after(&definition, &paying, &busy, T0);
    let due = pausing.wake_at.expect("a pause has an end");
    let late = after(&definition, &pausing, &Input::Wake, due + MINUTE);
    let left = |saga: &Instance, at: i64| saga.budget_until.expect("a budget") - at;
    assert_eq!(left(&late, due + MINUTE), left(&pausing, due));
}
