//! The section `fraud` of the configuration: limits, rules with weights and thresholds, decisions.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A rule that adds `weight` to an order's score when its value reaches `threshold`.
/// Weight 0 switches it off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Points added to the score, 0 to 1000.
    pub weight: u32,
    /// The value from which on the rule hits; at least 1. The unit is the rule's.
    pub threshold: i64,
}

/// A rule that counts orders in a sliding window. Weight 0 switches it off; then nothing is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VelocityRule {
    /// Points added to the score, 0 to 1000.
    pub weight: u32,
    /// The order that is the `threshold`-th within the window hits; at least 1.
    pub threshold: i64,
    /// Length of the window, 1 minute to 7 days. It slides in steps of a twelfth.
    pub window_ms: i64,
}

/// The scored rules, each `[fraud.rules.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// Orders with one e-mail address.
    pub velocity_email: VelocityRule,
    /// Orders from one client address (of IPv6, from one /64).
    pub velocity_address: VelocityRule,
    /// Payments with one payment fingerprint; applied by the step `pay`.
    pub velocity_fingerprint: VelocityRule,
    /// The payment fingerprint is on the blocklist; applied by the step `pay`.
    pub blocked_fingerprint: Rule,
    /// The e-mail address is on the blocklist.
    pub blocked_email: Rule,
    /// The domain of the e-mail address, or one above it, is on the blocklist.
    pub blocked_domain: Rule,
    /// The client address is in a network of the blocklist.
    pub blocked_network: Rule,
    /// The domain of the e-mail address, or one above it, is in `disposable_domains`.
    pub disposable_email: Rule,
    /// Digits in the e-mail address before the `@`, in per cent, of addresses with 6 characters or
    /// more there.
    pub odd_email: Rule,
    /// The order's total, in minor units of its currency.
    pub large_amount: Rule,
    /// Tickets in the order.
    pub many_tickets: Rule,
    /// Different events in the order.
    pub many_events: Rule,
    /// Value 1 when no part of the buyer's name occurs in his e-mail address.
    pub name_not_in_email: Rule,
    /// Value 1 when attendees are named and none has the buyer's name.
    pub buyer_not_attending: Rule,
    /// How many tickets of one event bear the same attendee's name.
    pub repeated_attendee: Rule,
}

impl Default for Rules {
    fn default() -> Self {
        let rule = |weight, threshold| Rule { weight, threshold };
        Self {
            velocity_email: VelocityRule {
                weight: 60,
                threshold: 11,
                window_ms: 3_600_000,
            },
            velocity_address: VelocityRule {
                weight: 60,
                threshold: 31,
                window_ms: 600_000,
            },
            velocity_fingerprint: VelocityRule {
                weight: 100,
                threshold: 11,
                window_ms: 3_600_000,
            },
            blocked_fingerprint: rule(100, 1),
            blocked_email: rule(100, 1),
            blocked_domain: rule(100, 1),
            blocked_network: rule(100, 1),
            disposable_email: rule(40, 1),
            odd_email: rule(10, 60),
            large_amount: rule(30, 1_000_000),
            many_tickets: rule(20, 13),
            many_events: rule(15, 6),
            name_not_in_email: rule(5, 1),
            buyer_not_attending: rule(10, 1),
            repeated_attendee: rule(15, 2),
        }
    }
}

/// The section `fraud`. Every process that checks orders needs the same one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Tickets in all per account, and per e-mail address.
    pub limit_total: i32,
    /// Tickets of one event per account, and per e-mail address.
    pub limit_event: i32,
    /// The same for the most wanted events.
    pub limit_event_most_wanted: i32,
    /// The same for ceremonies.
    pub limit_event_ceremony: i32,
    /// Tickets in all per payment fingerprint; applied by the step `pay`.
    pub limit_fingerprint: i32,
    /// From this score on an order is held for review.
    pub review_at: u32,
    /// From this score on an order is refused.
    pub reject_at: u32,
    /// Networks whose addresses the address rules do not look at, such as `127.0.0.0/8`.
    pub exempt_networks: Vec<IpNet>,
    /// Domains of throw-away addresses, lower case; a domain stands for those below it too.
    pub disposable_domains: Vec<String>,
    /// The scored rules.
    pub rules: Rules,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limit_total: 30,
            limit_event: 6,
            limit_event_most_wanted: 4,
            limit_event_ceremony: 4,
            limit_fingerprint: 30,
            review_at: 50,
            reject_at: 100,
            exempt_networks: Vec::new(),
            disposable_domains: DISPOSABLE.map(String::from).to_vec(),
            rules: Rules::default(),
        }
    }
}

/// The best-known providers of addresses that live for minutes.
const DISPOSABLE: [&str; 12] = [
    "10minutemail.com",
    "dispostable.com",
    "fakeinbox.com",
    "getnada.com",
    "guerrillamail.com",
    "mailinator.com",
    "maildrop.cc",
    "sharklasers.com",
    "temp-mail.org",
    "throwawaymail.com",
    "trashmail.com",
    "yopmail.com",
];

const WEIGHT_MAX: u32 = 1_000;
const LIMIT_MAX: i32 = 100_000;
const WINDOW_MS: std::ops::RangeInclusive<i64> = 60_000..=604_800_000;

impl Config {
    /// What is wrong with it, one sentence each, beginning with the key; empty when it is sound.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (key, limit) in [
            ("limit_total", self.limit_total),
            ("limit_event", self.limit_event),
            ("limit_event_most_wanted", self.limit_event_most_wanted),
            ("limit_event_ceremony", self.limit_event_ceremony),
            ("limit_fingerprint", self.limit_fingerprint),
        ] {
            if !(1..=LIMIT_MAX).contains(&limit) {
                problems.push(format!("fraud.{key} is {limit}: must be 1 to {LIMIT_MAX}"));
            }
        }
        if self.review_at == 0 || self.review_at > self.reject_at {
            problems.push(format!(
                "fraud.review_at is {}: must be at least 1 and at most fraud.reject_at ({})",
                self.review_at, self.reject_at
            ));
        }
        for domain in &self.disposable_domains {
            let plain = domain.contains('.') && !domain.contains('@') && !domain.starts_with('.');
            if !plain || domain.to_lowercase() != *domain {
                problems.push(format!(
                    "fraud.disposable_domains has `{domain}`: must be a domain in lower case"
                ));
            }
        }
        for (name, rule) in self.rules.plain() {
            check_rule(&mut problems, name, rule.weight, rule.threshold);
        }
        for (name, rule) in self.rules.velocity() {
            check_rule(&mut problems, name, rule.weight, rule.threshold);
            if !WINDOW_MS.contains(&rule.window_ms) {
                problems.push(format!(
                    "fraud.rules.{name}.window_ms is {}: must be {} to {}",
                    rule.window_ms,
                    WINDOW_MS.start(),
                    WINDOW_MS.end()
                ));
            }
        }
        problems
    }
}

fn check_rule(problems: &mut Vec<String>, name: &str, weight: u32, threshold: i64) {
    if weight > WEIGHT_MAX {
        problems.push(format!(
            "fraud.rules.{name}.weight is {weight}: must be at most {WEIGHT_MAX}"
        ));
    }
    if threshold < 1 {
        problems.push(format!(
            "fraud.rules.{name}.threshold is {threshold}: must be at least 1"
        ));
    }
}

impl Rules {
    fn velocity(&self) -> [(&'static str, VelocityRule); 3] {
        [
            ("velocity_email", self.velocity_email),
            ("velocity_address", self.velocity_address),
            ("velocity_fingerprint", self.velocity_fingerprint),
        ]
    }

    fn plain(&self) -> [(&'static str, Rule); 12] {
        [
            ("blocked_fingerprint", self.blocked_fingerprint),
            ("blocked_email", self.blocked_email),
            ("blocked_domain", self.blocked_domain),
            ("blocked_network", self.blocked_network),
            ("disposable_email", self.disposable_email),
            ("odd_email", self.odd_email),
            ("large_amount", self.large_amount),
            ("many_tickets", self.many_tickets),
            ("many_events", self.many_events),
            ("name_not_in_email", self.name_not_in_email),
            ("buyer_not_attending", self.buyer_not_attending),
            ("repeated_attendee", self.repeated_attendee),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_sound() {
        assert_eq!(Config::default().problems(), Vec::<String>::new());
    }

    #[test]
    fn a_file_says_only_what_differs() {
        let text = "limit_event = 2\nexempt_networks = ['127.0.0.0/8', '::1/128']\n\
                    [rules.large_amount]\nweight = 7\nthreshold = 9";
        let config: Config = toml::from_str(text).expect("parses");
        assert_eq!((config.limit_event, config.limit_total), (2, 30));
        let large = config.rules.large_amount;
        assert_eq!((large.weight, large.threshold), (7, 9));
        assert_eq!(config.rules.many_events, Rules::default().many_events);
        assert!(toml::from_str::<Config>("limit_evnt = 2").is_err());
        assert!(toml::from_str::<Config>("[rules.velocity]\nweight = 1").is_err());
        assert!(toml::from_str::<Config>("exempt_networks = ['localhost']").is_err());
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let mut config = Config {
            limit_total: 0,
            review_at: 60,
            reject_at: 50,
            disposable_domains: vec!["Bad.example".into()],
            ..Config::default()
        };
        config.rules.many_events.weight = 5_000;
        config.rules.odd_email.threshold = 0;
        config.rules.velocity_email.window_ms = 5;
        let problems = config.problems();
        for key in [
            "limit_total",
            "review_at",
            "disposable_domains",
            "many_events.weight",
            "odd_email.threshold",
            "velocity_email.window_ms",
        ] {
            assert!(
                problems.iter().any(|p| p.contains(key)),
                "{key}: {problems:?}"
            );
        }
        assert_eq!(problems.len(), 6);
    }
}
