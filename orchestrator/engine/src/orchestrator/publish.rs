//! What leaves the process after a commit: commands with confirms, events as nudges, and the
//! acknowledgements of the replies that led to them, last.

use crate::{Config, metrics::METRICS};
use bus::{Acker, Bus};
use contract::{
    Command, Event, SagaId,
    crash::{Saga as At, Trail},
};
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};
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
    refused: Refused,
}

/// Sagas whose last command did not reach the broker, or may not have.
#[derive(Clone, Default)]
struct Refused(Arc<Mutex<HashSet<SagaId>>>);

impl Refused {
    /// Notes what became of commands. Beyond the bound they are not remembered, and wait for their own time.
    fn note(&self, came: impl IntoIterator<Item = (SagaId, bool)>) {
        let mut refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (saga, published) in came {
            if published {
                refused.remove(&saga);
            } else if refused.len() < REFUSED_MAX {
                refused.insert(saga);
            }
        }
    }

    /// Forgets them, in the order of their ids.
    fn take(&self) -> Vec<SagaId> {
        let refused = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut sagas: Vec<SagaId> = refused.into_iter().collect();
        sagas.sort_unstable();
        sagas
    }
}

/// Sagas remembered with a command that was refused.
const REFUSED_MAX: usize = 100_000;

/// What one batch led to.
#[derive(Default)]
pub(super) struct Outgoing {
    pub(super) commands: Vec<Command>,
    pub(super) events: Vec<Event>,
    pub(super) taken: Taken,
}

/// The deliveries that a batch was taken from.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) ackers: Vec<Acker>,
    /// Of which replies they are.
    pub(super) replies: Trail,
}

impl Publisher {
    pub(super) fn new(config: &Config, bus: Bus) -> Self {
        Self {
            bus,
            permits: Arc::new(Semaphore::new(config.publishing_max)),
            tasks: TaskTracker::new(),
            chunk: config.resend_batch,
            turns: Arc::new(Semaphore::new(1)),
            refused: Refused::default(),
        }
    }

    /// The sagas whose last command the broker refused, or left without a confirm; they are forgotten here.
    pub(super) fn take_refused(&self) -> Vec<SagaId> {
        self.refused.take()
    }

    /// Sends a batch. Order between batches does not matter: a saga's next command only follows
    /// from a reply to its last.
    pub(super) async fn send(&self, outgoing: Outgoing) {
        if outgoing.commands.is_empty()
            && outgoing.events.is_empty()
            && outgoing.taken.ackers.is_empty()
        {
            return;
        }
        let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else {
            return;
        };
        let (bus, refused) = (self.bus.clone(), self.refused.clone());
        self.tasks.spawn(async move {
            let _permit = permit;
            bus.publish_events(outgoing.events);
            publish(&bus, &refused, outgoing.commands).await;
            acknowledge(outgoing.taken).await;
        });
    }

    /// Sends commands again, a chunk at a time, each confirmed before the next goes.
    pub(super) async fn send_again(&self, commands: Vec<Command>) {
        if commands.is_empty() {
            return;
        }
        let (bus, chunk, turns) = (self.bus.clone(), self.chunk, Arc::clone(&self.turns));
        let refused = self.refused.clone();
        self.tasks.spawn(async move {
            let _turn = turns.acquire().await;
            let mut rest = commands;
            while !rest.is_empty() {
                let next = rest.split_off(rest.len().min(chunk));
                publish(&bus, &refused, std::mem::replace(&mut rest, next)).await;
            }
        });
    }

    /// Waits for what is on its way.
    pub(super) async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn acknowledge(Taken { ackers, replies }: Taken) {
    if ackers.is_empty() {
        return;
    }
    replies.pass(At::BeforeAck);
    Acker::ack_all(ackers).await;
    replies.pass(At::AfterAck);
}

async fn publish(bus: &Bus, refused: &Refused, commands: Vec<Command>) {
    if commands.is_empty() {
        return;
    }
    let trail = Trail::of(commands.iter().map(|one| (&one.step, one.kind)));
    trail.pass(At::BeforePublish);
    let sagas: Vec<SagaId> = commands.iter().map(|command| command.saga_id).collect();
    let mut failed = 0_u64;
    let mut reason = None;
    let results = bus.publish_commands(commands).await;
    trail.pass(At::AfterConfirm);
    refused.note(sagas.into_iter().zip(results.iter().map(Result::is_ok)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_told_once_and_not_what_was_published_since() {
        let refused = Refused::default();
        let (one, other, third) = (SagaId::new(), SagaId::new(), SagaId::new());
        refused.note([(one, false), (other, false), (third, true)]);
        refused.note([(other, true)]);
        assert_eq!(refused.take(), [one]);
        assert_eq!(refused.take(), []);
    }
}
