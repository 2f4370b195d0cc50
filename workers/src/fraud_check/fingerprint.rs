//! The rules of the payment fingerprint, for the step `pay`: between creating an intent, when the
//! provider first names the card, and confirming it.
//!
//! `pay` is outside: its ledger row is not locked while it takes here. So a take can come twice
//! (an attempt that died after it) or after its own undo. `quota_takes` decides both: one row per
//! order, and an undo that finds none puts a returned one there. A refusal is such a row too, with its
//! reason: an attempt that died after it is refused for the same reason, and is not counted again.

use super::{
    batch,
    blocklist::{self, BlockKind},
    config::Config,
    quota::{self, Taker},
    record,
    rules::{CounterKey, Hit, Need, rule_hit, velocity_hit},
    subject::Subject,
    velocity::{self, Count},
};
use crate::Error;
use chrono::{DateTime, Utc};
use contract::{OrderId, Refusal};
use database::Connection;
use diesel::sql_types::{Array, Bool, Integer, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use std::collections::{BTreeMap, HashMap, HashSet};
use uuid::Uuid;

database::statement! {
    /// What is known of orders: their score so far, whether `pay` took already and gave back, and why it
    /// may not take.
    struct ReadOrders {
        orders: Vec<Uuid> => Array<SqlUuid>,
    } -> (SqlUuid, Nullable<Integer>, Nullable<Bool>, Nullable<Text>) =
    "SELECT t.order_id, a.score, q.returned, q.refusal
     FROM unnest({orders}) AS t(order_id)
     LEFT JOIN fraud_assessments a ON a.order_id = t.order_id
     LEFT JOIN quota_takes q ON q.order_id = t.order_id AND q.step = 'pay'"
}

/// A payment whose card is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// The order.
    pub order: OrderId,
    /// The provider's name for the card.
    pub fingerprint: String,
    /// Tickets in the order, at least 1.
    pub tickets: i32,
    /// The order's score so far.
    pub score: u32,
}

/// Whether a payment may be confirmed; else the code and the sentence for the customer.
pub type Answer = Result<(), (Refusal, String)>;

/// What is known beside the payments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Tickets taken.
    pub taken: HashMap<CounterKey, i32>,
    /// Payments of the window before these.
    pub velocity: HashMap<Subject, i64>,
    /// Fingerprints on the blocklist, as the hash's hexadecimal digits.
    pub blocked: HashSet<(BlockKind, String)>,
}

/// What becomes of one payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// Whether it may be confirmed.
    pub answer: Answer,
    /// The rules it met.
    pub hits: Vec<Hit>,
    /// What it takes, if it may.
    pub need: Need,
}

/// Decides payments in their order of arrival; pure.
#[must_use]
pub fn decide(payments: &[Payment], mut counters: Counters, config: &Config) -> Vec<Decided> {
    payments
        .iter()
        .map(|payment| {
            let subject = Subject::fingerprint(&payment.fingerprint);
            let count = counters.velocity.entry(subject).or_insert(0);
            *count += 1;
            let rules = &config.rules;
            let blocked = counters
                .blocked
                .contains(&(BlockKind::Fingerprint, subject.hex()));
            let scored = [
                velocity_hit("velocity_fingerprint", rules.velocity_fingerprint, *count),
                rule_hit(
                    "blocked_fingerprint",
                    rules.blocked_fingerprint,
                    blocked.into(),
                ),
            ];
            let mut hits: Vec<Hit> = scored.into_iter().flatten().collect();
            let score = payment.score + hits.iter().map(|hit| hit.weight).sum::<u32>();
            let need = need(subject, payment.tickets, config);
            let excess = need.excess(&counters.taken);
            hits.extend(excess.map(|value| need.hit(value)));
            // Only what this step found may refuse here: the rest was accepted, or approved by a
            // person.
            let refused = score >= config.reject_at && hits.iter().any(|hit| hit.weight > 0);
            let answer = if refused {
                Err((
                    Refusal::FraudRefused,
                    Refusal::FraudRefused.message().to_owned(),
                ))
            } else if excess.is_some() {
                Err((Refusal::LimitExceeded, need.limit_message()))
            } else {
                batch::take(&mut counters.taken, std::slice::from_ref(&need));
                Ok(())
            };
            Decided { answer, hits, need }
        })
        .collect()
}

fn need(subject: Subject, tickets: i32, config: &Config) -> Need {
    Need::new(
        subject,
        None,
        tickets,
        config.limit_fingerprint,
        "limit_fingerprint",
    )
}

/// Applies the rules to payments of different orders, in their order of arrival, and takes for
/// those that may be confirmed: `(order, fingerprint, tickets)`. One transaction, the caller's; an
/// order that took before is answered as before.
///
/// # Errors
/// A transient one when overtaken by another worker (roll back and try again), or the database
/// refuses.
pub async fn take(
    connection: &mut Connection,
    config: &Config,
    payments: &[(OrderId, String, i32)],
    now: DateTime<Utc>,
) -> Result<Vec<Answer>, Error> {
    let orders = payments.iter().map(|(order, ..)| order.0).collect();
    let known = read(connection, orders).await?;
    let of = |order: &OrderId| known.get(order).copied().unwrap_or_default();
    let fresh: Vec<Payment> = payments
        .iter()
        .filter(|(order, ..)| of(order).returned.is_none())
        .map(|(order, fingerprint, tickets)| Payment {
            order: *order,
            fingerprint: fingerprint.clone(),
            tickets: *tickets,
            score: of(order).score,
        })
        .collect();
    let decided = take_fresh(connection, config, &fresh, now).await?;
    let answers = payments.iter().map(|(order, ..)| match of(order) {
        Known {
            returned: Some(false),
            ..
        } => Ok(()),
        Known {
            returned: Some(true),
            refusal,
            ..
        } => {
            let refusal = refusal.unwrap_or(Refusal::Undone);
            Err((refusal, refusal.message().to_owned()))
        }
        Known { returned: None, .. } => decided.get(order).cloned().unwrap_or(Ok(())),
    });
    Ok(answers.collect())
}

/// What is known of an order.
#[derive(Clone, Copy, Default)]
struct Known {
    score: u32,
    /// Whether what `pay` took is given back; `None` if it never took.
    returned: Option<bool>,
    refusal: Option<Refusal>,
}

async fn read(
    connection: &mut Connection,
    orders: Vec<Uuid>,
) -> Result<HashMap<OrderId, Known>, Error> {
    type Row = (Uuid, Option<i32>, Option<bool>, Option<String>);
    let rows: Vec<Row> = ReadOrders { orders }.load(connection).await?;
    let known = rows.into_iter().map(|(order, score, returned, refusal)| {
        let known = Known {
            score: score
                .and_then(|score| u32::try_from(score).ok())
                .unwrap_or(0),
            returned,
            refusal: refusal.as_deref().and_then(Refusal::from_code),
        };
        (OrderId(order), known)
    });
    Ok(known.collect())
}

async fn take_fresh(
    connection: &mut Connection,
    config: &Config,
    payments: &[Payment],
    now: DateTime<Utc>,
) -> Result<HashMap<OrderId, Answer>, Error> {
    let velocity_rule = config.rules.velocity_fingerprint;
    let mut counts: BTreeMap<Subject, Count> = BTreeMap::new();
    let mut texts = Vec::with_capacity(payments.len());
    let mut keys = Vec::with_capacity(payments.len());
    for payment in payments {
        let subject = Subject::fingerprint(&payment.fingerprint);
        if velocity_rule.weight > 0 {
            let count = counts.entry(subject).or_insert(Count {
                orders: 0,
                window_ms: velocity_rule.window_ms,
            });
            count.orders += 1;
        }
        texts.push((BlockKind::Fingerprint, subject.hex()));
        keys.push(need(subject, payment.tickets, config).key);
    }
    let velocity = velocity::count(connection, &counts, now).await?;
    let blocked = blocklist::find(connection, texts, [], now).await?;
    let taken = quota::lock(connection, keys).await?;
    let counters = Counters {
        taken: taken.clone(),
        velocity,
        blocked,
    };
    let decided = decide(payments, counters, config);
    let of = || payments.iter().map(|payment| payment.order).zip(&decided);
    let takes: Vec<(OrderId, Vec<Need>)> = of()
        .filter(|(_, it)| it.answer.is_ok())
        .map(|(order, it)| (order, vec![it.need.clone()]))
        .collect();
    let hits: Vec<(OrderId, Vec<Hit>)> = of()
        .filter(|(_, it)| !it.hits.is_empty())
        .map(|(order, it)| (order, it.hits.clone()))
        .collect();
    let refused: Vec<(OrderId, Option<Refusal>)> = of()
        .filter_map(|(order, it)| Some((order, Some(it.answer.as_ref().err()?.0))))
        .collect();
    quota::add(connection, Taker::Pay, &taken, &takes).await?;
    // A twin of one of them took meanwhile: its tickets were counted against itself.
    if quota::fence(connection, Taker::Pay, &refused).await? != refused.len() {
        return Err(quota::overtaken().into());
    }
    record::add_hits(connection, &hits).await?;
    Ok(of().map(|(order, it)| (order, it.answer.clone())).collect())
}

/// Gives back what the orders' payments took, once, and forbids that they take later; in the
/// caller's transaction. For each order, why it was refused, if it was.
///
/// # Errors
/// The database refuses.
pub async fn give_back(
    connection: &mut Connection,
    orders: &[OrderId],
) -> Result<Vec<Option<Refusal>>, Error> {
    let fences: Vec<_> = orders.iter().map(|order| (*order, None)).collect();
    quota::fence(connection, Taker::Pay, &fences).await?;
    quota::give_back(connection, Taker::Pay, orders).await?;
    let known = read(connection, orders.iter().map(|order| order.0).collect()).await?;
    let refusal_of = |order| known.get(order).and_then(|known| known.refusal);
    Ok(orders.iter().map(refusal_of).collect())
}
