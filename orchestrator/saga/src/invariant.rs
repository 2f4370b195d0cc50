//! What is true of every saga after every step, by name. The state machine asserts it in debug
//! builds, the property tests and the simulation check it, and the database refuses the worst of it
//! with CHECK constraints.

use crate::{Definition, Instance, State, Steps};
use contract::StepKind;

/// A named property of one saga.
#[derive(Clone, Copy)]
pub struct Invariant {
    /// Its name, as in the README where it is a promise.
    pub name: &'static str,
    /// Whether it holds.
    pub holds: fn(&Definition, &Instance) -> bool,
}

/// All of them.
pub const ALL: &[Invariant] = &[
    Invariant {
        name: "honest-end",
        holds: honest_end,
    },
    Invariant {
        name: "completed-has-pivot",
        holds: completed_has_pivot,
    },
    Invariant {
        name: "abandoned-has-approver",
        holds: abandoned_has_approver,
    },
    Invariant {
        name: "done-may-be-in-force",
        holds: done_may_be_in_force,
    },
    Invariant {
        name: "failed-undo-is-work",
        holds: failed_undo_is_work,
    },
    Invariant {
        name: "an-end-rests",
        holds: an_end_rests,
    },
    Invariant {
        name: "nothing-sleeps-unseen",
        holds: nothing_sleeps_unseen,
    },
    Invariant {
        name: "paused-says-since",
        holds: paused_says_since,
    },
    Invariant {
        name: "undo-only-when-compensating",
        holds: undo_only_when_compensating,
    },
    Invariant {
        name: "cursor-may-be-in-force",
        holds: cursor_may_be_in_force,
    },
    Invariant {
        name: "no-undo-past-the-pivot",
        holds: no_undo_past_the_pivot,
    },
    Invariant {
        name: "forward-in-order",
        holds: forward_in_order,
    },
];

/// The name of the first one that does not hold.
#[must_use]
pub fn violated(definition: &Definition, saga: &Instance) -> Option<&'static str> {
    ALL.iter()
        .find(|invariant| !(invariant.holds)(definition, saga))
        .map(|broken| broken.name)
}

fn honest_end(_: &Definition, saga: &Instance) -> bool {
    saga.state != State::Compensated || saga.maybe_in_force.is_empty()
}

fn completed_has_pivot(_: &Definition, saga: &Instance) -> bool {
    saga.state != State::Completed || saga.pivot_done()
}

/// Two people, and something that is left.
fn abandoned_has_approver(_: &Definition, saga: &Instance) -> bool {
    saga.state != State::Abandoned
        || (saga.reason.is_some() && saga.approver.is_some() && !saga.failed_undo.is_empty())
}

fn done_may_be_in_force(_: &Definition, saga: &Instance) -> bool {
    saga.done.without(saga.maybe_in_force).is_empty()
}

/// A failed undo stays visible: in force, and marked.
fn failed_undo_is_work(_: &Definition, saga: &Instance) -> bool {
    saga.failed_undo.without(saga.maybe_in_force).is_empty()
        && (saga.failed_undo.is_empty() || saga.flags.attention || saga.state == State::Abandoned)
}

fn an_end_rests(_: &Definition, saga: &Instance) -> bool {
    !saga.state.is_end() || (saga.cursor.is_none() && saga.wake_at.is_none())
}

/// Whoever has not ended will be woken, or a person was asked, or has stopped it.
fn nothing_sleeps_unseen(_: &Definition, saga: &Instance) -> bool {
    let seen = saga.flags.attention || saga.flags.held || saga.flags.paused;
    saga.state.is_end() || saga.wake_at.is_some() || seen
}

/// Since when is said, or its time could not stand still; and an end is not stopped.
fn paused_says_since(_: &Definition, saga: &Instance) -> bool {
    saga.flags.paused == saga.paused_at.is_some() && !(saga.flags.paused && saga.state.is_end())
}

fn undo_only_when_compensating(_: &Definition, saga: &Instance) -> bool {
    saga.cursor
        .is_none_or(|cursor| (cursor.kind == StepKind::Undo) == (saga.state == State::Compensating))
}

/// There is no command about a step without its bit, so no undo of a step whose do was never
/// decided, and no do that would be forgotten.
fn cursor_may_be_in_force(_: &Definition, saga: &Instance) -> bool {
    saga.cursor
        .is_none_or(|cursor| saga.maybe_in_force.contains(cursor.step))
}

fn no_undo_past_the_pivot(_: &Definition, saga: &Instance) -> bool {
    !(saga.state == State::Compensating && saga.pivot_done())
}

/// While it goes forward, exactly the steps before the current one are done.
fn forward_in_order(definition: &Definition, saga: &Instance) -> bool {
    let (State::Running | State::Waiting, Some(cursor)) = (saga.state, saga.cursor) else {
        return true;
    };
    let before: Steps = definition
        .steps
        .iter()
        .map(|step| step.number)
        .take_while(|n| *n != cursor.step)
        .collect();
    saga.done == before
}
