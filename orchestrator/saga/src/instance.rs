//! A saga's state: what its row in the database holds.

use crate::{Class, Definition, TimestampMs, WaitingDefinition};
use contract::{SagaId, StepKind};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where a saga is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(i16)]
pub enum State {
    /// Going forward.
    Running = 1,
    /// Asleep until a signal or a deadline.
    Waiting = 2,
    /// Undoing, in reverse order. A saga with a failed undo stays here.
    Compensating = 3,
    /// Everything is done.
    Completed = 4,
    /// Everything is undone.
    Compensated = 5,
    /// Given up by two people, with what it leaves open listed.
    Abandoned = 6,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Running,
        Self::Waiting,
        Self::Compensating,
        Self::Completed,
        Self::Compensated,
        Self::Abandoned,
    ];

    /// Whether nothing follows any more.
    #[must_use]
    pub fn is_end(self) -> bool {
        self >= Self::Completed
    }

    /// From the number in the row.
    #[must_use]
    pub fn from_number(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|state| *state as i16 == number)
    }

    /// As it is shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Compensating => "compensating",
            Self::Completed => "completed",
            Self::Compensated => "compensated",
            Self::Abandoned => "abandoned",
        }
    }
}

/// What a customer is told of an order; derived from the saga, never stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Under way.
    Pending,
    /// The customer has to do something.
    ActionRequired,
    /// A person looks at it.
    InReview,
    /// The pivot is done.
    Confirmed,
    /// Undos are under way.
    Cancelling,
    /// All undone, or abandoned.
    Cancelled,
}

impl Status {
    /// What follows from a saga's state, from whether its pivot is done, and from what it says while it
    /// waits at the step where it is.
    #[must_use]
    pub fn of(state: State, pivot_done: bool, waiting: Option<&WaitingDefinition>) -> Self {
        match state {
            State::Compensating => Self::Cancelling,
            State::Compensated | State::Abandoned => Self::Cancelled,
            State::Completed => Self::Confirmed,
            State::Running | State::Waiting if pivot_done => Self::Confirmed,
            State::Running => Self::Pending,
            State::Waiting => waiting.map_or(Self::Pending, |waiting| waiting.status),
        }
    }

    /// As it stands in the API and in events.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::ActionRequired => "action_required",
            Self::InReview => "in_review",
            Self::Confirmed => "confirmed",
            Self::Cancelling => "cancelling",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A set of steps by their numbers, one bit each.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Steps(u32);

impl Steps {
    /// From the bits in the row.
    #[must_use]
    pub fn from_bits(bits: i32) -> Self {
        Self(bits.cast_unsigned())
    }

    /// As the row keeps them; numbers are at most 30, so never negative.
    #[must_use]
    pub fn bits(self) -> i32 {
        self.0.cast_signed()
    }

    /// Whether the step is in the set.
    #[must_use]
    pub fn contains(self, number: u8) -> bool {
        number < 32 && self.0 & (1 << number) != 0
    }

    /// Adds a step.
    pub fn insert(&mut self, number: u8) {
        debug_assert!(number <= 30, "definitions are checked");
        self.0 |= 1_u32.checked_shl(u32::from(number)).unwrap_or(0);
    }

    /// Takes a step out.
    pub fn remove(&mut self, number: u8) {
        self.0 &= !1_u32.checked_shl(u32::from(number)).unwrap_or(0);
    }

    /// Whether no step is in the set.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those that are not in `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The numbers, ascending.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..31).filter(move |number| self.contains(*number))
    }
}

impl FromIterator<u8> for Steps {
    fn from_iter<I: IntoIterator<Item = u8>>(numbers: I) -> Self {
        let mut steps = Self::default();
        for number in numbers {
            steps.insert(number);
        }
        steps
    }
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Marks that stand beside the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// A person has stopped it for a while: nothing is decided until he lets it go on.
    pub paused: bool,
    /// It cannot be read, its definition is unknown here, or the database refused its change.
    pub held: bool,
    /// A person has to look: a failed undo, a step after the pivot that keeps failing.
    pub attention: bool,
    /// Somebody was warned that the time of what it waits for, or its own, is nearly over.
    pub warned: bool,
}

impl Flags {
    /// As the row keeps them.
    #[must_use]
    pub fn bits(self) -> i16 {
        i16::from(self.paused)
            | i16::from(self.held) << 1
            | i16::from(self.attention) << 2
            | i16::from(self.warned) << 3
    }

    /// From the row.
    #[must_use]
    pub fn from_bits(bits: i16) -> Self {
        Self {
            paused: bits & 1 != 0,
            held: bits & 2 != 0,
            attention: bits & 4 != 0,
            warned: bits & 8 != 0,
        }
    }
}

/// The command a saga is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The step's number.
    pub step: u8,
    /// What is being tried. A `Probe` of a step whose outcome is known by redoing is sent as `do`.
    pub kind: StepKind,
    /// 1 for the first.
    pub attempt: i16,
    /// Whether the command was decided and has no answer yet; otherwise the saga pauses before it,
    /// or waits.
    pub outstanding: bool,
}

/// One saga.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its id; an order's saga has the order's.
    pub id: SagaId,
    /// Its definition's number.
    pub definition: i16,
    /// The trace of the request that started it.
    pub trace_id: u128,
    /// Changes with every write and is the condition of every write.
    pub rev: i32,
    /// Counts commands; changes only when a new command is decided.
    pub seq: i32,
    /// Where it is.
    pub state: State,
    /// Marks.
    pub flags: Flags,
    /// Since when it is marked for attention or held.
    pub flagged_at: Option<TimestampMs>,
    /// Since when it is paused; its times stand still as they were then.
    pub paused_at: Option<TimestampMs>,
    /// The row of the audit log of its last pause or resume: whatever is not younger was applied.
    pub pause_audit: Option<i64>,
    /// The current command; `None` when it has ended or only a person can go on.
    pub cursor: Option<Cursor>,
    /// How often the current command was sent again.
    pub resends: i16,
    /// Steps whose effect is known to be in force.
    pub done: Steps,
    /// Steps whose effect may be in force: set when a `do` is decided, cleared by a recorded refusal
    /// or a done undo.
    pub maybe_in_force: Steps,
    /// Steps whose undo failed for good.
    pub failed_undo: Steps,
    /// The pivot, as a set.
    pub pivot: Steps,
    /// When to worry.
    pub wake_at: Option<TimestampMs>,
    /// Until when the current phase (do, probe or undo of one step) may go on.
    pub budget_until: Option<TimestampMs>,
    /// Until when the saga may take, waiting not counted.
    pub deadline: TimestampMs,
    /// Since when it waits for the outside; kept while a nudge is looked into.
    pub waiting_since: Option<TimestampMs>,
    /// Why it ends; while it still runs, an ending that waits for the pivot's outcome.
    pub reason: Option<String>,
    /// Who agreed to giving it up; only of an abandoned one.
    pub approver: Option<String>,
}

impl Instance {
    /// Whether the point of no return is passed.
    #[must_use]
    pub fn pivot_done(&self) -> bool {
        !self.done.and(self.pivot).is_empty()
    }

    /// Whether the pivot's effect may be in force.
    #[must_use]
    pub fn pivot_maybe(&self) -> bool {
        !self.maybe_in_force.and(self.pivot).is_empty()
    }

    /// Whether the saga's deadline ends it when it comes: it ends what is still on its way to the pivot,
    /// and time spent waiting does not count.
    #[must_use]
    pub fn deadline_counts(&self) -> bool {
        self.state == State::Running && !self.pivot_done() && self.waiting_since.is_none()
    }

    /// What the customer is told.
    #[must_use]
    pub fn status(&self, definition: &Definition) -> Status {
        let waiting = self
            .cursor
            .and_then(|cursor| definition.step(cursor.step)?.waiting.as_ref());
        Status::of(self.state, self.pivot_done(), waiting)
    }

    /// The class of the step it is at.
    #[must_use]
    pub fn class(&self, definition: &Definition) -> Option<Class> {
        self.cursor
            .and_then(|cursor| definition.step(cursor.step))
            .map(|step| step.class)
    }
}
