//! Leases, signals, sagas not known yet: what an owner does every few seconds.

use super::{
    Orchestrator,
    session::{Lost, takes},
    settle::Given,
};
use crate::{
    Error,
    lease::{Lease, are_over, plan},
    metrics::METRICS,
    owner::SLEEPS_MS,
    release::is_release,
    signal::{Stray, stray},
    store::{
        lease::{Acquire, Release, Renew, SignOff},
        row::{CountAsleep, LiveIds, ReadLive, WaitingBy},
        signal::{Look, LookAround, MarkApplied, SettleStrays},
    },
    withdrawal,
};
use contract::{
    SagaId,
    crash::{self, Orchestrator as At, Point},
};
use database::Connection;
use diesel_async::RunQueryDsl;
use serde_json::Value;
use std::{
    collections::HashSet,
    time::{Duration, Instant},
};
use uuid::Uuid;

/// Rounds between two scans of all live sagas: about a minute.
const SCAN_ROUNDS: u32 = 24;
/// Rounds between two counts of the sagas that ask for a person: 15 s.
const ASKING_ROUNDS: u32 = 6;
/// Rounds between two looks at the partitions, and at what is old: about an hour.
const PARTITION_ROUNDS: u32 = 1_440;
/// Sagas of a withdrawn definition that are ended in one round.
const WITHDRAWN_MAX: usize = 2_000;
/// Hours after which an open signal is settled whose saga is not there, or has ended.
const STRAY_HOURS: i32 = 24;
/// So many in one minute.
const STRAYS_MAX: i32 = 1_000;

impl Orchestrator {
    /// The leases do not wait for a batch that cannot be written.
    pub(super) async fn renew_in_time(&mut self) {
        let every = Duration::from_millis(self.parts.config.housekeeping_ms);
        if !self.fenced && self.renewed.elapsed() >= every {
            self.renew().await;
        }
    }

    /// Renews the leases, and sends again what the last session may have lost. Says whether that went through.
    async fn renew(&mut self) -> bool {
        self.new_session();
        // Before others are taken in, which are sent for themselves.
        let sent_before = match self.lost {
            Some(Lost::All) => self.owner.outstanding(),
            Some(Lost::Refused) | None => Vec::new(),
        };
        // The database counts from when it was asked at the earliest.
        let asked = Instant::now();
        match self.mind_leases().await {
            Ok(()) => {
                self.renewed = asked;
                if self.can_send() {
                    self.owner.go_on(self.clock.now_ms());
                    if let Some(lost) = self.lost.take() {
                        let refused = self.publisher.take_refused();
                        let again = match lost {
                            Lost::All => sent_before,
                            Lost::Refused => refused,
                        };
                        self.send_again(again, "session").await;
                    }
                }
                if self.parts.bus.state().borrow().connected {
                    self.parts.ready.ready();
                }
            }
            Err(error) => {
                tracing::warn!(%error, source = ?std::error::Error::source(&error), "the leases could not be renewed");
                self.parts
                    .ready
                    .not_ready("the leases could not be renewed");
                self.forget_expired();
                return false;
            }
        }
        true
    }

    pub(super) async fn housekeep(&mut self, round: u32) {
        if !self.renew().await {
            return;
        }
        self.look_around(Look::SignalsAndBorn).await;
        let ended = self.end_withdrawn().await;
        let all_looked_at = ended.is_ok();
        self.report("ending the sagas of withdrawn definitions", ended);
        if round % SCAN_ROUNDS == SCAN_ROUNDS - 1 {
            let scanned = self.scan().await;
            self.report("the scan of live sagas", scanned);
            let settled = self.settle_strays().await;
            self.report("settling signals for nobody", settled);
        }
        // What is to be ended must not sleep before that.
        if all_looked_at {
            self.owner.let_sleep(self.clock.now_ms());
        }
        if round.is_multiple_of(ASKING_ROUNDS) {
            let counted = self.count_asking().await;
            self.report("counting the sagas that ask for a person", counted);
        }
        if round.is_multiple_of(PARTITION_ROUNDS) {
            self.forget_old().await;
            (self.partitions_due, self.signals_due) = (true, true);
        }
        if self.signals_due {
            let forgotten = self.forget_signals().await;
            self.report("deleting old signals", forgotten);
        }
        if self.partitions_due {
            let made = self.make_partitions().await;
            self.report("making partitions", made);
        }
    }

    /// Without a renewal for a whole lease, others own what was ours.
    fn forget_expired(&mut self) {
        let lease = Duration::from_millis(self.parts.config.lease_ms);
        if are_over(self.renewed.elapsed(), lease) && !self.owner.shards().is_empty() {
            let shards = self.owner.shards();
            tracing::warn!(node = self.parts.node, ?shards, "the leases are over");
            self.lose(&shards);
        }
    }

    async fn mind_leases(&mut self) -> Result<(), Error> {
        let lease_ms = i64::try_from(self.parts.config.lease_ms).unwrap_or(i64::MAX);
        let node = self.parts.node.clone();
        let reply_queue = self.reply_queue();
        let held = self.owner.held();
        let live = self.owner.before_pivot();
        let now = self.clock.now_ms();
        self.owner.mind_held_back(now);
        let away = self.owner.away(now);
        let renew = Renew {
            node: node.clone(),
            lease_ms,
            reply_queue: reply_queue.clone(),
            shards: held.iter().map(|(shard, _)| *shard).collect(),
            epochs: held.iter().map(|(_, epoch)| *epoch).collect(),
            live: held
                .iter()
                .map(|(shard, _)| live.get(shard).copied().unwrap_or(0))
                .collect(),
            asleep: held
                .iter()
                .map(|(shard, _)| self.owner.asleep(*shard))
                .collect(),
            away_step: away.map(|away| i16::from(away.step)),
            away_since: away.map(|away| away.since),
        };
        let mut connection = self.parts.pool.get().await?;
        let asked = Instant::now();
        let rows: Vec<(i16, Option<String>, i64, bool, i64, i64)> =
            renew.load(&mut connection).await?;
        let mut others = 0;
        if let [row, ..] = rows.as_slice() {
            others = usize::try_from(row.4).unwrap_or(0);
            self.leapt_ms += self.clock.observe(asked, row.5);
            self.heed_leap();
        }
        let leases: Vec<Lease> = rows
            .into_iter()
            .map(|(shard, owner, epoch, live, ..)| Lease {
                shard,
                owner,
                epoch,
                live,
            })
            .collect();
        let plan = plan(&leases, &held, &node, others);
        self.fenced = plan.fenced;
        self.lose(&plan.lost);
        if self.fenced {
            return Ok(());
        }
        if !plan.release.is_empty() {
            self.lose(&plan.release);
            let epoch = |lease: &Lease| (lease.shard, lease.epoch);
            let released = leases.iter().map(epoch);
            let (shards, epochs) = released.filter(|one| plan.release.contains(&one.0)).unzip();
            Release {
                node: node.clone(),
                shards,
                epochs,
            }
            .execute(&mut connection)
            .await?;
        }
        // Without a reply queue an owner could only look on.
        if !plan.acquire.is_empty() && reply_queue.is_some() {
            let acquire = Acquire {
                node,
                lease_ms,
                reply_queue,
                shards: plan.acquire,
            };
            let got: Vec<(i16, i64)> = acquire.load(&mut connection).await?;
            drop(connection);
            self.take_over(&got).await?;
        }
        METRICS
            .live
            .set(i64::try_from(self.owner.live()).unwrap_or(i64::MAX));
        let asleep = self.owner.shards().into_iter();
        let asleep = asleep.map(|shard| i64::from(self.owner.asleep(shard)));
        METRICS.asleep.set(asleep.sum());
        METRICS
            .shards
            .set(i64::try_from(self.owner.shards().len()).unwrap_or(i64::MAX));
        Ok(())
    }

    /// Where replies come; nowhere for who could not send what they are to answer.
    fn reply_queue(&self) -> Option<String> {
        let state = self.parts.bus.state();
        let state = state.borrow();
        state.reply_queue.clone().filter(|_| takes(&state))
    }

    fn lose(&mut self, shards: &[i16]) {
        if shards.is_empty() {
            return;
        }
        tracing::info!(?shards, "shards given up");
        self.owner.lose(shards);
        self.bind();
        self.show_breakers();
    }

    /// With the last shard its breakers are gone.
    fn show_breakers(&self) {
        let open = self.owner.open();
        let steps = self.parts.definitions.iter().flat_map(|one| &one.steps);
        for step in steps {
            METRICS
                .breaker_open
                .with_label_values(&[step.name.as_str()])
                .set(i64::from(open.contains(step.number)));
        }
    }

    /// Loads the sagas of new shards and sends the commands they are at: their replies went to
    /// somebody else.
    async fn take_over(&mut self, got: &[(i16, i64)]) -> Result<(), Error> {
        let shards: Vec<i16> = got.iter().map(|(shard, _)| *shard).collect();
        if shards.is_empty() {
            return Ok(());
        }
        tracing::info!(?shards, "shards taken");
        crash::at(Point::Orchestrator(At::LeaseAcquired));
        let mut connection = self.parts.pool.get().await?;
        // Not held before they are read: should that fail, they are taken once more.
        let sleeps_ms = SLEEPS_MS;
        let read = ReadLive {
            shards: shards.clone(),
            sleeps_ms,
        };
        let rows = read.load(&mut connection).await?;
        self.count_asleep(&mut connection, shards).await?;
        drop(connection);
        self.owner.acquired(got);
        self.bind();
        let loaded = self.take_in(rows).await.into_ids();
        crash::at(Point::Orchestrator(At::SagasLoaded));
        tracing::info!(sagas = loaded.len(), "live sagas loaded");
        self.send_again(loaded, "loaded").await;
        Ok(())
    }

    fn bind(&self) {
        self.parts.bus.bind_shards(&self.owner.shards());
    }

    /// Applies the signals of our sagas, and learns of sagas whose first reply is yet to come.
    pub(super) async fn look_around(&mut self, look: Look) {
        if self.owner.shards().is_empty() {
            return;
        }
        let found = self.look(look).await;
        match found {
            Ok(given) if !given.is_empty() => self.settle(given, Vec::new()).await,
            Ok(_) => {}
            Err(error) => self.report("looking for signals", Err(error)),
        }
    }

    async fn look(&mut self, look: Look) -> Result<Vec<Given>, Error> {
        let shards = self.owner.shards();
        let mut connection = self.parts.pool.get().await?;
        let rows: Vec<(Uuid, Uuid, i16, String, Option<Value>)> =
            LookAround::at(shards, look).load(&mut connection).await?;
        drop(connection);
        let (released, rows): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|row| is_release(row.4.as_ref()));
        self.read_again(
            released
                .into_iter()
                .map(|row| (row.0, SagaId(row.1)))
                .collect(),
        )
        .await?;
        let unknown = self.owner.unknown(rows.iter().map(|row| SagaId(row.1)));
        if !unknown.is_empty() {
            // Their first commands are on their way; their timers mind them from now on. One that has come
            // further slept, or somebody else has moved it: where its reply went is not known.
            self.load(&unknown).await?;
            let further = |id: &SagaId| self.owner.saga(*id).is_some_and(|saga| saga.rev > 1);
            let moved = unknown.into_iter().filter(further).collect();
            self.send_again(moved, "loaded").await;
        }
        let signals = rows.into_iter().filter(|row| row.2 != 0);
        let mut told: Vec<Given> = signals
            .filter_map(|(signal, saga, kind, step, says)| {
                let saga = SagaId(saga);
                let input = self.owner.signal(saga, kind, &step, says.as_ref())?;
                Some(Given::signal(signal, saga, input, says))
            })
            .collect();
        self.owner
            .resumes_first(&mut told, |one| (one.saga, &one.input));
        Ok(told)
    }

    /// Sagas that a person has released, with the signals that say so.
    async fn read_again(&mut self, released: Vec<(Uuid, SagaId)>) -> Result<(), Error> {
        if released.is_empty() {
            return Ok(());
        }
        let (signals, sagas): (Vec<Uuid>, Vec<SagaId>) = released.into_iter().unzip();
        for id in &sagas {
            self.owner.forget(*id);
        }
        // What still cannot be read is held again by this.
        self.load(&sagas).await?;
        self.send_again(sagas, "loaded").await;
        let mut connection = self.parts.pool.get().await?;
        let revs = vec![None; signals.len()];
        let marked = MarkApplied { ids: signals, revs };
        let _: Vec<Uuid> = marked.load(&mut connection).await?;
        Ok(())
    }

    /// Ends what runs by a version that is withdrawn.
    async fn end_withdrawn(&mut self) -> Result<(), Error> {
        if self.owner.shards().is_empty() {
            return Ok(());
        }
        let mut connection = self.parts.pool.get().await?;
        let withdrawn = withdrawal::withdrawn(&mut connection).await?;
        let mut asleep: Vec<SagaId> = Vec::new();
        let mut stored: HashSet<i16> = HashSet::new();
        for one in &withdrawn {
            if !self.owner.may_sleep_by(one.definition) {
                continue;
            }
            let waiting = WaitingBy {
                shards: self.owner.shards(),
                definition: one.definition,
                most: WITHDRAWN_MAX as i64,
            };
            let ids: Vec<Uuid> = waiting.load(&mut connection).await?;
            stored.extend((!ids.is_empty()).then_some(one.definition));
            asleep.extend(self.owner.unknown(ids.into_iter().map(SagaId)));
        }
        drop(connection);
        if !asleep.is_empty() {
            self.load(&asleep).await?;
        }
        let mut given = Vec::new();
        for one in &withdrawn {
            let sagas = self.owner.to_be_ended(one.definition, WITHDRAWN_MAX);
            let found = !sagas.is_empty() || stored.contains(&one.definition);
            self.owner.looked_for(one.definition, found);
            let says = one.says();
            given.extend(sagas.into_iter().map(|saga| Given::withdrawn(saga, &says)));
        }
        if !given.is_empty() {
            tracing::warn!(
                sagas = given.len(),
                "their definition is withdrawn: they are ended"
            );
            self.settle(given, Vec::new()).await;
        }
        Ok(())
    }

    /// All live sagas of our shards that are not in memory, or not as they are stored, should any have
    /// slipped through. Where their replies went is not known, so their commands are sent again.
    async fn scan(&mut self) -> Result<(), Error> {
        let shards = self.owner.shards();
        if shards.is_empty() {
            return Ok(());
        }
        let mut connection = self.parts.pool.get().await?;
        let sleeps_ms = SLEEPS_MS;
        let live = LiveIds {
            shards: shards.clone(),
            sleeps_ms,
        };
        let live: Vec<(Uuid, i32)> = live.load(&mut connection).await?;
        self.count_asleep(&mut connection, shards).await?;
        drop(connection);
        let live = live.into_iter().map(|(id, rev)| (SagaId(id), rev));
        let outdated = self.owner.outdated(live);
        if !outdated.is_empty() {
            tracing::info!(sagas = outdated.len(), "sagas were not known as they are");
            self.load(&outdated).await?;
            self.send_again(outdated, "loaded").await;
        }
        Ok(())
    }

    /// Counts the sagas that sleep, for admission.
    async fn count_asleep(
        &mut self,
        connection: &mut Connection,
        shards: Vec<i16>,
    ) -> Result<(), Error> {
        let count = CountAsleep {
            shards: shards.clone(),
            sleeps_ms: SLEEPS_MS,
        };
        let asleep: Vec<(i16, i32)> = count.load(connection).await?;
        self.owner.counted_asleep(&shards, asleep);
        Ok(())
    }

    /// Signals that nobody can apply are not read for ever.
    async fn settle_strays(&self) -> Result<(), Error> {
        let mut connection = self.parts.pool.get().await?;
        let settle = SettleStrays {
            shards: self.owner.shards(),
            hours: STRAY_HOURS,
            most: STRAYS_MAX,
        };
        let strays: Vec<(Uuid, Uuid, bool)> = settle.load(&mut connection).await?;
        for (signal, saga, ended) in strays {
            let why = if ended {
                Stray::Ended
            } else {
                Stray::NoSuchSaga
            };
            stray(signal, SagaId(saga), why);
        }
        Ok(())
    }

    pub(super) fn report(&self, what: &str, result: Result<(), Error>) {
        if let Err(error) = result {
            tracing::warn!(%error, node = self.parts.node, "{what} failed; it is tried again");
        }
    }

    /// Gives everything back, so that another process goes on within a moment.
    pub(super) async fn sign_off(&self) {
        let gone = async {
            let mut connection = self.parts.pool.get().await?;
            let (shards, epochs) = self.owner.held().into_iter().unzip();
            Release {
                node: self.parts.node.clone(),
                shards,
                epochs,
            }
            .execute(&mut connection)
            .await?;
            SignOff {
                node: self.parts.node.clone(),
            }
            .execute(&mut connection)
            .await?;
            Ok::<_, Error>(())
        };
        self.report("giving the leases back", gone.await);
    }
}
