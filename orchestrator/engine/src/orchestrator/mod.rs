//! The orchestrator's role: one loop per process over all its shards, for batches are the lever and
//! splitting them by shard would throw it away.
//!
//! What can go wrong here, and why nothing is lost:
//! - It dies between commit and publish: the saga's row says which command is current, and whoever
//!   loads the saga next sends it.
//! - It dies between publish and acknowledge: the replies come again and are stale.
//! - A commit succeeds without its answer: the sagas of that batch are forgotten and read back
//!   before anything is decided about them again; their current commands are sent.
//! - It stalls beyond its lease and another one takes over: the conditional write of the slower one
//!   finds another revision and changes nothing.
//! - Two run under one name: they would take each other's shards for ever. The younger one is the
//!   restarted one, so the elder stops as soon as it sees that its own name has a later epoch.
//! - Somebody holds a saga's row locked: that saga is left alone for a while (see `trouble.rs`).
//! - The broker loses everything: with the new session every command without an answer is sent once.
//! - The broker takes nothing for a while: the commands that it refused go again once it does; the others
//!   are still in its queues.
//! - There is no broker for long: nobody is woken, and that time is not the steps' (`owner/still.rs`). Shards
//!   go to a process that has one, if there is any: who has none does not count and does not renew.

mod asking;
mod clean;
mod hourly;
mod housekeeping;
mod load;
mod publish;
mod session;
mod settle;
mod trouble;

use crate::{
    Config, Error, Owner, client, definitions::Definitions, metrics::METRICS, store::signal::Look,
    withdrawal::Withdrawal,
};
use bus::{Acker, Bus, ReplyDelivery};
use contract::{
    SagaId,
    crash::{self, Saga as At},
};
use database::{Clock, Pool};
use publish::Publisher;
use runtime::health::Check;
use saga::{Input, InputKind, ReplyInput};
use serde_json::Value;
use session::{Lost, Sessions, takes};
use settle::Given;
use std::time::{Duration, Instant};
use tokio::{sync::mpsc, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use trouble::Postponed;
use uuid::Uuid;

/// What an orchestrator is made of.
pub struct Parts {
    /// Its section of the configuration.
    pub config: Config,
    /// Its name; another process with the same name takes over its leases at once.
    pub node: String,
    /// A pool of its own, with the settings of [`Config::pool`]; it uses up to three connections.
    pub pool: Pool,
    /// The bus.
    pub bus: Bus,
    /// The definitions it can run.
    pub definitions: Definitions,
    /// Says whether it is ready: a session with the broker and a renewal that went through.
    pub ready: Check,
}

/// Runs until `shutdown` is cancelled; then finishes what it has in hand and gives its shards back.
///
/// # Errors
/// The definitions in the database are not those of this program, the database cannot be reached at
/// the start, or a younger process with the same name has taken over ([`Error::Fenced`]). Later
/// failures of the database or the broker are waited out.
pub async fn run(parts: Parts, shutdown: CancellationToken) -> Result<(), Error> {
    let mut connection = parts.pool.get().await?;
    crate::definitions::check(&mut connection, &parts.definitions).await?;
    let (_, now_ms) = client::shards(&mut connection).await?;
    drop(connection);
    for definition in parts.definitions.iter() {
        let steps: Vec<_> = definition
            .steps
            .iter()
            .map(|step| step.name.clone())
            .collect();
        parts.bus.declare_steps(&steps);
    }
    let replies = parts.bus.consume_replies(parts.config.prefetch);
    let publisher = Publisher::new(&parts.config, parts.bus.clone());
    Orchestrator {
        owner: Owner::new(parts.definitions.clone()),
        parts,
        clock: Clock::new(now_ms),
        leapt_ms: 0,
        renewed: Instant::now(),
        sessions: Sessions::default(),
        lost: None,
        fenced: false,
        is_back: false,
        seed: rand::random(),
        publisher,
        postponed: Postponed::default(),
        partitions_due: false,
        signals_due: false,
        shutdown,
    }
    .run(replies)
    .await
}

struct Orchestrator {
    parts: Parts,
    clock: Clock,
    /// By how much that was put right since its owner heard of it.
    leapt_ms: i64,
    /// What it knows of its sagas, and what it decides.
    owner: Owner,
    /// When the last renewal went through.
    renewed: Instant,
    /// What was seen of the sessions with the broker.
    sessions: Sessions,
    /// What was sent in an earlier session, or refused while the broker took nothing, is to be sent again.
    lost: Option<Lost>,
    /// A younger process with our name has taken our shards.
    fenced: bool,
    /// What a step needs outside is back, and the lease rows do not say so yet: no orders are taken until
    /// they do.
    is_back: bool,
    seed: u64,
    publisher: Publisher,
    /// Sagas whose rows could not be written.
    postponed: Postponed,
    /// It is to be seen whether a partition is missing.
    partitions_due: bool,
    signals_due: bool,
    shutdown: CancellationToken,
}

impl Orchestrator {
    async fn run(mut self, mut replies: mpsc::Receiver<ReplyDelivery>) -> Result<(), Error> {
        let mut housekeeping =
            tokio::time::interval(Duration::from_millis(self.parts.config.housekeeping_ms));
        housekeeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut session = self.parts.bus.state();
        let mut rounds: u32 = 0;
        while !self.fenced {
            let mut deliveries = Vec::new();
            let prefetch = usize::from(self.parts.config.prefetch);
            tokio::select! {
                () = self.shutdown.cancelled() => break,
                _ = housekeeping.tick() => {
                    self.housekeep(rounds).await;
                    rounds = rounds.wrapping_add(1);
                }
                changed = session.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    if self.new_session() {
                        self.housekeep(1).await;
                    }
                }
                got = replies.recv_many(&mut deliveries, prefetch) => {
                    if got == 0 {
                        break; // the bus is stopped
                    }
                }
                () = self.sleep_until_due() => {}
            }
            let (mut given, ackers, look) = self.take(deliveries);
            given.extend(self.due());
            if !given.is_empty() || !ackers.is_empty() {
                self.settle(given, ackers).await;
            }
            if std::mem::take(&mut self.is_back) {
                housekeeping.reset_immediately();
            }
            if look {
                self.look_around(Look::Signals).await;
            }
        }
        self.publisher.finish().await;
        if self.fenced {
            // What is stored under the name is the other one's.
            return Err(Error::Fenced(self.parts.node));
        }
        self.sign_off().await;
        Ok(())
    }

    /// Notices a new session with the broker, in which what was sent in the last one may be lost, and that
    /// it takes messages again.
    fn new_session(&mut self) -> bool {
        self.heed_leap();
        let state = self.parts.bus.state();
        let state = state.borrow();
        let lost = self.sessions.notice(&state);
        if !takes(&state) {
            self.owner.stand_still(self.clock.now_ms());
        }
        if !state.connected {
            self.parts.ready.not_ready("no session with RabbitMQ");
            return false;
        }
        self.lost = self.lost.max(lost);
        lost.is_some()
    }

    fn can_send(&self) -> bool {
        takes(&self.parts.bus.state().borrow())
    }

    async fn sleep_until_due(&self) {
        match self.owner.next_wake() {
            None => std::future::pending().await,
            Some(at) => {
                let ms = at.saturating_sub(self.clock.now_ms()).max(0);
                tokio::time::sleep(Duration::from_millis(ms.cast_unsigned())).await;
            }
        }
    }

    /// Replies as inputs; nudges only say that there is something to look for.
    fn take(&self, deliveries: Vec<ReplyDelivery>) -> (Vec<Given>, Vec<Acker>, bool) {
        let mut given = Vec::new();
        let mut ackers = Vec::with_capacity(deliveries.len());
        let mut look = false;
        for delivery in deliveries {
            look |= !delivery.signals.is_empty();
            given.extend(delivery.replies.into_iter().map(Given::reply));
            ackers.push(delivery.acker);
        }
        let replies = given.iter().filter_map(|one| one.reply.as_ref());
        crash::each(replies.map(|reply| reply.of_saga(At::Received)));
        (given, ackers, look)
    }

    /// Before anything is decided by a clock that was set.
    fn heed_leap(&mut self) {
        let by_ms = std::mem::take(&mut self.leapt_ms);
        self.owner.leapt(by_ms, self.clock.now_ms());
    }

    /// Sagas whose time has come.
    fn due(&mut self) -> Vec<Given> {
        self.heed_leap();
        let now = self.clock.now_ms();
        if !self.can_send() {
            self.owner.stand_still(now);
        }
        let due = self.owner.due(now, self.parts.config.batch_max);
        due.into_iter().map(Given::wake).collect()
    }
}

impl Given {
    fn reply(reply: contract::Reply) -> Self {
        let mut detail = serde_json::Map::new();
        if let Some(error) = &reply.error {
            detail.insert("message".to_owned(), error.message.clone().into());
        }
        if let Some(output) = &reply.output {
            detail.insert("output".to_owned(), output.clone());
        }
        let retry_after_ms = reply.error.as_ref().and_then(|error| error.retry_after_ms);
        Self {
            saga: reply.saga_id,
            input: Input::Reply(ReplyInput {
                seq: reply.seq,
                outcome: reply.outcome,
                code: reply
                    .error
                    .as_ref()
                    .map(|error| clean::clean_code(&error.code)),
                retry_after_ms,
            }),
            message: Some(reply.id.0),
            detail: (!detail.is_empty()).then(|| clean::clean(detail.into())),
            signal: None,
            reply: Some(Box::new(reply)),
        }
    }

    fn signal(signal: Uuid, saga: SagaId, input: Input, says: Option<Value>) -> Self {
        // Who of us did it, and where that is kept.
        let detail = says.filter(|says| says.get("by").is_some());
        Self {
            saga,
            input,
            reply: None,
            message: Some(signal),
            detail,
            signal: Some(signal),
        }
    }

    /// The end of a saga whose definition is withdrawn, with who did that.
    fn withdrawn(saga: SagaId, says: &Value) -> Self {
        Self {
            input: Withdrawal::input(),
            detail: Some(says.clone()),
            ..Self::wake(saga)
        }
    }

    fn wake(saga: SagaId) -> Self {
        Self {
            saga,
            input: Input::Wake,
            message: None,
            detail: None,
            signal: None,
            reply: None,
        }
    }
}

pub(crate) fn input_name(kind: InputKind) -> &'static str {
    match kind {
        InputKind::Start => "start",
        InputKind::Reply => "reply",
        InputKind::Wake => "wake",
        InputKind::Signal => "signal",
        InputKind::End => "end",
        InputKind::Operator => "operator",
    }
}

fn count_input(kind: InputKind, settled: &str) {
    METRICS
        .inputs
        .with_label_values(&[input_name(kind), settled])
        .inc();
}
