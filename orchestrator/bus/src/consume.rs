//! Consuming: from a queue to the owner's receiver, with everything unreadable parked on the way.
//!
//! Each queue has a channel of its own, so that each has its own prefetch, and a task that feeds
//! the owner. The driver buffers deliveries without bound; what bounds them is the prefetch, which
//! is therefore always set before consuming.

use crate::{
    Acker, Delivery, Parked, ReplyDelivery,
    error::SessionError,
    metrics::METRICS,
    session::Session,
    shared::{CommandSubscription, EventSubscription, ReplySubscription, Shared},
    topology,
};
use contract::{
    Command, Envelope, Event, Incarnation, Reply, Signal, Topology, Undecodable, decode_batch,
};
use futures_util::StreamExt;
use lapin::{
    Channel, Consumer,
    message::Delivery as Raw,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

/// A longer body is parked unread: the contract allows 128 KiB, a single long envelope a bit more.
const BODY_MAX_BYTES: usize = 1024 * 1024;

/// Messages on their way to an event consumer; what they say is in the database anyway.
const EVENTS_PREFETCH: u16 = 64;

/// How long to wait before an envelope that could not be parked is tried again.
const PARK_AGAIN: Duration = Duration::from_secs(1);

/// Consumes the command queues of a subscription.
pub(crate) async fn commands(
    shared: &Arc<Shared>,
    session: &Arc<Session>,
    subscription: &CommandSubscription,
) -> Result<(), SessionError> {
    let mut seen = BTreeSet::new();
    for (step, kind) in &subscription.queues {
        let queue = shared.topology.command_queue(step, *kind);
        if !seen.insert(queue.clone()) {
            continue; // undo and probe share a queue
        }
        session.ensure_step(shared, step).await?;
        let channel = session.channel().await?;
        let consumer = subscribe(&channel, &queue, subscription.prefetch).await?;
        let sink = Sink::Commands(subscription.sender.clone());
        let label = Topology::command_key(step, *kind);
        Source::new(shared, session, channel, consumer, queue, &label)
            .spawn(sink, CancellationToken::new());
    }
    Ok(())
}

/// Declares and consumes this session's reply queue. The consumer ends with the guard.
pub(crate) async fn replies(
    shared: &Arc<Shared>,
    session: &Arc<Session>,
    subscription: &ReplySubscription,
    queue: &str,
) -> Result<(Channel, DropGuard), SessionError> {
    let channel = session.channel().await?;
    topology::declare_private(&channel, queue, false).await?;
    let consumer = subscribe(&channel, queue, subscription.prefetch).await?;
    let sink = Sink::Replies(subscription.sender.clone());
    let stop = CancellationToken::new();
    let queue = queue.to_owned();
    Source::new(shared, session, channel.clone(), consumer, queue, "replies")
        .spawn(sink, stop.clone());
    Ok((channel, stop.drop_guard()))
}

/// Declares and consumes a queue for the events of all orders.
pub(crate) async fn events(
    shared: &Arc<Shared>,
    session: &Arc<Session>,
    subscription: &EventSubscription,
) -> Result<(), SessionError> {
    let exchange = shared.topology.events_exchange();
    let queue = format!("{exchange}.{}.{}", shared.config.node, Uuid::now_v7());
    let channel = session.channel().await?;
    topology::declare_private(&channel, &queue, true).await?;
    topology::bind(&channel, &queue, &exchange, "order.#").await?;
    let consumer = subscribe(&channel, &queue, EVENTS_PREFETCH).await?;
    let sink = Sink::Events(subscription.sender.clone());
    Source::new(shared, session, channel, consumer, queue, "events")
        .spawn(sink, CancellationToken::new());
    Ok(())
}

async fn subscribe(
    channel: &Channel,
    queue: &str,
    prefetch: u16,
) -> Result<Consumer, SessionError> {
    // 0 would mean: without bound.
    channel
        .basic_qos(prefetch.max(1), BasicQosOptions { global: false })
        .await?;
    let options = BasicConsumeOptions {
        no_local: false,
        no_ack: false,
        exclusive: false,
        nowait: false,
    };
    Ok(channel
        .basic_consume(queue.into(), "".into(), options, FieldTable::default())
        .await?)
}

/// The owner's end.
enum Sink {
    Commands(mpsc::Sender<Delivery<Command>>),
    Replies(mpsc::Sender<ReplyDelivery>),
    Events(mpsc::Sender<Event>),
}

impl Sink {
    async fn closed(&self) {
        match self {
            Self::Commands(sender) => sender.closed().await,
            Self::Replies(sender) => sender.closed().await,
            Self::Events(sender) => sender.closed().await,
        }
    }
}

/// Nobody takes deliveries any more: the owner has let go of its receiver.
struct LetGo;

/// The broker's end.
struct Source {
    shared: Arc<Shared>,
    session: Arc<Session>,
    channel: Channel,
    consumer: Consumer,
    queue: String,
    label: Arc<str>,
}

impl Source {
    fn new(
        shared: &Arc<Shared>,
        session: &Arc<Session>,
        channel: Channel,
        consumer: Consumer,
        queue: String,
        label: &str,
    ) -> Self {
        let (shared, session) = (Arc::clone(shared), Arc::clone(session));
        let label = label.into();
        Self {
            shared,
            session,
            channel,
            consumer,
            queue,
            label,
        }
    }

    fn spawn(self, sink: Sink, stop: CancellationToken) {
        let feeding = self.session.consumers.token();
        tokio::spawn(async move {
            let ended = self.session.ended();
            let (channel, tag) = (self.channel.clone(), self.consumer.tag());
            let let_go = tokio::select! {
                () = ended.wait() => return,
                let_go = self.feed(sink, stop) => let_go,
            };
            drop(feeding);
            // The channel stays as long as the session, so that what was handed out can be
            // acknowledged; what only the driver holds goes back to the queue with it. An owner
            // that has let go acknowledges nothing any more, so its messages go back at once.
            let options = BasicCancelOptions { nowait: false };
            tokio::select! {
                () = ended.wait() => {}
                _ = channel.basic_cancel(tag, options) => {}
            }
            if let_go.is_none() {
                ended.wait().await;
            }
        });
    }

    /// Feeds the owner until it is stopped; or until the owner lets go.
    async fn feed(mut self, sink: Sink, stop: CancellationToken) -> Option<LetGo> {
        loop {
            let raw = tokio::select! {
                biased;
                () = self.shared.stopping.cancelled() => return None,
                () = stop.cancelled() => return None,
                () = sink.closed() => return Some(LetGo),
                next = self.consumer.next() => match next {
                    Some(Ok(raw)) => raw,
                    Some(Err(error)) => return self.fail(error.into()).await,
                    None => return self.fail(SessionError::Cancelled(self.queue.clone())).await,
                },
            };
            // An owner that stops may not take any more, and parking may be impossible: neither may
            // hold up the stop. What was not handed out goes back to the queue.
            tokio::select! {
                biased;
                handed = self.hand_out(&sink, raw) => match handed {
                    Ok(()) => {}
                    Err(LetGo) => return Some(LetGo),
                },
                () = self.shared.stopping.cancelled() => return None,
                () = stop.cancelled() => return None,
            }
        }
    }

    /// Ends the session, and waits for that to end this task.
    async fn fail(&self, error: SessionError) -> Option<LetGo> {
        self.session.fail(error);
        std::future::pending().await
    }

    async fn hand_out(&self, sink: &Sink, raw: Raw) -> Result<(), LetGo> {
        METRICS
            .messages_consumed
            .with_label_values(&[&self.label])
            .inc();
        if raw.redelivered {
            METRICS.redelivered.with_label_values(&[&self.label]).inc();
        }
        let redelivered = raw.redelivered;
        let kind = raw
            .properties
            .kind()
            .as_ref()
            .map(|kind| kind.as_str().to_owned());
        let acker = Acker {
            inner: raw.acker,
            ended: self.session.ended(),
            label: Arc::clone(&self.label),
            _in_hand: self.shared.in_hand.token(),
        };
        let (kind, body) = (kind.as_deref(), raw.data);
        match sink {
            Sink::Commands(sender) => {
                let envelopes = self.read::<Command>(kind, body).await;
                if envelopes.is_empty() {
                    acker.ack().await;
                    return Ok(());
                }
                sender
                    .send(Delivery {
                        envelopes,
                        redelivered,
                        acker,
                    })
                    .await
                    .map_err(|_| LetGo)
            }
            Sink::Replies(sender) => {
                let (mut replies, mut signals) = (Vec::new(), Vec::new());
                if kind == Some(Signal::TYPE.0) {
                    signals = self.read::<Signal>(kind, body).await;
                } else {
                    replies = self.read::<Reply>(kind, body).await;
                }
                if replies.is_empty() && signals.is_empty() {
                    acker.ack().await;
                    return Ok(());
                }
                sender
                    .send(ReplyDelivery {
                        replies,
                        signals,
                        acker,
                    })
                    .await
                    .map_err(|_| LetGo)
            }
            Sink::Events(sender) => {
                for event in self.read::<Event>(kind, body).await {
                    sender.send(event).await.map_err(|_| LetGo)?;
                }
                acker.ack().await;
                Ok(())
            }
        }
    }

    /// The readable envelopes of this incarnation. Everything unreadable is parked first.
    async fn read<T: Dated>(&self, kind: Option<&str>, body: Vec<u8>) -> Vec<T> {
        let refused = if kind != Some(T::TYPE.0) {
            let found = kind.unwrap_or("none");
            Some(format!(
                "the message's type is {found:.60}, expected {}",
                T::TYPE.0
            ))
        } else if body.len() > BODY_MAX_BYTES {
            Some(format!(
                "the body has {} bytes, more than {BODY_MAX_BYTES}",
                body.len()
            ))
        } else {
            None
        };
        if let Some(reason) = refused {
            self.park(kind, vec![Undecodable { body, reason }]).await;
            return Vec::new();
        }
        let decoded = decode_batch::<T>(&body);
        if !decoded.undecodable.is_empty() {
            self.park(kind, decoded.undecodable).await;
        }
        let mut envelopes = decoded.envelopes;
        let came = envelopes.len();
        envelopes.retain(|envelope| envelope.incarnation() == self.shared.incarnation);
        let foreign = came - envelopes.len();
        if foreign > 0 {
            tracing::warn!(
                queue = %self.label,
                foreign,
                "dropped envelopes of another incarnation"
            );
            METRICS
                .foreign
                .with_label_values(&[&self.label])
                .inc_by(foreign as u64);
        }
        METRICS
            .envelopes_consumed
            .with_label_values(&[&self.label])
            .inc_by(envelopes.len() as u64);
        envelopes
    }

    /// Parks, however long it takes: acknowledging what is not parked would lose it. While parking
    /// is impossible this queue's consumer waits, and a session that ends ends the wait.
    async fn park(&self, kind: Option<&str>, undecodable: Vec<Undecodable>) {
        let parked: Vec<Parked> = undecodable
            .into_iter()
            .map(|Undecodable { body, reason }| Parked {
                body,
                reason,
                source: self.label.to_string(),
                kind: kind.map(str::to_owned),
            })
            .collect();
        for one in &parked {
            tracing::warn!(
                queue = %self.label,
                reason = one.reason,
                "parked an envelope"
            );
        }
        METRICS
            .parked
            .with_label_values(&[&self.label])
            .inc_by(parked.len() as u64);
        while let Err(error) = self.shared.park(parked.clone()).await {
            tracing::warn!(queue = %self.label, %error, "an envelope could not be parked yet");
            tokio::time::sleep(PARK_AGAIN).await;
        }
    }
}

/// An envelope that says to which life of the database it belongs.
trait Dated: Envelope {
    fn incarnation(&self) -> Incarnation;
}

macro_rules! dated {
    ($($envelope:ty),+) => {$(
        impl Dated for $envelope {
            fn incarnation(&self) -> Incarnation {
                self.incarnation
            }
        }
    )+};
}

dated!(Command, Reply, Signal, Event);
