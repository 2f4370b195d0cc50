//! The section `database` of the configuration.

use std::fmt;

/// Where PostgreSQL is and how much of it one process may use.
#[derive(Clone)]
pub struct Config {
    /// `postgres://user:password@host:port/database`. Never printed.
    pub url: String,
    /// Connections of one process at most.
    pub pool_max: usize,
    /// Shown in `pg_stat_activity`.
    pub application_name: String,
    /// A statement that runs longer is cancelled by the server.
    pub statement_timeout_ms: u64,
    /// A statement that waits longer for a lock is cancelled by the server; `None`: it waits as long as it may run.
    pub lock_timeout_ms: Option<u64>,
    /// How long a task waits for a free connection.
    pub wait_timeout_ms: u64,
}

impl Config {
    /// The defaults for a database.
    #[must_use]
    pub fn new(url: impl Into<String>, application_name: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            pool_max: 8,
            application_name: application_name.into(),
            statement_timeout_ms: 15_000,
            lock_timeout_ms: None,
            wait_timeout_ms: 5_000,
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("url", &"***")
            .field("pool_max", &self.pool_max)
            .field("application_name", &self.application_name)
            .field("statement_timeout_ms", &self.statement_timeout_ms)
            .field("lock_timeout_ms", &self.lock_timeout_ms)
            .finish_non_exhaustive()
    }
}
