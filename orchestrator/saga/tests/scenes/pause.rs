//! Stopping a saga for a while.

use super::{T0, after, end, now, order_at, reply};
use contract::{Outcome, StepKind};
use saga::{Action, Illegal, Input, Instance, SignalKind, State, Status, step};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

fn pause(audit: i64) -> Input {
    Input::Act(Action::Pause { audit })
}

fn resume(audit: i64) -> Input {
    Input::Act(Action::Resume { audit })
}

/// What measures time: of a saga that goes on after `by`, all of it later by that.
fn times(saga: &Instance, by: i64) -> [Option<i64>; 3] {
    [
        Some(saga.deadline + by),
        saga.budget_until.map(|at| at + by),
        saga.waiting_since.map(|at| at + by),
    ]
}

#[test]
fn nothing_is_decided_while_it_is_paused() {
    let (definition, paying) = order_at(2);
    let paused = after(&definition, &paying, &pause(1), T0 + 10);
    assert_eq!(
        (paused.seq, paused.cursor, paused.paused_at),
        (paying.seq, paying.cursor, Some(T0 + 10))
    );
    assert_eq!(paused.status(&definition), Status::Pending);
    let nudge = Input::Signal {
        step: 2,
        kind: SignalKind::Nudge,
    };
    let inputs = [
        reply(&paused, Outcome::Done, ""),
        Input::Wake,
        nudge,
        end(),
        Input::Act(Action::Retry),
    ];
    for input in inputs {
        let refused = step(&definition, &paused, &input, now(T0 + HOUR));
        assert_eq!(refused, Err(Illegal::Paused), "{input:?}");
    }
}

#[test]
fn it_goes_on_with_the_time_it_had_and_its_command_is_sent_once_more() {
    let (definition, paying) = order_at(2);
    let paused = after(&definition, &paying, &pause(1), T0 + 10);
    let on = step(&definition, &paused, &resume(2), now(T0 + 10 + HOUR)).expect("it goes on");
    assert_eq!(times(&on.next, 0), times(&paused, HOUR));
    let send = on.send.expect("its reply may have been dropped");
    assert_eq!(
        (send.seq, send.step, send.kind),
        (paying.seq, 2, StepKind::Do)
    );
    assert_eq!(on.next.resends, 0, "it was not overdue");
    assert!(on.next.wake_at > Some(T0 + HOUR));
    let done = reply(&on.next, Outcome::Done, "");
    let issuing = after(&definition, &on.next, &done, T0 + 20 + HOUR);
    assert_eq!(issuing.cursor.expect("the pivot").step, 3);
}

#[test]
fn a_wait_and_a_pause_before_a_try_move_by_as_much() {
    let (definition, paying) = order_at(2);
    let busy = reply(&paying, Outcome::Retry, "busy");
    let trying = after(&definition, &paying, &busy, T0);
    let waits = reply(&paying, Outcome::Waiting, "");
    let waiting = after(&definition, &paying, &waits, T0);
    for saga in [trying, waiting] {
        let paused = after(&definition, &saga, &pause(1), T0 + 1);
        let on = step(&definition, &paused, &resume(2), now(T0 + 1 + HOUR)).expect("it goes on");
        assert_eq!(times(&on.next, 0), times(&saga, HOUR));
        assert_eq!(on.next.wake_at, saga.wake_at.map(|at| at + HOUR));
        assert_eq!(on.send, None, "nothing is out");
    }
}

/// What was due when it was stopped is due when it goes on, and not before.
#[test]
fn what_was_due_is_due_at_once() {
    let (definition, waiting) = {
        let (definition, checking) = order_at(1);
        let waits = reply(&checking, Outcome::Waiting, "");
        let waiting = after(&definition, &checking, &waits, T0);
        (definition, waiting)
    };
    let late = T0 + 24 * HOUR + 5;
    let paused = after(&definition, &waiting, &pause(1), late);
    let on = after(&definition, &paused, &resume(2), late + HOUR);
    assert_eq!(on.wake_at, Some(late + HOUR + 1));
    let over = after(&definition, &on, &Input::Wake, late + HOUR + 1);
    assert_eq!(over.reason.as_deref(), Some("review_expired"));
}

/// Neither the outage before a pause nor the pause is the step's time.
#[test]
fn what_was_held_back_before_it_was_paused_has_all_its_time() {
    let (definition, held) = super::outage::held_back();
    let late = T0 + 4 * MINUTE;
    let paused = after(&definition, &held, &pause(1), late);
    let on = after(&definition, &paused, &resume(2), late + HOUR);
    let tried = step(&definition, &on, &Input::Wake, now(late + HOUR + 10)).expect("it is due");
    assert_eq!(tried.send.expect("its command").attempt, 1);
    let left = tried.next.budget_until.expect("pay has a budget") - (late + HOUR);
    assert!((MINUTE - 2..=MINUTE + 10).contains(&left), "{left} ms");
}

/// An owner that stalled with a pause in hand finds that another one has applied it, and the resume.
#[test]
fn neither_is_applied_twice() {
    let (definition, paying) = order_at(2);
    let refused = |saga: &Instance, input| step(&definition, saga, &input, now(T0));
    let paused = after(&definition, &paying, &pause(1), T0);
    for again in [pause(1), resume(1)] {
        assert_eq!(refused(&paused, again), Err(Illegal::NothingToDo));
    }
    let on = after(&definition, &paused, &resume(2), T0);
    for again in [pause(1), resume(2)] {
        assert_eq!(refused(&on, again), Err(Illegal::NothingToDo));
    }
    let stopped = after(&definition, &on, &pause(3), T0);
    assert!(stopped.flags.paused);
}

/// An owner may not know what another one has applied: whatever is younger is written, for the write
/// finds out.
#[test]
fn what_is_younger_is_written_though_it_changes_nothing_here() {
    let (definition, paying) = order_at(2);
    let noted = step(&definition, &paying, &resume(5), now(T0)).expect("it is written");
    assert_eq!((noted.next.cursor, noted.send), (paying.cursor, None));
    let late = step(&definition, &noted.next, &pause(4), now(T0));
    assert_eq!(late, Err(Illegal::NothingToDo), "the pause before it");
    let paused = after(&definition, &paying, &pause(1), T0);
    let again = after(&definition, &paused, &pause(2), T0 + HOUR);
    assert_eq!(again.paused_at, paused.paused_at);
}

#[test]
fn an_undo_stops_too_and_an_end_cannot() {
    let (definition, paying) = order_at(2);
    let undoing = after(&definition, &paying, &end(), T0);
    let paused = after(&definition, &undoing, &pause(1), T0);
    assert_eq!(paused.state, State::Compensating);
    let mut saga = after(&definition, &paused, &resume(2), T0 + HOUR);
    for _ in 0..3 {
        saga = after(
            &definition,
            &saga,
            &reply(&saga, Outcome::Done, ""),
            T0 + HOUR,
        );
    }
    assert_eq!(saga.state, State::Compensated);
    let refused = step(&definition, &saga, &pause(3), now(T0 + HOUR));
    assert_eq!(refused, Err(Illegal::Ended));
}
