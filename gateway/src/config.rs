//! The section `gateway` of the configuration.

use ipnet::IpNet;
use runtime::Secret;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};

/// Characters that the provider's secret must have at least, where it is set.
const WEBHOOK_SECRET_MIN: usize = 16;
/// Characters that a secret must have at least.
const SECRET_MIN: usize = 32;

/// How the gateway listens, whom it lets in and how often.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where it listens.
    pub addr: SocketAddr,
    /// What order tokens are made with, at least 32 characters, the same for all gateways. Changing
    /// it makes the tokens handed out so far worthless.
    pub order_token_secret: Secret,
    /// What the payment provider signs its events with, `whsec_…`. Without it none are taken, and a
    /// payment that waits for the customer is looked at when he comes back or its wait ends.
    pub psp_webhook_secret: Secret,
    /// The definition that new orders run by: `order@1` or `order@2`. Those that are under way keep
    /// theirs.
    pub order_definition: String,
    /// Bytes of a request's body at most.
    pub body_max_bytes: usize,
    /// Requests to reading routes per minute and client.
    pub read_limit_per_minute: u32,
    /// Requests to selling routes per minute and client.
    pub order_limit_per_minute: u32,
    /// Networks whose requests no limit counts.
    pub rate_limit_exempt: Vec<IpNet>,
    /// Networks of proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Origins whose pages may call the API from a browser, such as `https://tickets.example`; `*`
    /// for all.
    pub cors_origins: Vec<String>,
    /// Streams of orders open at once.
    pub streams_max: usize,
    /// Orders before their pivot, in the whole installation, beyond which no new one is taken.
    pub live_sagas_max: usize,
    /// Orders that wait for minutes or a day (for their customer, for a reviewer) and are not in memory, in the
    /// whole installation, beyond which no new one is taken: they may come back together.
    pub asleep_sagas_max: usize,
    /// Hours after which an idempotency key may stand for another order, at least 24.
    pub idempotency_keep_hours: u16,
    /// Connections at most.
    pub connections_max: usize,
    /// How long a stopping gateway waits for open requests.
    pub drain_deadline_ms: u64,
    /// Log each request.
    pub access_log: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            order_token_secret: Secret::default(),
            psp_webhook_secret: Secret::default(),
            order_definition: "order@1".to_owned(),
            body_max_bytes: 64 * 1024,
            read_limit_per_minute: 1_200,
            order_limit_per_minute: 60,
            rate_limit_exempt: Vec::new(),
            trusted_proxies: Vec::new(),
            cors_origins: Vec::new(),
            streams_max: 5_000,
            live_sagas_max: 20_000,
            asleep_sagas_max: 100_000,
            idempotency_keep_hours: 48,
            connections_max: 10_000,
            drain_deadline_ms: 10_000,
            access_log: true,
        }
    }
}

impl Config {
    /// What is wrong with it, one sentence each; empty if nothing is.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |fine: bool, sentence: String| {
            if !fine {
                problems.push(sentence);
            }
        };
        check(
            self.order_token_secret.expose().chars().count() >= SECRET_MIN,
            format!("order_token_secret must have at least {SECRET_MIN} characters"),
        );
        let webhook = self.psp_webhook_secret.expose().chars().count();
        check(
            webhook == 0 || webhook >= WEBHOOK_SECRET_MIN,
            format!(
                "psp_webhook_secret must have at least {WEBHOOK_SECRET_MIN} characters, or none"
            ),
        );
        let versions: Vec<String> = saga::order::versions()
            .iter()
            .map(saga::Definition::label)
            .collect();
        check(
            versions.contains(&self.order_definition),
            format!("order_definition must be {}", versions.join(" or ")),
        );
        check(
            (1_024..=1_048_576).contains(&self.body_max_bytes),
            "body_max_bytes must be from 1024 to 1048576".to_owned(),
        );
        for (name, value) in [
            ("read_limit_per_minute", self.read_limit_per_minute),
            ("order_limit_per_minute", self.order_limit_per_minute),
        ] {
            check(value > 0, format!("{name} must be at least 1"));
        }
        for (name, value) in [
            ("connections_max", self.connections_max),
            ("streams_max", self.streams_max),
            ("live_sagas_max", self.live_sagas_max),
            ("asleep_sagas_max", self.asleep_sagas_max),
        ] {
            check(value > 0, format!("{name} must be at least 1"));
        }
        check(
            (100..=600_000).contains(&self.drain_deadline_ms),
            "drain_deadline_ms must be from 100 to 600000".to_owned(),
        );
        check(
            self.idempotency_keep_hours >= 24,
            "idempotency_keep_hours must be at least 24".to_owned(),
        );
        for origin in &self.cors_origins {
            check(
                origin == "*" || is_origin(origin),
                format!("cors_origins: `{origin}` is not an origin like https://host"),
            );
        }
        problems
    }
}

fn is_origin(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| url.origin().ascii_serialization() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_lack_only_the_secret_and_every_mistake_is_told() {
        let problems = Config::default().problems();
        assert_eq!(
            problems,
            ["order_token_secret must have at least 32 characters"]
        );
        let config = Config {
            psp_webhook_secret: "whsec_short".into(),
            order_definition: "order@3".to_owned(),
            body_max_bytes: 1,
            read_limit_per_minute: 0,
            order_limit_per_minute: 0,
            connections_max: 0,
            drain_deadline_ms: 0,
            idempotency_keep_hours: 23,
            cors_origins: vec![
                "*".to_owned(),
                "https://tickets.example".to_owned(),
                "tickets.example".to_owned(),
                "https://tickets.example/".to_owned(),
            ],
            ..Config::default()
        };
        assert_eq!(config.problems().len(), 11, "{:?}", config.problems());
    }
}
