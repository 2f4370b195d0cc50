//! Batches of a step whose effects are outside.
//!
//! A batch is claimed in one transaction; then its effects run each for itself, and each answer
//! goes out when it is there. A command that comes again while its effect is under way in this
//! process does not start it twice: it waits and gets the same answer (to its own reply queue,
//! which may be a new one). Elsewhere it may be started twice; the ledger's conditional writes and
//! the fence outside are made for that.
//!
//! The race: a mail to a wrong address is on its way, by a command that has come twice; the other one was
//! refused, a person corrects the address, and the command to the new address comes here. It must not wait for
//! the old mail's answer, so only what was decided before an effect began shares it ([`joins`]); and when the
//! old mail is refused at last, that says nothing about the new one ([`Change::correction`]).
//!
//! [`Change::correction`]: crate::ledger::plan::Change::correction

use super::{
    Claim, OutsideStep, Verdict,
    batch::{Round, Stopped, execute},
    letter::{Letter, Outbox},
    local::{begin, end},
    metrics::METRICS,
    triage::{judged_at, key, sort},
};
use crate::{
    Error,
    error::chain,
    ledger::{
        Ledger,
        handle::now,
        open::{Opened, open},
        plan::{Group, joins},
    },
};
use contract::{
    Command, Incarnation, SagaId, StepKind, StepName,
    crash::{self, Work},
};
use database::{Clock, Connection, Pool};
use futures_util::FutureExt;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, hash_map::Entry},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

/// Works on batches of one step outside. One per lane.
pub(crate) struct Outside<S, T> {
    pub(crate) step: Arc<S>,
    pub(crate) name: StepName,
    pub(crate) pool: Pool,
    pub(crate) incarnation: Incarnation,
    pub(crate) clock: Clock,
    pub(crate) ledger: Ledger,
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) timeout: Duration,
    pub(crate) running: TaskTracker,
    pub(crate) in_flight: InFlight<T>,
}

type Key = (SagaId, StepKind);

/// Letters that wait for the answers of effects, by the number of the command that began each. More than one
/// of a key is rare.
type Waiting<T> = BTreeMap<i32, Vec<Letter<T>>>;

/// Effects under way in this lane.
pub(crate) struct InFlight<T>(Arc<Mutex<HashMap<Key, Waiting<T>>>>);

impl<T> Default for InFlight<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> InFlight<T> {
    /// Adds a letter to its effect; `true` if it is the first, which has to begin it.
    fn join(&self, letter: Letter<T>) -> bool {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = map.entry(key(&letter.command)).or_default();
        let seq = letter.command.seq;
        let latest = begun.last_entry().filter(|one| joins(seq, *one.key()));
        match latest {
            Some(mut waiting) => {
                waiting.get_mut().push(letter);
                false
            }
            None => {
                begun.insert(seq, vec![letter]);
                true
            }
        }
    }

    /// Takes the letters of an effect that has ended, by the command that began it.
    fn end(&self, command: &Command) -> Vec<Letter<T>> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Entry::Occupied(mut begun) = map.entry(key(command)) else {
            return Vec::new();
        };
        let letters = begun.get_mut().remove(&command.seq);
        if begun.get().is_empty() {
            begun.remove();
        }
        letters.unwrap_or_default()
    }
}

impl<S: OutsideStep, T: Send + 'static> Outside<S, T> {
    /// Claims what is to be claimed and begins effects, as many at a time as there are permits.
    /// Returns when the last has begun.
    pub(crate) async fn process(
        &self,
        letters: Vec<Letter<T>>,
        outbox: &Outbox<T>,
        stop: &CancellationToken,
    ) -> Result<(), Stopped> {
        let now = judged_at(&letters, &self.pool, &self.clock).await;
        let sorted = sort(letters, &self.name, self.incarnation, now, outbox);
        let letters = sorted.tickets.into_iter().zip(sorted.commands);
        let mut letters: Vec<_> = letters.enumerate().collect();
        // The latest of an effect's commands first: it stands for the others of the batch.
        letters.sort_by_key(|(_, (_, command))| Reverse(command.seq));
        let mut commands = Vec::with_capacity(letters.len());
        for (place, (ticket, command)) in letters {
            let letter = Letter { ticket, command };
            let first = letter.command.clone();
            if self.in_flight.join(letter) {
                commands.push((place, first));
            }
        }
        commands.sort_by_key(|(place, _)| *place);
        let commands: Vec<Command> = commands.into_iter().map(|(_, command)| command).collect();
        // Each effect is now at most once in `commands` per kind; a do and an undo of the same
        // effect are kept in order by their rounds.
        let keys: Vec<_> = commands.iter().map(key).collect();
        for round in crate::ledger::plan::fold(&keys) {
            let mut rest = round.as_slice();
            while !rest.is_empty() {
                let permits = self.some_permits(rest.len(), stop).await?;
                let (part, later) = rest.split_at(permits.num_permits());
                rest = later;
                self.start(&commands, part, permits, outbox, stop).await?;
            }
        }
        Ok(())
    }

    /// At least one permit, and as many of those that are free as there is use for.
    async fn some_permits(
        &self,
        wanted: usize,
        stop: &CancellationToken,
    ) -> Result<OwnedSemaphorePermit, Stopped> {
        let mut permits = tokio::select! {
            () = stop.cancelled() => return Err(Stopped),
            one = Arc::clone(&self.permits).acquire_owned() => one.map_err(|_closed| Stopped)?,
        };
        let more = self.permits.available_permits().min(wanted - 1);
        let more = u32::try_from(more).unwrap_or(0);
        if let Ok(more) = Arc::clone(&self.permits).try_acquire_many_owned(more) {
            permits.merge(more);
        }
        Ok(permits)
    }

    async fn start(
        &self,
        commands: &[Command],
        part: &[Group],
        mut permits: OwnedSemaphorePermit,
        outbox: &Outbox<T>,
        stop: &CancellationToken,
    ) -> Result<(), Stopped> {
        let outcomes = execute(self, &self.name, &self.pool, commands, part, stop).await?;
        for (group, outcome) in part.iter().zip(outcomes) {
            match outcome {
                Begun::Answer(verdict) => {
                    self.answer(&commands[group.members[0]], &verdict, outbox);
                }
                Begun::Effect(claim, input) => {
                    let permit = permits
                        .split(1)
                        .expect("a part has as many permits as groups");
                    self.spawn(*claim, input, permit, outbox.clone());
                }
            }
        }
        Ok(())
    }

    fn answer(&self, first: &Command, verdict: &Verdict, outbox: &Outbox<T>) {
        for letter in self.in_flight.end(first) {
            outbox.answer(letter, verdict.clone());
        }
    }

    fn spawn(
        &self,
        claim: Claim,
        input: Option<S::Input>,
        permit: OwnedSemaphorePermit,
        outbox: Outbox<T>,
    ) {
        let (step, ledger, timeout) = (Arc::clone(&self.step), self.ledger.clone(), self.timeout);
        let in_flight = InFlight(Arc::clone(&self.in_flight.0));
        let command = &claim.command;
        // Of the highest level, or a filter that lets only warnings pass would take their ids from them.
        let span = tracing::error_span!(
            "effect",
            step = %command.step,
            kind = command.kind.name(),
            saga_id = %command.saga_id,
            trace_id = %command.traceparent.trace_id(),
            attempt = command.attempt,
        );
        let effect = async move {
            let verdict = effect(&*step, &claim, input.as_ref(), &ledger, timeout).await;
            drop(permit);
            for letter in in_flight.end(&claim.command) {
                outbox.answer(letter, verdict.clone());
            }
        };
        self.running.spawn(effect.instrument(span));
    }
}

/// Runs one effect and records what became of it. Always has an answer.
async fn effect<S: OutsideStep>(
    step: &S,
    claim: &Claim,
    input: Option<&S::Input>,
    ledger: &Ledger,
    timeout: Duration,
) -> Verdict {
    let Some(input) = input else {
        return Verdict::retry("order_missing", "The order is not there.");
    };
    let kind = claim.command.kind;
    crash::at(claim.command.at(Work::BeforeEffect));
    let started = Instant::now();
    let run = async {
        match kind {
            StepKind::Do => step.act(claim, input, ledger).await,
            StepKind::Undo => step.undo(claim, input, ledger).await,
            StepKind::Probe => step.probe(claim, input, ledger).await,
        }
    };
    let run = tokio::time::timeout(timeout, AssertUnwindSafe(run).catch_unwind());
    let ran = run.await;
    crash::at(claim.command.at(Work::AfterEffect));
    let verdict = match ran {
        Ok(Ok(Ok(verdict))) => verdict.storable(&claim.command),
        Ok(Ok(Err(error))) => {
            tracing::warn!(error = %chain(&error), "an effect failed");
            Verdict::retry(error.code(), "The step could not be finished.")
        }
        Ok(Err(_panic)) => {
            tracing::error!("an effect panicked");
            Verdict::retry("panicked", "The step failed unexpectedly.")
        }
        Err(_elapsed) => {
            tracing::warn!(?timeout, "an effect took too long");
            Verdict::retry("timed_out", "The step took too long.")
        }
    };
    METRICS
        .effect_seconds
        .with_label_values(&[claim.command.step.as_str(), kind.name()])
        .observe(started.elapsed().as_secs_f64());
    crash::at(claim.command.at(Work::BeforeCommit));
    let settled = ledger.settle(claim, verdict).await;
    crash::at(claim.command.at(Work::AfterCommit));
    match settled {
        Ok(answer) => answer,
        Err(error) => {
            tracing::error!(error = %chain(&error), "a verdict cannot be recorded");
            // What happened stands outside; the next attempt finds it there.
            Verdict::retry("ledger_unavailable", "The outcome could not be recorded.")
        }
    }
}

/// What a claimed round makes of a group.
pub(crate) enum Begun<I> {
    /// Answer this.
    Answer(Verdict),
    /// Run the effect with its input, if it has one.
    Effect(Box<Claim>, Option<I>),
}

impl<I> From<Verdict> for Begun<I> {
    fn from(verdict: Verdict) -> Self {
        Self::Answer(verdict)
    }
}

impl<S: OutsideStep, T: Send + 'static> Outside<S, T> {
    async fn claim(
        &self,
        connection: &mut Connection,
        commands: &[Command],
        groups: &[Group],
    ) -> Result<Vec<Begun<S::Input>>, Error> {
        let now = now(&self.clock);
        let opened = open(connection, &self.name, commands, groups, &self.clock, now).await?;
        let claims = opened.iter().filter_map(|opened| match opened {
            Opened::Work(claim) => Some(claim.as_ref().clone()),
            Opened::Answer(_) => None,
        });
        let claims: Vec<Claim> = claims.collect();
        let mut inputs = if claims.is_empty() {
            HashMap::new()
        } else {
            self.step.load(connection, &claims).await?
        };
        let begun = opened.into_iter().map(|opened| match opened {
            Opened::Answer(verdict) => Begun::Answer(verdict),
            Opened::Work(claim) => {
                let input = inputs.remove(&claim.saga_id());
                Begun::Effect(claim, input)
            }
        });
        Ok(begun.collect())
    }
}

impl<S: OutsideStep, T: Send + 'static> Round for Outside<S, T> {
    type Outcome = Begun<S::Input>;

    async fn run(
        &self,
        connection: &mut Connection,
        commands: &[Command],
        groups: &[Group],
    ) -> Result<Vec<Begun<S::Input>>, Error> {
        begin(connection).await?;
        let outcome = self.claim(connection, commands, groups).await;
        end(connection, outcome).await
    }
}
