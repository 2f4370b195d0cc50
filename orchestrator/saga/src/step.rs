//! The state machine: one total function over a saga's state and one input.
//!
//! The rules it keeps, whatever comes in whatever order:
//! - A step's bit in `maybe_in_force` is set when its `do` is *decided*, not when the reply comes;
//!   a process that dies in between leaves a saga that knows it may have something to undo.
//! - `unknown` is a result: it is probed, and if it stays unknown the step is undone as well. Spent
//!   tries of a `do` are unknown too, for the last of them may have had its effect.
//! - Undos run in reverse order over everything that may be in force; a failed undo is marked and
//!   the others still run; the saga is not `compensated` before nothing may be in force.
//! - An ending that comes while the pivot's `do` is out waits for its outcome: done, and the ending
//!   is refused; anything else, and the undos run.
//! - While a saga is paused nothing is decided, and its time stands still.

mod act;
mod draft;
mod pause;
mod undo;
mod wait;

pub use wait::{DEADLINE_NEAR, warns_at};

use crate::{
    Cursor, Definition, Instance, ProbeMode, State, StepDefinition, Steps, TimestampMs,
    migrate::{self, Sorted},
};
use contract::{
    Outcome, SagaId, StepKind,
    planted::{Bug, planted},
};
use draft::{Budget, Draft};
use std::sync::Arc;

/// What the history calls a move to another version.
const MIGRATE: &str = "migrate";

/// The time and the chance of one step, both given from outside.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The database's time.
    pub ms: TimestampMs,
    /// Draws the jitter.
    pub seed: u64,
    /// Steps whose breaker is open: no `do` is sent to them.
    pub open: Steps,
}

impl Now {
    /// With every breaker closed.
    #[must_use]
    pub fn new(ms: TimestampMs, seed: u64) -> Self {
        let open = Steps::default();
        Self { ms, seed, open }
    }
}

/// What a saga may be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A worker answered.
    Reply(ReplyInput),
    /// `wake_at` has passed.
    Wake,
    /// Something happened outside, for the step with this number.
    Signal {
        /// The step that waits for it.
        step: u8,
        /// What it is.
        kind: SignalKind,
    },
    /// The customer, an operator or a withdrawn definition ends the saga.
    End {
        /// A code of at most 40 characters.
        reason: String,
    },
    /// A person does something about a saga that asks for one.
    Act(Action),
    /// A person moves the saga to another version of its definition.
    Migrate {
        /// The number of the version that it is moved from: what comes twice finds another one.
        from: i16,
        /// The version that it is to go on by.
        to: Arc<Definition>,
    },
}

/// What a person may do about a saga: stop it for a while, whatever it is at, and the rest if it asks
/// for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing is decided any more until it goes on; told by this row of the audit log.
    Pause {
        /// Rows of the audit log are in the order in which people acted.
        audit: i64,
    },
    /// It goes on, and the time of the pause does not count.
    Resume {
        /// As of a pause.
        audit: i64,
    },
    /// Try once more, now: the failed undos, or the step after the pivot that keeps failing.
    Retry,
    /// What the step was given is corrected where its worker reads it: its failed undo is tried again, or
    /// the step after the pivot that keeps failing or was refused.
    Correct {
        /// The step's number.
        step: u8,
    },
    /// The step's effect was dealt with elsewhere: a failed undo is no longer to be done, or a step
    /// after the pivot needs not be.
    Resolve {
        /// The step's number.
        step: u8,
    },
    /// Give up, with what is left in force.
    Abandon {
        /// The second person, who agreed.
        approver: String,
    },
}

impl Action {
    /// As it stands in the history.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pause { .. } => "pause",
            Self::Resume { .. } => "resume",
            Self::Retry => "retry",
            Self::Correct { .. } => "correct",
            Self::Resolve { .. } => "resolve",
            Self::Abandon { .. } => "abandon",
        }
    }
}

impl Input {
    /// Whether it is what a paused saga may be told.
    fn is_of_a_pause(&self) -> bool {
        matches!(
            self,
            Self::Act(Action::Pause { .. } | Action::Resume { .. })
        )
    }

    /// Its kind, as the history has it.
    #[must_use]
    pub fn kind(&self) -> InputKind {
        match self {
            Self::Reply(_) => InputKind::Reply,
            Self::Wake => InputKind::Wake,
            Self::Signal { .. } => InputKind::Signal,
            Self::End { .. } => InputKind::End,
            Self::Act(_) | Self::Migrate { .. } => InputKind::Operator,
        }
    }
}

/// The part of a reply that decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyInput {
    /// The command it answers.
    pub seq: i32,
    /// What became of it.
    pub outcome: Outcome,
    /// The error's code.
    pub code: Option<String>,
    /// Not before so many milliseconds.
    pub retry_after_ms: Option<u32>,
}

/// Two kinds of signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalKind {
    /// Somebody entitled decided, and it is recorded where the step reads it: the `do` again.
    Decision,
    /// Somebody says that something happened. Never believed: it causes a probe.
    Nudge,
}

/// What kind of input a row of the history is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub enum InputKind {
    /// The saga began.
    Start = 1,
    /// A worker answered.
    Reply = 2,
    /// Its time had come.
    Wake = 3,
    /// Something happened outside.
    Signal = 4,
    /// Somebody ended it.
    End = 5,
    /// A person did something about it.
    Operator = 6,
}

/// Why an input changes nothing. None of these is an error of the sender's: messages come late and
/// twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Illegal {
    /// The saga has ended.
    #[error("the saga has ended")]
    Ended,
    /// The reply answers a command that is not the current one, or was answered.
    #[error("the reply is stale")]
    Stale,
    /// `wake_at` is in the future or not set.
    #[error("it is not time yet")]
    NotDue,
    /// The saga does not wait for this signal yet; keep it.
    #[error("the signal is early")]
    SignalEarly,
    /// The saga does not wait for this signal any more.
    #[error("the signal is late")]
    SignalLate,
    /// The point of no return is passed.
    #[error("the saga is past its pivot")]
    PivotDone,
    /// It is ending already.
    #[error("the saga is ending already")]
    AlreadyEnding,
    /// The saga is paused: keep what is a row, drop what comes again.
    #[error("the saga is paused")]
    Paused,
    /// The saga does not ask for a person, or not for this.
    #[error("the saga does not ask for this")]
    NothingToDo,
    /// What the saga has begun is not the same by the other version.
    #[error("the saga cannot go on by the other version")]
    OtherVersion,
    /// The state names a step that the definition does not have.
    #[error("the definition does not have the saga's step")]
    UnknownStep,
}

/// A command to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Send {
    /// The command's number.
    pub seq: i32,
    /// The step's number.
    pub step: u8,
    /// What to ask, on the wire.
    pub kind: StepKind,
    /// 1 for the first.
    pub attempt: i16,
    /// It is a `do` that stands for a probe.
    pub redo: bool,
}

impl Send {
    /// What is sent when `kind` is tried: where the outcome of a step is known by redoing, a probe is a `do`.
    pub(crate) fn of(seq: i32, step: &StepDefinition, kind: StepKind, attempt: i16) -> Self {
        let redo = kind == StepKind::Probe && step.probe_mode == ProbeMode::Redo;
        Self {
            seq,
            step: step.number,
            kind: if redo { StepKind::Do } else { kind },
            attempt,
            redo,
        }
    }
}

/// What the history says of a transition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// What came in.
    pub input: InputKind,
    /// The revision after it.
    pub rev: i32,
    /// The command's number before it.
    pub seq: i32,
    /// The cursor before it.
    pub cursor: Option<Cursor>,
    /// The outcome, of a reply.
    pub outcome: Option<Outcome>,
    /// The error's code, or the reason of an ending.
    pub code: Option<String>,
    /// The state after it.
    pub state: State,
    /// The command decided by it.
    pub send: Option<Send>,
}

/// What follows from an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The next state.
    pub next: Instance,
    /// The command to send, if any.
    pub send: Option<Send>,
    /// The row for the history.
    pub log: Log,
}

/// A new saga with its first command decided.
#[must_use]
pub fn start(definition: &Definition, id: SagaId, trace_id: u128, now: Now) -> Transition {
    let instance = Instance {
        id,
        definition: definition.id,
        trace_id,
        rev: 0,
        seq: 0,
        state: State::Running,
        flags: crate::Flags::default(),
        flagged_at: None,
        paused_at: None,
        pause_audit: None,
        cursor: None,
        resends: 0,
        done: Steps::default(),
        maybe_in_force: Steps::default(),
        failed_undo: Steps::default(),
        pivot: definition.pivot(),
        wake_at: None,
        budget_until: None,
        deadline: now.ms.saturating_add(i64::from(definition.deadline_ms)),
        waiting_since: None,
        reason: None,
        approver: None,
    };
    let mut draft = Draft {
        definition,
        next: instance,
        now,
        send: None,
    };
    if let Some(first) = definition.steps.first() {
        draft.command(first, StepKind::Do, 1, Budget::Fresh);
    }
    draft.finish(InputKind::Start, None, 0, None, None)
}

/// What follows from `input`, or why nothing does.
///
/// # Errors
/// The input is not for this state; the state stays as it is.
pub fn step(
    definition: &Definition,
    instance: &Instance,
    input: &Input,
    now: Now,
) -> Result<Transition, Illegal> {
    if instance.state.is_end() {
        return Err(Illegal::Ended);
    }
    if instance.flags.paused && !input.is_of_a_pause() && !planted(Bug::PauseIgnored) {
        return Err(Illegal::Paused);
    }
    let mut draft = Draft {
        definition,
        next: instance.clone(),
        now,
        send: None,
    };
    let (outcome, code) = match input {
        Input::Reply(reply) => {
            draft.reply(reply)?;
            (Some(reply.outcome), reply.code.clone())
        }
        Input::Wake => {
            let code = draft.wake()?;
            (None, code.map(str::to_owned))
        }
        Input::Signal { step, kind } => {
            draft.signal(*step, *kind)?;
            (None, None)
        }
        Input::End { reason } => {
            draft.end(reason)?;
            (None, Some(reason.clone()))
        }
        Input::Act(action) => {
            draft.act(action)?;
            (None, Some(action.name().to_owned()))
        }
        Input::Migrate { from, to } => {
            if *from != definition.id || migrate::sort(definition, to, instance) != Sorted::Safe {
                return Err(Illegal::OtherVersion);
            }
            draft.definition = to;
            draft.next.definition = to.id;
            draft.next.pivot = to.pivot();
            (None, Some(MIGRATE.to_owned()))
        }
    };
    Ok(draft.finish(input.kind(), instance.cursor, instance.seq, outcome, code))
}
