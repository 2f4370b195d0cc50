//! Sagas that wait for long leave memory.
//!
//! A customer has minutes at his bank, a reviewer a day, and nothing happens to their sagas meanwhile: what is
//! before its pivot is bounded by admission, and those who wait for people are not to take the places of those
//! who are served. Such a saga comes back in two ways: it is told something (the signal's owner reads whatever
//! it does not know), or its time comes near (the scan of live sagas, once a minute, reads what does not sleep
//! any more). A saga that somebody else has moved meanwhile is found by the same scan.
//!
//! They take no place of those who are served, but they come back: a crowd that came together is woken together.
//! So they are counted, by the same scan and whenever some leave, and gateways take no more beyond a bound of its
//! own, which is that of what the owners' memory holds at worst.

use super::Owner;
use contract::planted::{Bug, planted};
use saga::{Instance, State, TimestampMs};

/// One that waits and is woken later than so leaves memory: much longer than a scan takes to come.
pub const SLEEPS_MS: i64 = 5 * 60_000;

/// Whether a saga needs not be in memory.
#[must_use]
pub fn sleeps(saga: &Instance, now: TimestampMs) -> bool {
    let later = |at: TimestampMs| at > now.saturating_add(SLEEPS_MS);
    let long = saga.wake_at.is_some_and(later) || planted(Bug::SleeperForgotten);
    saga.state == State::Waiting && long
}

impl Owner {
    /// Forgets the sagas that sleep; says how many.
    pub fn let_sleep(&mut self, now: TimestampMs) -> usize {
        let mut left = 0;
        for shard in self.sagas.forget_those(|saga| sleeps(saga, now)) {
            *self.asleep.entry(shard).or_default() += 1;
            left += 1;
        }
        left
    }

    /// So many sagas sleep of each of these shards; of one that is not named none does.
    pub fn counted_asleep(&mut self, shards: &[i16], asleep: impl IntoIterator<Item = (i16, i32)>) {
        self.asleep.retain(|shard, _| !shards.contains(shard));
        self.asleep.extend(asleep);
    }

    /// How many sagas of a shard sleep, as far as is known: those that have come back since they were counted
    /// are among them.
    #[must_use]
    pub fn asleep(&self, shard: i16) -> i32 {
        self.asleep.get(&shard).copied().unwrap_or(0)
    }
}
