//! What an owner of shards knows, and what it decides from that, without I/O. The orchestrator and the
//! simulation run the same code: they bring what was read, commit what is planned, tell how that went,
//! and send what follows.

mod away;
mod settled;
mod sleep;
mod still;
#[cfg(test)]
mod tests;
mod withdrawn;

pub use away::Away;
pub use settled::Settled;
pub use sleep::{SLEEPS_MS, sleeps};

use crate::{
    definitions::Definitions,
    sagas::{Sagas, is_before},
    signal,
};
use contract::{
    Outcome, SagaId, StepKind,
    planted::{Bug, planted},
};
use saga::{
    Action, Answers, Breakers, Definition, Illegal, Input, Instance, Now, Plan, Send, Settlement,
    Steps, TimestampMs, Write, breaker::Turned, current, settle,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

/// One process's view of the sagas of its shards.
#[derive(Debug)]
pub struct Owner {
    definitions: Definitions,
    sagas: Sagas,
    /// Shards held, with their epochs.
    held: BTreeMap<i16, i64>,
    /// Sagas whose last commit may or may not have happened.
    doubtful: HashSet<SagaId>,
    /// How long answers take: tells a backlog from a loss.
    answers: Answers,
    /// What the steps answered: tells whether what they need outside is away.
    breakers: Breakers,
    /// Sagas whose next command is to show whether it is back.
    tries: HashSet<SagaId>,
    /// How many sagas sleep, by shard: counted now and then, and those since.
    asleep: HashMap<i16, i32>,
    /// Withdrawn definitions by which nothing was found to run any more, and the shards where.
    rid_of: HashMap<i16, BTreeMap<i16, i64>>,
    /// Since when nothing can be sent.
    still_since: Option<TimestampMs>,
}

/// What became of a row that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is in memory, or has ended.
    In,
    /// Its shard is not ours.
    NotOurs,
    /// It runs by a definition that this program does not have.
    UnknownDefinition,
}

/// What was seen of a write that is committed.
#[derive(Debug, Default)]
pub struct Moved {
    /// The replies in it, with the age of their commands where it is known.
    pub answers: Vec<Answered>,
    /// The saga asks for a person since this write.
    pub asks_for_attention: bool,
    /// Its command is sent again because it was due.
    pub overdue: bool,
    /// Breakers that opened or closed by what it was answered, by step.
    pub turned: Vec<(u8, Turned)>,
}

/// One reply.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// The step's number.
    pub step: u8,
    /// What was asked of it.
    pub kind: StepKind,
    /// What it said.
    pub outcome: Outcome,
    /// How long ago the command was decided.
    pub age_ms: i64,
}

/// What is to be done once a batch is settled, beside sending its commands.
#[derive(Debug, Default)]
pub struct Aftermath {
    /// The definition lacks the step they are at: they are to be held. With the trace of each.
    pub hold: Vec<(SagaId, u128)>,
    /// Read back after a commit whose outcome was not known: what they are at may never have been
    /// sent.
    pub send_again: Vec<SagaId>,
}

impl Owner {
    /// An owner of nothing.
    #[must_use]
    pub fn new(definitions: Definitions) -> Self {
        Self {
            definitions,
            sagas: Sagas::default(),
            held: BTreeMap::new(),
            doubtful: HashSet::new(),
            answers: Answers::default(),
            breakers: Breakers::default(),
            tries: HashSet::new(),
            asleep: HashMap::new(),
            rid_of: HashMap::new(),
            still_since: None,
        }
    }

    // Shards.

    /// The shards held, with their epochs.
    #[must_use]
    pub fn held(&self) -> Vec<(i16, i64)> {
        self.held.iter().map(|(s, e)| (*s, *e)).collect()
    }

    /// Whether a shard is ours.
    #[must_use]
    pub fn holds(&self, shard: i16) -> bool {
        self.held.contains_key(&shard)
    }

    /// The shards held.
    #[must_use]
    pub fn shards(&self) -> Vec<i16> {
        self.held.keys().copied().collect()
    }

    /// Shards were acquired, with these epochs.
    pub fn acquired(&mut self, shards: &[(i16, i64)]) {
        self.held.extend(shards.iter().copied());
    }

    /// Shards are ours no more: their sagas are forgotten.
    pub fn lose(&mut self, shards: &[i16]) {
        self.held.retain(|shard, _| !shards.contains(shard));
        self.asleep.retain(|shard, _| !shards.contains(shard));
        self.sagas.forget_shards(shards);
        if self.held.is_empty() {
            // What was heard is of another time when shards come back: one saga held back by it would close
            // the gateways.
            self.breakers = Breakers::default();
            self.tries.clear();
        }
    }

    /// How many sagas are before their pivot, by shard.
    #[must_use]
    pub fn before_pivot(&self) -> HashMap<i16, i32> {
        self.sagas.before_pivot()
    }

    // Sagas.

    /// How many are in memory.
    #[must_use]
    pub fn live(&self) -> usize {
        self.sagas.len()
    }

    /// Whether a saga is in memory.
    #[must_use]
    pub fn knows(&self, id: SagaId) -> bool {
        self.sagas.contains(id)
    }

    /// A saga as it was last stored.
    #[must_use]
    pub fn saga(&self, id: SagaId) -> Option<&Instance> {
        self.sagas.get(id).map(|owned| &owned.instance)
    }

    /// A definition.
    #[must_use]
    pub fn definition(&self, number: i16) -> Option<&Arc<Definition>> {
        self.definitions.get(number)
    }

    /// Of these sagas the ones that are not in memory, each once, in the order of their ids.
    #[must_use]
    pub fn unknown(&self, among: impl IntoIterator<Item = SagaId>) -> Vec<SagaId> {
        let among = among.into_iter();
        let mut unknown: Vec<SagaId> = among.filter(|id| !self.knows(*id)).collect();
        unknown.sort_unstable();
        unknown.dedup();
        unknown
    }

    /// Of the live sagas of our shards, given with their revisions, those that are not in memory, or
    /// are there as they were before somebody else moved them. An owner who stalled may have committed
    /// one more batch after we had read its sagas; the replies went to it, and what we remember may say
    /// that they sleep for a day.
    #[must_use]
    pub fn outdated(&self, live: impl IntoIterator<Item = (SagaId, i32)>) -> Vec<SagaId> {
        let outdated = |(id, rev): &(SagaId, i32)| self.saga(*id).is_none_or(|s| s.rev != *rev);
        let live = live.into_iter().filter(outdated);
        live.map(|(id, _)| id).collect()
    }

    /// Takes in a saga that was read.
    pub fn take_in(&mut self, saga: Instance, shard: i16) -> Taken {
        if !self.held.contains_key(&shard) {
            return Taken::NotOurs;
        }
        let Some(definition) = self.definitions.get(saga.definition) else {
            return Taken::UnknownDefinition;
        };
        let decided_at = first_decided_at(definition, &saga);
        self.sagas.put(saga, shard, decided_at, decided_at);
        Taken::In
    }

    /// Forgets a saga that is to be read again, with its timer.
    pub fn forget(&mut self, id: SagaId) {
        self.sagas.forget(id);
    }

    /// What a signal's row says to its saga; `None` if this program does not know its kind.
    #[must_use]
    pub fn signal(
        &self,
        saga: SagaId,
        kind: i16,
        step: &str,
        says: Option<&Value>,
    ) -> Option<Input> {
        let number = || {
            let saga = self.saga(saga)?;
            let definition = self.definitions.get(saga.definition)?;
            let step = definition.steps.iter().find(|s| s.name.as_str() == step)?;
            Some(step.number)
        };
        if let Some((from, to)) = signal::migrates(kind, says) {
            let from = self.definitions.labelled(from)?.id;
            let to = Arc::clone(self.definitions.labelled(to)?);
            return Some(Input::Migrate { from, to });
        }
        // An ended saga is not in memory: any number will do, the signal is late.
        signal::input(kind, number().unwrap_or(u8::MAX), says)
    }

    /// Puts what lets a paused saga go on before what it was told during the pause, so that both are one
    /// write: an ending must not race with the reply to the command that is sent once more.
    pub fn resumes_first<T>(&self, told: &mut [T], of: impl Fn(&T) -> (SagaId, &Input)) {
        told.sort_by_key(|one| {
            let (id, input) = of(one);
            let resumes = matches!(input, Input::Act(Action::Resume { .. }));
            !(resumes && self.saga(id).is_some_and(|saga| saga.flags.paused))
        });
    }

    // Time.

    /// When to look at the timers again.
    #[must_use]
    pub fn next_wake(&self) -> Option<TimestampMs> {
        self.sagas.next_wake().filter(|_| !self.is_still())
    }

    /// Sagas whose time has come, without those whose command is only late and those that a breaker
    /// holds back; none while nothing can be sent.
    pub fn due(&mut self, now: TimestampMs, most: usize) -> Vec<SagaId> {
        if self.is_still() {
            return Vec::new();
        }
        let mut due = self.sagas.due(now, most);
        due.retain(|id| match self.not_before(*id, now) {
            Some(at) => {
                self.sagas.postpone(*id, at);
                false
            }
            None => true,
        });
        due
    }

    /// A saga that cannot be written now is looked at again at `at`.
    pub fn postpone(&mut self, id: SagaId, at: TimestampMs) {
        self.sagas.postpone(id, at);
    }

    fn not_before(&mut self, id: SagaId, now: TimestampMs) -> Option<TimestampMs> {
        let late = match planted(Bug::BacklogIsSilence) {
            true => None,
            false => self.late_by(id, now),
        };
        late.map(|pause| now.saturating_add(pause))
            .or_else(|| self.held_back(id, now))
    }

    /// For how long a saga's command is not to be sent again, for the backlog explains its silence.
    #[must_use]
    pub fn late_by(&self, id: SagaId, now: TimestampMs) -> Option<i64> {
        let owned = self.sagas.get(id)?;
        let definition = self.definitions.get(owned.instance.definition)?;
        self.answers
            .explain_silence(definition, &owned.instance, owned.sent_at, now)
    }

    // A batch.

    /// What follows from inputs, as far as is known here.
    #[must_use]
    pub fn settle(&self, inputs: &[(SagaId, Input)], now: Now) -> Plan {
        let known = |id| {
            let saga = self.saga(id).filter(|saga| !saga.flags.held)?;
            Some((self.definitions.get(saga.definition)?.as_ref(), saga))
        };
        let open = match planted(Bug::BreakerIgnored) {
            true => Steps::default(),
            false => self.breakers.open(),
        };
        let tries = |id, input: &Input| *input == Input::Wake && self.tries(id);
        settle(known, tries, inputs, Now { open, ..now })
    }

    /// A write of the plan is committed.
    pub fn committed(&mut self, write: Write, now: TimestampMs) -> Moved {
        let id = write.next.id;
        self.doubtful.remove(&id);
        let Some(owned) = self.sagas.get(id) else {
            return Moved::default();
        };
        let (shard, mut decided_at, before) = (owned.shard, owned.decided_at, &owned.instance);
        let mut sent_at = owned.sent_at;
        let same_command = write.next.seq == before.seq;
        let goes_on = before.flags.paused && !write.next.flags.paused;
        let mut moved = Moved {
            answers: answers(&write, decided_at, now),
            asks_for_attention: write.next.flags.attention && !before.flags.attention,
            overdue: same_command && write.next.resends > 0 && write.send.is_some() && !goes_on,
            turned: Vec::new(),
        };
        if let Some(sent_at) = sent_at {
            for one in &moved.answers {
                let age_ms = now.saturating_sub(sent_at);
                self.answers.heard(one.step, one.kind, age_ms, now);
            }
        }
        // The time of a pause says nothing about how long answers take.
        if !same_command || goes_on {
            decided_at = Some(now);
        }
        if write.send.is_some() {
            sent_at = Some(now);
        }
        moved.turned = self.listen(&write, now);
        self.sagas.put(write.next, shard, decided_at, sent_at);
        for (step, turned) in &moved.turned {
            if *turned == Turned::Closed {
                let waiting: Vec<SagaId> = self.sagas.before(*step).collect();
                for id in waiting {
                    let at = self.saga(id).and_then(|saga| saga.wake_at).unwrap_or(now);
                    self.sagas.postpone(id, at.max(now));
                }
            }
        }
        moved
    }

    /// It is not known whether a batch with inputs for these sagas was committed: nothing that is
    /// remembered of them may be believed, and they are read back before anything else is decided.
    pub fn commit_failed(&mut self, sagas: impl IntoIterator<Item = SagaId>) {
        for id in sagas {
            if self.sagas.forget(id).is_some() {
                self.doubtful.insert(id);
            }
        }
    }

    /// Which sagas a commit moved, by the database's answer to it. No answer is no answer.
    ///
    /// # Errors
    /// The database's.
    pub fn moved_by<E>(
        plan: &Plan,
        answer: Result<HashSet<SagaId>, E>,
    ) -> Result<HashSet<SagaId>, E> {
        match answer {
            Err(_) if planted(Bug::AmbiguousIsCommitted) => {
                Ok(plan.writes.iter().map(|write| write.next.id).collect())
            }
            answer => answer,
        }
    }

    /// What is left to do for a batch whose plan was committed, except for the sagas in `conflicts`:
    /// those had been moved by somebody else. They are forgotten, and their inputs are to be settled
    /// anew against what is stored.
    pub fn finish(
        &mut self,
        inputs: &[(SagaId, Input)],
        settlements: &[Settlement],
        conflicts: &HashSet<SagaId>,
    ) -> Aftermath {
        let mut aftermath = Aftermath::default();
        for ((id, _), settlement) in inputs.iter().zip(settlements) {
            match settlement {
                Settlement::Refused(Illegal::UnknownStep) => {
                    let forgotten = self.sagas.forget(*id);
                    let with_trace = forgotten.map(|owned| (*id, owned.instance.trace_id));
                    aftermath.hold.extend(with_trace);
                }
                // Its timer is gone from the heap: whatever made it early, it must not sleep for ever.
                Settlement::Refused(Illegal::NotDue) => {
                    if let Some(at) = self.saga(*id).and_then(|saga| saga.wake_at) {
                        self.sagas.postpone(*id, at);
                    }
                }
                Settlement::Refused(Illegal::Stale) if planted(Bug::StaleCausesResend) => {
                    aftermath.send_again.push(*id);
                }
                _ => {}
            }
            self.tries.remove(id);
            if self.doubtful.remove(id) {
                aftermath.send_again.push(*id);
            }
        }
        for id in conflicts {
            self.sagas.forget(*id);
        }
        aftermath
    }

    // Sending again.

    /// Those with a command that has no answer, in the order of their ids.
    #[must_use]
    pub fn outstanding(&self) -> Vec<SagaId> {
        self.sagas.outstanding()
    }

    /// The commands that these sagas are at were sent again, for another reason than that they were due.
    /// Where they were, nobody minded them: they have the time since.
    pub fn sent_again(&mut self, sagas: &[SagaId], now: TimestampMs) {
        for id in sagas {
            if let Some(due) = self.saga(*id).and_then(|saga| saga.wake_at) {
                self.give_time(*id, due, now);
            }
            self.sagas.sent(*id, now);
        }
    }

    /// The command that a saga is at, unless it is held or paused.
    #[must_use]
    pub fn current(&self, id: SagaId) -> Option<(&Definition, &Instance, Send)> {
        let saga = self.saga(id).filter(|saga| !saga.flags.held)?;
        if saga.flags.paused && !planted(Bug::PausedIsSent) {
            return None;
        }
        let definition = self.definitions.get(saga.definition)?;
        Some((definition, saga, current(definition, saga)?))
    }
}

fn answers(write: &Write, decided_at: Option<TimestampMs>, now: TimestampMs) -> Vec<Answered> {
    let Some(decided_at) = decided_at else {
        return Vec::new();
    };
    let answers = write.applied.iter().filter_map(|one| {
        let cursor = one.log.cursor?;
        Some(Answered {
            step: cursor.step,
            kind: cursor.kind,
            outcome: one.log.outcome?,
            age_ms: now.saturating_sub(decided_at),
        })
    });
    answers.collect()
}

/// When a saga's first command was decided: at its start, which its deadline tells. Of a later command
/// only the process knows that decided it.
fn first_decided_at(definition: &Definition, saga: &Instance) -> Option<TimestampMs> {
    (saga.rev == 1).then(|| {
        saga.deadline
            .saturating_sub(i64::from(definition.deadline_ms))
    })
}
