//! The lane for what must arrive: commands and parked envelopes, persistent, mandatory, confirmed.
//!
//! One task owns the one confirm channel. It must: the driver numbers a message under one lock and
//! queues its frames under another, so two tasks on one channel can swap numbers and take each
//! other's confirms. The task sends a *flight* (everything that callers handed over while the last
//! flight was out, put together by queue), waits until each message of it is answered, and tells
//! the callers. So nothing waits at low load, and batches are long at high load.
//!
//! A flight that is broken off (blocked, timed out, session gone) leaves confirms and returns
//! behind that nobody waits for, so the next flight gets a new channel, and no stray return can be
//! taken for one of its own.

use crate::{
    Parked, PublishError,
    error::SessionError,
    flight::{Answer, Message, Origin, Route, plan_commands, plan_parked, settle},
    metrics::METRICS,
    session::Session,
    shared::Shared,
};
use contract::{Command, Envelope};
use futures_util::{StreamExt, stream::FuturesUnordered};
use lapin::{
    BasicProperties, Channel, Confirmation,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use std::sync::Arc;
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};

const PERSISTENT: u8 = 2;

type Verdict = Result<(), PublishError>;

/// What a caller hands over, and where it waits.
pub(crate) struct Request {
    pub(crate) content: Content,
    pub(crate) done: oneshot::Sender<Vec<Verdict>>,
}

pub(crate) enum Content {
    Commands(Vec<Command>),
    Parked(Vec<Parked>),
}

impl Content {
    fn len(&self) -> usize {
        match self {
            Self::Commands(commands) => commands.len(),
            Self::Parked(parked) => parked.len(),
        }
    }
}

/// Runs until the bus is drained and everything handed over is answered.
pub(crate) async fn run(shared: Arc<Shared>, mut requests: mpsc::Receiver<Request>) {
    let cap = shared.config.publish_window * shared.config.batch_max_envelopes;
    let mut lane = Lane {
        shared: Arc::clone(&shared),
        channel: None,
    };
    loop {
        let first = tokio::select! {
            biased;
            request = requests.recv() => request,
            () = shared.drained.cancelled(), if !requests.is_closed() => {
                requests.close();
                continue;
            }
        };
        let Some(first) = first else { return };
        let mut envelopes = first.content.len();
        let mut taken = vec![first];
        while envelopes < cap
            && let Ok(next) = requests.try_recv()
        {
            envelopes += next.content.len();
            taken.push(next);
        }
        lane.serve(taken).await;
    }
}

struct Lane {
    shared: Arc<Shared>,
    /// The confirm channel, and the session that it belongs to.
    channel: Option<(u64, Channel)>,
}

impl Lane {
    async fn serve(&mut self, requests: Vec<Request>) {
        let mut commands = Vec::with_capacity(requests.len());
        let mut parked = Vec::new();
        let mut waiting = Vec::with_capacity(requests.len());
        for (request, Request { content, done }) in requests.into_iter().enumerate() {
            waiting.push((vec![Ok(()); content.len()], done));
            match content {
                Content::Commands(of_it) => commands.push(of_it),
                Content::Parked(of_it) => {
                    // Keeps the place, so that origins count requests.
                    commands.push(Vec::new());
                    let numbered = of_it.into_iter().enumerate();
                    parked.extend(numbered.map(|(index, one)| plan_parked(one, (request, index))));
                }
            }
        }
        let (mut messages, unwritable) =
            plan_commands(commands, self.shared.config.batch_max_envelopes);
        messages.extend(parked);
        for (request, index) in unwritable {
            waiting[request].0[index] = Err(PublishError::Unwritable);
        }
        for flight in messages.chunks(self.shared.config.publish_window) {
            for (message, verdict) in flight.iter().zip(self.fly(flight).await) {
                for &(request, index) in &message.origins {
                    waiting[request].0[index].clone_from(&verdict);
                }
            }
        }
        for (verdicts, done) in waiting {
            // A caller that has gone does not want to know.
            let _ = done.send(verdicts);
        }
    }

    async fn fly(&mut self, flight: &[Message<Origin>]) -> Vec<Verdict> {
        let session = self.shared.session.borrow().clone();
        let verdicts = match session {
            None => vec![Err(PublishError::Disconnected); flight.len()],
            Some(session) if *session.blocked.borrow() => {
                vec![Err(PublishError::Blocked); flight.len()]
            }
            Some(session) => {
                let verdicts = self.fly_in(&session, flight).await;
                for (message, verdict) in flight.iter().zip(&verdicts) {
                    if let (Route::Commands { step, .. }, Err(PublishError::Returned)) =
                        (&message.route, verdict)
                    {
                        session.forget_step(step);
                    }
                }
                verdicts
            }
        };
        for (message, verdict) in flight.iter().zip(&verdicts) {
            count(message, verdict);
        }
        verdicts
    }

    async fn fly_in(&mut self, session: &Session, flight: &[Message<Origin>]) -> Vec<Verdict> {
        let mut answers = vec![None; flight.len()];
        let (ended, mut blocked) = (session.ended(), session.blocked.subscribe());
        let limit = self.shared.config.confirm_timeout();
        let broken = tokio::select! {
            biased;
            sent = self.transmit(session, flight, &mut answers) => match sent {
                Ok(()) => None,
                Err(error) => {
                    session.fail(error);
                    Some(PublishError::Lost)
                }
            },
            () = ended.wait() => Some(PublishError::Lost),
            _ = blocked.wait_for(|blocked| *blocked) => Some(PublishError::Blocked),
            () = sleep(limit) => {
                session.fail(SessionError::Unconfirmed(self.shared.config.confirm_timeout_ms));
                Some(PublishError::TimedOut)
            }
        };
        if broken.is_some() {
            self.channel = None;
        }
        let ids: Vec<&str> = flight.iter().map(|message| message.id.as_str()).collect();
        settle(&ids, &answers, broken.as_ref())
    }

    /// Sends everything, then collects the answers as they come.
    async fn transmit(
        &mut self,
        session: &Session,
        flight: &[Message<Origin>],
        answers: &mut [Option<Answer>],
    ) -> Result<(), SessionError> {
        for message in flight {
            if let Route::Commands { step, .. } = &message.route {
                session.ensure_step(&self.shared, step).await?;
            }
        }
        let channel = self.channel(session).await?;
        let topology = &self.shared.topology;
        let (commands, parked) = (topology.commands_exchange(), topology.parked_exchange());
        let mut pending: FuturesUnordered<_> = flight
            .iter()
            .enumerate()
            .map(|(place, message)| {
                let (exchange, key) = match &message.route {
                    Route::Commands { key, .. } => (commands.as_str(), key.as_str()),
                    Route::Parked { .. } => (parked.as_str(), ""),
                };
                let options = BasicPublishOptions {
                    mandatory: true,
                    immediate: false,
                };
                let (exchange, key) = (ShortString::from(exchange), ShortString::from(key));
                let properties = properties(message);
                let channel = &channel;
                async move {
                    let body = message.body.as_slice();
                    let sent = channel
                        .basic_publish(exchange, key, options, body, properties)
                        .await;
                    let answer = match sent {
                        Ok(confirm) => confirm.await,
                        Err(error) => Err(error),
                    };
                    (place, answer)
                }
            })
            .collect();
        while let Some((place, answer)) = pending.next().await {
            answers[place] = Some(match answer {
                Ok(Confirmation::Ack(returned)) => Answer::Ack(returned.map(|r| id_of(&r))),
                Ok(Confirmation::Nack(returned)) => Answer::Nack(returned.map(|r| id_of(&r))),
                // Confirms are always requested; this would look like a success.
                Ok(Confirmation::NotRequested) => Answer::Failed(PublishError::Lost),
                Err(error) => return Err(error.into()),
            });
        }
        Ok(())
    }

    async fn channel(&mut self, session: &Session) -> Result<Channel, SessionError> {
        match &self.channel {
            Some((of, channel)) if *of == session.number => Ok(channel.clone()),
            _ => {
                let channel = session.publish.connection.create_channel().await?;
                channel
                    .confirm_select(ConfirmSelectOptions { nowait: false })
                    .await?;
                self.channel = Some((session.number, channel.clone()));
                Ok(channel)
            }
        }
    }
}

fn id_of(returned: &lapin::message::BasicReturnMessage) -> String {
    returned
        .properties
        .message_id()
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default()
}

fn properties(message: &Message<Origin>) -> BasicProperties {
    let properties = BasicProperties::default()
        .with_message_id(message.id.as_str().into())
        .with_delivery_mode(PERSISTENT);
    match &message.route {
        Route::Commands { .. } => properties
            .with_content_type("application/json".into())
            .with_type(Command::TYPE.0.into()),
        Route::Parked {
            reason,
            source,
            kind,
        } => {
            let mut headers = FieldTable::default();
            let mut header = |name: &'static str, text: &str| {
                headers.insert(name.into(), AMQPValue::LongString(text.into()));
            };
            header("x-reason", reason);
            header("x-source", source);
            if let Some(kind) = kind {
                header("x-type", kind);
            }
            properties
                .with_content_type("application/octet-stream".into())
                .with_headers(headers)
        }
    }
}

fn count(message: &Message<Origin>, verdict: &Verdict) {
    let label = &[message.label.as_str()];
    match verdict {
        Ok(()) => {
            METRICS.messages_published.with_label_values(label).inc();
            METRICS
                .envelopes_published
                .with_label_values(label)
                .inc_by(message.envelopes as u64);
            METRICS
                .batch_envelopes
                .with_label_values(label)
                .observe(message.envelopes as f64);
        }
        Err(error) => {
            METRICS
                .publish_failures
                .with_label_values(&[error.code()])
                .inc();
            if *error == PublishError::Returned {
                METRICS.returned.with_label_values(label).inc();
                tracing::error!(
                    queue = message.label,
                    "a message was returned: no queue takes it"
                );
            }
        }
    }
}
