//! Whether this process can do its work now, as named checks with a reason.
//!
//! Each component that may be unable to work holds a [`Check`] and says so itself, at the moment it
//! knows (the bus when its session drops, the pool when a connection cannot be made). Nothing is probed
//! when `/readyz` is asked, so asking is free and cannot time out.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The readiness of a process: ready when every check is, and no stop was asked for. Clones are the
/// same readiness.
#[derive(Clone, Debug)]
pub struct Readiness {
    checks: Arc<watch::Sender<BTreeMap<&'static str, State>>>,
    shutdown: CancellationToken,
}

/// One check at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct State {
    /// Whether the part can do its work.
    pub ready: bool,
    /// Why not, in words for an operator; empty when ready.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// Everything at one moment, as `/readyz` shows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Report {
    /// Whether work may be sent here.
    pub ready: bool,
    /// The checks by name.
    pub checks: BTreeMap<&'static str, State>,
}

/// The handle of one part to say whether it can work. Not ready until it says so.
#[derive(Clone, Debug)]
pub struct Check {
    name: &'static str,
    readiness: Readiness,
}

impl Readiness {
    /// No checks yet. Not ready any more once `shutdown` trips, so that a load balancer looks elsewhere
    /// while the process drains.
    #[must_use]
    pub fn new(shutdown: CancellationToken) -> Self {
        Self {
            checks: Arc::new(watch::Sender::default()),
            shutdown,
        }
    }

    /// Adds a check, not ready yet because it is `starting`. The same name again is the same check.
    #[must_use]
    pub fn check(&self, name: &'static str) -> Check {
        self.checks.send_modify(|checks| {
            checks.entry(name).or_insert_with(|| State {
                ready: false,
                reason: "starting".to_owned(),
            });
        });
        Check {
            name,
            readiness: self.clone(),
        }
    }

    /// All checks, and what follows from them.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut checks = self.checks.borrow().clone();
        if self.shutdown.is_cancelled() {
            let reason = "the process is stopping".to_owned();
            let stopping = State {
                ready: false,
                reason,
            };
            checks.insert("shutdown", stopping);
        }
        Report {
            ready: checks.values().all(|state| state.ready),
            checks,
        }
    }

    /// Waits until every check is ready (or `shutdown` trips, after which waiting has no end).
    pub async fn ready(&self) {
        let mut changes = self.checks.subscribe();
        tokio::select! {
            // Cannot fail: this value holds a sender.
            _ = changes.wait_for(|checks| checks.values().all(|state| state.ready)) => {}
            () = self.shutdown.cancelled() => {}
        }
    }

    fn set(&self, name: &'static str, state: State) {
        self.checks.send_if_modified(|checks| {
            let changed = checks.get(name) != Some(&state);
            if changed {
                if state.ready {
                    tracing::info!(check = name, "ready");
                } else {
                    tracing::warn!(check = name, reason = state.reason, "not ready");
                }
                checks.insert(name, state);
            }
            changed
        });
    }
}

impl Check {
    /// The part can do its work.
    pub fn ready(&self) {
        let state = State {
            ready: true,
            reason: String::new(),
        };
        self.readiness.set(self.name, state);
    }

    /// The part cannot do its work, and why: words for an operator, without secrets.
    pub fn not_ready(&self, reason: impl Into<String>) {
        let state = State {
            ready: false,
            reason: reason.into(),
        };
        self.readiness.set(self.name, state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ready_is_all_of_them() {
        let readiness = Readiness::new(CancellationToken::new());
        assert!(readiness.report().ready, "nothing to wait for");
        let (bus, database) = (readiness.check("bus"), readiness.check("database"));
        bus.ready();
        assert!(!readiness.report().ready);
        let waiting = tokio::spawn({
            let readiness = readiness.clone();
            async move { readiness.ready().await }
        });
        database.ready();
        waiting.await.expect("woken");
        assert!(readiness.report().ready);

        bus.not_ready("connection refused");
        let report = readiness.report();
        assert!(!report.ready);
        assert_eq!(report.checks["bus"].reason, "connection refused");
        assert!(report.checks["database"].ready);
        bus.ready();
        assert!(readiness.report().ready, "it may come back");
    }

    #[tokio::test]
    async fn a_stop_ends_readiness() {
        let shutdown = CancellationToken::new();
        let readiness = Readiness::new(shutdown.clone());
        readiness.check("bus").ready();
        shutdown.cancel();
        let report = readiness.report();
        assert!(!report.ready);
        assert!(!report.checks["shutdown"].ready);
        readiness.ready().await;
    }
}
