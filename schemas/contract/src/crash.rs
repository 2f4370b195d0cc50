//! Places at which a process can be made to die, to show that nothing is lost there.
//!
//! Each is one line of the product that calls [`at`] or [`each`]. Without the feature `crash-points`
//! the line compiles to nothing; with it, nothing happens until a process is told ([`arm`]) the name of
//! one place and which passing of it is to be the last thing that it does. It dies there as by
//! `kill -9`: nothing is finished, flushed or told.
//!
//! The places of a worker, and those of the orchestrator on a command's way, are those of every step and
//! kind of command, and the places around the provider those of every request: so a new step and a new
//! request have theirs. A message is not yet received by the one where the other has just sent it.

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
    /// In the orchestrator, on the way of a command of this step and kind and of its reply.
    Saga(&'a StepName, StepKind, Saga),
    /// In the orchestrator, elsewhere.
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

    /// This boundary on the way of its command through the orchestrator.
    #[must_use]
    pub const fn of_saga(&self, boundary: Saga) -> Point<'_> {
        Point::Saga(&self.step, self.kind, boundary)
    }
}

places! {
    /// The boundaries on the way of a command and its reply through the orchestrator.
    Saga {
        /// The command is decided and about to be committed.
        Decided "decided",
        /// It is committed and about to be published.
        BeforePublish "before_publish",
        /// The broker has confirmed it.
        AfterConfirm "after_confirm",
        /// Its reply has come from the broker.
        Received "received",
        /// What the reply leads to is about to be committed.
        BeforeCommit "before_commit",
        /// It is committed.
        AfterCommit "after_commit",
        /// The reply is about to be acknowledged.
        BeforeAck "before_ack",
        /// It is acknowledged.
        AfterAck "after_ack",
    }
}

impl Saga {
    /// Whether somebody else passes it for the first command of a saga: the gateway, which has places of
    /// its own for that.
    #[must_use]
    pub const fn is_of_the_command(self) -> bool {
        matches!(
            self,
            Self::Decided | Self::BeforePublish | Self::AfterConfirm
        )
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
    /// The boundaries of the orchestrator that are on the way of no command.
    Orchestrator {
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
            Self::Saga(step, kind, at) => {
                write!(f, "orchestrator.{step}.{}.{}", kind.name(), at.name())
            }
            Self::Orchestrator(at) => write!(f, "orchestrator.{}", at.name()),
            Self::Gateway(at) => write!(f, "gateway.{}", at.name()),
        }
    }
}

#[cfg(feature = "crash-points")]
mod armed {
    use super::{Point, Saga};
    use crate::{StepKind, StepName};
    use std::sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    };

    static ARMED: OnceLock<Armed> = OnceLock::new();

    /// One passing of one place.
    struct Armed {
        place: String,
        passing: u64,
        passed: AtomicU64,
    }

    impl Armed {
        fn new(place: &str, passing: u64) -> Self {
            Self {
                place: place.to_owned(),
                passing,
                passed: AtomicU64::new(0),
            }
        }

        /// Whether it is reached by those that come to it at one and the same moment.
        fn is_reached<'a>(&self, points: impl IntoIterator<Item = Point<'a>>) -> bool {
            let is_here = |point: Point<'_>| point.to_string() == self.place;
            points.into_iter().any(is_here)
                && self.passed.fetch_add(1, Ordering::SeqCst) + 1 == self.passing
        }
    }

    /// From now on this process dies at the passing with this number (the first is 1) of the place
    /// with this name. Only the first call counts.
    pub fn arm(point: &str, passing: u64) {
        ARMED.get_or_init(|| Armed::new(point, passing));
    }

    /// Passes a place: the process may die here.
    pub fn at(point: Point<'_>) {
        each([point]);
    }

    /// Passes the place of each of a batch: each place once, however many of the batch are at it. They come
    /// to it at one moment, and the second passing is to be another one, after something has happened.
    pub fn each<'a>(points: impl IntoIterator<Item = Point<'a>>) {
        let Some(armed) = ARMED.get() else {
            return;
        };
        if armed.is_reached(points) {
            let Armed { place, passing, .. } = armed;
            eprintln!("{{\"level\":\"ERROR\",\"message\":\"dies at {place}, passing {passing}\"}}");
            std::process::abort();
        }
    }

    /// Of which steps and kinds a batch is, kept for places that are passed when it is gone.
    #[derive(Debug, Default)]
    pub struct Trail(Vec<(StepName, StepKind)>);

    impl Trail {
        /// Of these.
        pub fn of<'a>(batch: impl IntoIterator<Item = (&'a StepName, StepKind)>) -> Self {
            let steps = batch.into_iter();
            Self(steps.map(|(step, kind)| (step.clone(), kind)).collect())
        }

        /// Passes the place of each, as [`each`] does.
        pub fn pass(&self, at: Saga) {
            each(
                self.0
                    .iter()
                    .map(|(step, kind)| Point::Saga(step, *kind, at)),
            );
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_batch_passes_a_place_once() {
            let (pay, at) = (StepName::PAY, Saga::BeforeCommit);
            let (done, undone) = (
                Point::Saga(&pay, StepKind::Do, at),
                Point::Saga(&pay, StepKind::Undo, at),
            );
            let armed = Armed::new("orchestrator.pay.do.before_commit", 2);
            assert!(!armed.is_reached([done, undone, done, done]), "the first");
            assert!(!armed.is_reached([undone]), "another place");
            assert!(armed.is_reached([undone, done, done]), "the second");
            assert!(!armed.is_reached([done]), "the third");
        }
    }
}

#[cfg(feature = "crash-points")]
pub use armed::{Trail, arm, at, each};

/// Does nothing in a program that is built to be used.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub const fn arm(_: &str, _: u64) {}

/// Passes a place: nothing happens, in a program that is built to be used.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub const fn at(_: Point<'_>) {}

/// Passes the place of each of a batch: nothing happens, in a program that is built to be used.
#[cfg(not(feature = "crash-points"))]
#[inline]
pub fn each<'a>(_: impl IntoIterator<Item = Point<'a>>) {}

/// Nothing is kept, in a program that is built to be used.
#[cfg(not(feature = "crash-points"))]
#[derive(Debug, Default)]
pub struct Trail;

#[cfg(not(feature = "crash-points"))]
impl Trail {
    /// Of a batch.
    #[inline]
    pub fn of<'a>(_: impl IntoIterator<Item = (&'a StepName, StepKind)>) -> Self {
        Self
    }

    /// Nothing happens.
    #[inline]
    pub const fn pass(&self, _: Saga) {}
}

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
            name(Point::Saga(&pay, StepKind::Undo, Saga::AfterConfirm)),
            name(Point::Orchestrator(Orchestrator::SignalApplied)),
            name(Point::Gateway(Gateway::BeforeAnswer)),
        ];
        assert_eq!(
            names,
            [
                "worker.pay.do.after_effect",
                "provider.create.id_stored",
                "orchestrator.pay.undo.after_confirm",
                "orchestrator.signal.applied",
                "gateway.before_answer",
            ]
        );
    }
}
