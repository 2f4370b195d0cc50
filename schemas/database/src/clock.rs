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
    pub fn observe(&self, database_now_ms: i64) {
        self.base_ms.store(
            database_now_ms.saturating_sub(self.elapsed_ms()),
            Ordering::Relaxed,
        );
    }

    fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}
