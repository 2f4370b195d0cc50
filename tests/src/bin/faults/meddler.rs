//! Somebody on the broker who takes commands out of their queues and puts something else there: later and
//! in another order, broken, too long, or as from another life of the database. What he does to a command
//! he does to the address of its reply as well.
//!
//! He is a consumer beside the workers, so he meets a part of all commands; what he has taken and not
//! answered for goes back to its queue when he leaves.

use ::tests::simulation::rng::Rng;
use anyhow::Result;
use contract::{Command, Envelope, Reply, StepKind, StepName, Topology};
use futures_util::{StreamExt, stream::select_all};
use lapin::{
    BasicProperties, Channel, Connection,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use std::time::Duration;
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};
use uuid::Uuid;

/// Messages that he holds at most of each queue, and so many are turned around at a time.
const HELD: u16 = 8;
/// How long he waits for more to turn around.
const PATIENCE: Duration = Duration::from_millis(400);
/// Longer than anything that is read.
const TOO_LONG_BYTES: usize = 1_500_000;
/// Of so many messages he makes one too long: each is kept by whoever parks it.
const TOO_LONG_OF: u64 = 4;

/// Marks what has been through his hands, so that he lets it be.
const MARK: &str = "x-meddled";

/// What he does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mischief {
    /// Puts messages back later, the last one first.
    Reorders,
    /// Puts something unreadable there instead.
    Corrupts,
    /// Puts the same there instead, longer than anybody reads.
    Swells,
    /// Puts copies there that say to belong to another life of the database, and answers to commands
    /// that nobody gave.
    Foreign,
}

/// Him, until he is told to leave.
pub(crate) struct Meddler {
    running: JoinHandle<Result<Connection>>,
    leave: oneshot::Sender<()>,
    done: Arc<AtomicU64>,
    unreadable: Arc<AtomicU64>,
}

impl Meddler {
    /// Lets him in.
    pub(crate) async fn enter(
        connection: Connection,
        topology: &Topology,
        mischief: Mischief,
        seed: u64,
    ) -> Result<Self> {
        let channel = connection.create_channel().await?;
        let options = BasicQosOptions { global: false };
        channel.basic_qos(HELD, options).await?;
        let mut consumers = Vec::new();
        for step in StepName::OF_AN_ORDER {
            for kind in [StepKind::Do, StepKind::Undo] {
                let queue = topology.command_queue(&step, kind);
                let options = BasicConsumeOptions::default();
                let consumer = channel
                    .basic_consume(
                        queue.as_str().into(),
                        "".into(),
                        options,
                        FieldTable::default(),
                    )
                    .await?;
                consumers.push(consumer.map(move |taken| (queue.clone(), taken)));
            }
        }
        let (leave, mut leaving) = oneshot::channel();
        let (done, unreadable) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let mut hands = Hands {
            channel,
            rng: Rng::new(seed),
            done: Arc::clone(&done),
            unreadable: Arc::clone(&unreadable),
        };
        let running = tokio::spawn(async move {
            let mut taken = select_all(consumers);
            loop {
                let first = tokio::select! {
                    _ = &mut leaving => {
                        // Dropped, the channel would be closed beside the connection, and whichever comes second
                        // fails the other. He may have been thrown out before.
                        let _ = hands.channel.close(200, "bye".into()).await;
                        return Ok(connection);
                    }
                    Some((queue, Ok(first))) = taken.next() => (queue, first),
                    else => return Ok(connection),
                };
                let mut held = vec![first];
                if mischief == Mischief::Reorders {
                    let more = async {
                        while held.len() < usize::from(HELD) {
                            match taken.next().await {
                                Some((queue, Ok(one))) => held.push((queue, one)),
                                _ => return,
                            }
                        }
                    };
                    // As many as came in time.
                    let _ = timeout(PATIENCE, more).await;
                    held.reverse();
                }
                // What was alone in its queue is not turned around with anything.
                let queues: Vec<String> = held.iter().map(|(queue, _)| queue.clone()).collect();
                for (queue, message) in held {
                    let met = hands.meddle(mischief, &queue, message).await?;
                    let beside = queues.iter().filter(|other| **other == queue).count();
                    if mischief != Mischief::Reorders || beside > 1 {
                        hands.done.fetch_add(met, Ordering::Relaxed);
                    }
                }
            }
        });
        Ok(Self {
            running,
            leave,
            done,
            unreadable,
        })
    }

    /// How many messages he has meddled with.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Has him leave; how many unreadable things he has left behind.
    pub(crate) async fn leave(self) -> Result<u64> {
        // He may have been thrown out before.
        let _ = self.leave.send(());
        let connection = self.running.await??;
        connection.close(200, "bye".into()).await?;
        Ok(self.unreadable.load(Ordering::Relaxed))
    }
}

struct Hands {
    channel: Channel,
    rng: Rng,
    done: Arc<AtomicU64>,
    unreadable: Arc<AtomicU64>,
}

impl Hands {
    async fn meddle(&mut self, mischief: Mischief, queue: &str, message: Delivery) -> Result<u64> {
        let headers = message.properties.headers().as_ref();
        if headers.is_some_and(|headers| headers.contains_key(MARK)) {
            self.put(queue, Command::TYPE.0, &message.data).await?;
            message.ack(BasicAckOptions::default()).await?;
            return Ok(0);
        }
        let commands: Vec<Value> = serde_json::from_slice(&message.data).unwrap_or_default();
        let reply_to = commands
            .first()
            .and_then(|command| command["reply_to"].as_str());
        match mischief {
            Mischief::Reorders => self.put(queue, Command::TYPE.0, &message.data).await?,
            Mischief::Corrupts => {
                let broken = self.broken(&message.data);
                self.leave_behind(queue, Command::TYPE.0, &broken).await?;
                // A good one among bad ones is read all the same.
                let mixed = [vec![json!({"hello": 1})], commands.clone()].concat();
                if self.rng.chance(5_000) {
                    let body = serde_json::to_vec(&mixed)?;
                    self.leave_behind(queue, Command::TYPE.0, &body).await?;
                }
                if let Some(reply_to) = reply_to {
                    self.leave_behind(reply_to, Reply::TYPE.0, &broken).await?;
                    self.leave_behind(reply_to, "hello.v1", b"[]").await?;
                }
            }
            Mischief::Swells => {
                if !self
                    .done
                    .load(Ordering::Relaxed)
                    .is_multiple_of(TOO_LONG_OF)
                {
                    self.put(queue, Command::TYPE.0, &message.data).await?;
                } else {
                    let mut long = message.data.clone();
                    long.resize(TOO_LONG_BYTES, b' ');
                    self.leave_behind(queue, Command::TYPE.0, &long).await?;
                    if let Some(reply_to) = reply_to {
                        self.leave_behind(reply_to, Reply::TYPE.0, &long).await?;
                    }
                }
            }
            Mischief::Foreign => {
                self.put(queue, Command::TYPE.0, &message.data).await?;
                let mut others = commands.clone();
                for other in &mut others {
                    other["incarnation"] = another(&other["incarnation"]);
                }
                let body = serde_json::to_vec(&others)?;
                self.put(queue, Command::TYPE.0, &body).await?;
                if let Some(reply_to) = reply_to {
                    let strange: Vec<Value> = commands.iter().map(answer_to_nobody).collect();
                    let body = serde_json::to_vec(&strange)?;
                    // Read, and then set aside: there is no such saga.
                    for _ in &strange {
                        self.unreadable.fetch_add(1, Ordering::Relaxed);
                    }
                    self.put(reply_to, Reply::TYPE.0, &body).await?;
                }
            }
        }
        message.ack(BasicAckOptions::default()).await?;
        Ok(1)
    }

    /// The same, so that it cannot be read any more.
    fn broken(&mut self, body: &[u8]) -> Vec<u8> {
        let at = self.rng.below(body.len().max(1));
        match self.rng.below(3) {
            0 => body[..at.min(body.len().saturating_sub(1))].to_vec(),
            1 => [&body[..at], &[0xFF], &body[at..]].concat(),
            _ => body.iter().rev().copied().collect(),
        }
    }

    async fn leave_behind(&self, queue: &str, kind: &str, body: &[u8]) -> Result<()> {
        self.unreadable.fetch_add(1, Ordering::Relaxed);
        self.put(queue, kind, body).await
    }

    async fn put(&self, queue: &str, kind: &str, body: &[u8]) -> Result<()> {
        let mut headers = FieldTable::default();
        headers.insert(MARK.into(), AMQPValue::Boolean(true));
        let properties = BasicProperties::default()
            .with_headers(headers)
            .with_content_type("application/json".into())
            .with_type(ShortString::from(kind))
            .with_delivery_mode(2);
        let options = BasicPublishOptions::default();
        self.channel
            .basic_publish("".into(), queue.into(), options, body, properties)
            .await?;
        Ok(())
    }
}

/// Another life than this one.
fn another(incarnation: &Value) -> Value {
    match incarnation.as_str() {
        Some(text) => {
            let last = if text.ends_with('0') { "1" } else { "0" };
            json!(format!("{}{last}", &text[..text.len().saturating_sub(1)]))
        }
        None => json!(incarnation.as_u64().unwrap_or_default() ^ 1),
    }
}

/// An answer of this life to a command of a saga that never was.
fn answer_to_nobody(command: &Value) -> Value {
    json!({
        "id": Uuid::now_v7(), "in_reply_to": Uuid::now_v7(), "saga_id": Uuid::now_v7(),
        "seq": command["seq"], "step": command["step"], "kind": command["kind"], "attempt": command["attempt"],
        "outcome": "done", "incarnation": command["incarnation"], "traceparent": command["traceparent"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bus::testing::TestNamespace;
    use lapin::ConnectionProperties;

    /// Closed beside his connection, his channel failed one in some tens.
    const OFTEN: u32 = 200;

    #[tokio::test(flavor = "multi_thread")]
    async fn he_leaves_in_good_order_however_often_he_comes() {
        let namespace = TestNamespace::new();
        let (raw, topology) = (namespace.raw().await, namespace.topology());
        for step in StepName::OF_AN_ORDER {
            for kind in [StepKind::Do, StepKind::Undo] {
                let queue = topology.command_queue(&step, kind);
                raw.declare_queue(&queue, "classic").await;
            }
        }
        let url = std::env::var("GUICHET_AMQP_URL").expect("the namespace has read it");
        for time in 1..=OFTEN {
            let properties = ConnectionProperties::default();
            let connection = Connection::connect(&url, properties).await;
            let connection = connection.expect("the test broker can be reached");
            let meddler = Meddler::enter(connection, &topology, Mischief::Reorders, 1).await;
            let left = meddler.expect("he is let in").leave().await;
            assert!(left.is_ok(), "time {time}: {left:?}");
        }
    }

    #[test]
    fn another_life_is_never_this_one() {
        for this in [
            json!("00000000000000a0"),
            json!("0000000000000001"),
            json!(7),
        ] {
            assert_ne!(another(&this), this);
        }
    }
}
