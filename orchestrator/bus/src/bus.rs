//! The handle that everyone holds.

use crate::{
    Config, Delivery, Parked, PublishError, ReplyDelivery, State, confirmed,
    metrics::METRICS,
    shared::{CommandSubscription, EventSubscription, ReplySubscription, Shared},
    supervisor, transient,
};
use contract::{Command, Event, Incarnation, Reply, Signal, StepKind, StepName, Topology};
use std::{fmt, sync::Arc};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// Requests that wait for a lane. More callers than this wait in turn, or have their events and
/// nudges dropped.
const REQUESTS: usize = 1_024;

/// Events on their way to one consumer.
const EVENTS: usize = 1_024;

/// A process's access to the broker. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Bus {
    shared: Arc<Shared>,
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus")
            .field("state", &*self.shared.state.borrow())
            .finish_non_exhaustive()
    }
}

impl Bus {
    /// Begins to connect and returns at once. The configuration must have no
    /// [`problems`](Config::problems). Runs in the current tokio runtime.
    ///
    /// When `shutdown` is cancelled, consuming stops and receivers end; what was handed out may
    /// still be published for and acknowledged, for the configured time; then everything is closed
    /// and [`Bus::stopped`] returns. Whoever has to publish after its own shutdown began (the
    /// gateway, for requests in flight) cancels a token of its own here afterwards.
    #[must_use]
    pub fn start(config: Config, incarnation: Incarnation, shutdown: CancellationToken) -> Self {
        let (confirmed, confirmed_requests) = mpsc::channel(REQUESTS);
        let (transient, transient_requests) = mpsc::channel(REQUESTS);
        let shared = Arc::new(Shared::new(
            config,
            incarnation,
            shutdown,
            confirmed,
            transient,
        ));
        let lanes = &shared.lanes;
        lanes.spawn(confirmed::run(Arc::clone(&shared), confirmed_requests));
        lanes.spawn(transient::run(Arc::clone(&shared), transient_requests));
        lanes.close();
        tokio::spawn(supervisor::supervise(Arc::clone(&shared)));
        Self { shared }
    }

    /// The names on the bus.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.shared.topology
    }

    /// The life of the database whose envelopes are let through.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.shared.incarnation
    }

    /// The present state, and its changes.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.shared.state.subscribe()
    }

    /// Waits until a session is established in which everything asked for so far is in effect.
    /// Never returns once the bus is stopped before that; bound it.
    pub async fn ready(&self) -> State {
        let version = *self.shared.version.borrow();
        let mut state = self.shared.state.subscribe();
        let ready = state
            .wait_for(|state| state.connected && state.applied >= version)
            .await;
        match ready {
            Ok(state) => state.clone(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Waits until the bus is stopped and everything is closed.
    pub async fn stopped(&self) {
        self.shared.stopped.cancelled().await;
    }

    /// Has the queues of these steps declared, now and in each session to come. Publishing and
    /// consuming do it too; this is for noticing a queue of the wrong type at the start.
    pub fn declare_steps(&self, steps: &[StepName]) {
        self.shared
            .want(|wanted| wanted.steps.extend(steps.iter().cloned()));
    }

    /// Binds the reply queue to the nudges of exactly these shards, now and in each session to
    /// come.
    pub fn bind_shards(&self, shards: &[i16]) {
        self.shared
            .want(|wanted| wanted.shards = shards.iter().copied().collect());
    }

    /// Consumes the queues of these steps and kinds (`undo` and `probe` share one), each with its
    /// own prefetch, in messages. Dropping the receiver ends it and gives back what is not
    /// acknowledged.
    #[must_use]
    pub fn consume_commands(
        &self,
        queues: &[(StepName, StepKind)],
        prefetch: u16,
    ) -> mpsc::Receiver<Delivery<Command>> {
        let (sender, receiver) = mpsc::channel(usize::from(prefetch.max(1)));
        let subscription = CommandSubscription {
            queues: queues.to_vec(),
            prefetch,
            sender,
        };
        self.shared.want(|wanted| {
            wanted.commands.retain(|known| !known.sender.is_closed());
            wanted.commands.push(Arc::new(subscription));
        });
        receiver
    }

    /// Consumes replies and nudges from a queue of this process's own, a new one in each session:
    /// see [`State::reply_queue`]. A second call takes over from the first, whose receiver ends.
    #[must_use]
    pub fn consume_replies(&self, prefetch: u16) -> mpsc::Receiver<ReplyDelivery> {
        let (sender, receiver) = mpsc::channel(usize::from(prefetch.max(1)));
        let subscription = ReplySubscription { prefetch, sender };
        self.shared
            .want(|wanted| wanted.replies = Some(Arc::new(subscription)));
        receiver
    }

    /// Consumes the events of all orders. They are nudges: some may be missing, above all around
    /// a new session and when this consumer is slow.
    #[must_use]
    pub fn consume_events(&self) -> mpsc::Receiver<Event> {
        let (sender, receiver) = mpsc::channel(EVENTS);
        self.shared.want(|wanted| {
            wanted.events.retain(|known| !known.sender.is_closed());
            wanted.events.push(Arc::new(EventSubscription { sender }));
        });
        receiver
    }

    /// Publishes commands to their steps' queues: persistent, mandatory, confirmed, in batches
    /// shared with other callers. One verdict for each, in the same order; see [`PublishError`]
    /// for what a failure proves. Answers within about twice the confirm timeout.
    pub async fn publish_commands(&self, commands: Vec<Command>) -> Vec<Result<(), PublishError>> {
        let count = commands.len();
        if count == 0 {
            return Vec::new();
        }
        self.shared
            .confirm(confirmed::Content::Commands(commands), count)
            .await
    }

    /// Publishes replies to the queues named by their commands, unconfirmed. `Ok` says that they
    /// were written to the connection. One that is returned as unroutable is counted and dropped.
    ///
    /// # Errors
    /// Nothing may have been sent; leave the commands unacknowledged.
    pub async fn publish_replies(&self, replies: Vec<(String, Reply)>) -> Result<(), PublishError> {
        if replies.is_empty() {
            return Ok(());
        }
        let (done, sent) = oneshot::channel();
        let request = transient::Request::Replies { replies, done };
        self.shared
            .transient
            .send(request)
            .await
            .map_err(|_| PublishError::Closed)?;
        sent.await.unwrap_or(Err(PublishError::Closed))
    }

    /// Announces events, if that is possible now; else they are counted and dropped.
    pub fn publish_events(&self, events: Vec<Event>) {
        if !events.is_empty() {
            self.offer(transient::Request::Events(events), "events");
        }
    }

    /// Tells the owner of a shard to look at sagas, if that is possible now; else the nudges are
    /// counted and dropped.
    pub fn nudge(&self, shard: i16, signals: Vec<Signal>) {
        if !signals.is_empty() {
            self.offer(transient::Request::Signals { shard, signals }, "signals");
        }
    }

    /// Parks envelopes that nobody can use; persistent and confirmed. What the bus itself cannot
    /// read it parks by itself.
    ///
    /// # Errors
    /// Some may not be parked; do not acknowledge their message, if somebody would miss it.
    pub async fn park(&self, parked: Vec<Parked>) -> Result<(), PublishError> {
        for one in &parked {
            METRICS.parked.with_label_values(&[&one.source]).inc();
        }
        self.shared.park(parked).await
    }

    fn offer(&self, request: transient::Request, label: &str) {
        let count = request.len() as u64;
        if self.shared.transient.try_send(request).is_err() {
            METRICS.dropped.with_label_values(&[label]).inc_by(count);
        }
    }
}
