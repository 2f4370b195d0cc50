//! Between the roles and the broker: takes every message that passes and puts it there again.
//!
//! Commands, nudges and events pass through exchanges, so a queue bound beside the real ones gets a
//! copy of each. Replies go straight to their queue; to get hold of one, a copy of its command is sent
//! that names the tap's own queue, and what comes there is passed on to the real one.

use bus::testing::TestNamespace;
use contract::{Command, Envelope, Event, Reply, SagaId, Signal, StepKind, StepName, Topology};
use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, QueueBindOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable, ShortString},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::task::JoinHandle;

/// How often each message is there in the end, beside the first.
const COPIES: usize = 2;

/// Marks a copy, so that it is not copied again.
const MARK: &str = "x-copy";

/// What is counted as one kind of message.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// A command for this step, to do this.
    Command(StepName, StepKind),
    /// An answer to such a command.
    Reply(StepName, StepKind),
    /// A nudge.
    Signal,
    /// An order came to have this status.
    Event(String),
}

impl Kind {
    /// What a message holds.
    ///
    /// # Panics
    /// When it cannot be read.
    fn of(message_type: &str, body: &[u8]) -> Vec<Self> {
        fn kinds<T: Envelope>(body: &[u8], kind: impl Fn(T) -> Kind) -> Vec<Kind> {
            let envelopes: Vec<T> = serde_json::from_slice(body).expect("messages can be read");
            envelopes.into_iter().map(kind).collect()
        }
        if message_type == Command::TYPE.0 {
            kinds(body, |c: Command| Self::Command(c.step, c.kind))
        } else if message_type == Reply::TYPE.0 {
            kinds(body, |r: Reply| Self::Reply(r.step, r.kind))
        } else if message_type == Signal::TYPE.0 {
            kinds(body, |_: Signal| Self::Signal)
        } else {
            kinds(body, |event: Event| Self::Event(event.status))
        }
    }
}

/// How many copies were made of each kind of message.
pub type Copies = HashMap<Kind, usize>;

/// The tap; it ends when this is dropped.
pub struct Tap {
    copies: Arc<Mutex<Copies>>,
    running: JoinHandle<()>,
    _connection: Connection,
}

const REFUSED: &str = "the test broker refused";

impl Tap {
    /// Opens a tap on a namespace, whose exchanges must be there.
    ///
    /// # Panics
    /// When the broker cannot be reached.
    pub async fn open(namespace: &TestNamespace) -> Self {
        let url = std::env::var("GUICHET_AMQP_URL").expect("the namespace has read it");
        Self::on(&url, &namespace.topology()).await
    }

    /// Opens a tap on the exchanges of any broker.
    ///
    /// # Panics
    /// When the broker cannot be reached.
    pub async fn on(url: &str, topology: &Topology) -> Self {
        let connection = Connection::connect(url, ConnectionProperties::default())
            .await
            .expect("the test broker can be reached");
        let channel = connection.create_channel().await.expect(REFUSED);
        let passing = private_queue(&channel).await;
        for (exchange, keys) in exchanges(topology) {
            for key in keys {
                let options = QueueBindOptions::default();
                let (queue, exchange) = (passing.clone(), exchange.as_str().into());
                let arguments = FieldTable::default();
                channel
                    .queue_bind(queue, exchange, key.as_str().into(), options, arguments)
                    .await
                    .expect(REFUSED);
            }
        }
        let answers = private_queue(&channel).await;
        let copies = Arc::new(Mutex::new(Copies::new()));
        let worker = Worker {
            passing: consume(&channel, &passing).await,
            replies: consume(&channel, &answers).await,
            answers: answers.to_string(),
            channel,
            reply_to: HashMap::new(),
            copies: Arc::clone(&copies),
        };
        Self {
            copies,
            running: tokio::spawn(worker.run()),
            _connection: connection,
        }
    }

    /// How many copies were made so far.
    #[must_use]
    pub fn copies(&self) -> Copies {
        let copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        copies.clone()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn exchanges(topology: &Topology) -> [(String, Vec<String>); 3] {
    let lanes = [StepKind::Do, StepKind::Undo];
    let keys = StepName::OF_AN_ORDER
        .iter()
        .flat_map(|step| lanes.map(|kind| Topology::command_key(step, kind)));
    [
        (topology.commands_exchange(), keys.collect()),
        (
            topology.sagas_exchange(),
            (0..8).map(|shard| shard.to_string()).collect(),
        ),
        (topology.events_exchange(), vec!["order.#".to_owned()]),
    ]
}

async fn private_queue(channel: &Channel) -> ShortString {
    let options = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    let queue = channel
        .queue_declare("".into(), options, FieldTable::default())
        .await;
    queue.expect(REFUSED).name().clone()
}

async fn consume(channel: &Channel, queue: &ShortString) -> Consumer {
    let options = BasicConsumeOptions::default();
    let consumer = channel
        .basic_consume(queue.clone(), "".into(), options, FieldTable::default())
        .await;
    consumer.expect(REFUSED)
}

struct Worker {
    channel: Channel,
    passing: Consumer,
    replies: Consumer,
    answers: String,
    /// Where the answers to a saga's commands belong.
    reply_to: HashMap<SagaId, String>,
    copies: Arc<Mutex<Copies>>,
}

impl Worker {
    async fn run(mut self) {
        loop {
            let (message, is_reply) = tokio::select! {
                Some(Ok(message)) = self.passing.next() => (message, false),
                Some(Ok(message)) = self.replies.next() => (message, true),
                else => return,
            };
            message
                .acker
                .ack(BasicAckOptions::default())
                .await
                .expect(REFUSED);
            if is_reply {
                self.pass_on(&message.data).await;
                continue;
            }
            let headers = message.properties.headers().as_ref();
            if headers.is_some_and(|headers| headers.contains_key(MARK)) {
                continue;
            }
            let kind = message.properties.kind().clone().unwrap_or_default();
            for _ in 0..COPIES {
                self.publish(
                    &message.exchange,
                    &message.routing_key,
                    &kind,
                    &message.data,
                )
                .await;
            }
            if kind.as_str() == Command::TYPE.0 {
                self.ask_for_answers(&message).await;
            }
        }
    }

    /// Sends the commands once more with the tap's own queue for the answers.
    async fn ask_for_answers(&mut self, message: &lapin::message::Delivery) {
        let read = serde_json::from_slice::<Vec<Command>>(&message.data);
        let mut commands = read.expect("commands can be read");
        for command in &mut commands {
            let to = std::mem::replace(&mut command.reply_to, self.answers.clone());
            self.reply_to.insert(command.saga_id, to);
        }
        let body = serde_json::to_vec(&commands).expect("they were JSON");
        let (exchange, key) = (&message.exchange, &message.routing_key);
        self.publish(exchange, key, &Command::TYPE.0.into(), &body)
            .await;
    }

    /// Gives answers to whom they belong, several times, byte for byte the same.
    async fn pass_on(&self, body: &[u8]) {
        let replies: Vec<Reply> = serde_json::from_slice(body).expect("replies can be read");
        let to: Vec<&String> = replies
            .iter()
            .filter_map(|reply| self.reply_to.get(&reply.saga_id))
            .collect();
        if let Some(to) = to.first() {
            for _ in 0..COPIES {
                let (exchange, key) = ("".into(), to.as_str().into());
                self.publish(&exchange, &key, &Reply::TYPE.0.into(), body)
                    .await;
            }
        }
    }

    async fn publish(
        &self,
        exchange: &ShortString,
        key: &ShortString,
        kind: &ShortString,
        body: &[u8],
    ) {
        let mut headers = FieldTable::default();
        headers.insert(MARK.into(), AMQPValue::Boolean(true));
        let properties = BasicProperties::default()
            .with_type(kind.clone())
            .with_headers(headers);
        let options = BasicPublishOptions::default();
        let published = self
            .channel
            .basic_publish(exchange.clone(), key.clone(), options, body, properties)
            .await;
        published.expect(REFUSED);
        let mut copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        for kind in Kind::of(kind.as_str(), body) {
            *copies.entry(kind).or_default() += 1;
        }
    }
}
