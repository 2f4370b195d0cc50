//! The database's time. Processes on several machines agree on deadlines because all of them use
//! this one clock: each learns the offset from the answers it gets anyway and advances it by its
//! own monotonic clock, so that a jump of the wall clock moves nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Instant,
};

/// No answer is on its way for so long.
const STEP_MS: i64 = 60_000;

/// The database's clock as this process knows it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock {
    start: Instant,
    /// Database milliseconds at `start`.
    base_ms: Arc<AtomicI64>,
}

impl Clock {
    /// A clock that shows `database_now_ms` (milliseconds since the Unix epoch) at this moment.
    #[must_use]
    pub fn new(database_now_ms: i64) -> Self {
        Self {
            start: Instant::now(),
            base_ms: Arc::new(AtomicI64::new(database_now_ms)),
        }
    }

    /// Milliseconds since the Unix epoch by the database's clock.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.base_ms
            .load(Ordering::Relaxed)
            .saturating_add(self.elapsed_ms())
    }

    /// Learns from an answer of the database that carried its `clock_timestamp()`.
    ///
    /// The answer is always a little old when it comes, by as much as the way took, so the answer that
    /// was the quickest is nearest to the truth, and the time never goes back because another one was
    /// slower. Only a real step of the database's clock, or another server after a failover, takes it
    /// back.
    pub fn observe(&self, database_now_ms: i64) {
        let base = database_now_ms.saturating_sub(self.elapsed_ms());
        let known = self.base_ms.fetch_max(base, Ordering::Relaxed);
        if known.saturating_sub(base) > STEP_MS {
            self.base_ms.store(base, Ordering::Relaxed);
        }
    }

    fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_answer_does_not_take_the_time_back_and_a_step_does() {
        let clock = Clock::new(1_000_000);
        clock.observe(2_000_000);
        let before = clock.now_ms();
        assert!(before >= 2_000_000);
        clock.observe(1_999_900);
        assert!(clock.now_ms() >= before);
        clock.observe(1_500_000);
        assert!(
            clock.now_ms() < 1_600_000,
            "the database's clock was set back"
        );
    }
}
