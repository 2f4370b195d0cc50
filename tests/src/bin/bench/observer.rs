//! One internal stream that sees each order's end: an exclusive queue bound to the exchange of
//! events. What it costs is part of the figures; thousands of customers' streams would cost more than
//! the orders.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use bus::{AmqpUrl, Bus};
use contract::Incarnation;
use database::Connection;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long the broker may take to let us in.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// When each order was seen to end, by order.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) confirmed: HashMap<Uuid, Instant>,
    pub(crate) cancelled: HashMap<Uuid, Instant>,
}

/// The stream's reader.
#[derive(Debug)]
pub(crate) struct Observer {
    seen: Arc<Mutex<Seen>>,
    bus: Bus,
    stop: CancellationToken,
}

impl Observer {
    /// Begins to look.
    pub(crate) async fn start(
        amqp_url: &str,
        namespace: &str,
        connection: &mut Connection,
    ) -> Result<Self> {
        let incarnation = database::incarnation(connection).await?;
        let config = bus::Config {
            url: AmqpUrl::new(amqp_url),
            namespace: namespace.to_owned(),
            node: "bench".to_owned(),
            ..bus::Config::default()
        };
        let stop = CancellationToken::new();
        let bus = Bus::start(config, Incarnation(incarnation), stop.clone());
        let mut events = bus.consume_events();
        let seen = Arc::<Mutex<Seen>>::default();
        let into = Arc::clone(&seen);
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
            }
        });
        timeout(READY_WITHIN, bus.ready())
            .await
            .context("the broker did not let the benchmark in")?;
        Ok(Self { seen, bus, stop })
    }

    /// What was seen since this was last asked.
    pub(crate) fn take(&self) -> Seen {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many orders were seen to end.
    pub(crate) fn ends(&self) -> usize {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.confirmed.len() + seen.cancelled.len()
    }

    /// Leaves the broker.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.bus.stopped().await;
    }
}
