//! What can be reached: every input in every state, but for those of which is said why they cannot come about.
//! An input, a state or a refusal that the product gains does not compile here before it has a name, and is
//! demanded from then on.

use super::orchestrator::{CAPTURE, FRAUD_CHECK, ISSUE, NOTIFY, PAY, RESERVE, STEP_NAMES};
use contract::{Outcome, Refusal, StepKind};
use saga::{Action, Illegal, Input, ReplyInput, SignalKind, State};

/// Names, and what bears them: one list, so that none can be forgotten.
macro_rules! named {
    ($(#[$doc:meta])* $all:ident, $of:ident($($given:ident: $type:ty),+):
     $($pattern:pat $(if $guard:expr)? => $name:literal,)+) => {
        $(#[$doc])*
        pub(super) const $all: &[&str] = &[$($name,)+];

        pub(super) fn $of($($given: $type),+) -> &'static str {
            match ($($given),+) { $($pattern $(if $guard)? => $name,)+ }
        }
    };
}

macro_rules! says {
    ($outcome:ident) => {
        Input::Reply(ReplyInput {
            outcome: Outcome::$outcome,
            ..
        })
    };
}

named! {
    /// What a saga may be told; a reply by what it was asked.
    INPUTS, input(asked: StepKind, given: &Input):
    (StepKind::Do, says!(Done)) => "do done",
    (StepKind::Do, says!(Rejected)) => "do rejected",
    (StepKind::Do, says!(Retry)) => "do retry",
    (StepKind::Do, says!(Unknown)) => "do unknown",
    (StepKind::Do, says!(Waiting)) => "do waiting",
    (StepKind::Probe, says!(Done)) => "probe done",
    (StepKind::Probe, says!(Rejected)) => "probe rejected",
    (StepKind::Probe, says!(Retry)) => "probe retry",
    (StepKind::Probe, says!(Unknown)) => "probe unknown",
    (StepKind::Probe, says!(Waiting)) => "probe waiting",
    (StepKind::Undo, says!(Done)) => "undo done",
    (StepKind::Undo, says!(Rejected)) => "undo rejected",
    (StepKind::Undo, says!(Retry)) => "undo retry",
    (StepKind::Undo, says!(Unknown)) => "undo unknown",
    (StepKind::Undo, says!(Waiting)) => "undo waiting",
    (_, Input::Wake) => "wake",
    (_, Input::Signal { kind: SignalKind::Decision, .. }) => "decision",
    (_, Input::Signal { kind: SignalKind::Nudge, .. }) => "nudge",
    (_, Input::End { reason }) if is(reason, Refusal::OperatorEnded) => "operator's end",
    (_, Input::End { reason }) if is(reason, Refusal::DefinitionWithdrawn) => "withdrawn",
    (_, Input::End { .. }) => "customer's end",
    (_, Input::Act(Action::Pause { .. })) => "pause",
    (_, Input::Act(Action::Resume { .. })) => "resume",
    (_, Input::Act(Action::Retry)) => "operator's retry",
    (_, Input::Act(Action::Correct { .. })) => "correct",
    (_, Input::Act(Action::Resolve { .. })) => "resolve",
    (_, Input::Act(Action::Abandon { .. })) => "abandon",
    (_, Input::Migrate { .. }) => "migrate",
}

named! {
    /// Why an input changes nothing.
    REFUSALS, refusal(why: Illegal):
    Illegal::Ended => "ended",
    Illegal::Stale => "stale",
    Illegal::NotDue => "not due",
    Illegal::SignalEarly => "signal early",
    Illegal::SignalLate => "signal late",
    Illegal::PivotDone => "pivot done",
    Illegal::AlreadyEnding => "already ending",
    Illegal::Paused => "paused",
    Illegal::NothingToDo => "nothing to do",
    Illegal::OtherVersion => "other version",
    Illegal::UnknownStep => "unknown step",
}

/// No world has a definition that lacks a step: `engine/tests/it/held.rs` has.
pub(super) const REFUSALS_EXEMPT: &[&str] = &["unknown step"];

fn is(reason: &str, refusal: Refusal) -> bool {
    reason == refusal.code()
}

/// What cannot move a saga, and why.
struct Exempt {
    state: State,
    inputs: &'static [&'static str],
    /// What stands for it, and would be broken if it came about.
    because: &'static str,
}

const fn never(state: State, inputs: &'static [&'static str], because: &'static str) -> Exempt {
    Exempt {
        state,
        inputs,
        because,
    }
}

/// Besides what an ended saga might be told. What ends with a space stands for all that begins with it.
const EXEMPT: &[Exempt] = &[
    never(
        State::Running,
        &["undo "],
        "invariant `undo-only-when-compensating`: it is at no undo, and other replies are stale",
    ),
    never(
        State::Running,
        &["decision", "nudge"],
        "a signal is for a wait: `SignalEarly` or `SignalLate`",
    ),
    never(
        State::Running,
        &["abandon"],
        "only a failed undo is given up: `NothingToDo`",
    ),
    never(
        State::Waiting,
        &["do ", "probe ", "undo "],
        "no command of a saga that waits is out: `Stale`",
    ),
    never(
        State::Waiting,
        &["operator's retry", "correct", "resolve", "abandon"],
        "a wait is before the pivot and before any undo, and only what follows either asks for a person",
    ),
    never(
        State::Compensating,
        &["do ", "probe "],
        "invariant `undo-only-when-compensating`: it is at an undo or at nothing, and other replies are stale",
    ),
    never(
        State::Compensating,
        &["undo waiting"],
        "no undo of ours waits for anybody",
    ),
    never(
        State::Compensating,
        &["decision", "nudge"],
        "it waits for nothing any more: `SignalLate`",
    ),
    never(
        State::Compensating,
        &["customer's end", "operator's end", "withdrawn"],
        "it is ending: `AlreadyEnding`",
    ),
    never(
        State::Compensating,
        &["migrate"],
        "the version that did an effect undoes it: `OtherVersion`",
    ),
];

/// Why an input never moves a saga in a state; `None`: it has to be seen to.
pub(super) fn exempt(state: State, input: &str) -> Option<&'static str> {
    if state.is_end() {
        return Some("an ended saga is moved by nothing: `Ended`");
    }
    let is_exempt = |one: &&Exempt| {
        let mut named = one.inputs.iter();
        one.state == state && named.any(|name| is_of(input, name))
    };
    EXEMPT.iter().find(is_exempt).map(|one| one.because)
}

fn is_of(input: &str, name: &str) -> bool {
    match name.ends_with(' ') {
        true => input.starts_with(name),
        false => input == name,
    }
}

/// Every input in every state.
pub(super) fn pairs() -> impl Iterator<Item = (State, &'static str)> {
    let of = |state| INPUTS.iter().map(move |input| (state, *input));
    State::ALL.into_iter().flat_map(of)
}

/// What cannot come of a command of a step, and why.
struct OfStep {
    /// By its number.
    steps: &'static [usize],
    inputs: &'static [&'static str],
    because: &'static str,
}

const fn of(
    steps: &'static [usize],
    inputs: &'static [&'static str],
    because: &'static str,
) -> OfStep {
    OfStep {
        steps,
        inputs,
        because,
    }
}

/// What a step is never told. What ends with a space stands for all that begins with it.
const OF_STEPS_NEVER: &[OfStep] = &[
    of(
        &[RESERVE, ISSUE, NOTIFY, CAPTURE],
        &["do waiting", "probe waiting"],
        "its definition has nothing that it waits for",
    ),
    of(
        &[RESERVE, FRAUD_CHECK, PAY, ISSUE, NOTIFY, CAPTURE],
        &["undo waiting"],
        "no undo of ours waits for anybody",
    ),
    of(
        &[RESERVE, FRAUD_CHECK, ISSUE],
        &["do unknown", "probe unknown", "undo unknown"],
        "its effect is a transaction of our own, and to ask is to do it again: whoever answers knows",
    ),
    of(
        &[RESERVE, FRAUD_CHECK, ISSUE],
        &["undo rejected"],
        "nobody else has to agree that what is ours is given back",
    ),
    of(
        &[NOTIFY],
        &["do unknown", "probe ", "undo "],
        "behind the pivot it is tried until it works: nobody asks about it, and nothing undoes it",
    ),
];

/// What may come about, and so seldom that it is not demanded of each step.
const OF_STEPS_SELDOM: &[OfStep] = &[
    of(
        &[RESERVE, FRAUD_CHECK, ISSUE],
        &["do retry", "probe retry", "undo retry"],
        "only a command that came too late is answered so (`expired`), whatever its step",
    ),
    of(
        &[CAPTURE],
        &["do unknown", "undo unknown"],
        "the provider has to have lost what it authorised; of payments it is demanded",
    ),
    of(
        &[CAPTURE],
        &["probe rejected"],
        "the authorisation has to end in the minute in which nobody hears of it; a recorded history has it",
    ),
    of(
        &[ISSUE],
        &["probe rejected"],
        "it has to be refused in the moment in which nobody hears of it; of `reserve` it is demanded",
    ),
];

/// What each step has to have been told: whatever may come of each kind of its commands, and that its time has
/// come.
pub(super) fn of_steps() -> impl Iterator<Item = (usize, &'static str)> {
    let told = |input: &&&str| {
        ["do ", "probe ", "undo ", "wake"]
            .iter()
            .any(|kind| input.starts_with(kind))
    };
    let all = (0..STEP_NAMES.len()).flat_map(move |step| {
        let told = INPUTS.iter().filter(told);
        told.map(move |input| (step, *input))
    });
    let all = all.filter(|(step, input)| {
        let exempt = OF_STEPS_NEVER.iter().chain(OF_STEPS_SELDOM);
        !exempt.clone().any(|one| one.has(*step, input))
    });
    // An ending that meets the pivot of `order@2`, whose outcome decides.
    all.chain([(CAPTURE, "customer's end")])
}

/// Why a step is never told this.
pub(super) fn never_of_step(step: usize, input: &str) -> Option<&'static str> {
    let found = OF_STEPS_NEVER.iter().find(|one| one.has(step, input));
    found.map(|one| one.because)
}

impl OfStep {
    fn has(&self, step: usize, input: &str) -> bool {
        self.steps.contains(&step) && self.inputs.iter().any(|name| is_of(input, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_exempt_exists() {
        let of_steps = OF_STEPS_NEVER.iter().chain(OF_STEPS_SELDOM);
        let of_steps = of_steps.flat_map(|one| one.inputs);
        let named = EXEMPT.iter().flat_map(|one| one.inputs).chain(of_steps);
        let unknown = |name: &&&str| !INPUTS.iter().any(|input| is_of(input, name));
        let unknown: Vec<_> = named.filter(unknown).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
}
