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
//! - The broker loses everything: with the new session every command without an answer is sent once.

mod clean;
mod housekeeping;
mod publish;
mod settle;

use crate::{
    Config, Error, client, definitions::Definitions, metrics::METRICS, sagas::Sagas,
    store::row::ReadSagas,
};
use bus::{Acker, Bus, ReplyDelivery};
use contract::{SagaId, StepKind};
use database::{Clock, Pool};
use diesel_async::RunQueryDsl;
use publish::Publisher;
use runtime::health::Check;
use saga::{Input, InputKind, ReplyInput, TimestampMs};
use settle::{Found, Given};
use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// What an orchestrator is made of.
pub struct Parts {
    /// Its section of the configuration.
    pub config: Config,
    /// Its name; another process with the same name takes over its leases at once.
    pub node: String,
    /// A pool of its own; it uses up to three connections.
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
/// The definitions in the database are not those of this program, or the database cannot be reached
/// at the start. Later failures of the database or the broker are waited out.
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
        parts,
        clock: Clock::new(now_ms),
        sagas: Sagas::default(),
        held: HashMap::new(),
        renewed: Instant::now(),
        session: 0,
        send_all_again: false,
        doubtful: HashSet::new(),
        answer_age: HashMap::new(),
        seed: rand::random(),
        publisher,
        shutdown,
    }
    .run(replies)
    .await;
    Ok(())
}

struct Orchestrator {
    parts: Parts,
    clock: Clock,
    sagas: Sagas,
    /// Shards held, with their epochs.
    held: HashMap<i16, i64>,
    /// When the last renewal went through.
    renewed: Instant,
    /// The session with the broker that was last seen.
    session: u64,
    /// What was sent in an earlier session is to be sent again.
    send_all_again: bool,
    /// Sagas read back after a commit whose outcome was not known.
    doubtful: HashSet<SagaId>,
    /// For each step and kind, how old the last answered command was, and when that was.
    answer_age: HashMap<(u8, StepKind), (i64, TimestampMs)>,
    seed: u64,
    publisher: Publisher,
    shutdown: CancellationToken,
}

impl Orchestrator {
    async fn run(mut self, mut replies: mpsc::Receiver<ReplyDelivery>) {
        let mut housekeeping =
            tokio::time::interval(Duration::from_millis(self.parts.config.housekeeping_ms));
        housekeeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut session = self.parts.bus.state();
        let mut rounds: u32 = 0;
        loop {
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
            if look {
                self.look_around().await;
            }
        }
        self.publisher.finish().await;
        self.sign_off().await;
    }

    /// Notices a new session with the broker; then commands and replies of the last one may be lost.
    fn new_session(&mut self) -> bool {
        let state = self.parts.bus.state();
        let state = state.borrow();
        if !state.connected {
            self.parts.ready.not_ready("no session with RabbitMQ");
            return false;
        }
        let new = state.session != self.session;
        self.session = state.session;
        self.send_all_again |= new;
        new
    }

    async fn sleep_until_due(&self) {
        match self.sagas.next_wake() {
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
            given.extend(delivery.replies.iter().map(Given::reply));
            ackers.push(delivery.acker);
        }
        (given, ackers, look)
    }

    /// Sagas whose time has come. One that only waits for an answer is left alone while answers to
    /// its step are as old as its patience: it is the backlog that is late, and sending again would
    /// feed it.
    fn due(&mut self) -> Vec<Given> {
        let now = self.clock.now_ms();
        let mut given = Vec::new();
        for id in self.sagas.due(now, self.parts.config.batch_max) {
            match self.backlog_ms(id, now) {
                Some(pause) => self.sagas.postpone(id, now.saturating_add(pause)),
                None => given.push(Given::wake(id)),
            }
        }
        given
    }

    /// How long to wait with sending again, if the step's queue is the reason for the silence.
    fn backlog_ms(&self, id: SagaId, now: TimestampMs) -> Option<i64> {
        let owned = self.sagas.get(id)?;
        let cursor = owned.instance.cursor.filter(|cursor| cursor.outstanding)?;
        let definition = self.parts.definitions.get(owned.instance.definition)?;
        let patience = i64::from(definition.step(cursor.step)?.resend_ms);
        let still_in_time = owned.instance.budget_until.is_none_or(|until| now < until)
            && (owned.instance.pivot_done() || now < owned.instance.deadline);
        let (age, at) = *self.answer_age.get(&(cursor.step, cursor.kind))?;
        let recent = now.saturating_sub(at) < patience;
        let waited = now.saturating_sub(owned.decided_at?);
        (still_in_time && recent && age > patience / 2 && waited < age.saturating_mul(2))
            .then_some(patience)
    }

    /// Reads sagas that are not in memory.
    async fn load(&mut self, ids: &[SagaId]) -> Result<Found, Error> {
        let mut connection = self.parts.pool.get().await?;
        let ids: Vec<uuid::Uuid> = ids.iter().map(|id| id.0).collect();
        let rows = ReadSagas { ids }.load(&mut connection).await?;
        drop(connection);
        Ok(self.take_in(rows).await)
    }
}

impl Given {
    fn reply(reply: &contract::Reply) -> Self {
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
        }
    }

    fn wake(saga: SagaId) -> Self {
        Self {
            saga,
            input: Input::Wake,
            message: None,
            detail: None,
            signal: None,
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
    }
}

fn count_input(kind: InputKind, settled: &str) {
    METRICS
        .inputs
        .with_label_values(&[input_name(kind), settled])
        .inc();
}
