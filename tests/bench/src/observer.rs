//! One internal stream that sees each saga's end: an exclusive queue bound to the exchange of
//! events. What it costs is part of the figures; thousands of customers' streams would cost more than
//! the orders.
//!
//! Events are nudges: the broker drops the oldest for a reader that is too slow. So what was confirmed is
//! counted from committed rows beside, and an order whose event did not come is told.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use bus::Bus;
use contract::Incarnation;
use database::Connection;
use tokio::{sync::oneshot, time::timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long the broker may take to let us in.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// When each saga was seen to end, by its id.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) confirmed: HashMap<Uuid, Instant>,
    pub(crate) cancelled: HashMap<Uuid, Instant>,
}

impl Seen {
    /// When it was seen to end, either way.
    pub(crate) fn end(&self, id: &Uuid) -> Option<Instant> {
        self.confirmed
            .get(id)
            .or_else(|| self.cancelled.get(id))
            .copied()
    }

    /// How many were seen to end.
    pub(crate) fn ends(&self) -> usize {
        self.confirmed.len() + self.cancelled.len()
    }
}

/// The stream's reader.
#[derive(Debug)]
pub(crate) struct Observer {
    seen: Arc<Mutex<Seen>>,
    waiting: Arc<Mutex<HashMap<Uuid, oneshot::Sender<()>>>>,
    pub(crate) bus: Bus,
    stop: CancellationToken,
}

impl Observer {
    /// Begins to look.
    pub(crate) async fn start(config: bus::Config, connection: &mut Connection) -> Result<Self> {
        let incarnation = database::incarnation(connection).await?;
        let stop = CancellationToken::new();
        let bus = Bus::start(config, Incarnation(incarnation), stop.clone());
        let mut events = bus.consume_events();
        let seen = Arc::<Mutex<Seen>>::default();
        let waiting = Arc::<Mutex<HashMap<Uuid, oneshot::Sender<()>>>>::default();
        let (into, told) = (Arc::clone(&seen), Arc::clone(&waiting));
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                let now = Instant::now();
                let mut seen = into.lock().unwrap_or_else(PoisonError::into_inner);
                let ends = match event.status.as_str() {
                    "confirmed" => &mut seen.confirmed,
                    "cancelled" => &mut seen.cancelled,
                    _ => continue,
                };
                ends.entry(event.saga_id.0).or_insert(now);
                let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(caller) = told.remove(&event.saga_id.0) {
                    // Whoever gave up does not listen.
                    let _ = caller.send(());
                }
            }
        });
        timeout(READY_WITHIN, bus.ready())
            .await
            .context("the broker did not let the benchmark in")?;
        Ok(Self {
            seen,
            waiting,
            bus,
            stop,
        })
    }

    /// What was seen since this was last asked.
    pub(crate) fn take(&self) -> Seen {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many sagas were seen to end since then.
    pub(crate) fn ends(&self) -> usize {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.ends()
    }

    /// Tells when a saga is seen to end.
    pub(crate) fn ended(&self, id: Uuid) -> oneshot::Receiver<()> {
        let (caller, ended) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.insert(id, caller);
        ended
    }

    /// Leaves the broker.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.bus.stopped().await;
    }
}
