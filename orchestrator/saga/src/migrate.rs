//! Moving a saga that is under way to another version of its definition.
//!
//! The scenario: a new version is better for the customer, and thousands of sagas are under way by the
//! old one. One that has not come to where the versions differ is the same saga by either, and may be
//! moved. One that has begun a step by the old version which the new one does otherwise may not: the next
//! step would find what it does not expect (a payment that nobody has captured), and the undo of that
//! effect belongs to the version that brought it about.
//!
//! The race: the saga moves on while somebody sorts it. So what is decided here for a list is decided once
//! more by the saga's owner, by the same function, at the moment when it is applied and on condition of
//! the row's revision. One that has come too far meanwhile is refused, and goes on by the version it has.

use crate::{Class, Definition, Instance, State, StepDefinition, Steps};
use contract::{
    StepName,
    planted::{Bug, planted},
};

/// What may be done about one saga.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sorted {
    /// It may be moved as it is: all that it has begun is the same by both versions.
    Safe,
    /// It could be moved by somebody who makes the effects of the one version into those of the other.
    /// Nobody does: it ends by the version that it has.
    NeedsMapping(Reason),
    /// It may not be moved as it stands.
    Blocked(Reason),
}

impl Sorted {
    /// As it is shown: `safe`, `needs_mapping`, `blocked`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Safe => "safe",
            Self::NeedsMapping(_) => "needs_mapping",
            Self::Blocked(_) => "blocked",
        }
    }

    /// Why it is not safe.
    #[must_use]
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Safe => None,
            Self::NeedsMapping(reason) | Self::Blocked(reason) => Some(reason),
        }
    }
}

/// Why a saga is not moved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// It runs by another version than the one it was to be moved from, or by the one it was to be moved to.
    #[error("it does not run by the version that it is to be moved from")]
    NotFrom,
    /// The other definition is of another kind of saga.
    #[error("the definitions are not versions of one another")]
    OtherKind,
    /// It has ended.
    #[error("it has ended")]
    Ended,
    /// It is set aside, or asks for a person.
    #[error("it waits for a person")]
    ForAPerson,
    /// Somebody has stopped it.
    #[error("it is paused")]
    Paused,
    /// Its effects are undone by the version that brought them about.
    #[error("it is being undone, by the version that did its effects")]
    Compensating,
    /// It ends as soon as its pivot's outcome is known.
    #[error("an ending waits")]
    Ending,
    /// The point of no return is passed.
    #[error("it is past its pivot")]
    PivotDone,
    /// The step that it is at has begun, is another one by the new version, and its outcome is open.
    #[error("{0} has begun, and is done otherwise by the other version")]
    Begun(StepName),
    /// A step was done otherwise than the new version does it.
    #[error("{0} was done, and otherwise than by the other version")]
    DoneOtherwise(StepName),
    /// The row names a step that its definition does not have, or effects that it cannot have.
    #[error("its row does not fit its definition")]
    Unreadable,
}

/// Sorts a saga that runs by `from`: whether it may go on by `to`.
///
/// Times and tries may differ between the versions: those of the new one count from the next command on.
#[must_use]
pub fn sort(from: &Definition, to: &Definition, saga: &Instance) -> Sorted {
    if let Some(reason) = blocked(from, to, saga) {
        return Sorted::Blocked(reason);
    }
    let at = saga.cursor.and_then(|cursor| from.step(cursor.step));
    let Some(at) = at.filter(|at| fits(from, at, saga)) else {
        return Sorted::Blocked(Reason::Unreadable);
    };
    if planted(Bug::UnsafeIsMigrated) {
        return Sorted::Safe;
    }
    // What was done is told first: it is what would have to be mapped.
    let mut begun = from.steps.iter().zip(0..).filter(|(step, _)| {
        let number = step.number;
        saga.done.contains(number) || number == at.number
    });
    let otherwise = begun.find(|(step, place)| !is_same(step, to.steps.get(*place)));
    match otherwise.map(|(step, _)| step) {
        None => Sorted::Safe,
        Some(step) if step.number == at.number => Sorted::Blocked(Reason::Begun(step.name.clone())),
        Some(step) => Sorted::NeedsMapping(Reason::DoneOtherwise(step.name.clone())),
    }
}

/// What keeps a saga from being moved, whatever it has done.
fn blocked(from: &Definition, to: &Definition, saga: &Instance) -> Option<Reason> {
    if saga.definition != from.id || from.id == to.id {
        Some(Reason::NotFrom)
    } else if from.name != to.name {
        Some(Reason::OtherKind)
    } else if saga.state.is_end() {
        Some(Reason::Ended)
    } else if saga.state == State::Compensating {
        Some(Reason::Compensating)
    } else if saga.pivot_done() {
        Some(Reason::PivotDone)
    } else if saga.flags.held || saga.flags.attention {
        Some(Reason::ForAPerson)
    } else if saga.flags.paused {
        Some(Reason::Paused)
    } else if saga.reason.is_some() {
        Some(Reason::Ending)
    } else {
        None
    }
}

/// Whether a saga that goes forward has in force what its definition lets it have: the steps before the
/// one that it is at, and that one.
fn fits(from: &Definition, at: &StepDefinition, saga: &Instance) -> bool {
    let numbers = from.steps.iter().map(|step| step.number);
    let before: Steps = numbers.take_while(|number| *number != at.number).collect();
    let mut in_force = before;
    in_force.insert(at.number);
    saga.done == before && saga.maybe_in_force == in_force
}

/// Whether a step has the same effect by both versions, the same undo, and the same way of waiting.
fn is_same(one: &StepDefinition, other: Option<&StepDefinition>) -> bool {
    other.is_some_and(|other| {
        one.number == other.number
            && one.name == other.name
            && one.input == other.input
            && one.probe_mode == other.probe_mode
            && one.waiting.is_some() == other.waiting.is_some()
            && [one.class, other.class] == [Class::Compensatable; 2]
    })
}
