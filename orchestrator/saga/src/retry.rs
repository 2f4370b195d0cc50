//! How often and how long something is tried again.

use serde::{Deserialize, Serialize};

/// Exponential delays with jitter, bounded by a number of attempts, a time, or neither.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryPolicy {
    /// Delay after the first attempt.
    pub initial_ms: u32,
    /// No delay is longer, before jitter.
    pub max_ms: u32,
    /// Attempts at most; `None` for as many as the time allows.
    pub max_attempts: Option<i16>,
    /// Time for all attempts together; `None` for as long as it takes.
    pub budget_ms: Option<u32>,
}

impl RetryPolicy {
    /// The pause after `attempt` (1 is the first): doubled each time up to the maximum, of which
    /// the upper half is drawn by `seed` ("equal jitter"), so that sagas that failed together do
    /// not come back together.
    #[must_use]
    pub fn delay_ms(&self, attempt: i16, seed: u64) -> i64 {
        let doublings = u32::try_from(attempt.saturating_sub(1))
            .unwrap_or(0)
            .min(31);
        let full = u64::from(self.initial_ms)
            .saturating_mul(1 << doublings)
            .min(u64::from(self.max_ms))
            .max(1);
        let half = full / 2;
        let drawn = half + seed % (full - half + 1);
        i64::try_from(drawn).unwrap_or(i64::MAX)
    }

    /// Whether another attempt may follow `attempt`, by number.
    #[must_use]
    pub fn allows_after(&self, attempt: i16) -> bool {
        self.max_attempts.is_none_or(|most| attempt < most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_delay_grows_to_its_maximum_and_keeps_within_its_jitter(
            initial_ms in 1_u32..10_000, max_ms in 1_u32..1_000_000, attempt in 1_i16..i16::MAX, seed: u64,
        ) {
            let policy = RetryPolicy { initial_ms, max_ms, max_attempts: None, budget_ms: None };
            let delay = policy.delay_ms(attempt, seed);
            prop_assert!(delay <= i64::from(max_ms));
            prop_assert!(delay >= 0);
            if attempt >= 32 {
                prop_assert!(delay >= i64::from(max_ms) / 2);
            }
        }
    }
}
