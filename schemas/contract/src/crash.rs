//! Places at which a process can be made to die, to show that nothing is lost there.
//!
//! Each is one line of the product that calls [`at`] or [`each`]. Without the feature `crash-points`
//! the line compiles to nothing; with it, nothing happens until a process is told ([`arm`]) the name of
//! one place and which passing of it is to be the last thing that it does. It dies there as by
//! `kill -9`: nothing is finished, flushed or told.
//!
//! The places of a worker are those of every step and kind of command, and the places around the
//! provider those of every request: so a new step and a new request have theirs.

use crate::{Command, Reply, StepKind, StepName};
use std::fmt;

/// Whether this program can be made to die by name.
pub const BUILT_IN: bool = cfg!(feature = "crash-points");

/// A place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point<'a> {
    /// In a worker, on the way of a command of this step and kind.
    Worker(&'a StepName, StepKind, Work),
    /// Around a request of this name to the payment provider.
    Provider(&'static str, Request),
    /// In the orchestrator.
    Orchestrator(Orchestrator),
    /// In the gateway.
    Gateway(Gateway),
}

macro_rules! places {
    ($(#[$told:meta])* $name:ident { $($(#[$place_told:meta])* $place:ident $text:literal),* $(,)? }) => {
        $(#[$told])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$place_told])* $place),* }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$place),*];

            /// Its part of a place's name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$place => $text),* }
            }
        }
    };
}

places! {
    /// The boundaries on the way of a command through a worker.
    Work {
        /// It has come from the broker.
        Received "received",
        /// The ledger has its row, in a transaction that is open.
        Claimed "claimed",
        /// The step is about to begin.
        BeforeEffect "before_effect",
        /// The step has ended; nothing of it is recorded.
        AfterEffect "after_effect",
        /// The verdict is about to be committed.
        BeforeCommit "before_commit",
        /// It is committed.
        AfterCommit "after_commit",
        /// The reply is about to be published.
        BeforePublish "before_publish",
        /// It is published.
        AfterPublish "after_publish",
        /// Its command is about to be acknowledged.
        BeforeAck "before_ack",
        /// It is acknowledged.
        AfterAck "after_ack",
    }
}

impl Command {
    /// This boundary on its way.
    #[must_use]
    pub const fn at(&self, boundary: Work) -> Point<'_> {
        Point::Worker(&self.step, self.kind, boundary)
    }
}

impl Reply {
    /// This boundary on the way of its command.
    #[must_use]
    pub const fn at(&self, boundary: Work) -> Point<'_> {
        Point::Worker(&self.step, self.kind, boundary)
    }
}

places! {
    /// The boundaries of a request to the payment provider.
    Request {
        /// It is about to be sent.
        Before "before_request",
        /// There is an answer, or it is known that there is none.
        After "after_answer",
        /// What it made has its id in the ledger.
        Stored "id_stored",
    }
}

places! {
    /// The boundaries of the orchestrator.
    Orchestrator {
        /// Replies have come from the broker.
        Received "received",
        /// New states are about to be committed.
        BeforeCommit "before_commit",
        /// They are committed.
        AfterCommit "after_commit",
        /// The next commands are about to be published.
        BeforePublish "before_publish",
        /// The broker has confirmed them.
        AfterConfirm "after_confirm",
        /// The replies that led to them are about to be acknowledged.
        BeforeAck "before_ack",
        /// They are acknowledged.
        AfterAck "after_ack",
        /// Shards are leased, and their sagas are not read.
        LeaseAcquired "lease.acquired",
        /// Their sagas are read, and their commands are not sent again.
        SagasLoaded "lease.loaded",
        /// A signal is committed in a saga, and not marked as applied.
        SignalApplied "signal.applied",
        /// It is marked.
        SignalMarked "signal.marked",
    }
}

places! {
    /// The boundaries of the gateway.
    Gateway {
        /// Orders and their sagas are about to be committed.
        BeforeCommit "before_commit",
        /// They are committed.
        AfterCommit "after_commit",
        /// An order is about to be answered.
        BeforeAnswer "before_answer",
        /// The first commands are about to be published.
        BeforeFirstCommand "before_first_command",
        /// The broker has them.
        AfterFirstCommand "after_first_command",
        /// A signal is about to be committed.
        SignalBeforeCommit "signal.before_commit",
        /// It is committed, and the saga's owner is not nudged.
        SignalAfterCommit "signal.after_commit",
    }
}

impl fmt::Display for Point<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worker(step, kind, at) => {
                write!(f, "worker.{step}.{}.{}", kind.name(), at.name())
            }
            Self::Provider(request, at) => write!(f, "provider.{request}.{}", at.name()),
            Self::Orchestrator(at) => write!(f, "orchestrator.{}", at.name()),
            Self::Gateway(at) => write!(f, "gateway.{}", at.name()),
        }
    }
}

#[cfg(feature = "crash-points")]
mod armed {
    use super::Point;
    use std::sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    };

    static ARMED: OnceLock<(String, u64)> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);

    /// From now on this process dies at the passing with this number (the first is 1) of the place
    /// with this name. Only the first call counts.
    pub fn arm(point: &str, passing: u64) {
        ARMED.get_or_init(|| (point.to_owned(), passing));
    }

    /// Passes a place: the process may die here.
    pub fn at(point: Point<'_>) {
        let Some((name, passing)) = ARMED.get() else {
            return;
        };
        if *name == point.to_string() && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *passing {
            eprintln!("{{\"level\":\"ERROR\",\"message\":\"dies at {name}, passing {passing}\"}}");
            std::process::abort();
        }
    }

    /// Passes a place once for each of a batch.
    pub fn each<'a>(points: impl IntoIterator<Item = Point<'a>>) {
        points.into_iter().for_each(at);
    }
}

#[cfg(feature = "crash-points")]
pub use armed::{arm, at, each};

/// Does nothing in a program that is built to be used.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub const fn arm(_: &str, _: u64) {}

/// Passes a place: nothing happens, in a program that is built to be used.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub const fn at(_: Point<'_>) {}

/// Passes a place once for each of a batch: nothing happens, in a program that is built to be used.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub fn each<'a>(_: impl IntoIterator<Item = Point<'a>>) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_one_name() {
        let pay = StepName::PAY;
        let name = |point: Point<'_>| point.to_string();
        let names = [
            name(Point::Worker(&pay, StepKind::Do, Work::AfterEffect)),
            name(Point::Provider("create", Request::Stored)),
            name(Point::Orchestrator(Orchestrator::SignalApplied)),
            name(Point::Gateway(Gateway::BeforeAnswer)),
        ];
        assert_eq!(
            names,
            [
                "worker.pay.do.after_effect",
                "provider.create.id_stored",
                "orchestrator.signal.applied",
                "gateway.before_answer",
            ]
        );
    }
}
