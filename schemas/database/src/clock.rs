//! The database's time. Processes on several machines agree on deadlines because all of them use
//! this one clock: each learns the offset from the answers it gets anyway and advances it by its
//! own monotonic clock, so that a jump of the wall clock moves nothing.

use crate::Connection;
use diesel::{QueryResult, sql_types::BigInt};
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

    /// Learns from an answer of the database that carried its `clock_timestamp()`, to a question that was
    /// asked at `asked`.
    ///
    /// The database said so after it was asked and before it was heard. What is known and lies between is
    /// left alone, so a slow answer moves nothing; what lies outside is put right, and so the time goes
    /// back when the database's does: its clock was set, or another server took over.
    ///
    /// Returns by how many milliseconds the time was put right; forward is positive.
    pub fn observe(&self, asked: Instant, database_now_ms: i64) -> i64 {
        let base_at = |at: Instant| database_now_ms.saturating_sub(self.ms_at(at));
        let (heard, asked) = (base_at(Instant::now()), base_at(asked));
        // Both ends are cut to milliseconds.
        let to_base = |known: i64| Some(known.clamp(heard, asked.max(heard).saturating_add(1)));
        let before = self
            .base_ms
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, to_base);
        // The closure never refuses.
        before.map_or(0, |before| {
            to_base(before).map_or(0, |after| after.saturating_sub(before))
        })
    }

    /// Asks the database, and learns from its answer.
    ///
    /// # Errors
    /// The database cannot be asked.
    pub async fn ask(&self, connection: &mut Connection) -> QueryResult<()> {
        // Its `load` is not that of the atomic.
        use diesel_async::RunQueryDsl;
        let asked = Instant::now();
        let told: Told = diesel::sql_query(ASK).get_result(connection).await?;
        self.observe(asked, told.now_ms);
        Ok(())
    }

    fn ms_at(&self, at: Instant) -> i64 {
        let since = at.saturating_duration_since(self.start);
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn elapsed_ms(&self) -> i64 {
        self.ms_at(Instant::now())
    }
}

const ASK: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms";

#[derive(diesel::QueryableByName)]
struct Told {
    #[diesel(sql_type = BigInt)]
    now_ms: i64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_slow_answer_moves_nothing_and_a_step_is_followed_however_small() {
        let ago = |ms| Instant::now().checked_sub(Duration::from_millis(ms));
        let clock = Clock {
            start: ago(10_000).expect("it runs for longer"),
            ..Clock::new(1_000_000)
        };
        let leap = clock.observe(Instant::now(), 2_000_000);
        let before = clock.now_ms();
        assert!(before >= 2_000_000, "forward at once");
        assert!((900_000..=990_001).contains(&leap), "{leap} ms");
        // Asked a second ago, and told so 900 ms ago.
        let leap = clock.observe(ago(1_000).expect("it runs for longer"), before - 900);
        assert_eq!(leap, 0);
        assert!(clock.now_ms() >= before);
        for back in [50, 45_000, 500_000] {
            let set = clock.now_ms() - back;
            clock.observe(Instant::now(), set);
            let now = clock.now_ms();
            assert!(
                (set..set + 45).contains(&now),
                "{back} ms back: {now}, not {set}"
            );
        }
    }
}
