//! One batch: settle, commit, send.

use super::{
    Orchestrator, count_input,
    load::Found,
    publish::{Outgoing, Taken},
    trouble::{self, Failed, Remedy},
};
use crate::{
    Answered, Error, Owner, Settled,
    command::Sender,
    metrics::METRICS,
    store::{
        advance::{Advance, Note},
        signal::MarkApplied,
    },
    trace,
};
use bus::{Acker, Parked};
use chrono::DateTime;
use contract::{
    Envelope, Event, MessageId, Reply, SagaId,
    crash::{self, Orchestrator as At, Point, Saga, Trail},
};
use diesel_async::RunQueryDsl;
use saga::{
    DEADLINE_NEAR, Definition, Illegal, Input, Log, Now, Plan, Settlement, Write, breaker::Turned,
};
use serde_json::Value;
use std::{
    collections::HashSet,
    time::{Duration, Instant},
};
use uuid::Uuid;

/// How often the inputs of a saga that others move meanwhile are settled anew.
const REREADS_MAX: u8 = 3;

/// An input with what the history says about it.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) saga: SagaId,
    pub(super) input: Input,
    /// The reply it was made of, should nobody want it.
    pub(super) reply: Option<Box<Reply>>,
    pub(super) message: Option<Uuid>,
    pub(super) detail: Option<Value>,
    /// The signal it came from, to be marked as applied.
    pub(super) signal: Option<Uuid>,
}

impl Orchestrator {
    /// Settles inputs until each is committed, refused or given up, then sends what follows and
    /// acknowledges. While the database is away it waits; on shutdown it drops the batch, which the
    /// rows and the redelivered messages bring back.
    pub(super) async fn settle(&mut self, given: Vec<Given>, ackers: Vec<Acker>) {
        let replies = given.iter().filter_map(|one| one.reply.as_ref());
        let replies = Trail::of(replies.map(|reply| (&reply.step, reply.kind)));
        let mut outgoing = Outgoing {
            taken: Taken { ackers, replies },
            ..Outgoing::default()
        };
        let mut parts = self.parts_of(given).await;
        let mut failures: u32 = 0;
        // Somebody holds rows locked: it is asked of which before it is waited for them.
        let mut wary = false;
        while let Some((mut part, rereads)) = parts.pop() {
            self.renew_in_time().await;
            if wary && let Err(error) = self.without_locked(&mut part).await {
                tracing::warn!(%error, "it could not be asked which sagas are locked");
            }
            let begun = Instant::now();
            match self.settle_part(&part, &mut outgoing).await {
                Ok(conflicts) => {
                    failures = 0;
                    let again = !conflicts.is_empty() && rereads < REREADS_MAX;
                    // What is committed goes at once; the acknowledgements go with the last part, for one
                    // delivery may be in several.
                    let last = parts.is_empty() && !again;
                    let taken = match last {
                        true => Taken::default(),
                        false => std::mem::take(&mut outgoing.taken),
                    };
                    self.publisher.send(std::mem::take(&mut outgoing)).await;
                    outgoing.taken = taken;
                    if again {
                        parts.push((conflicts, rereads + 1));
                    } else if !conflicts.is_empty() {
                        // Whoever moves a saga that often has settled its inputs too; if not, it wakes, for
                        // which it has to be in memory.
                        let read = self.load_missing(&conflicts).await;
                        self.report("reading sagas that others move", read.map(drop));
                    }
                }
                Err(error) => {
                    let took = begun.elapsed();
                    failures = failures.saturating_add(1);
                    let looked = match error.is_transient() {
                        true => self.without_locked(&mut part).await.ok(),
                        false => None,
                    };
                    let first = part.as_slice().first().map(|one| one.saga);
                    let alone = part.iter().all(|one| Some(one.saga) == first);
                    let suspected = first.and_then(|saga| self.postponed.alone_from(saga));
                    let failed = Failed {
                        transient: error.is_transient(),
                        answers: looked.is_some() && !error.is_exhausted(),
                        tries: failures,
                        inputs: part.len(),
                        alone,
                        suspected: suspected.is_some(),
                    };
                    let remedy = failed.remedy();
                    if let (Remedy::Hold, [culprit]) = (remedy, part.as_slice()) {
                        self.hold_culprit(culprit, &error).await;
                    }
                    // Whether it was committed is not known: nothing cached may be believed.
                    self.owner.commit_failed(part.iter().map(|one| one.saga));
                    if failed.transient {
                        METRICS.batches_retried.inc();
                        tracing::warn!(%error, source = ?std::error::Error::source(&error), inputs = part.len(), ?remedy, "a batch failed");
                        if self.shutdown.is_cancelled() {
                            return;
                        }
                    }
                    if looked == Some(true) {
                        (wary, failures) = (true, 0);
                        parts.push((part, rereads)); // without those
                        continue;
                    }
                    match remedy {
                        Remedy::Again => {
                            parts.push((part, rereads));
                            tokio::select! {
                                () = self.shutdown.cancelled() => return,
                                () = tokio::time::sleep(trouble::pause(failures)) => {}
                            }
                        }
                        Remedy::Halve => {
                            let mut first = part;
                            let second = first.split_off(first.len() / 2);
                            parts.extend([(second, rereads), (first, rereads)]); // the last is taken next
                        }
                        Remedy::Hold => {}
                        Remedy::Postpone => {
                            self.postpone(first.into_iter().collect(), Some(took)).await;
                        }
                    }
                }
            }
        }
        self.publisher.send(outgoing).await;
    }

    /// A batch that the database refuses is halved until the culprit stands alone; its saga is held.
    async fn hold_culprit(&self, culprit: &Given, error: &Error) {
        let saga = self.owner.saga(culprit.saga);
        tracing::error!(
            saga_id = %culprit.saga,
            trace_id = saga.map(|saga| trace::id(saga.trace_id)),
            %error,
            source = ?std::error::Error::source(error),
            "the database refuses this saga's change; held"
        );
        self.hold(vec![culprit.saga.0]).await;
    }

    async fn settle_part(
        &mut self,
        given: &[Given],
        outgoing: &mut Outgoing,
    ) -> Result<Vec<Given>, Error> {
        let begun = Instant::now();
        let found = self.load_missing(given).await?;
        self.seed = self.seed.wrapping_add(1);
        self.heed_leap();
        let now = Now::new(self.clock.now_ms(), self.seed);
        let inputs: Vec<(SagaId, Input)> = given
            .iter()
            .map(|one| (one.saga, one.input.clone()))
            .collect();
        let plan = self.owner.settle(&inputs, now);
        METRICS
            .batch
            .with_label_values(&["inputs"])
            .observe(count(given.len()));
        let moved = Owner::moved_by(&plan, self.commit(&plan, given).await)?;
        METRICS
            .settle_seconds
            .observe(begun.elapsed().as_secs_f64());

        let mut conflicts = HashSet::new();
        for write in plan.writes {
            if moved.contains(&write.next.id) {
                self.moved(write, now.ms, outgoing);
            } else {
                conflicts.insert(write.next.id);
            }
        }
        // What follows is sent by the new clock.
        self.heed_leap();
        let settlements = &plan.settlements;
        let outdated = self
            .mark_applied(given, settlements, &found, &conflicts)
            .await;
        self.park_strays(given, settlements, &found).await;
        let aftermath = self.owner.finish(&inputs, settlements, &conflicts);
        if !aftermath.hold.is_empty() {
            for (saga, trace_id) in &aftermath.hold {
                tracing::error!(saga_id = %saga, trace_id = trace::id(*trace_id), "the definition lacks the step that the saga is at; held");
            }
            self.hold(aftermath.hold.iter().map(|(id, _)| id.0).collect())
                .await;
        }
        self.send_again(aftermath.send_again, "loaded").await;
        self.read_outdated(outdated).await?;
        let again = given.iter().filter(|one| conflicts.contains(&one.saga));
        Ok(again.cloned().collect())
    }

    async fn commit(&mut self, plan: &Plan, given: &[Given]) -> Result<HashSet<SagaId>, Error> {
        if plan.writes.is_empty() {
            return Ok(HashSet::new());
        }
        let notes: Vec<Note> = given
            .iter()
            .map(|one| Note {
                message: one.message,
                detail: one.detail.clone(),
            })
            .collect();
        let writes: Vec<&Write> = plan.writes.iter().collect();
        let mut connection = self.parts.pool.get().await?;
        crash::each(self.decided(plan));
        crash::each(taken_in(plan, given, Saga::BeforeCommit));
        let asked = Instant::now();
        let moved: Vec<(Uuid, i64)> = Advance::of(&writes, &notes).load(&mut connection).await?;
        crash::each(taken_in(plan, given, Saga::AfterCommit));
        if let Some((_, now_ms)) = moved.last() {
            self.leapt_ms += self.clock.observe(asked, *now_ms);
        }
        Ok(moved.into_iter().map(|(id, _)| SagaId(id)).collect())
    }

    /// That a command is decided, for each that a plan sends.
    fn decided<'a>(&'a self, plan: &'a Plan) -> impl Iterator<Item = Point<'a>> {
        plan.writes.iter().filter_map(|write| {
            let send = write.send?;
            let step = self.owner.definition(write.next.definition)?;
            let step = step.step(send.step)?;
            Some(Point::Saga(&step.name, send.kind, Saga::Decided))
        })
    }

    /// What follows in memory and on the bus from a committed write.
    fn moved(&mut self, write: Write, now_ms: i64, outgoing: &mut Outgoing) {
        let (id, state, trace_id) = (write.next.id, write.next.state, write.next.trace_id);
        let reason = write.next.reason.clone().filter(|_| state.is_end());
        self.postponed.written(id);
        let Some(definition) = self.owner.definition(write.next.definition).cloned() else {
            return;
        };
        if let (Some(sender), Some(send)) = (self.sender(now_ms), write.send) {
            outgoing
                .commands
                .extend(sender.command(&definition, &write.next, send));
        }
        if let Some(status) = write.status {
            let event = MessageId::new();
            outgoing.events.push(Event {
                id: event,
                saga_id: id,
                rev: write.next.rev,
                status: status.name().to_owned(),
                at: DateTime::from_timestamp_millis(now_ms).unwrap_or_default(),
                incarnation: self.parts.bus.incarnation(),
                traceparent: Some(trace::parent(write.next.trace_id, event)),
            });
        }
        for one in &write.applied {
            warn_of_deadline(&definition, id, trace_id, &one.log);
        }
        let moved = self.owner.committed(write, now_ms);
        for (step, turned) in &moved.turned {
            tell_breaker(&definition, *step, *turned);
            self.is_back |= *turned == Turned::Closed;
        }
        for answered in &moved.answers {
            measure(&definition, answered);
        }
        if moved.asks_for_attention {
            METRICS.attention.inc();
            tracing::warn!(saga_id = %id, trace_id = trace::id(trace_id), state = state.name(), "a saga needs a person's attention");
        }
        if state.is_end() {
            METRICS.ended.with_label_values(&[state.name()]).inc();
            tracing::info!(saga_id = %id, trace_id = trace::id(trace_id), state = state.name(), reason, "a saga has ended");
        }
        if moved.overdue {
            METRICS.resends.with_label_values(&["overdue"]).inc();
        }
    }

    /// Sends the current commands of sagas again, in the background; not of those that are held.
    pub(super) async fn send_again(&mut self, sagas: Vec<SagaId>, reason: &str) {
        let now = self.clock.now_ms();
        let Some(sender) = self.sender(now) else {
            return;
        };
        self.owner.sent_again(&sagas, now);
        let commands: Vec<_> = sagas
            .into_iter()
            .filter_map(|id| {
                let (definition, saga, send) = self.owner.current(id)?;
                sender.command(definition, saga, send)
            })
            .collect();
        METRICS
            .resends
            .with_label_values(&[reason])
            .inc_by(commands.len() as u64);
        self.publisher.send_again(commands).await;
    }

    /// Marks what is settled. Returns the sagas that are not what we took them for when we refused what
    /// they were told.
    async fn mark_applied(
        &self,
        given: &[Given],
        settlements: &[Settlement],
        found: &Found,
        conflicts: &HashSet<SagaId>,
    ) -> Vec<SagaId> {
        let (mut ids, mut revs) = (Vec::new(), Vec::new());
        for (one, settlement) in given.iter().zip(settlements) {
            let name = match settlement {
                Settlement::Applied if conflicts.contains(&one.saga) => "conflict",
                Settlement::Applied => "applied",
                Settlement::Refused(Illegal::SignalEarly) => "early",
                Settlement::Refused(Illegal::Paused) => "paused",
                Settlement::Refused(_) => "refused",
                Settlement::UnknownSaga => "unknown",
            };
            count_input(one.input.kind(), name);
            let over = found.is_over(one.saga);
            let settled = self.owner.settled(one.saga, *settlement, conflicts, over);
            let rev = match settled {
                Settled::Not => continue,
                Settled::ForGood => None,
                Settled::IfAt(rev) => Some(rev),
            };
            if let Some(signal) = one.signal {
                ids.push(signal);
                revs.push(rev);
            }
        }
        if ids.is_empty() {
            return Vec::new();
        }
        crash::at(Point::Orchestrator(At::SignalApplied));
        let marked = async {
            let mut connection = self.parts.pool.get().await?;
            let outdated: Vec<Uuid> = MarkApplied { ids, revs }.load(&mut connection).await?;
            Ok::<_, Error>(outdated)
        };
        let outdated = marked.await.unwrap_or_else(|error| {
            // They come again, and are late then.
            tracing::warn!(%error, "signals could not be marked as applied");
            Vec::new()
        });
        crash::at(Point::Orchestrator(At::SignalMarked));
        outdated.into_iter().map(SagaId).collect()
    }

    /// Somebody else has moved these sagas: where their replies went is not known either.
    async fn read_outdated(&mut self, sagas: Vec<SagaId>) -> Result<(), Error> {
        if sagas.is_empty() {
            return Ok(());
        }
        tracing::info!(
            sagas = sagas.len(),
            "sagas were told something that we did not know them for"
        );
        self.load(&sagas).await?;
        self.send_again(sagas, "loaded").await;
        Ok(())
    }

    /// A reply for a saga that does not exist at all is parked: it is from somewhere else, and nobody misses it
    /// should the broker take nothing just now.
    async fn park_strays(&self, given: &[Given], settlements: &[Settlement], found: &Found) {
        let strays: Vec<Parked> = given
            .iter()
            .zip(settlements)
            .filter(|(one, settlement)| {
                **settlement == Settlement::UnknownSaga
                    && !found.exists(one.saga)
                    && !self.owner.knows(one.saga)
            })
            .filter_map(|(one, _)| {
                Some(Parked {
                    // Made of JSON a moment ago: it cannot fail.
                    body: serde_json::to_vec(one.reply.as_ref()?).ok()?,
                    reason: format!("there is no saga {}", one.saga),
                    source: "replies".to_owned(),
                    kind: Some(Reply::TYPE.0.to_owned()),
                })
            })
            .collect();
        if let Err(error) = self.parts.bus.park(strays).await {
            tracing::warn!(%error, "replies to unknown sagas could not be parked; they are dropped");
        }
    }

    /// Where replies come now; `None` without a session, and then nothing is worth sending.
    fn sender(&self, now_ms: i64) -> Option<Sender> {
        let state = self.parts.bus.state();
        let reply_to = state.borrow().reply_queue.clone()?;
        Some(Sender {
            reply_to,
            incarnation: self.parts.bus.incarnation(),
            now_ms,
        })
    }
}

/// A boundary of each reply that a plan applies.
fn taken_in<'a>(plan: &'a Plan, given: &'a [Given], at: Saga) -> impl Iterator<Item = Point<'a>> {
    let settled = given.iter().zip(&plan.settlements);
    settled
        .filter(|(_, settlement)| **settlement == Settlement::Applied)
        .filter_map(move |(one, _)| Some(one.reply.as_ref()?.of_saga(at)))
}

/// A breaker opened or closed.
fn tell_breaker(definition: &Definition, step: u8, turned: Turned) {
    let Some(step) = definition.step(step).map(|step| step.name.as_str()) else {
        return;
    };
    let open = METRICS.breaker_open.with_label_values(&[step]);
    match turned {
        Turned::Opened => {
            open.set(1);
            METRICS.breaker_openings.with_label_values(&[step]).inc();
            tracing::warn!(
                step,
                "what the step needs outside is away; only a few commands are sent to it until it is back"
            );
        }
        Turned::Closed => {
            open.set(0);
            tracing::info!(step, "what the step needs outside is back");
        }
    }
}

/// A saga's time is nearly over.
fn warn_of_deadline(definition: &Definition, id: SagaId, trace_id: u128, log: &Log) {
    if log.code.as_deref() != Some(DEADLINE_NEAR) {
        return;
    }
    let at = log.cursor.and_then(|cursor| definition.step(cursor.step));
    let step = at.map_or("", |step| step.name.as_str());
    METRICS.deadline_near.with_label_values(&[step]).inc();
    tracing::info!(saga_id = %id, trace_id = trace::id(trace_id), step, "a deadline is near");
}

/// How long an answer took.
fn measure(definition: &Definition, answered: &Answered) {
    let Some(step) = definition.step(answered.step) else {
        return;
    };
    let labels = [
        step.name.as_str(),
        answered.kind.name(),
        answered.outcome.name(),
    ];
    let age = Duration::from_millis(answered.age_ms.max(0).cast_unsigned());
    METRICS
        .step_seconds
        .with_label_values(&labels)
        .observe(age.as_secs_f64());
}

fn count(items: usize) -> f64 {
    f64::from(u32::try_from(items).unwrap_or(u32::MAX))
}
