//! When what a saga was told is settled.
//!
//! The race: an owner stalls, another one takes over and moves its sagas, and the first one wakes up with
//! signals in hand. To a saga as it remembers it, a person's "try again" makes no sense, and it would mark the
//! signal as applied; the saga as it is would have moved by it. What changes nothing is not written, so no
//! condition of a write finds out. Therefore the mark is made on the condition that the row has the revision
//! by which it was refused; else the saga is read again, and the signal stays open.

use super::Owner;
use contract::{
    SagaId,
    planted::{Bug, planted},
};
use saga::{Illegal, Settlement};
use std::collections::HashSet;

/// Whether a signal is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It stays open.
    Not,
    /// It is.
    ForGood,
    /// It is if the stored row of its saga has this revision, or has ended; else the saga is not what it
    /// was taken for, and is to be read again.
    IfAt(i32),
}

impl Owner {
    /// Whether a signal is settled for good, given what became of it in a batch. One that came early
    /// stays; so does one of a saga that was moved by somebody else meanwhile, or is paused, held or
    /// elsewhere. One that was refused is settled only if its saga is still what we took it for: an owner
    /// that another one has overtaken knows of nothing to be tried again where there is something now.
    /// `over` says of a saga that was read for the batch whether it has ended.
    #[must_use]
    pub fn settled(
        &self,
        saga: SagaId,
        settlement: Settlement,
        conflicts: &HashSet<SagaId>,
        over: bool,
    ) -> Settled {
        match settlement {
            _ if conflicts.contains(&saga) => Settled::Not,
            Settlement::Applied => Settled::ForGood,
            Settlement::Refused(Illegal::Paused) if planted(Bug::PauseLosesSignals) => {
                Settled::ForGood
            }
            Settlement::Refused(Illegal::Paused | Illegal::SignalEarly) => Settled::Not,
            Settlement::Refused(_) => match self.saga(saga) {
                Some(known) => Settled::IfAt(known.rev),
                None => Settled::ForGood,
            },
            Settlement::UnknownSaga if !self.knows(saga) && over => Settled::ForGood,
            Settlement::UnknownSaga => Settled::Not,
        }
    }
}
