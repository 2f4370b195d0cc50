//! Protections that can be taken away, to show that the simulation sees it.
//!
//! Each is one line of the product that asks [`planted`]. Without the feature `planted`, which only the
//! simulation's crate turns on, the answer is a constant and the line compiles to nothing; with it, the
//! answer is still no until a thread asks for a bug by name ([`plant`]).

/// A bug, named after the protection that it takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bug {
    /// The ledger does not repeat the outcome of an effect that is done: it is brought about again.
    LedgerForgetsDone,
    /// An undo that finds nothing does not forbid the `do` behind it.
    LateDoNotFenced,
    /// A `do` that finds `undone` acts.
    UndoneRevived,
    /// Commands for one effect in one batch are not told apart from commands for several.
    WorkerDoesNotFold,
    /// A payment is confirmed before its id is in the ledger.
    CallBeforeClaim,
    /// A second intent takes the place of the first one in the ledger.
    SecondIntentKept,
    /// A command is acknowledged although its reply could not be published.
    AcknowledgedUnanswered,
    /// A saga is written whatever its revision is.
    UnconditionalWrite,
    /// A commit whose outcome is not known is taken for done, and not read back.
    AmbiguousIsCommitted,
    /// Shards that were lost are still minded.
    LostShardKept,
    /// A stale reply causes its saga's command to be sent again.
    StaleCausesResend,
    /// A command without an answer is not sent again when it is due.
    NoResendWhenDue,
    /// A reply moves its saga whichever command it answers.
    ReplyToAnyCommand,
    /// A step is marked as maybe in force when its `do` is answered, not when it is decided.
    BitAtReply,
    /// An unknown outcome is taken for a failure.
    UnknownIsFailure,
    /// Spent tries of a `do` are taken for a failure.
    ExhaustedIsFailure,
    /// An unknown outcome is undone without asking.
    ProbeSkipped,
    /// Undos run in the order of the steps.
    UndoInOrder,
    /// After a failed undo the others do not run.
    UndoStopsAtFailure,
    /// The saga's deadline ends it as it is.
    DeadlineKills,
    /// A nudge is believed.
    NudgeBelieved,
    /// A nudge that comes before its saga waits is thrown away.
    EarlyNudgeDropped,
    /// An ending does not wait for the pivot's outcome.
    EndOverridesPivot,
    /// A paused saga is moved by whatever comes.
    PauseIgnored,
    /// What a paused saga is told is taken for settled.
    PauseLosesSignals,
    /// The time of a pause counts.
    PauseTakesTime,
    /// A pause that was applied is applied once more.
    PauseComesAgain,
    /// The command of a paused saga is sent again with a new session or owner.
    PausedIsSent,
    /// A capture whose answer is lost is taken for done, and the payment is not read.
    LostCaptureBelieved,
    /// The undo of a capture takes it for not made, without looking.
    CaptureUndoBlind,
    /// The undo of a payment takes a cancel that is refused for one that came too late, and gives nothing
    /// back of what was captured meanwhile.
    RefusedCancelBelieved,
    /// What was given back of a payment is given back once more.
    GivenBackAgain,
    /// While its outside is away a step is sent everything.
    BreakerIgnored,
    /// Nobody is let through to see whether the outside is back.
    BreakerNeverTries,
    /// A saga is moved to another version whatever it has done by its own.
    UnsafeIsMigrated,
    /// The sagas of a definition that is withdrawn go on.
    WithdrawnGoesOn,
    /// A saga that waits leaves memory and does not come back by itself.
    SleeperForgotten,
    /// Nobody is warned that a wait is nearly over.
    DeadlineNotWarned,
    /// A correction opens what is done, not only what was refused.
    CorrectionRevivesDone,
    /// A correction opens a refusal for commands that were decided before it, too.
    CorrectionForLateCommands,
    /// While nothing can be sent sagas are woken and their steps' time passes.
    OutageTakesTime,
    /// The database's clock is set, and the time of the steps goes by with it.
    LeapTakesTime,
    /// A shard that a younger process of the same name has taken is still taken for one's own, though the epoch
    /// of one's own taking is over.
    EpochIgnored,
    /// Several inputs of one saga in a batch are not folded: each is decided on the row as it was at the
    /// batch's begin.
    InputsNotFolded,
    /// A command is sent again when it is due, however long the backlog is in which it waits.
    BacklogIsSilence,
    /// The history takes a second row for a revision that it has.
    HistoryWithoutKey,
}

#[cfg(feature = "planted")]
mod chosen {
    use super::Bug;
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<u64> = const { Cell::new(0) };
    }

    /// Whether this thread runs with the bug.
    #[inline]
    #[must_use]
    pub fn planted(bug: Bug) -> bool {
        PLANTED.get() & 1 << bug as u8 != 0
    }

    /// Whether this thread runs with any bug.
    #[must_use]
    pub fn any() -> bool {
        PLANTED.get() != 0
    }

    /// From now on this thread runs with these bugs and no others.
    pub fn plant(bugs: &[Bug]) {
        PLANTED.set(bugs.iter().fold(0, |set, bug| set | 1 << *bug as u8));
    }
}

#[cfg(feature = "planted")]
pub use chosen::{any, plant, planted};

/// Whether this thread runs with the bug: never, in a program that is built to be used.
#[cfg(not(feature = "planted"))]
#[inline]
#[must_use]
pub const fn planted(_: Bug) -> bool {
    false
}

/// Whether this thread runs with any bug: never.
#[cfg(not(feature = "planted"))]
#[inline]
#[must_use]
pub const fn any() -> bool {
    false
}
