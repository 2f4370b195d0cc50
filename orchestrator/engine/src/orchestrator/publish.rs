//! What leaves the process after a commit: commands with confirms, events as nudges, and the
//! acknowledgements of the replies that led to them, last.

use crate::{Config, metrics::METRICS};
use bus::{Acker, Bus};
use contract::{
    Command, Event,
    crash::{self, Orchestrator as At, Point},
};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

/// Sends while the loop goes on with the next batch; at most so many batches at once.
pub(super) struct Publisher {
    bus: Bus,
    permits: Arc<Semaphore>,
    tasks: TaskTracker,
    chunk: usize,
    /// One by one they are sent again, however often sessions come and go.
    turns: Arc<Semaphore>,
}

/// What one batch led to.
#[derive(Default)]
pub(super) struct Outgoing {
    pub(super) commands: Vec<Command>,
    pub(super) events: Vec<Event>,
    pub(super) ackers: Vec<Acker>,
}

impl Publisher {
    pub(super) fn new(config: &Config, bus: Bus) -> Self {
        Self {
            bus,
            permits: Arc::new(Semaphore::new(config.publishing_max)),
            tasks: TaskTracker::new(),
            chunk: config.resend_batch,
            turns: Arc::new(Semaphore::new(1)),
        }
    }

    /// Sends a batch. Order between batches does not matter: a saga's next command only follows
    /// from a reply to its last.
    pub(super) async fn send(&self, outgoing: Outgoing) {
        if outgoing.commands.is_empty() && outgoing.events.is_empty() && outgoing.ackers.is_empty()
        {
            return;
        }
        let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else {
            return;
        };
        let bus = self.bus.clone();
        self.tasks.spawn(async move {
            let _permit = permit;
            bus.publish_events(outgoing.events);
            publish(&bus, outgoing.commands).await;
            acknowledge(outgoing.ackers).await;
        });
    }

    /// Sends commands again, a chunk at a time, each confirmed before the next goes.
    pub(super) async fn send_again(&self, commands: Vec<Command>) {
        if commands.is_empty() {
            return;
        }
        let (bus, chunk, turns) = (self.bus.clone(), self.chunk, Arc::clone(&self.turns));
        self.tasks.spawn(async move {
            let _turn = turns.acquire().await;
            let mut rest = commands;
            while !rest.is_empty() {
                let next = rest.split_off(rest.len().min(chunk));
                publish(&bus, std::mem::replace(&mut rest, next)).await;
            }
        });
    }

    /// Waits for what is on its way.
    pub(super) async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn acknowledge(ackers: Vec<Acker>) {
    if ackers.is_empty() {
        return;
    }
    crash::at(Point::Orchestrator(At::BeforeAck));
    Acker::ack_all(ackers).await;
    crash::at(Point::Orchestrator(At::AfterAck));
}

async fn publish(bus: &Bus, commands: Vec<Command>) {
    if commands.is_empty() {
        return;
    }
    crash::at(Point::Orchestrator(At::BeforePublish));
    let mut failed = 0_u64;
    let mut reason = None;
    let results = bus.publish_commands(commands).await;
    crash::at(Point::Orchestrator(At::AfterConfirm));
    for result in results {
        if let Err(error) = result {
            failed += 1;
            reason = Some(error);
        }
    }
    if let Some(error) = reason {
        METRICS.unpublished.inc_by(failed);
        tracing::warn!(%error, failed, "commands were not published; they are sent again in time");
    }
}
