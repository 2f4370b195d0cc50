//! Single scenes of the state machine, each of which a rule of its own decides.

mod migrate;
mod near;
mod outage;
mod pause;
mod people;

use contract::{Outcome, SagaId, StepKind};
use saga::{
    Definition, Illegal, Input, Instance, Now, ReplyInput, Settlement, SignalKind, State, Status,
    order, settle, start, step,
};
use uuid::Uuid;

const T0: i64 = 1_700_000_000_000;

fn now(ms: i64) -> Now {
    Now::new(ms, 0)
}

fn reply(saga: &Instance, outcome: Outcome, code: &str) -> Input {
    let code = (!code.is_empty()).then(|| code.to_owned());
    Input::Reply(ReplyInput {
        seq: saga.seq,
        outcome,
        code,
        retry_after_ms: None,
    })
}

fn after(definition: &Definition, saga: &Instance, input: &Input, ms: i64) -> Instance {
    step(definition, saga, input, now(ms))
        .expect("a legal input")
        .next
}

/// An order whose first `done` steps are done.
fn order_at(done: usize) -> (Definition, Instance) {
    version_at(order::v1(), done)
}

/// The same by a version of the definition.
fn version_at(definition: Definition, done: usize) -> (Definition, Instance) {
    let mut saga = start(&definition, SagaId(Uuid::from_u128(7)), 1, now(T0)).next;
    for _ in 0..done {
        saga = after(&definition, &saga, &reply(&saga, Outcome::Done, ""), T0);
    }
    (definition, saga)
}

fn end() -> Input {
    Input::End {
        reason: "customer_cancelled".into(),
    }
}

#[test]
fn a_good_order_is_confirmed_at_the_pivot_and_completed_at_the_end() {
    let (definition, issuing) = order_at(3);
    assert_eq!(issuing.status(&definition), Status::Pending);
    let notifying = after(
        &definition,
        &issuing,
        &reply(&issuing, Outcome::Done, ""),
        T0,
    );
    assert_eq!(notifying.status(&definition), Status::Confirmed);
    let done = after(
        &definition,
        &notifying,
        &reply(&notifying, Outcome::Done, ""),
        T0,
    );
    assert_eq!((done.state, done.seq, done.rev), (State::Completed, 5, 6));
}

#[test]
fn a_declined_card_gives_back_the_stock_and_the_limits_in_reverse() {
    let (definition, paying) = order_at(2);
    let undo_fraud = after(
        &definition,
        &paying,
        &reply(&paying, Outcome::Rejected, "card_declined"),
        T0,
    );
    let cursor = undo_fraud.cursor.expect("an undo");
    assert_eq!((cursor.step, cursor.kind), (1, StepKind::Undo));
    assert_eq!(undo_fraud.reason.as_deref(), Some("card_declined"));
    let undo_reserve = after(
        &definition,
        &undo_fraud,
        &reply(&undo_fraud, Outcome::Done, ""),
        T0,
    );
    assert_eq!(undo_reserve.cursor.expect("an undo").step, 0);
    let ended = after(
        &definition,
        &undo_reserve,
        &reply(&undo_reserve, Outcome::Done, ""),
        T0,
    );
    assert_eq!(
        (ended.state, ended.status(&definition)),
        (State::Compensated, Status::Cancelled)
    );
}

#[test]
fn an_unknown_payment_is_asked_about_and_undone_if_it_stays_unknown() {
    let (definition, paying) = order_at(2);
    let mut saga = after(
        &definition,
        &paying,
        &reply(&paying, Outcome::Unknown, ""),
        T0,
    );
    assert_eq!(saga.cursor.expect("a probe").kind, StepKind::Probe);
    let mut ms = T0;
    while saga
        .cursor
        .is_some_and(|cursor| cursor.kind == StepKind::Probe)
    {
        let input = if saga.cursor.is_some_and(|cursor| cursor.outstanding) {
            reply(&saga, Outcome::Unknown, "")
        } else {
            ms = saga.wake_at.expect("a pause has an end");
            Input::Wake
        };
        saga = after(&definition, &saga, &input, ms);
    }
    let cursor = saga.cursor.expect("an undo");
    assert_eq!(
        (cursor.step, cursor.kind),
        (2, StepKind::Undo),
        "from this step, not the one before"
    );
    assert!(ms - T0 <= 60_000, "within the probe's budget");
}

#[test]
fn an_ending_waits_for_the_pivots_outcome() {
    let (definition, issuing) = order_at(3);
    let ending = after(&definition, &issuing, &end(), T0);
    assert_eq!(
        (ending.state, ending.seq),
        (State::Running, issuing.seq),
        "nothing new is sent"
    );
    let refused = after(&definition, &ending, &reply(&ending, Outcome::Done, ""), T0);
    assert_eq!(
        (refused.status(&definition), refused.reason),
        (Status::Confirmed, None)
    );
    for outcome in [Outcome::Unknown, Outcome::Retry] {
        let undone = after(&definition, &ending, &reply(&ending, outcome, ""), T0);
        assert_eq!(
            undone.cursor.expect("an undo").step,
            3,
            "the pivot itself, for it may have happened"
        );
        assert_eq!(undone.reason.as_deref(), Some("customer_cancelled"));
    }
    let rejected = after(
        &definition,
        &ending,
        &reply(&ending, Outcome::Rejected, "event_cancelled"),
        T0,
    );
    assert_eq!(
        rejected.cursor.expect("an undo").step,
        2,
        "the pivot certainly did not happen"
    );
}

#[test]
fn nothing_ends_an_order_past_its_pivot() {
    let (definition, notifying) = order_at(4);
    assert_eq!(
        step(&definition, &notifying, &end(), now(T0)),
        Err(Illegal::PivotDone)
    );
    let late = T0 + 24 * 3_600_000;
    let woken = after(&definition, &notifying, &Input::Wake, late);
    assert_eq!(
        woken.status(&definition),
        Status::Confirmed,
        "the deadline is not for it"
    );
}

#[test]
fn a_mail_server_that_is_down_never_refunds_a_ticket() {
    let (definition, mut saga) = order_at(4);
    let mut ms = T0;
    for _ in 0..60 {
        saga = after(
            &definition,
            &saga,
            &reply(&saga, Outcome::Retry, "smtp_unavailable"),
            ms,
        );
        ms = saga.wake_at.expect("it is tried again");
        saga = after(&definition, &saga, &Input::Wake, ms);
    }
    assert_eq!(saga.status(&definition), Status::Confirmed);
    assert!(
        saga.flags.attention,
        "and a person is told after so many tries"
    );
    let sent = after(&definition, &saga, &reply(&saga, Outcome::Done, ""), ms);
    assert_eq!(sent.state, State::Completed);
}

#[test]
fn a_failed_undo_is_marked_and_the_others_still_run() {
    let (definition, paying) = order_at(2);
    let undo_pay = after(&definition, &paying, &end(), T0);
    assert_eq!(undo_pay.cursor.expect("an undo").step, 2);
    let next = after(
        &definition,
        &undo_pay,
        &reply(&undo_pay, Outcome::Rejected, "disputed"),
        T0,
    );
    assert_eq!(next.cursor.expect("the next undo").step, 1);
    let next = after(&definition, &next, &reply(&next, Outcome::Done, ""), T0);
    let stuck = after(&definition, &next, &reply(&next, Outcome::Done, ""), T0);
    assert_eq!(stuck.state, State::Compensating, "never stored as done");
    assert!(stuck.flags.attention && stuck.cursor.is_none());
    assert_eq!(stuck.maybe_in_force, stuck.failed_undo);
}

/// While the customer authenticates, somebody says that something happened, and the provider cannot be
/// asked: the order is not ended by that.
#[test]
fn a_look_that_finds_nobody_does_not_end_a_wait() {
    let (definition, paying) = order_at(2);
    let waiting = after(
        &definition,
        &paying,
        &reply(&paying, Outcome::Waiting, ""),
        T0,
    );
    let nudge = Input::Signal {
        step: 2,
        kind: SignalKind::Nudge,
    };
    let looking = after(&definition, &waiting, &nudge, T0 + 1_000);
    let spent = looking.budget_until.expect("a budget");
    let still = after(
        &definition,
        &looking,
        &reply(&looking, Outcome::Retry, ""),
        spent,
    );
    assert_eq!(
        (still.state, still.reason.as_deref()),
        (State::Waiting, None)
    );
    let again_at = still.wake_at.expect("it is looked at again");
    assert!(again_at < waiting.wake_at.expect("the wait has an end"));
    let again = after(&definition, &still, &Input::Wake, again_at);
    assert_eq!(again.cursor.expect("a probe").kind, StepKind::Probe);
    let confirmed = after(
        &definition,
        &again,
        &reply(&again, Outcome::Done, ""),
        again_at,
    );
    assert_eq!(confirmed.cursor.expect("the next step").step, 3);
    // At the end of the wait, nobody being there, it ends for that reason.
    let expiry = T0 + 15 * 60_000;
    let last = after(&definition, &waiting, &Input::Wake, expiry);
    let over = last.budget_until.expect("a budget");
    let ended = after(&definition, &last, &reply(&last, Outcome::Retry, ""), over);
    assert_eq!(ended.state, State::Compensating);
}

/// The provider says that the customer has done it, and shows for a while what was before.
#[test]
fn a_look_that_shows_nothing_yet_is_repeated_a_few_times() {
    let (definition, paying) = order_at(2);
    let told = reply(&paying, Outcome::Waiting, "");
    let waiting = after(&definition, &paying, &told, T0);
    let near = waiting.wake_at.expect("somebody is warned of its end");
    let nudge = Input::Signal {
        step: 2,
        kind: SignalKind::Nudge,
    };
    let mut saga = after(&definition, &waiting, &nudge, T0 + 1_000);
    let (mut at, mut looks) = (T0 + 1_000, 1);
    loop {
        let nothing = reply(&saga, Outcome::Waiting, "");
        saga = after(&definition, &saga, &nothing, at);
        assert_eq!(saga.state, State::Waiting);
        at = saga.wake_at.expect("it is looked at again");
        if at == near {
            break;
        }
        saga = after(&definition, &saga, &Input::Wake, at);
        assert_eq!(saga.cursor.expect("a probe").kind, StepKind::Probe);
        looks += 1;
    }
    assert_eq!(looks, 8);
    // Then when the end is near and at the end, once each.
    let warned = after(&definition, &saga, &Input::Wake, near);
    assert_eq!(warned.cursor.expect("a probe").attempt, 1);
    let nothing = reply(&warned, Outcome::Waiting, "");
    let saga = after(&definition, &warned, &nothing, near);
    let expiry = T0 + 15 * 60_000;
    assert_eq!(saga.wake_at, Some(expiry));
    let last = after(&definition, &saga, &Input::Wake, expiry);
    assert_eq!(last.cursor.expect("a probe").attempt, 1);
    let ended = after(
        &definition,
        &last,
        &reply(&last, Outcome::Waiting, ""),
        expiry,
    );
    assert_eq!(ended.state, State::Compensating);
}

#[test]
fn a_review_waits_for_a_decision_and_its_time_does_not_count() {
    let (definition, checking) = order_at(1);
    let early = Input::Signal {
        step: 1,
        kind: SignalKind::Decision,
    };
    assert_eq!(
        step(&definition, &checking, &early, now(T0)),
        Err(Illegal::SignalEarly)
    );
    let waiting = after(
        &definition,
        &checking,
        &reply(&checking, Outcome::Waiting, ""),
        T0,
    );
    assert_eq!(waiting.status(&definition), Status::InReview);
    let later = T0 + 3_600_000;
    let decided = after(&definition, &waiting, &early, later);
    assert_eq!(decided.cursor.expect("the do again").kind, StepKind::Do);
    let paying = after(
        &definition,
        &decided,
        &reply(&decided, Outcome::Done, ""),
        later,
    );
    assert_eq!(paying.deadline, waiting.deadline + 3_600_000);
    assert_eq!(
        step(&definition, &paying, &early, now(later)),
        Err(Illegal::SignalLate)
    );
}

#[test]
fn a_review_that_takes_too_long_is_undone() {
    let (definition, checking) = order_at(1);
    let waiting = after(
        &definition,
        &checking,
        &reply(&checking, Outcome::Waiting, ""),
        T0,
    );
    let expired = after(&definition, &waiting, &Input::Wake, T0 + 24 * 3_600_000);
    assert_eq!(expired.state, State::Compensating);
    assert_eq!(expired.reason.as_deref(), Some("review_expired"));
    assert_eq!(
        expired.cursor.expect("an undo").step,
        1,
        "the limits it took are given back"
    );
}

#[test]
fn an_authentication_is_asked_about_once_more_before_it_is_undone() {
    let (definition, paying) = order_at(2);
    let waiting = after(
        &definition,
        &paying,
        &reply(&paying, Outcome::Waiting, ""),
        T0,
    );
    assert_eq!(waiting.status(&definition), Status::ActionRequired);
    let late = T0 + 15 * 60_000;
    let asked = after(&definition, &waiting, &Input::Wake, late);
    assert_eq!(asked.cursor.expect("a probe").kind, StepKind::Probe);
    let paid = after(&definition, &asked, &reply(&asked, Outcome::Done, ""), late);
    assert_eq!(
        paid.cursor.expect("the pivot").step,
        3,
        "it had been paid after all"
    );
    let not = after(
        &definition,
        &asked,
        &reply(&asked, Outcome::Waiting, ""),
        late,
    );
    assert_eq!(not.reason.as_deref(), Some("authentication_failed"));
}

#[test]
fn a_resend_keeps_the_commands_number_and_an_expired_command_its_attempt() {
    let (definition, saga) = order_at(0);
    let due = saga.wake_at.expect("a resend is due");
    let woken = step(&definition, &saga, &Input::Wake, now(due)).expect("due");
    assert_eq!(
        (woken.next.seq, woken.next.resends, woken.next.rev),
        (1, 1, 2)
    );
    assert_eq!(woken.send.expect("sent again").seq, 1);
    assert!(
        woken.next.wake_at.expect("again") - due >= 2 * (due - T0),
        "spaced exponentially"
    );
    let expired = after(
        &definition,
        &saga,
        &reply(&saga, Outcome::Retry, "expired"),
        T0,
    );
    let cursor = expired.cursor.expect("the same step");
    assert!(
        !cursor.outstanding,
        "after a pause, so that two clocks cannot make a hot loop"
    );
    let at = expired.wake_at.expect("a pause has an end");
    let expired = after(&definition, &expired, &Input::Wake, at);
    let cursor = expired.cursor.expect("the same step");
    assert_eq!(
        (expired.seq, cursor.attempt, cursor.outstanding),
        (2, 1, true)
    );
}

#[test]
fn the_deadline_undoes_what_has_not_reached_the_pivot() {
    let (definition, paying) = order_at(2);
    let mut saga = paying;
    let mut ms = T0;
    while saga.state == State::Running {
        ms = saga.wake_at.expect("it is woken");
        saga = after(&definition, &saga, &Input::Wake, ms);
    }
    assert_eq!(saga.cursor.expect("an undo").step, 2);
    assert!(ms - T0 <= 10 * 60_000);
}

#[test]
fn inputs_of_one_saga_are_folded_into_one_write_and_one_command() {
    let (definition, saga) = order_at(1);
    let other = start(&definition, SagaId(Uuid::from_u128(8)), 1, now(T0)).next;
    let inputs = vec![
        (saga.id, reply(&saga, Outcome::Done, "")),
        (other.id, reply(&other, Outcome::Rejected, "sold_out")),
        (saga.id, reply(&saga, Outcome::Done, "")),
        (saga.id, end()),
        (SagaId(Uuid::from_u128(9)), Input::Wake),
    ];
    let lookup = |id| {
        [&saga, &other]
            .into_iter()
            .find(|s| s.id == id)
            .map(|s| (&definition, s))
    };
    let plan = settle(lookup, |_, _| false, &inputs, now(T0));
    assert_eq!(
        plan.settlements,
        [
            Settlement::Applied,
            Settlement::Applied,
            Settlement::Refused(Illegal::Stale),
            Settlement::Applied,
            Settlement::UnknownSaga,
        ]
    );
    let [write, rejected] = plan.writes.as_slice() else {
        panic!("two writes")
    };
    assert_eq!(
        (write.expected_rev, write.next.rev, write.applied.len()),
        (saga.rev, saga.rev + 2, 2)
    );
    let send = write.send.expect("one command");
    assert_eq!(
        (send.step, send.kind, send.seq),
        (2, StepKind::Undo, write.next.seq)
    );
    assert_eq!(write.status, Some(Status::Cancelling));
    // Nothing was in force.
    let ended = (rejected.next.state, rejected.send, rejected.status);
    assert_eq!(ended, (State::Compensated, None, Some(Status::Cancelled)));
}
