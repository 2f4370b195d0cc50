//! A lane: one consumer of one queue of one step. Undos and probes have a lane of their own, so
//! that new work never stands before a refund.
//!
//! Deliveries that are ready are merged into one batch. A reply is published before its command is
//! acknowledged, and a delivery is acknowledged when each of its envelopes is answered; so whatever
//! dies in between, the command comes again and finds the ledger. While replies cannot be published
//! they are kept and tried again: the prefetch then holds new work back.

use super::{
    batch::Stopped,
    letter::{Answer, Letter, Outbox},
    metrics::METRICS,
};
use crate::ledger::plan::may_acknowledge;
use bus::{Acker, Bus, Delivery, PublishError};
use contract::{
    Command, Reply, StepKind, StepName,
    crash::{self, Work},
};
use std::{
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Answers that are published together at most.
const ANSWERS_MAX: usize = 1_024;

/// Pause before replies are offered to the bus again.
const PUBLISH_AGAIN: Duration = Duration::from_millis(250);

/// A delivery of which some envelopes are not answered yet.
#[derive(Debug)]
pub(crate) struct Pending {
    open: AtomicUsize,
    acker: Mutex<Option<Acker>>,
}

/// One envelope's share in its delivery.
pub(crate) type Ticket = Arc<Pending>;

impl Pending {
    /// One envelope is answered; the last one gives the right to acknowledge.
    fn close_one(&self) -> Option<Acker> {
        if self.open.fetch_sub(1, Ordering::AcqRel) > 1 {
            return None;
        }
        let mut acker = self.acker.lock().unwrap_or_else(PoisonError::into_inner);
        acker.take()
    }
}

/// What a lane consumes and how much at a time.
pub(crate) struct Lane {
    pub(crate) step: StepName,
    pub(crate) kind: StepKind,
    pub(crate) batch_max: usize,
    pub(crate) prefetch: u16,
}

impl Lane {
    pub(crate) fn name(&self) -> &'static str {
        match self.kind {
            StepKind::Do => "do",
            StepKind::Undo | StepKind::Probe => "undo",
        }
    }
}

/// What a lane's batches are given to.
pub(crate) trait Process: Send + Sync {
    /// Answers every letter into the outbox, now or later.
    fn process(
        &self,
        letters: Vec<Letter<Ticket>>,
        outbox: &Outbox<Ticket>,
        stop: &CancellationToken,
    ) -> impl Future<Output = Result<(), Stopped>> + Send;

    /// Waits until nothing is under way.
    fn finish(&self) -> impl Future<Output = ()> + Send;
}

/// Runs a lane until it is stopped, then finishes what it has begun.
pub(crate) async fn run(lane: Lane, work: impl Process, bus: Bus, stop: CancellationToken) {
    let queue = [(lane.step.clone(), lane.kind)];
    let mut deliveries = bus.consume_commands(&queue, lane.prefetch);
    let (sender, answers) = mpsc::unbounded_channel(); // bounded by what is unacknowledged
    let outbox = Outbox(sender);
    let in_flight = METRICS
        .in_flight
        .with_label_values(&[lane.step.as_str(), lane.name()]);
    let publisher = tokio::spawn(publish(bus, answers, in_flight.clone(), stop.clone()));
    let items = METRICS
        .batch_items
        .with_label_values(&[lane.step.as_str(), lane.name()]);
    let seconds = METRICS
        .batch_seconds
        .with_label_values(&[lane.step.as_str(), lane.name()]);
    'lane: loop {
        let first = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            first = deliveries.recv() => first,
        };
        let Some(first) = first else { break };
        let mut letters = unpack(first);
        while letters.len() < lane.batch_max
            && let Ok(next) = deliveries.try_recv()
        {
            letters.extend(unpack(next));
        }
        crash::each(letters.iter().map(|one| one.command.at(Work::Received)));
        in_flight.add(i64::try_from(letters.len()).unwrap_or(i64::MAX));
        while !letters.is_empty() {
            let rest = letters.split_off(letters.len().min(lane.batch_max));
            items.observe(letters.len() as f64);
            let timer = seconds.start_timer();
            if let Err(Stopped) = work.process(letters, &outbox, &stop).await {
                break 'lane;
            }
            timer.observe_duration();
            letters = rest;
        }
    }
    work.finish().await;
    drop(work);
    drop(outbox);
    if let Err(error) = publisher.await {
        tracing::error!(step = %lane.step, %error, "the publisher of replies died");
    }
    // Only now: dropping the receiver gives everything unacknowledged back to the queue.
    drop(deliveries);
}

fn unpack(delivery: Delivery<Command>) -> Vec<Letter<Ticket>> {
    let pending = Arc::new(Pending {
        open: AtomicUsize::new(delivery.envelopes.len()),
        acker: Mutex::new(Some(delivery.acker)),
    });
    let letters = delivery.envelopes.into_iter().map(|command| Letter {
        ticket: Arc::clone(&pending),
        command,
    });
    letters.collect()
}

/// Publishes answers as they come, all that are ready together, and acknowledges what is complete.
async fn publish(
    bus: Bus,
    mut answers: mpsc::UnboundedReceiver<Answer<Ticket>>,
    in_flight: runtime::metrics::IntGauge,
    stop: CancellationToken,
) {
    let mut ready = Vec::new();
    while answers.recv_many(&mut ready, ANSWERS_MAX).await > 0 {
        let count = ready.len();
        let mut tickets = Vec::with_capacity(count);
        let mut replies = Vec::with_capacity(count);
        for answer in ready.drain(..) {
            tickets.push(answer.ticket);
            replies.extend(answer.reply);
        }
        in_flight.sub(i64::try_from(count).unwrap_or(i64::MAX));
        crash::each(
            replies
                .iter()
                .map(|(_, reply)| reply.at(Work::BeforePublish)),
        );
        let published = publish_all(&bus, &replies, &stop).await.is_ok();
        crash::each(
            replies
                .iter()
                .map(|(_, reply)| reply.at(Work::AfterPublish)),
        );
        if !may_acknowledge(published) {
            continue; // unacknowledged, they come again
        }
        let ackers = tickets.iter().filter_map(|ticket| ticket.close_one());
        crash::each(replies.iter().map(|(_, reply)| reply.at(Work::BeforeAck)));
        Acker::ack_all(ackers).await;
        crash::each(replies.iter().map(|(_, reply)| reply.at(Work::AfterAck)));
    }
}

async fn publish_all(
    bus: &Bus,
    replies: &[(String, Reply)],
    stop: &CancellationToken,
) -> Result<(), PublishError> {
    loop {
        let error = match bus.publish_replies(replies.to_vec()).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if matches!(error, PublishError::Unwritable) {
            return publish_each(bus, replies).await;
        }
        if stop.is_cancelled() || matches!(error, PublishError::Closed) {
            tracing::warn!(replies = replies.len(), %error, "replies are left unpublished");
            return Err(error);
        }
        tracing::warn!(replies = replies.len(), %error, "replies are published again");
        tokio::select! {
            () = stop.cancelled() => {} // one last try
            () = tokio::time::sleep(PUBLISH_AGAIN) => {}
        }
    }
}

/// One reply cannot be written: the others go, and it is logged and left out (its command would
/// only come again and end here again).
async fn publish_each(bus: &Bus, replies: &[(String, Reply)]) -> Result<(), PublishError> {
    for (queue, reply) in replies {
        let (saga_id, trace_id) = (reply.saga_id, reply.traceparent.trace_id());
        match bus
            .publish_replies(vec![(queue.clone(), reply.clone())])
            .await
        {
            Ok(()) => {}
            Err(PublishError::Unwritable) => {
                tracing::error!(%saga_id, trace_id, "a reply cannot be written and is dropped");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
