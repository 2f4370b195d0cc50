//! The section `psp` of the configuration.

use std::net::SocketAddr;
use std::path::PathBuf;

use runtime::Secret;
use serde::{Deserialize, Serialize};

use crate::faults::WAIT_MAX_MS;

/// The longest latency that can be configured, in milliseconds.
const LATENCY_MAX_MS: u64 = 60_000;

/// How the simulator runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where it listens. Default `127.0.0.1:8082`. Whoever reaches it can plan faults and read the ledger.
    pub addr: SocketAddr,
    /// The ledger's file, made if it is missing. Default `.guichet/psp-ledger.jsonl`.
    pub ledger_path: PathBuf,
    /// How many records the ledger takes before it refuses more (503); this bounds the memory, at about a
    /// kilobyte each. A payment makes two, its creation and its confirmation. Default 2,000,000.
    pub ledger_records_max: usize,
    /// The API key that requests must carry, `sk_test_…`. Default `sk_test_guichet`.
    pub secret_key: Secret,
    /// Where events are sent to; nowhere if it is missing or empty.
    pub webhook_url: Option<String>,
    /// What events are signed with, `whsec_…`. Required with `webhook_url`.
    pub webhook_secret: Option<Secret>,
    /// How long every request takes besides its own work, in milliseconds, at most 60,000. Default 0.
    pub latency_ms: u64,
    /// The seed of the faults that `fault_rate` makes. Default 0.
    pub fault_seed: u64,
    /// The share of requests that meet a fault, from 0 (the default) to 1.
    pub fault_rate: f64,
    /// How long a time-out fault holds its connection open, in milliseconds, at most 600,000. Default 60,000.
    pub fault_hold_ms: u64,
    /// The base URL of the page on which payers authenticate, without a slash at its end. Default: the
    /// address it listens on.
    pub pages_url: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from(([127, 0, 0, 1], 8082)),
            ledger_path: PathBuf::from(".guichet/psp-ledger.jsonl"),
            ledger_records_max: 2_000_000,
            secret_key: Secret::new("sk_test_guichet"),
            webhook_url: None,
            webhook_secret: None,
            latency_ms: 0,
            fault_seed: 0,
            fault_rate: 0.0,
            fault_hold_ms: 60_000,
            pages_url: None,
        }
    }
}

impl Config {
    /// All that is wrong with it, each as one sentence that begins with the setting's name.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.ledger_path.as_os_str().is_empty() {
            problems.push("ledger_path is empty".to_owned());
        }
        if !(1..=u32::MAX as usize).contains(&self.ledger_records_max) {
            problems.push(format!("ledger_records_max must be from 1 to {}", u32::MAX));
        }
        if !self.secret_key.expose().starts_with("sk_test_") {
            problems.push(
                "secret_key must start with sk_test_: this is a simulator, a live key is not for it"
                    .to_owned(),
            );
        }
        if let Some(url) = self.webhook_url.as_ref().filter(|url| !url.is_empty()) {
            if !is_web(url) {
                problems.push(format!("webhook_url is no http or https URL: {url}"));
            }
            if self.webhook_secret.as_ref().is_none_or(Secret::is_empty) {
                problems
                    .push("webhook_secret is missing: it must be set with webhook_url".to_owned());
            }
        }
        if self.latency_ms > LATENCY_MAX_MS {
            problems.push(format!("latency_ms must be at most {LATENCY_MAX_MS}"));
        }
        if !(0.0..=1.0).contains(&self.fault_rate) {
            problems.push("fault_rate must be from 0 to 1".to_owned());
        }
        if self.fault_hold_ms > WAIT_MAX_MS {
            problems.push(format!("fault_hold_ms must be at most {WAIT_MAX_MS}"));
        }
        if let Some(url) = &self.pages_url
            && (!is_web(url) || url.ends_with('/'))
        {
            problems.push(format!(
                "pages_url must be an http or https URL without a slash at its end: {url}"
            ));
        }
        problems
    }
}

fn is_web(url: &str) -> bool {
    url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_in_order() {
        assert_eq!(Config::default().problems(), Vec::<String>::new());
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let config = Config {
            ledger_path: PathBuf::new(),
            ledger_records_max: 0,
            secret_key: Secret::new("sk_live_1"),
            webhook_url: Some("ftp://x".into()),
            webhook_secret: None,
            latency_ms: 60_001,
            fault_rate: f64::NAN,
            fault_hold_ms: 600_001,
            pages_url: Some("http://x/".into()),
            ..Config::default()
        };
        let problems = config.problems();
        for name in [
            "ledger_path",
            "ledger_records_max",
            "secret_key",
            "webhook_url",
            "webhook_secret",
            "latency_ms",
            "fault_rate",
            "fault_hold_ms",
            "pages_url",
        ] {
            let named = problems.iter().filter(|problem| problem.starts_with(name));
            assert_eq!(named.count(), 1, "{name}: {problems:?}");
        }
        assert!(
            !problems.concat().contains("sk_live_1"),
            "no secret is shown"
        );
    }
}
