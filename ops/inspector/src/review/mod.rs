//! Orders that `fraud-check` holds, and the people who decide.
//!
//! The races: two reviewers decide at once, or one decides while the order's time for review runs
//! out. The row of the review decides both: it leaves `open` once, by a reviewer or by the undo
//! that withdraws it. With the decision, in the same transaction, go the signal that wakes the
//! saga and the row of the audit log; none of the three is ever without the others.

#[cfg(test)]
mod tests;

use crate::{
    Error,
    audit::{self, Entry},
    error::{ACTOR_MAX_CHARS, REASON_MAX_CHARS, checked_limit, checked_text},
};
use chrono::{DateTime, Utc};
use contract::{MessageId, OrderId, StepName};
use database::Connection;
use diesel::sql_types::{
    BigInt, Integer, Jsonb, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::{AsyncConnection, RunQueryDsl};
use engine::{NewSignal, Person, What};
use saga::State;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

/// What a reviewer decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The order goes on.
    Approve,
    /// The order ends.
    Reject,
}

impl Decision {
    fn state(self) -> &'static str {
        match self {
            Self::Approve => "approved",
            Self::Reject => "rejected",
        }
    }

    fn action(self) -> &'static str {
        match self {
            Self::Approve => "review.approve",
            Self::Reject => "review.reject",
        }
    }
}

/// Which reviews to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Only those in this state: `open`, `approved`, `rejected`, `withdrawn`; or all.
    pub state: Option<String>,
    /// So many at most, 1 to 1000.
    pub limit: i64,
}

/// A held order, as a reviewer needs it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Review {
    /// The order.
    pub order_id: Uuid,
    /// Since when it is held.
    pub opened_at: DateTime<Utc>,
    /// `open`, `approved`, `rejected` or `withdrawn`.
    pub state: String,
    /// Sum of the weights of the rules it met.
    pub score: i32,
    /// The rules it met: `[{"rule", "value", "threshold", "weight"}]`.
    pub hits: Value,
    /// What it costs, in minor units.
    pub total_minor: i64,
    /// In which currency.
    pub currency: String,
    /// Tickets in the order.
    pub tickets: i64,
    /// The buyer's name.
    pub name: String,
    /// His e-mail address.
    pub email: String,
    /// When it was decided.
    pub at: Option<DateTime<Utc>>,
    /// Who decided.
    pub by: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

type Row = (
    Uuid,
    DateTime<Utc>,
    String,
    i32,
    Value,
    (i64, String, i64, String, String),
    (Option<DateTime<Utc>>, Option<String>, Option<String>),
);

database::statement! {
    /// Reviews, the longest waiting first.
    struct ListReviews {
        state: Option<String> => Nullable<Text>,
        limit: i64 => BigInt,
    } -> (
        SqlUuid, Timestamptz, Text, Integer, Jsonb,
        (BigInt, Text, BigInt, Text, Text),
        (Nullable<Timestamptz>, Nullable<Text>, Nullable<Text>),
    ) =
    "SELECT r.order_id, r.opened_at, r.state, a.score, a.hits, o.total_minor, o.currency,
            (SELECT sum(i.quantity) FROM order_items i WHERE i.order_id = o.id), o.name, o.email,
            r.at, r.by, r.reason
     FROM reviews r JOIN fraud_assessments a USING (order_id) JOIN orders o ON o.id = r.order_id
     WHERE {state} IS NULL OR r.state = {state}
     ORDER BY r.opened_at, r.order_id LIMIT {limit}"
}

database::statement! {
    /// Decides an open review; says what it was about.
    struct Decide {
        order: Uuid => SqlUuid,
        state: &'static str => Text,
        by: String => Text,
        reason: String => Text,
    } -> (Integer, Jsonb) =
    "UPDATE reviews r
     SET state = {state}, by = {by}, reason = {reason}, at = clock_timestamp()
     FROM fraud_assessments a
     WHERE r.order_id = {order} AND r.state = 'open' AND a.order_id = r.order_id
     RETURNING a.score, a.hits"
}

database::statement! {
    /// How a review stands.
    struct ReadState { order: Uuid => SqlUuid } -> (Text, Nullable<Text>) =
    "SELECT state, by FROM reviews WHERE order_id = {order}"
}

database::statement! {
    /// How a saga stands.
    struct ReadSaga { id: Uuid => SqlUuid } -> SmallInt =
    "SELECT state FROM sagas WHERE id = {id}"
}

/// The reviews that match, the longest waiting first.
///
/// # Errors
/// The state is none, the limit out of bounds, or the database cannot be asked.
pub async fn list(connection: &mut Connection, filter: Filter) -> Result<Vec<Review>, Error> {
    const STATES: [&str; 4] = ["open", "approved", "rejected", "withdrawn"];
    if filter
        .state
        .as_deref()
        .is_some_and(|state| !STATES.contains(&state))
    {
        return Err(Error::BadRequest(format!(
            "the state must be one of {STATES:?}"
        )));
    }
    let list = ListReviews {
        state: filter.state,
        limit: checked_limit(filter.limit)?,
    };
    let rows: Vec<Row> = list.load(connection).await?;
    Ok(rows.into_iter().map(review).collect())
}

/// Lets a held order go on.
///
/// # Errors
/// There is no such review; it is decided or withdrawn already, or its order is ending; actor or
/// reason are no plain text of 1 to 200 and 1 to 1000 characters; the database fails.
pub async fn approve(
    connection: &mut Connection,
    order: OrderId,
    actor: &str,
    reason: &str,
) -> Result<(), Error> {
    decide(connection, order, actor, reason, Decision::Approve).await
}

/// Ends a held order.
///
/// # Errors
/// As [`approve`].
pub async fn reject(
    connection: &mut Connection,
    order: OrderId,
    actor: &str,
    reason: &str,
) -> Result<(), Error> {
    decide(connection, order, actor, reason, Decision::Reject).await
}

/// Decides about a held order.
///
/// # Errors
/// As [`approve`].
pub async fn decide(
    connection: &mut Connection,
    order: OrderId,
    actor: &str,
    reason: &str,
    decision: Decision,
) -> Result<(), Error> {
    let actor = checked_text("actor", actor, ACTOR_MAX_CHARS)?;
    let reason = checked_text("reason", reason, REASON_MAX_CHARS)?;
    connection
        .transaction(async |connection| {
            let decide = Decide {
                order: order.0,
                state: decision.state(),
                by: actor.clone(),
                reason: reason.clone(),
            };
            let decided: Vec<(i32, Value)> = decide.load(connection).await?;
            let Some((score, hits)) = decided.into_iter().next() else {
                return Err(not_open(connection, order).await?);
            };
            let entry = Entry {
                actor: actor.clone(),
                action: decision.action().to_owned(),
                subject: Some(order.0),
                reason,
                detail: json!({ "score": score, "hits": hits }),
            };
            let audit = audit::append(connection, entry).await?;
            wake(connection, order, decision, Person { by: actor, audit }).await
        })
        .await
}

/// Writes the signal, unless the saga can no longer follow it.
async fn wake(
    connection: &mut Connection,
    order: OrderId,
    decision: Decision,
    person: Person,
) -> Result<(), Error> {
    let sagas: Vec<i16> = ReadSaga { id: order.0 }.load(connection).await?;
    let Some(state) = sagas.into_iter().next() else {
        return Err(Error::NotFound {
            what: "saga",
            id: order.0,
        });
    };
    // A saga that is still `running` has its worker's answer on the way; its engine keeps the signal.
    if state != State::Running as i16 && state != State::Waiting as i16 {
        return Err(Error::Conflict(format!("order {order} is ending already")));
    }
    let signal = NewSignal {
        id: MessageId::new().0,
        saga: order.into(),
        what: What::Decision(StepName::FRAUD_CHECK, decision.state(), person),
    };
    engine::signal(connection, &[signal]).await?;
    Ok(())
}

/// Why a review could not be decided.
async fn not_open(connection: &mut Connection, order: OrderId) -> Result<Error, Error> {
    let found: Vec<(String, Option<String>)> =
        ReadState { order: order.0 }.load(connection).await?;
    Ok(match found.into_iter().next() {
        None => Error::NotFound {
            what: "review of order",
            id: order.0,
        },
        Some((state, Some(by))) => Error::Conflict(format!(
            "the review of order {order} was {state} by {by} already"
        )),
        Some((state, None)) => Error::Conflict(format!(
            "the review of order {order} is {state}: the order ended before it was decided"
        )),
    })
}

fn review(row: Row) -> Review {
    let (order_id, opened_at, state, score, hits, order, decision) = row;
    let (total_minor, currency, tickets, name, email) = order;
    let (at, by, reason) = decision;
    Review {
        order_id,
        opened_at,
        state,
        score,
        hits,
        total_minor,
        currency,
        tickets,
        name,
        email,
        at,
        by,
        reason,
    }
}
