//! What is done with a batch that the database did not take.
//!
//! The race: somebody holds the row of one saga locked (a person in psql, a twin that stalled inside its
//! commit) while that saga's reply comes in a batch with five hundred others. Waiting for him would stop every
//! saga, and the leases with them; whoever takes the shards over meets the same row. So a statement waits for a
//! lock for half a second only. Then it is asked which rows are locked: those sagas are left alone for a while,
//! and the others go on without them. What such a saga was told is dropped: its reply comes again with its
//! command, which is sent as soon as the row can be written; a signal's row stays open; and its timer is set.
//!
//! Other trouble that passes has the batch tried again a few times. If it does not pass though the database
//! answers, the batch is halved until one saga stands alone, and that one is left alone for a while.

use super::{Orchestrator, count_input, settle::Given};
use crate::{Error, metrics::METRICS, store::row::Locked, trace};
use contract::SagaId;
use diesel_async::RunQueryDsl;
use saga::TimestampMs;
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};
use uuid::Uuid;

/// How often a batch is tried before it is asked whether it or the database is to blame.
const TRIES: u32 = 5;

/// The pause after a batch's first failure; each further one doubles it. The same for a saga alone.
const FIRST_PAUSE_MS: u64 = 100;
/// So often at most.
const DOUBLINGS_MAX: u32 = 5;

/// A saga that cannot be written though nobody holds its row is left alone for so many times what the try
/// took, so that it does not take the others' time.
const PAUSE_PER_TRY: u32 = 10;

/// What is to be done with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// The same once more, after a pause.
    Again,
    /// Each half of it by itself.
    Halve,
    /// Its only input is what the database refuses, for good: the saga is held.
    Hold,
    /// Its only saga cannot be written now.
    Postpone,
}

/// A batch that failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failed {
    /// The trouble may pass.
    pub(super) transient: bool,
    /// The database answers, and has room to write.
    pub(super) answers: bool,
    /// Failures in a row.
    pub(super) tries: u32,
    pub(super) inputs: usize,
    /// It has one saga only.
    pub(super) alone: bool,
    /// Its saga was found to be the cause before.
    pub(super) suspected: bool,
}

impl Failed {
    pub(super) fn remedy(self) -> Remedy {
        match self.transient {
            false if self.inputs == 1 => Remedy::Hold,
            false => Remedy::Halve,
            true if !self.answers => Remedy::Again,
            true if self.alone && self.suspected => Remedy::Postpone,
            true if self.tries < TRIES => Remedy::Again,
            true if self.alone => Remedy::Postpone,
            true => Remedy::Halve,
        }
    }
}

/// The pause after so many failures in a row.
pub(super) fn pause(failures: u32) -> Duration {
    Duration::from_millis(FIRST_PAUSE_MS << failures.saturating_sub(1).min(DOUBLINGS_MAX))
}

/// Sagas that could not be written when it was tried last.
#[derive(Debug, Default)]
pub(super) struct Postponed(HashMap<SagaId, Times>);

#[derive(Debug, Default)]
struct Times {
    in_a_row: u32,
    /// Nobody held its row: it is tried without others, and not before this time.
    alone_from: Option<TimestampMs>,
}

impl Postponed {
    pub(super) fn alone_from(&self, id: SagaId) -> Option<TimestampMs> {
        self.0.get(&id)?.alone_from
    }

    pub(super) fn written(&mut self, id: SagaId) {
        self.0.remove(&id);
    }

    /// One more time in a row; how many these are, and when it is tried again.
    fn again(
        &mut self,
        id: SagaId,
        now: TimestampMs,
        took: Option<Duration>,
    ) -> (u32, TimestampMs) {
        let times = self.0.entry(id).or_default();
        times.in_a_row = times.in_a_row.saturating_add(1);
        let long = took.map_or(Duration::ZERO, |took| took * PAUSE_PER_TRY);
        let pause = pause(times.in_a_row).max(long).as_millis();
        let at = now.saturating_add(i64::try_from(pause).unwrap_or(i64::MAX));
        times.alone_from = took.map(|_| at);
        (times.in_a_row, at)
    }
}

impl Orchestrator {
    /// Takes out the inputs of those sagas whose rows somebody holds locked, and leaves these alone for a
    /// while. Says whether there were any. That it can be said shows that the database answers.
    pub(super) async fn without_locked(&mut self, given: &mut Vec<Given>) -> Result<bool, Error> {
        if given.is_empty() {
            return Ok(false);
        }
        let ids = given.iter().map(|one| one.saga.0).collect();
        let mut connection = self.parts.pool.get().await?;
        let locked: Vec<Uuid> = Locked { ids }.load(&mut connection).await?;
        drop(connection);
        if locked.is_empty() {
            return Ok(false);
        }
        let locked: HashSet<SagaId> = locked.into_iter().map(SagaId).collect();
        let dropped = given.extract_if(.., |one| locked.contains(&one.saga));
        for one in dropped {
            count_input(one.input.kind(), "postponed");
        }
        self.postpone(locked.into_iter().collect(), None).await;
        Ok(true)
    }

    /// Leaves sagas alone for a while that cannot be written now; `took` says how long it was tried to write
    /// one whose row nobody holds.
    pub(super) async fn postpone(&mut self, sagas: Vec<SagaId>, took: Option<Duration>) {
        METRICS.postponed.inc_by(sagas.len() as u64);
        // Their commands are sent again, once they can be written.
        self.owner.commit_failed(sagas.iter().copied());
        if let Err(error) = self.load(&sagas).await {
            tracing::warn!(%error, "sagas that cannot be written could not be read either; the scan finds them");
            return;
        }
        for id in sagas {
            let (in_a_row, at) = self.postponed.again(id, self.clock.now_ms(), took);
            self.owner.postpone(id, at);
            if in_a_row == 1 {
                let trace_id = self.owner.saga(id).map(|saga| trace::id(saga.trace_id));
                tracing::warn!(saga_id = %id, trace_id, locked = took.is_none(), "the saga's row cannot be written now; the others go on, and it is tried again");
            }
        }
    }

    /// What is given in the order in which it is settled: parts of at most so many, and each saga by itself that
    /// was found to be the cause of a failure. The first is last, for it is taken first; the inputs of a saga
    /// stay in their order. None is read yet.
    pub(super) async fn parts_of(&mut self, given: Vec<Given>) -> Vec<(Vec<Given>, u8)> {
        let mut given = given;
        let mut parts = Vec::new();
        if !self.postponed.0.is_empty() {
            let owner = &self.owner;
            self.postponed.0.retain(|id, _| owner.knows(*id));
            let known = &self.postponed.0;
            let suspects = given.extract_if(.., |one| known.contains_key(&one.saga));
            let mut suspects: Vec<Given> = suspects.collect();
            let now = self.clock.now_ms();
            let early = |one: &Given| self.postponed.alone_from(one.saga) > Some(now);
            for one in suspects.extract_if(.., |one| early(one)) {
                count_input(one.input.kind(), "postponed");
                if let Some(from) = self.postponed.alone_from(one.saga) {
                    self.owner.postpone(one.saga, from);
                }
            }
            if let Err(error) = self.without_locked(&mut suspects).await {
                // What follows fails in the same way, and is tried again.
                tracing::warn!(%error, "it could not be asked which sagas are locked");
            }
            let mut alone: HashMap<SagaId, Vec<Given>> = HashMap::new();
            for one in suspects {
                match self.postponed.alone_from(one.saga) {
                    Some(_) => alone.entry(one.saga).or_default().push(one),
                    None => given.push(one),
                }
            }
            parts.extend(alone.into_values().map(|part| (part, 0)));
        }
        parts.extend(chunks(given, self.parts.config.batch_max));
        parts
    }
}

/// Parts of at most `most`, none read yet. The first is last, for it is taken first: the inputs of a
/// saga stay in their order.
fn chunks(mut given: Vec<Given>, most: usize) -> Vec<(Vec<Given>, u8)> {
    let mut chunks = Vec::new();
    while given.len() > most {
        let rest = given.split_off(most);
        chunks.push((std::mem::replace(&mut given, rest), 0));
    }
    chunks.push((given, 0));
    chunks.reverse();
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_halved_only_when_it_and_not_the_database_is_to_blame() {
        let failed = Failed {
            transient: true,
            answers: true,
            tries: TRIES,
            inputs: 4,
            alone: false,
            suspected: false,
        };
        let early = Failed {
            tries: TRIES - 1,
            ..failed
        };
        let alone = Failed {
            alone: true,
            ..failed
        };
        let suspected = Failed {
            suspected: true,
            alone: true,
            tries: 1,
            ..failed
        };
        let away = Failed {
            answers: false,
            ..suspected
        };
        let refused = Failed {
            transient: false,
            tries: 1,
            ..failed
        };
        let culprit = Failed {
            inputs: 1,
            ..refused
        };
        for (failed, remedy) in [
            (failed, Remedy::Halve),
            (early, Remedy::Again),
            (alone, Remedy::Postpone),
            (suspected, Remedy::Postpone),
            (away, Remedy::Again),
            (refused, Remedy::Halve),
            (culprit, Remedy::Hold),
        ] {
            assert_eq!(failed.remedy(), remedy, "{failed:?}");
        }
    }
}
