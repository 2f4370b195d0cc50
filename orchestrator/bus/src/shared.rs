//! What the parts of a bus share: the configuration, what the owner wants, and the present state.

use crate::{
    Config, Delivery, Parked, PublishError, ReplyDelivery, confirmed, session::Session, transient,
};
use contract::{Command, Event, Incarnation, StepKind, StepName, Topology};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The bus as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// Counts the sessions established; 0 before the first. With each one, whatever was published
    /// without a confirm, or delivered and not acknowledged, may have been lost or come again.
    pub session: u64,
    /// A session is established, and everything asked for is declared and consumed.
    pub connected: bool,
    /// The broker takes no messages at the moment; publishing is refused.
    pub blocked: bool,
    /// Where replies reach this process; a new name with each session.
    pub reply_queue: Option<String>,
    /// Why there is no session, or the last one ended; for people.
    pub problem: Option<String>,
    /// The newest [`Wanted::version`] that is in effect.
    pub(crate) applied: u64,
}

/// What the owner asked for. It outlives sessions: each one is brought to it.
#[derive(Default, Clone)]
pub(crate) struct Wanted {
    pub(crate) version: u64,
    pub(crate) steps: BTreeSet<StepName>,
    pub(crate) shards: BTreeSet<i16>,
    pub(crate) commands: Vec<Arc<CommandSubscription>>,
    pub(crate) replies: Option<Arc<ReplySubscription>>,
    pub(crate) events: Vec<Arc<EventSubscription>>,
}

pub(crate) struct CommandSubscription {
    pub(crate) queues: Vec<(StepName, StepKind)>,
    pub(crate) prefetch: u16,
    pub(crate) sender: mpsc::Sender<Delivery<Command>>,
}

pub(crate) struct ReplySubscription {
    pub(crate) prefetch: u16,
    pub(crate) sender: mpsc::Sender<ReplyDelivery>,
}

pub(crate) struct EventSubscription {
    pub(crate) sender: mpsc::Sender<Event>,
}

pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) topology: Topology,
    pub(crate) incarnation: Incarnation,
    wanted: Mutex<Wanted>,
    /// The newest version of `wanted`.
    pub(crate) version: watch::Sender<u64>,
    pub(crate) state: watch::Sender<State>,
    /// The session to publish in.
    pub(crate) session: watch::Sender<Option<Arc<Session>>>,
    pub(crate) confirmed: mpsc::Sender<confirmed::Request>,
    pub(crate) transient: mpsc::Sender<transient::Request>,
    /// The owner asks to stop: consuming ends.
    pub(crate) stopping: CancellationToken,
    /// Nothing is in hand any more: publishing ends.
    pub(crate) drained: CancellationToken,
    /// Everything is closed.
    pub(crate) stopped: CancellationToken,
    /// Deliveries handed out and not settled.
    pub(crate) in_hand: TaskTracker,
    /// The two publishing tasks.
    pub(crate) lanes: TaskTracker,
}

impl Shared {
    pub(crate) fn new(
        config: Config,
        incarnation: Incarnation,
        stopping: CancellationToken,
        confirmed: mpsc::Sender<confirmed::Request>,
        transient: mpsc::Sender<transient::Request>,
    ) -> Self {
        Self {
            topology: Topology::new(config.namespace.clone()),
            config,
            incarnation,
            wanted: Mutex::default(),
            version: watch::Sender::new(0),
            state: watch::Sender::default(),
            session: watch::Sender::new(None),
            confirmed,
            transient,
            stopping,
            drained: CancellationToken::new(),
            stopped: CancellationToken::new(),
            in_hand: TaskTracker::new(),
            lanes: TaskTracker::new(),
        }
    }

    pub(crate) fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is wanted; the session follows. Returns the version to wait for.
    pub(crate) fn want(&self, change: impl FnOnce(&mut Wanted)) -> u64 {
        let version = {
            let mut wanted = self.wanted();
            change(&mut wanted);
            wanted.version += 1;
            wanted.version
        };
        self.version.send_if_modified(|newest| {
            let newer = *newest < version;
            *newest = version.max(*newest);
            newer
        });
        version
    }

    /// Hands over to the confirmed lane and waits for the verdicts.
    pub(crate) async fn confirm(
        &self,
        content: confirmed::Content,
        count: usize,
    ) -> Vec<Result<(), PublishError>> {
        let (done, verdicts) = oneshot::channel();
        let closed = || vec![Err(PublishError::Closed); count];
        if self
            .confirmed
            .send(confirmed::Request { content, done })
            .await
            .is_err()
        {
            return closed();
        }
        verdicts.await.unwrap_or_else(|_| closed())
    }

    /// Parks all or tells why one of them may not be.
    pub(crate) async fn park(&self, parked: Vec<Parked>) -> Result<(), PublishError> {
        let count = parked.len();
        self.confirm(confirmed::Content::Parked(parked), count)
            .await
            .into_iter()
            .collect()
    }
}
