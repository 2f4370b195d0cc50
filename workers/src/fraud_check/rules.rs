//! The rules: what an order's facts and the counters make of it. No I/O, no clock, no chance.
//!
//! Two kinds of rules. A *limit* is hard: an order beyond it is refused, whoever asks. The others
//! are *scored*: each one that hits adds its weight, and the sum decides between accept, review and
//! refusal. All hits are kept with the order, also those of limits (with weight 0), and also when
//! the order is accepted.

use super::{
    blocklist::BlockKind,
    config::{Config, Rule, VelocityRule},
    facts::OrderFacts,
    subject::{Kind, Subject},
};
use contract::{EventId, Refusal, Tier};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// A rule that an order met, with what it saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hit {
    /// The rule's name, as in the configuration; of a limit, its key.
    pub rule: String,
    /// What the order has.
    pub value: i64,
    /// From which value on the rule hits; of a limit, the most that is allowed.
    pub threshold: i64,
    /// What it added to the score; 0 of a limit.
    pub weight: u32,
}

/// What becomes of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It goes on.
    Accept,
    /// A person has to look at it.
    Review,
    /// It ends, with a code and a sentence for the customer.
    Reject(Refusal, String),
}

impl Decision {
    /// As it stands in `fraud_assessments.decision`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Review => "review",
            Self::Reject(..) => "reject",
        }
    }
}

/// What the rules say of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assessment {
    /// Sum of the weights of the hits.
    pub score: u32,
    /// The rules it met.
    pub hits: Vec<Hit>,
    /// What follows.
    pub decision: Decision,
}

/// A counter of tickets, as a row of `quotas`: a subject's in all, or for one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CounterKey {
    /// Whose: the hash of a [`Subject`].
    pub subject: [u8; 16],
    /// Of which event; the nil id stands for all of them.
    pub event: Uuid,
}

/// Tickets that an order needs from a counter, and how many that counter may have at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The counter.
    pub key: CounterKey,
    /// Whose kind of counter it is.
    pub kind: Kind,
    /// Tickets, at least 1.
    pub quantity: i32,
    /// The most the counter may show afterwards.
    pub limit: i32,
    /// The limit's key in the configuration.
    pub rule: &'static str,
}

impl Need {
    /// Tickets of an event, or of all, for a subject.
    #[must_use]
    pub fn new(
        subject: Subject,
        event: Option<EventId>,
        quantity: i32,
        limit: i32,
        rule: &'static str,
    ) -> Self {
        Self {
            key: CounterKey {
                subject: subject.hash,
                event: event.map_or(Uuid::nil(), |event| event.0),
            },
            kind: subject.kind,
            quantity,
            limit,
            rule,
        }
    }

    /// What the counter would show if the need were taken, when that is beyond the limit.
    #[must_use]
    pub fn excess(&self, taken: &HashMap<CounterKey, i32>) -> Option<i64> {
        let taken = taken.get(&self.key).copied().unwrap_or(0);
        let value = i64::from(taken) + i64::from(self.quantity);
        (value > i64::from(self.limit)).then_some(value)
    }

    /// The hit of the limit, with what the counter would show.
    #[must_use]
    pub fn hit(&self, value: i64) -> Hit {
        Hit {
            rule: self.rule.to_owned(),
            value,
            threshold: i64::from(self.limit),
            weight: 0,
        }
    }

    /// Which limit it is, for the customer; not how much of it is taken, which would tell one guest
    /// what another with the same address has bought.
    #[must_use]
    pub fn limit_message(&self) -> String {
        let what = match self.rule {
            "limit_event" => "tickets of one event",
            "limit_event_most_wanted" => "tickets of one of the most wanted events",
            "limit_event_ceremony" => "tickets of a ceremony",
            _ => "tickets in all",
        };
        let whose = match self.kind {
            Kind::Account => "account",
            Kind::Email => "e-mail address",
            Kind::Address => "client address",
            Kind::Fingerprint => "payment card",
        };
        format!("At most {} {what} per {whose}.", self.limit)
    }
}

/// What is known beside the orders themselves, before the first order of the batch is counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Tickets taken.
    pub taken: HashMap<CounterKey, i32>,
    /// Orders of the window, with the order itself and those before it.
    pub velocity: HashMap<Subject, i64>,
    /// What of the orders' mailboxes (hash as hexadecimal digits), domains and addresses is on the
    /// blocklist.
    pub blocked: HashSet<(BlockKind, String)>,
}

/// The counters that an order takes from if it is not refused, each once.
#[must_use]
pub fn needs(order: &OrderFacts, config: &Config) -> Vec<Need> {
    let mut needs = Vec::new();
    for subject in order.limited_subjects() {
        let (quantity, limit) = (order.tickets(), config.limit_total);
        needs.push(Need::new(subject, None, quantity, limit, "limit_total"));
        for (event, (tier, quantity)) in order.tickets_by_event() {
            let (rule, limit) = match tier {
                Tier::Standard => ("limit_event", config.limit_event),
                Tier::MostWanted => ("limit_event_most_wanted", config.limit_event_most_wanted),
                Tier::Ceremony => ("limit_event_ceremony", config.limit_event_ceremony),
            };
            needs.push(Need::new(subject, Some(event), quantity, limit, rule));
        }
    }
    needs
}

/// Assesses one order against the counters as they stand when its turn comes.
#[must_use]
pub fn assess(
    order: &OrderFacts,
    needs: &[Need],
    counters: &Counters,
    config: &Config,
) -> Assessment {
    let mut hits = scored_hits(order, counters, config);
    let score = hits.iter().map(|hit| hit.weight).sum::<u32>();
    let mut exceeded = None;
    for need in needs {
        if let Some(value) = need.excess(&counters.taken) {
            exceeded = exceeded.or(Some(need));
            hits.push(need.hit(value));
        }
    }
    let decision = if score >= config.reject_at {
        // Says nothing of the rules: that would teach whom they are meant for.
        Decision::Reject(
            Refusal::FraudRefused,
            Refusal::FraudRefused.message().to_owned(),
        )
    } else if let Some(need) = exceeded {
        Decision::Reject(Refusal::LimitExceeded, need.limit_message())
    } else if score >= config.review_at {
        Decision::Review
    } else {
        Decision::Accept
    };
    Assessment {
        score,
        hits,
        decision,
    }
}

fn scored_hits(order: &OrderFacts, counters: &Counters, config: &Config) -> Vec<Hit> {
    let rules = &config.rules;
    let email = order.folded_email();
    let email_subject = Subject::email(&email);
    let address = order.address_for_rules(config);
    let velocity = |subject: Option<Subject>| {
        let counted = subject.and_then(|subject| counters.velocity.get(&subject));
        counted.copied().unwrap_or(0)
    };
    let blocked = |kind, text: String| counters.blocked.contains(&(kind, text));
    let disposable = |domain: &str| config.disposable_domains.iter().any(|it| it == domain);
    let scored = [
        velocity_hit(
            "velocity_email",
            rules.velocity_email,
            velocity(Some(email_subject)),
        ),
        velocity_hit(
            "velocity_address",
            rules.velocity_address,
            velocity(address.map(Subject::address)),
        ),
        rule_hit(
            "blocked_email",
            rules.blocked_email,
            blocked(BlockKind::Email, email_subject.hex()).into(),
        ),
        rule_hit(
            "blocked_domain",
            rules.blocked_domain,
            email
                .domains()
                .any(|domain| blocked(BlockKind::Domain, domain.to_owned()))
                .into(),
        ),
        rule_hit(
            "blocked_network",
            rules.blocked_network,
            address
                .is_some_and(|address| blocked(BlockKind::Network, address.to_string()))
                .into(),
        ),
        rule_hit(
            "disposable_email",
            rules.disposable_email,
            email.domains().any(disposable).into(),
        ),
        rule_hit("odd_email", rules.odd_email, order.email_digits_percent()),
        rule_hit("large_amount", rules.large_amount, order.total_minor),
        rule_hit("many_tickets", rules.many_tickets, order.tickets().into()),
        rule_hit("many_events", rules.many_events, order.events()),
        rule_hit(
            "name_not_in_email",
            rules.name_not_in_email,
            order.name_not_in_email().into(),
        ),
        rule_hit(
            "buyer_not_attending",
            rules.buyer_not_attending,
            order.buyer_not_attending().into(),
        ),
        rule_hit(
            "repeated_attendee",
            rules.repeated_attendee,
            order.most_for_one_attendee(),
        ),
    ];
    scored.into_iter().flatten().collect()
}

/// The hit of a rule, if its value reaches the threshold and it is not switched off.
#[must_use]
pub fn rule_hit(name: &str, rule: Rule, value: i64) -> Option<Hit> {
    (rule.weight > 0 && value >= rule.threshold).then(|| Hit {
        rule: name.to_owned(),
        value,
        threshold: rule.threshold,
        weight: rule.weight,
    })
}

/// The same of a rule that counts.
#[must_use]
pub fn velocity_hit(name: &str, rule: VelocityRule, value: i64) -> Option<Hit> {
    let VelocityRule {
        weight, threshold, ..
    } = rule;
    rule_hit(name, Rule { weight, threshold }, value)
}
