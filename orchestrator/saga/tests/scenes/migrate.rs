//! A saga that is under way is moved to another version of its definition, or is not.

use super::{T0, after, end, now, order_at, reply};
use contract::{Outcome, SagaId, StepName};
use saga::{
    Action, Definition, Illegal, Input, Instance, Settlement, State, Status,
    migrate::{Reason, Sorted, sort},
    order, settle, start, step,
};
use std::sync::Arc;
use uuid::Uuid;

fn to(definition: Definition) -> Input {
    let from = if definition.id == 1 { 2 } else { 1 };
    let to = Arc::new(definition);
    Input::Migrate { from, to }
}

/// An order of the second version whose first `done` steps are done.
fn second_at(done: usize) -> (Definition, Instance) {
    let definition = order::v2();
    let mut saga = start(&definition, SagaId(Uuid::from_u128(8)), 1, now(T0)).next;
    for _ in 0..done {
        saga = after(&definition, &saga, &reply(&saga, Outcome::Done, ""), T0);
    }
    (definition, saga)
}

#[test]
fn up_to_the_payment_an_order_is_the_same_by_both_versions() {
    let begun = || Sorted::Blocked(Reason::Begun(StepName::PAY));
    let otherwise = || Sorted::NeedsMapping(Reason::DoneOtherwise(StepName::PAY));
    let over = || Sorted::Blocked(Reason::PivotDone);
    let first = [Sorted::Safe, Sorted::Safe, begun(), otherwise(), over()];
    for (done, sorted) in first.into_iter().enumerate() {
        let (definition, saga) = order_at(done);
        assert_eq!(sort(&definition, &order::v2(), &saga), sorted, "{done}");
        let moved = step(&definition, &saga, &to(order::v2()), now(T0));
        let expected = if sorted == Sorted::Safe {
            Ok(2)
        } else {
            Err(Illegal::OtherVersion)
        };
        assert_eq!(moved.map(|moved| moved.next.definition), expected, "{done}");
    }
    let second = [
        Sorted::Safe,
        Sorted::Safe,
        begun(),
        otherwise(),
        otherwise(),
        over(),
    ];
    for (done, sorted) in second.into_iter().enumerate() {
        let (definition, saga) = second_at(done);
        assert_eq!(sort(&definition, &order::v1(), &saga), sorted, "{done}");
    }
}

/// What is out stays out: its reply is one to the saga as it is now.
#[test]
fn a_move_decides_nothing_but_the_version() {
    let (definition, checking) = order_at(1);
    let moved = step(&definition, &checking, &to(order::v2()), now(T0 + 1)).expect("it is safe");
    assert_eq!(
        (moved.send, moved.log.code.as_deref()),
        (None, Some("migrate"))
    );
    let same = Instance {
        definition: 2,
        pivot: order::v2().pivot(),
        rev: checking.rev + 1,
        ..checking
    };
    assert_eq!(moved.next, same);
    let by = order::v2();
    let mut saga = moved.next;
    for _ in 0..5 {
        saga = after(&by, &saga, &reply(&saga, Outcome::Done, ""), T0);
    }
    assert_eq!(
        (saga.state, saga.done),
        (State::Completed, saga.maybe_in_force)
    );
    assert!(saga.done.contains(5), "it was captured");
}

#[test]
fn a_review_goes_on_by_the_other_version() {
    let (definition, checking) = order_at(1);
    let waiting = after(
        &definition,
        &checking,
        &reply(&checking, Outcome::Waiting, ""),
        T0,
    );
    let moved = after(&definition, &waiting, &to(order::v2()), T0);
    assert_eq!(moved.status(&order::v2()), Status::InReview);
    assert_eq!(
        (moved.wake_at, moved.waiting_since),
        (waiting.wake_at, waiting.waiting_since)
    );
}

#[test]
fn whoever_ends_asks_or_is_stopped_stays() {
    let (definition, checking) = order_at(1);
    let blocked = |saga: &Instance| match sort(&definition, &order::v2(), saga) {
        Sorted::Blocked(reason) => reason,
        other => panic!("{other:?}"),
    };
    let ending = after(&definition, &checking, &end(), T0);
    assert_eq!(blocked(&ending), Reason::Compensating);
    let pause = Input::Act(Action::Pause { audit: 1 });
    let paused = after(&definition, &checking, &pause, T0);
    assert_eq!(blocked(&paused), Reason::Paused);
    let stays = step(&definition, &paused, &to(order::v2()), now(T0));
    assert_eq!(
        stays,
        Err(Illegal::Paused),
        "it is kept until the saga goes on"
    );
    let mut held = checking.clone();
    held.flags.held = true;
    assert_eq!(blocked(&held), Reason::ForAPerson);
    let (_, issuing) = order_at(3);
    assert_eq!(
        blocked(&after(&definition, &issuing, &end(), T0)),
        Reason::Ending
    );
    let mut odd = checking.clone();
    odd.maybe_in_force.insert(4);
    assert_eq!(blocked(&odd), Reason::Unreadable);
    let mut other = order::v2();
    other.name = "refund".to_owned();
    let kind = sort(&definition, &other, &checking);
    assert_eq!(kind, Sorted::Blocked(Reason::OtherKind));
    let same = sort(&definition, &definition, &checking);
    assert_eq!(same, Sorted::Blocked(Reason::NotFrom));
}

/// The move comes twice, or its saga was moved by somebody else.
#[test]
fn a_move_is_made_once() {
    let (definition, checking) = order_at(1);
    let moved = after(&definition, &checking, &to(order::v2()), T0);
    let again = step(&order::v2(), &moved, &to(order::v2()), now(T0));
    assert_eq!(again, Err(Illegal::OtherVersion));
}

/// In one batch with its move, a reply is settled by the version that the saga has then.
#[test]
fn what_follows_in_the_same_batch_is_decided_by_the_new_version() {
    let (definition, checking) = order_at(1);
    let id = checking.id;
    let inputs = [
        (id, to(order::v2())),
        (id, reply(&checking, Outcome::Done, "")),
        (id, to(order::v1())),
    ];
    let lookup = |_| Some((&definition, &checking));
    let plan = settle(lookup, |_, _| false, &inputs, now(T0));
    let too_late = Settlement::Refused(Illegal::OtherVersion);
    assert_eq!(
        plan.settlements,
        [Settlement::Applied, Settlement::Applied, too_late]
    );
    let [write] = plan.writes.as_slice() else {
        panic!("one write: {:?}", plan.writes);
    };
    let (next, sent) = (&write.next, write.send.expect("a command"));
    assert_eq!((next.definition, sent.step), (2, 2));
    assert_eq!(next.pivot, order::v2().pivot());
}
