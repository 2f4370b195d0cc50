//! Times in which nothing can be sent: there is no session with the broker, or it takes nothing.
//!
//! What is under way waits. Woken all the same, a saga would send into the void, spend its step's time on
//! that, and be undone, for nothing; its undos would fail in the same way, each of them work for a person.
//! So nobody is woken, and once something can be sent again each step has the time that it had left.
//!
//! The race: the owner dies, or loses its shards, in such a time or before what it gave is in a row. Nothing
//! has to be remembered for it: nobody was woken, so the row still says since when its saga was due, and
//! whoever takes it over gives it the time since then.
//!
//! Neither is a leap of the database's clock a time in which anything could be done: it was set, or another
//! server took over. A command that is out has the time left that it had. Set back, it is missed as soon as
//! it would have been; what was decided by the new clock before this process knew of it is missed too soon,
//! and sent twice.
//!
//! A saga's own deadline goes on. It ends what is late, and says so.

use super::Owner;
use contract::{
    SagaId,
    planted::{Bug, planted},
};
use saga::{TimestampMs, after_silence};

/// A clock that is put right by less was not set: it drifts, and that costs a step nothing.
const LEAP_MS: i64 = 1_000;

impl Owner {
    /// Nothing can be sent from now on.
    pub fn stand_still(&mut self, now: TimestampMs) {
        self.still_since.get_or_insert(now);
    }

    /// Whether nothing can be sent.
    #[must_use]
    pub fn is_still(&self) -> bool {
        self.still_since.is_some() && !planted(Bug::OutageTakesTime)
    }

    /// Something can be sent again, if it could not.
    pub fn go_on(&mut self, now: TimestampMs) {
        let Some(since) = self.still_since.take() else {
            return;
        };
        for id in self.sagas.outstanding() {
            self.give_time(id, since, now);
        }
    }

    /// The database's clock was set by so much; back, if it is negative.
    pub fn leapt(&mut self, by_ms: i64, now: TimestampMs) {
        if by_ms.abs() < LEAP_MS || planted(Bug::LeapTakesTime) {
            return;
        }
        let by = |at: TimestampMs| at.saturating_add(by_ms);
        self.still_since = self.still_since.map(by);
        self.answers.leapt(by_ms);
        for id in self.sagas.outstanding() {
            let Some(owned) = self.sagas.get(id) else {
                continue;
            };
            // What a pause measures is given when it ends.
            if owned.instance.paused_at.is_some() {
                continue;
            }
            let mut next = owned.instance.clone();
            let end = match next.deadline_counts() {
                true => next.deadline,
                false => TimestampMs::MAX,
            };
            let soonest = now.saturating_add(1);
            next.wake_at = next.wake_at.map(|at| by(at).min(end).max(soonest));
            let later = by_ms.max(0);
            next.budget_until = next.budget_until.map(|at| at.saturating_add(later));
            let (shard, decided_at, sent_at) = (owned.shard, owned.decided_at, owned.sent_at);
            self.sagas
                .put(next, shard, decided_at.map(by), sent_at.map(by));
        }
    }

    /// Gives a saga with a command out the time since `since`, or since the command was decided.
    pub(super) fn give_time(&mut self, id: SagaId, since: TimestampMs, now: TimestampMs) {
        let Some(owned) = self.sagas.get(id) else {
            return;
        };
        let since = owned.decided_at.map_or(since, |at| at.max(since));
        let Some(definition) = self.definitions.get(owned.instance.definition) else {
            return;
        };
        if planted(Bug::OutageTakesTime) {
            return;
        }
        if let Some(next) = after_silence(definition, &owned.instance, since, now) {
            // That time says nothing about how long answers take.
            let (shard, sent_at) = (owned.shard, owned.sent_at);
            self.sagas.put(next, shard, Some(now), sent_at);
        }
    }
}
