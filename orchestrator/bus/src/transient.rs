//! The lane for what may be lost: replies, events and nudges, transient and unconfirmed. Each has a
//! row in the database that says the same, so a confirm would buy nothing.
//!
//! As with the confirmed lane, one task owns the channel, and what was handed over while the last
//! flight was out goes together, put together by address.

use crate::{
    PublishError,
    error::SessionError,
    flight::{bodies, group, message_id},
    metrics::METRICS,
    session::Session,
    shared::Shared,
};
use contract::{Envelope, Event, Reply, Signal, Topology};
use futures_util::future::try_join_all;
use lapin::{BasicProperties, Channel, options::BasicPublishOptions, types::ShortString};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};

const TRANSIENT: u8 = 1;

/// How often to look for returned replies while nothing is sent.
const LOOK: Duration = Duration::from_secs(1);

pub(crate) enum Request {
    Replies {
        replies: Vec<(String, Reply)>,
        done: oneshot::Sender<Result<(), PublishError>>,
    },
    Events(Vec<Event>),
    Signals {
        shard: i16,
        signals: Vec<Signal>,
    },
}

impl Request {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Replies { replies, .. } => replies.len(),
            Self::Events(events) => events.len(),
            Self::Signals { signals, .. } => signals.len(),
        }
    }
}

/// Runs until the bus is drained and everything handed over is sent or dropped.
pub(crate) async fn run(shared: Arc<Shared>, mut requests: mpsc::Receiver<Request>) {
    let cap = shared.config.publish_window * shared.config.batch_max_envelopes;
    let mut lane = Lane {
        shared: Arc::clone(&shared),
        channel: None,
    };
    loop {
        let first = tokio::select! {
            biased;
            first = timeout(LOOK, requests.recv()) => first,
            () = shared.drained.cancelled(), if !requests.is_closed() => {
                requests.close();
                continue;
            }
        };
        let first = match first {
            Ok(Some(first)) => first,
            Ok(None) => return,
            Err(_) => {
                lane.count_returned().await;
                continue;
            }
        };
        let mut envelopes = first.len();
        let mut taken = vec![first];
        while envelopes < cap
            && let Ok(next) = requests.try_recv()
        {
            envelopes += next.len();
            taken.push(next);
        }
        lane.serve(taken).await;
    }
}

/// One message, ready to go.
struct Message {
    exchange: String,
    key: ShortString,
    /// Who handed it over waits to hear what became of it, and keeps it if it could not be sent: a failure
    /// loses nothing. The broker is asked to return it when no queue takes it.
    awaited: bool,
    kind: &'static str,
    label: &'static str,
    body: Vec<u8>,
    envelopes: usize,
}

struct Lane {
    shared: Arc<Shared>,
    channel: Option<(u64, Channel)>,
}

impl Lane {
    async fn serve(&mut self, requests: Vec<Request>) {
        let (mut replies, mut events, mut signals) = (Vec::new(), Vec::new(), Vec::new());
        let mut waiting = Vec::new();
        for request in requests {
            match request {
                Request::Replies {
                    replies: some,
                    done,
                } => {
                    replies.extend(some);
                    waiting.push(done);
                }
                Request::Events(some) => events.extend(
                    some.into_iter()
                        .map(|event| (Topology::order_event_key(&event.status), event)),
                ),
                Request::Signals {
                    shard,
                    signals: some,
                } => {
                    signals.extend(some.into_iter().map(|signal| (shard.to_string(), signal)));
                }
            }
        }
        let topology = &self.shared.topology;
        let mut messages = self.plan(replies, "", true, "replies");
        messages.extend(self.plan(signals, &topology.sagas_exchange(), false, "signals"));
        messages.extend(self.plan(events, &topology.events_exchange(), false, "events"));
        let sent = self.send(&messages).await;
        for done in waiting {
            // A caller that has gone does not want to know.
            let _ = done.send(sent.clone());
        }
        self.count_returned().await;
    }

    fn plan<T: Envelope>(
        &self,
        envelopes: Vec<(String, T)>,
        exchange: &str,
        awaited: bool,
        label: &'static str,
    ) -> Vec<Message> {
        let mut messages = Vec::new();
        for (key, envelopes) in group(envelopes) {
            // Reply addresses come from outside; one that is no address must not end the process.
            let Ok(key) = ShortString::try_new(key) else {
                METRICS
                    .dropped
                    .with_label_values(&[label])
                    .inc_by(envelopes.len() as u64);
                tracing::warn!(queue = label, "dropped envelopes: the address is too long");
                continue;
            };
            for (body, count) in bodies(&envelopes, self.shared.config.batch_max_envelopes) {
                messages.push(Message {
                    exchange: exchange.to_owned(),
                    key: key.clone(),
                    awaited,
                    kind: T::TYPE.0,
                    label,
                    body,
                    envelopes: count,
                });
            }
        }
        messages
    }

    async fn send(&mut self, messages: &[Message]) -> Result<(), PublishError> {
        let session = self.shared.session.borrow().clone();
        let mut sent = Ok(());
        for flight in messages.chunks(self.shared.config.publish_window) {
            if sent.is_ok() {
                sent = match &session {
                    None => Err(PublishError::Disconnected),
                    Some(session) if *session.blocked.borrow() => Err(PublishError::Blocked),
                    Some(session) => self.fly(session, flight).await,
                };
            }
            for message in flight {
                count(message, &sent);
            }
        }
        sent
    }

    async fn fly(&mut self, session: &Session, flight: &[Message]) -> Result<(), PublishError> {
        let (ended, mut blocked) = (session.ended(), session.blocked.subscribe());
        let limit = self.shared.config.confirm_timeout();
        let sent = tokio::select! {
            biased;
            sent = self.transmit(session, flight) => sent.map_err(|error| {
                session.fail(error);
                PublishError::Lost
            }),
            () = ended.wait() => Err(PublishError::Lost),
            _ = blocked.wait_for(|blocked| *blocked) => Err(PublishError::Blocked),
            () = sleep(limit) => {
                session.fail(SessionError::Unconfirmed(self.shared.config.confirm_timeout_ms));
                Err(PublishError::TimedOut)
            }
        };
        if sent.is_err() {
            self.channel = None;
        }
        sent
    }

    async fn transmit(
        &mut self,
        session: &Session,
        flight: &[Message],
    ) -> Result<(), SessionError> {
        let channel = match &self.channel {
            Some((of, channel)) if *of == session.number => channel.clone(),
            _ => {
                let channel = session.publish.connection.create_channel().await?;
                self.channel = Some((session.number, channel.clone()));
                channel
            }
        };
        let publishing = flight.iter().map(|message| {
            let options = BasicPublishOptions {
                mandatory: message.awaited,
                immediate: false,
            };
            let properties = BasicProperties::default()
                .with_content_type("application/json".into())
                .with_type(message.kind.into())
                .with_message_id(message_id().into())
                .with_delivery_mode(TRANSIENT);
            let exchange = ShortString::from(message.exchange.as_str());
            channel.basic_publish(
                exchange,
                message.key.clone(),
                options,
                &message.body,
                properties,
            )
        });
        try_join_all(publishing).await?;
        Ok(())
    }

    /// Counts the replies that no queue took: their owner has another session by now, and sends
    /// its commands again.
    async fn count_returned(&mut self) {
        let Some((_, channel)) = &self.channel else {
            return;
        };
        // On a channel without confirms this waits for nothing and hands over what was returned;
        // the driver keeps it without bound until somebody asks.
        let Ok(returned) = channel.wait_for_confirms().await else {
            return;
        };
        if !returned.is_empty() {
            let returned = returned.len();
            METRICS
                .returned
                .with_label_values(&["replies"])
                .inc_by(returned as u64);
            tracing::info!(returned, "replies were returned: their owner is gone");
        }
    }
}

fn count(message: &Message, sent: &Result<(), PublishError>) {
    let label = &[message.label];
    let envelopes = message.envelopes as u64;
    match sent {
        Ok(()) => {
            METRICS.messages_published.with_label_values(label).inc();
            METRICS
                .envelopes_published
                .with_label_values(label)
                .inc_by(envelopes);
            METRICS
                .batch_envelopes
                .with_label_values(label)
                .observe(envelopes as f64);
        }
        Err(error) if message.awaited => {
            METRICS
                .publish_failures
                .with_label_values(&[error.code()])
                .inc();
        }
        Err(_) => METRICS.dropped.with_label_values(label).inc_by(envelopes),
    }
}
