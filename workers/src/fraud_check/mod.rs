//! The step `fraud-check`: purchase limits, velocity, blocklists and a score.
//!
//! The race it manages: ten orders of one buyer arrive together, each within his limit, all of them
//! together beyond it; they may be in one batch or with ten workers. A check alone lets all ten
//! pass. So limits are *taken*: the counters of a batch are locked in the order of their key, each
//! order is decided in its order of arrival against what those before it left ([`batch`]), and each
//! counter is written once ([`quota`]). An order that is refused takes nothing. One that is held for
//! review keeps what it took while it waits. The undo gives back exactly what was taken, once.
//!
//! A reviewer's decision is a row of `reviews`. The command that follows it only says that there is
//! something to look at; what it carries is not believed.
//!
//! What it reads of an order is the order as it was placed. It does not know prices, stock or
//! payments, so it can neither sell nor charge; the fingerprint of a payment is checked by `pay`
//! with [`fingerprint`].

pub mod batch;
pub mod blocklist;
pub mod config;
pub mod email;
pub mod facts;
pub mod fingerprint;
pub mod quota;
pub mod record;
pub mod rules;
#[cfg(test)]
mod rules_tests;
pub mod subject;
#[cfg(test)]
mod tests;
pub mod velocity;

pub use config::Config;

use self::{
    blocklist::BlockKind,
    facts::{Line, OrderFacts},
    quota::Taker,
    record::Review,
    rules::{Assessment, Counters, Decision},
    subject::Subject,
    velocity::Count,
};
use crate::{
    Error,
    kit::{self, Claim, LocalStep, OrderView, Verdict},
};
use chrono::{DateTime, Utc};
use contract::{EventId, OrderId, Refusal, StepName, Tier};
use database::Connection;
use diesel::sql_types::{Array, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use runtime::metrics::{self, IntCounterVec};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        LazyLock,
        atomic::{AtomicI64, Ordering},
    },
};
use uuid::Uuid;

static DECISIONS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::counters(
        "guichet_fraud_decisions_total",
        "Orders assessed for the first time, by what was decided",
        &["decision"],
    )
});

static HITS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::counters(
        "guichet_fraud_hits_total",
        "Rules that orders met when they were first assessed",
        &["rule"],
    )
});

/// How often a process deletes old buckets of `velocity`.
const PRUNE_EVERY_MS: i64 = 600_000;

/// The same while there are more of them than one go deletes.
const PRUNE_AGAIN_MS: i64 = 1_000;

database::statement! {
    /// How wanted events are.
    struct ReadTiers {
        events: Vec<Uuid> => Array<SqlUuid>,
    } -> (SqlUuid, Text) =
    "SELECT id, tier FROM events WHERE id = ANY({events})"
}

/// The step.
#[derive(Debug)]
pub struct FraudCheck {
    config: Config,
    pruned_at_ms: AtomicI64,
}

impl FraudCheck {
    /// The step with a sound configuration ([`Config::problems`] is empty).
    #[must_use]
    pub fn new(config: Config) -> Self {
        if !config.exempt_networks.is_empty() {
            let networks = config.exempt_networks.iter().map(ToString::to_string);
            let networks = networks.collect::<Vec<_>>().join(", ");
            tracing::warn!(networks, "the address rules do not look at these networks");
        }
        Self {
            config,
            pruned_at_ms: AtomicI64::new(0),
        }
    }

    /// Assesses orders that come for the first time; `given_back` counters are locked with theirs.
    async fn assess(
        &self,
        connection: &mut Connection,
        orders: &[OrderFacts],
        given_back: &quota::Sums,
        now: DateTime<Utc>,
    ) -> Result<HashMap<OrderId, Assessment>, Error> {
        let velocity = self.count(connection, orders, now).await?;
        let blocked = self.find_blocked(connection, orders, now).await?;
        let keys = orders
            .iter()
            .flat_map(|order| rules::needs(order, &self.config))
            .map(|need| need.key)
            .chain(given_back.keys().copied());
        let mut taken = quota::lock(connection, keys).await?;
        quota::subtract(connection, &mut taken, given_back).await?;
        let counters = Counters {
            taken: taken.clone(),
            velocity,
            blocked,
        };
        let decided = batch::decide(orders, counters, &self.config);
        quota::add(connection, Taker::FraudCheck, &taken, &decided.takes).await?;
        record::assessments(connection, &decided.assessments, now).await?;
        for (_, assessment) in &decided.assessments {
            DECISIONS
                .with_label_values(&[assessment.decision.as_str()])
                .inc();
            for hit in &assessment.hits {
                HITS.with_label_values(&[&hit.rule]).inc();
            }
        }
        Ok(decided.assessments.into_iter().collect())
    }

    async fn count(
        &self,
        connection: &mut Connection,
        orders: &[OrderFacts],
        now: DateTime<Utc>,
    ) -> Result<HashMap<Subject, i64>, Error> {
        let mut counts: BTreeMap<Subject, Count> = BTreeMap::new();
        for order in orders {
            for (subject, rule) in batch::counted_subjects(order, &self.config) {
                let count = counts.entry(subject).or_insert(Count {
                    orders: 0,
                    window_ms: rule.window_ms,
                });
                count.orders += 1;
            }
        }
        self.prune(connection, now).await?;
        velocity::count(connection, &counts, now).await
    }

    async fn prune(&self, connection: &mut Connection, now: DateTime<Utc>) -> Result<(), Error> {
        let (now_ms, last) = (now.timestamp_millis(), &self.pruned_at_ms);
        let due = |at: i64| (now_ms - at >= PRUNE_EVERY_MS).then_some(now_ms);
        if last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, due)
            .is_ok()
        {
            let deleted = velocity::prune(connection, now).await?;
            if deleted >= velocity::PRUNE_MAX {
                last.store(now_ms - PRUNE_EVERY_MS + PRUNE_AGAIN_MS, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    async fn find_blocked(
        &self,
        connection: &mut Connection,
        orders: &[OrderFacts],
        now: DateTime<Utc>,
    ) -> Result<std::collections::HashSet<(BlockKind, String)>, Error> {
        let mut texts = BTreeSet::new();
        let mut addresses = BTreeSet::new();
        for order in orders {
            let email = order.folded_email();
            texts.insert((BlockKind::Email, Subject::email(&email).hex()));
            texts.extend(email.domains().map(|it| (BlockKind::Domain, it.to_owned())));
            addresses.extend(order.address_for_rules(&self.config));
        }
        blocklist::find(connection, texts, addresses, now).await
    }
}

impl LocalStep for FraudCheck {
    fn name(&self) -> StepName {
        StepName::FRAUD_CHECK
    }

    async fn act(
        &self,
        connection: &mut Connection,
        claims: &[Claim],
        now: DateTime<Utc>,
    ) -> Result<Vec<Verdict>, Error> {
        let held: Vec<OrderId> = claims
            .iter()
            .filter(|claim| claim.output().is_some())
            .map(Claim::order_id)
            .collect();
        let reviews = record::reviews(connection, &held).await?;
        let refused: Vec<OrderId> = held
            .into_iter()
            .filter(|order| {
                matches!(
                    reviews.get(order),
                    Some(Review::Rejected | Review::Withdrawn)
                )
            })
            .collect();
        let given_back = quota::mark_returned(connection, Taker::FraudCheck, &refused).await?;
        let fresh = load(connection, claims).await?;
        let assessed = self.assess(connection, &fresh, &given_back, now).await?;
        let verdicts = claims.iter().map(|claim| {
            let order = claim.order_id();
            match (claim.output(), assessed.get(&order)) {
                (Some(waits_for), _) => after_review(waits_for, reviews.get(&order).copied()),
                (None, Some(assessment)) => verdict(assessment),
                (None, None) => Verdict::retry("order_missing", "The order cannot be read."),
            }
        });
        Ok(verdicts.collect())
    }

    async fn undo(
        &self,
        connection: &mut Connection,
        claims: &[Claim],
        now: DateTime<Utc>,
    ) -> Result<Vec<Verdict>, Error> {
        let orders: Vec<OrderId> = claims.iter().map(Claim::order_id).collect();
        record::withdraw_reviews(connection, &orders, now).await?;
        quota::give_back(connection, Taker::FraudCheck, &orders).await?;
        Ok(claims.iter().map(|_| Verdict::done()).collect())
    }
}

/// The facts of the orders that come for the first time, in their order of arrival. An order is
/// missing that does not exist, or whose event does not.
async fn load(connection: &mut Connection, claims: &[Claim]) -> Result<Vec<OrderFacts>, Error> {
    let fresh = claims.iter().filter(|claim| claim.output().is_none());
    let orders: Vec<OrderId> = fresh.map(Claim::order_id).collect();
    if orders.is_empty() {
        return Ok(Vec::new());
    }
    let mut views = kit::orders(connection, &orders).await?;
    let items = views.values().flat_map(|view| &view.items);
    let events: BTreeSet<Uuid> = items.map(|item| item.event_id.0).collect();
    let read = ReadTiers {
        events: events.into_iter().collect(),
    };
    let rows: Vec<(Uuid, String)> = read.load(connection).await?;
    let tiers: HashMap<EventId, Tier> = rows
        .into_iter()
        .filter_map(|(event, tier)| Some((EventId(event), Tier::from_name(&tier)?)))
        .collect();
    let facts = orders
        .iter()
        .filter_map(|order| facts(views.remove(order)?, &tiers));
    Ok(facts.collect())
}

fn facts(view: OrderView, tiers: &HashMap<EventId, Tier>) -> Option<OrderFacts> {
    let lines = view.items.into_iter().map(|item| {
        Some(Line {
            event: item.event_id,
            tier: *tiers.get(&item.event_id)?,
            quantity: item.quantity,
            attendees: item.attendees,
        })
    });
    Some(OrderFacts {
        order: view.id,
        account: view.account_id,
        email: view.email,
        name: view.name,
        address: view.client_addr,
        total_minor: view.total.amount_minor,
        lines: lines.collect::<Option<_>>()?,
    })
}

fn verdict(assessment: &Assessment) -> Verdict {
    let score = assessment.score;
    match &assessment.decision {
        Decision::Accept => Verdict::Done(Some(json!({ "score": score }))),
        Decision::Review => Verdict::Waiting(json!({ "score": score, "waits_for": "review" })),
        Decision::Reject(refusal, message) => Verdict::rejected(refusal.code(), message),
    }
}

fn after_review(waits_for: &Value, review: Option<Review>) -> Verdict {
    match review {
        Some(Review::Open) => Verdict::Waiting(waits_for.clone()),
        Some(Review::Approved) => Verdict::Done(Some(json!({ "score": waits_for["score"] }))),
        Some(Review::Rejected) => Verdict::refused(Refusal::ReviewRejected),
        Some(Review::Withdrawn) => Verdict::refused(Refusal::ReviewExpired),
        None => Verdict::retry("review_missing", "The review cannot be read."),
    }
}
