//! The section `orchestrator` of the configuration.

use serde::{Deserialize, Serialize};

/// How an orchestrator works. Every field has a default.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// A lease not renewed for so long is free for another orchestrator. 2,000 to 60,000.
    pub lease_ms: u64,
    /// Pause between renewals, and between looks for signals and unknown sagas. At most a third of
    /// the lease.
    pub housekeeping_ms: u64,
    /// Inputs settled in one transaction at most. 1 to 5,000.
    pub batch_max: usize,
    /// Messages of replies taken from the broker ahead of being settled. 1 to 1,000.
    pub prefetch: u16,
    /// Batches whose commands are on their way to the broker at once. 1 to 64.
    pub publishing_max: usize,
    /// Sagas sent again in one go after a load or a new session. 1 to 5,000.
    pub resend_batch: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lease_ms: 9_000,
            housekeeping_ms: 2_500,
            batch_max: 500,
            prefetch: 64,
            publishing_max: 8,
            resend_batch: 200,
        }
    }
}

/// How long a statement of an orchestrator waits for a lock. Long for whoever writes a row properly, and short
/// for all the sagas that wait meanwhile.
const LOCK_TIMEOUT_MS: u64 = 500;

impl Config {
    /// The settings of an orchestrator's pool, made of those of the other roles: its loop does not wait for a
    /// lock that somebody holds, and no statement lasts until its leases are over.
    #[must_use]
    pub fn pool(&self, database: database::Config) -> database::Config {
        let within_lease_ms = self.lease_ms * 2 / 3;
        database::Config {
            lock_timeout_ms: Some(LOCK_TIMEOUT_MS),
            statement_timeout_ms: database.statement_timeout_ms.min(within_lease_ms),
            ..database
        }
    }

    /// What is wrong with the configuration, one line for each problem; empty when it is fine.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let mut problems = Vec::new();
        for (key, value, from, to) in [
            ("lease_ms", self.lease_ms, 2_000, 60_000),
            (
                "housekeeping_ms",
                self.housekeeping_ms,
                100,
                self.lease_ms / 3,
            ),
            ("batch_max", number(self.batch_max), 1, 5_000),
            ("prefetch", u64::from(self.prefetch), 1, 1_000),
            ("publishing_max", number(self.publishing_max), 1, 64),
            ("resend_batch", number(self.resend_batch), 1, 5_000),
        ] {
            if !(from..=to).contains(&value) {
                problems.push(format!(
                    "orchestrator.{key}: {value} is not within {from} to {to}"
                ));
            }
        }
        problems
    }
}
