//! The section `worker` of the configuration.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How much a worker takes on at once. Every field has a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Commands worked on together at most. 1 to 2,000.
    pub batch_max: usize,
    /// Messages held unacknowledged per queue. 1 to 2,000.
    pub prefetch: u16,
    /// Effects outside under way at once, per step. 1 to 2,000.
    pub permits: usize,
    /// The same for undos and probes, which are never behind new work. 1 to 2,000.
    pub undo_permits: usize,
    /// Connections to PostgreSQL for undos and probes, beside those of the process. 1 to 200.
    pub undo_pool_max: usize,
    /// An effect outside that takes longer is given up and answered `retry`. 100 to 600,000.
    pub effect_timeout_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            batch_max: 256,
            prefetch: 128,
            permits: 512,
            undo_permits: 32,
            undo_pool_max: 4,
            effect_timeout_ms: 30_000,
        }
    }
}

impl Config {
    /// What is wrong with the configuration, one line for each problem; empty when it is fine.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let wide = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        [
            ("batch_max", wide(self.batch_max), 1, 2_000),
            ("prefetch", u64::from(self.prefetch), 1, 2_000),
            ("permits", wide(self.permits), 1, 2_000),
            ("undo_permits", wide(self.undo_permits), 1, 2_000),
            ("undo_pool_max", wide(self.undo_pool_max), 1, 200),
            ("effect_timeout_ms", self.effect_timeout_ms, 100, 600_000),
        ]
        .into_iter()
        .filter(|(_, value, from, to)| !(from..=to).contains(&value))
        .map(|(key, value, from, to)| format!("worker.{key}: {value} is not within {from} to {to}"))
        .collect()
    }

    pub(crate) fn effect_timeout(&self) -> Duration {
        Duration::from_millis(self.effect_timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_told() {
        assert!(Config::default().problems().is_empty());
        let none = Config {
            batch_max: 0,
            prefetch: 0,
            permits: 0,
            undo_permits: 0,
            undo_pool_max: 0,
            effect_timeout_ms: 0,
        };
        assert_eq!(none.problems().len(), 6);
    }
}
