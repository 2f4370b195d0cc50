//! What a person does about a saga that asks for one.

use super::{T0, after, end, now, order_at, reply};
use contract::{Outcome, StepKind};
use saga::{Action, Definition, Illegal, Input, Instance, State, Status, step};

/// An order whose refund was refused for good, everything else being undone.
fn stuck() -> (Definition, Instance) {
    let (definition, paying) = order_at(2);
    let undoing = after(&definition, &paying, &end(), T0);
    let refused = reply(&undoing, Outcome::Rejected, "disputed");
    let mut saga = after(&definition, &undoing, &refused, T0);
    for _ in 0..2 {
        saga = after(&definition, &saga, &reply(&saga, Outcome::Done, ""), T0);
    }
    (definition, saga)
}

#[test]
fn a_person_has_a_failed_undo_tried_again() {
    let (definition, stuck) = stuck();
    let again = after(&definition, &stuck, &Input::Act(Action::Retry), T0);
    let cursor = again.cursor.expect("an undo");
    assert_eq!((cursor.step, cursor.kind), (2, StepKind::Undo));
    assert!(!again.flags.attention && again.failed_undo.is_empty());
    let over = after(&definition, &again, &reply(&again, Outcome::Done, ""), T0);
    assert_eq!(over.state, State::Compensated);
}

#[test]
fn a_person_says_that_it_was_done_elsewhere() {
    let (definition, stuck) = stuck();
    let pay = Input::Act(Action::Resolve { step: 2 });
    let over = after(&definition, &stuck, &pay, T0);
    assert_eq!(over.state, State::Compensated);
    assert!(over.maybe_in_force.is_empty() && !over.flags.attention);
    let reserve = Input::Act(Action::Resolve { step: 0 });
    let refused = step(&definition, &stuck, &reserve, now(T0));
    assert_eq!(refused, Err(Illegal::NothingToDo), "its undo did not fail");
}

#[test]
fn what_is_given_up_says_so_and_by_whom() {
    let (definition, stuck) = stuck();
    let give_up = Input::Act(Action::Abandon {
        approver: "bob".into(),
    });
    let over = after(&definition, &stuck, &give_up, T0);
    assert_eq!(over.state, State::Abandoned);
    assert_eq!(over.approver.as_deref(), Some("bob"));
    assert_eq!(
        over.maybe_in_force, stuck.maybe_in_force,
        "nothing is hidden"
    );
    assert_eq!(over.status(&definition), Status::Cancelled);
}

#[test]
fn a_person_does_nothing_to_a_saga_that_does_not_ask() {
    let (definition, paying) = order_at(2);
    let undoing = after(&definition, &paying, &end(), T0);
    for saga in [&paying, &undoing] {
        for action in [
            Action::Retry,
            Action::Resolve { step: 2 },
            Action::Abandon {
                approver: "bob".into(),
            },
        ] {
            let refused = step(&definition, saga, &Input::Act(action), now(T0));
            assert_eq!(refused, Err(Illegal::NothingToDo));
        }
    }
}

#[test]
fn a_mail_that_keeps_failing_is_tried_again_and_one_refused_for_good_dealt_with_elsewhere() {
    let (definition, mut failing) = order_at(4);
    let mut ms = T0;
    while !failing.flags.attention {
        failing = after(
            &definition,
            &failing,
            &reply(&failing, Outcome::Retry, ""),
            ms,
        );
        ms = failing.wake_at.expect("it is tried for ever");
        if !failing.flags.attention {
            failing = after(&definition, &failing, &Input::Wake, ms);
        }
    }
    let again = after(&definition, &failing, &Input::Act(Action::Retry), ms - 1);
    let cursor = again.cursor.expect("at notify");
    assert!(cursor.outstanding && cursor.attempt == 1 && !again.flags.attention);

    let (definition, notifying) = order_at(4);
    let refused = reply(&notifying, Outcome::Rejected, "mail_refused");
    let asking = after(&definition, &notifying, &refused, T0);
    assert!(asking.flags.attention);
    let again = step(&definition, &asking, &Input::Act(Action::Retry), now(T0));
    assert_eq!(
        again,
        Err(Illegal::NothingToDo),
        "its worker would repeat it"
    );
    let told = Input::Act(Action::Resolve { step: 4 });
    let done = after(&definition, &asking, &told, T0);
    assert_eq!(done.state, State::Completed);
}

#[test]
fn a_person_corrects_what_one_failed_undo_was_given_and_the_others_stay() {
    let (definition, stuck) = stuck();
    let correct = |step| Input::Act(Action::Correct { step });
    let again = after(&definition, &stuck, &correct(2), T0);
    let cursor = again.cursor.expect("an undo");
    assert_eq!((cursor.step, cursor.kind), (2, StepKind::Undo));
    assert_eq!(again.seq, stuck.seq + 1, "a command of its own");
    assert!(!again.flags.attention && again.failed_undo.is_empty());
    let twice = step(&definition, &again, &correct(2), now(T0));
    assert_eq!(twice, Err(Illegal::NothingToDo), "it is under way");
    let over = after(&definition, &again, &reply(&again, Outcome::Done, ""), T0);
    assert_eq!(over.state, State::Compensated);

    let mut two = stuck.clone();
    two.maybe_in_force.insert(0);
    two.failed_undo.insert(0);
    let again = after(&definition, &two, &correct(0), T0);
    assert_eq!(again.cursor.map(|cursor| cursor.step), Some(0));
    assert!(again.flags.attention && again.failed_undo.contains(2));
    let other = step(&definition, &stuck, &correct(0), now(T0));
    assert_eq!(other, Err(Illegal::NothingToDo), "its undo did not fail");
}

#[test]
fn a_mail_that_was_refused_for_good_is_sent_to_a_corrected_address() {
    let (definition, notifying) = order_at(4);
    let correct = Input::Act(Action::Correct { step: 4 });
    let unasked = step(&definition, &notifying, &correct, now(T0));
    assert_eq!(unasked, Err(Illegal::NothingToDo));
    let refused = reply(&notifying, Outcome::Rejected, "mail_refused");
    let asking = after(&definition, &notifying, &refused, T0);
    let elsewhere = Input::Act(Action::Correct { step: 3 });
    let elsewhere = step(&definition, &asking, &elsewhere, now(T0));
    assert_eq!(elsewhere, Err(Illegal::NothingToDo));
    let again = after(&definition, &asking, &correct, T0);
    let cursor = again.cursor.expect("at notify");
    assert!(cursor.outstanding && cursor.kind == StepKind::Do && cursor.attempt == 1);
    assert!(again.seq > asking.seq && !again.flags.attention);
    let done = after(&definition, &again, &reply(&again, Outcome::Done, ""), T0);
    assert_eq!(done.state, State::Completed);
}
