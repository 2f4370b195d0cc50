//! Steps whose outside is away: what an owner hears of it, and whom it lets wait.

use super::{Owner, is_before};
use contract::{
    SagaId, StepKind,
    planted::{Bug, planted},
};
use saga::{
    Class, Steps, TimestampMs, Write,
    breaker::{COOL_DOWN_MS, Turned},
    warns_at,
};

/// A saga that a breaker holds back says so in its row after so long, or it would look forgotten.
const HELD_BACK_MS: i64 = 5 * 60_000;

/// A step before the pivot whose outside is away, with sagas that wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Away {
    /// The step's number.
    pub step: u8,
    /// Since when nothing is sent to it.
    pub since: TimestampMs,
}

impl Owner {
    /// Looks at what breakers hold back as often as they say, though the clock may have been set back
    /// since. Now and then, for it looks at all.
    pub fn mind_held_back(&mut self, now: TimestampMs) {
        for step in self.open().iter() {
            let latest = now.saturating_add(COOL_DOWN_MS);
            for id in self.sagas.before_beyond(step, latest) {
                self.sagas.postpone(id, now);
            }
        }
    }

    /// Until when a saga that is due waits in memory because its step's breaker is open. Its row says
    /// that it is due: another owner goes on from there, and hears for himself.
    pub(super) fn held_back(&mut self, id: SagaId, now: TimestampMs) -> Option<TimestampMs> {
        let saga = &self.sagas.get(id)?.instance;
        let step = saga.cursor?.step;
        let until = self.breakers.open_until(step)?;
        if !is_before(saga, step) || planted(Bug::BreakerIgnored) {
            return None;
        }
        let counts = saga.deadline_counts();
        // At the first of these it is warned, at the second ended and undone.
        let near = match self.definitions.get(saga.definition) {
            Some(definition) if counts && !saga.flags.warned => warns_at(definition, saga),
            _ => i64::MAX,
        };
        let deadline = if counts { saga.deadline } else { i64::MAX };
        let deadline = deadline.min(near);
        if now >= deadline {
            return None;
        }
        if saga
            .wake_at
            .is_some_and(|at| now.saturating_sub(at) >= HELD_BACK_MS)
        {
            return None; // it is held back once more, by a row
        }
        if self.breakers.may_try(step, now) {
            self.tries.insert(id);
            return None;
        }
        let until = self.breakers.open_until(step).unwrap_or(until);
        Some(until.min(deadline).max(now.saturating_add(1)))
    }

    /// The steps to which nothing is sent, because what they need outside is away.
    #[must_use]
    pub fn open(&self) -> Steps {
        self.breakers.open()
    }

    /// Whether a saga was let through to see whether it is back.
    #[must_use]
    pub fn tries(&self, id: SagaId) -> bool {
        self.tries.contains(&id)
    }

    /// The step before a pivot that has been away for longest. One that nobody waits for any more, and
    /// that may be tried again, is not: whoever comes next is to try it.
    #[must_use]
    pub fn away(&self, now: TimestampMs) -> Option<Away> {
        let before_pivot = |step: &u8| {
            let step = self.definitions.iter().find_map(|d| d.step(*step));
            step.is_some_and(|step| step.class != Class::Retriable)
        };
        let away = self.open().iter().filter(before_pivot).filter_map(|step| {
            let rests = now < self.breakers.open_until(step)?;
            let since = self.breakers.open_since(step)?;
            let waits = rests || self.sagas.before(step).next().is_some();
            waits.then_some(Away { step, since })
        });
        away.min_by_key(|away| away.since)
    }

    /// What the answers in a write say about the outside.
    pub(super) fn listen(&mut self, write: &Write, now: TimestampMs) -> Vec<(u8, Turned)> {
        let mut turned = Vec::new();
        for log in write.applied.iter().map(|one| &one.log) {
            let cursor = log.cursor.filter(|cursor| cursor.kind == StepKind::Do);
            let (Some(cursor), Some(outcome)) = (cursor, log.outcome) else {
                continue;
            };
            let (id, code) = (write.next.id, log.code.as_deref());
            let heard = self.breakers.heard(cursor.step, id, outcome, code, now);
            turned.extend(heard.map(|turned| (cursor.step, turned)));
        }
        turned
    }
}
