//! What is kept of an order's assessment, and its review.

use super::rules::{Assessment, Hit};
use crate::Error;
use chrono::{DateTime, Utc};
use contract::OrderId;
use database::Connection;
use diesel::sql_types::{Array, Integer, Jsonb, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use serde_json::{Value, json};
use std::collections::HashMap;
use uuid::Uuid;

database::statement! {
    /// Keeps assessments, and opens the reviews among them.
    struct RecordAssessments {
        orders: Vec<Uuid> => Array<SqlUuid>,
        scores: Vec<i32> => Array<Integer>,
        decisions: Vec<&'static str> => Array<Text>,
        hits: Vec<Value> => Array<Jsonb>,
        now: DateTime<Utc> => Timestamptz,
    } -> (Integer,) =
    "WITH kept AS (
       INSERT INTO fraud_assessments (order_id, decided_at, score, decision, hits)
       SELECT order_id, {now}, score, decision, hits
       FROM unnest({orders}, {scores}, {decisions}, {hits}) AS t(order_id, score, decision, hits)
       RETURNING order_id, decision)
     INSERT INTO reviews (order_id, opened_at, state)
     SELECT order_id, {now}, 'open' FROM kept WHERE decision = 'review'"
}

database::statement! {
    /// Adds to assessments what a later step found.
    struct AddHits {
        orders: Vec<Uuid> => Array<SqlUuid>,
        scores: Vec<i32> => Array<Integer>,
        hits: Vec<Value> => Array<Jsonb>,
    } -> (Integer,) =
    "UPDATE fraud_assessments a SET score = a.score + t.score, hits = a.hits || t.hits
     FROM unnest({orders}, {scores}, {hits}) AS t(order_id, score, hits)
     WHERE a.order_id = t.order_id"
}

database::statement! {
    /// How reviews stand.
    struct ReadReviews {
        orders: Vec<Uuid> => Array<SqlUuid>,
    } -> (SqlUuid, Text) =
    "SELECT order_id, state FROM reviews WHERE order_id = ANY({orders})"
}

database::statement! {
    /// Takes orders from the reviewers' list.
    struct WithdrawReviews {
        orders: Vec<Uuid> => Array<SqlUuid>,
        now: DateTime<Utc> => Timestamptz,
    } -> (Integer,) =
    "UPDATE reviews SET state = 'withdrawn', at = {now}
     WHERE order_id = ANY({orders}) AND state = 'open'"
}

/// How a review stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Review {
    /// Nobody has decided.
    Open,
    /// A reviewer let the order go on.
    Approved,
    /// A reviewer refused it.
    Rejected,
    /// The order ended before.
    Withdrawn,
}

/// Keeps the assessments of a batch.
///
/// # Errors
/// The database refuses.
pub async fn assessments(
    connection: &mut Connection,
    assessments: &[(OrderId, Assessment)],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    if assessments.is_empty() {
        return Ok(());
    }
    let of = || assessments.iter().map(|(_, assessment)| assessment);
    let record = RecordAssessments {
        orders: assessments.iter().map(|(order, _)| order.0).collect(),
        scores: of().map(|it| score(it.score)).collect(),
        decisions: of().map(|it| it.decision.as_str()).collect(),
        hits: of().map(|it| json!(it.hits)).collect(),
        now,
    };
    record.execute(connection).await?;
    Ok(())
}

/// Adds hits to what is kept of some orders, and their weights to the scores.
///
/// # Errors
/// The database refuses.
pub async fn add_hits(
    connection: &mut Connection,
    hits: &[(OrderId, Vec<Hit>)],
) -> Result<(), Error> {
    if hits.is_empty() {
        return Ok(());
    }
    let weight = |hits: &[Hit]| hits.iter().map(|hit| hit.weight).sum::<u32>();
    let add = AddHits {
        orders: hits.iter().map(|(order, _)| order.0).collect(),
        scores: hits.iter().map(|(_, hits)| score(weight(hits))).collect(),
        hits: hits.iter().map(|(_, hits)| json!(hits)).collect(),
    };
    add.execute(connection).await?;
    Ok(())
}

/// Reads how the orders' reviews stand.
///
/// # Errors
/// The database cannot be asked.
pub async fn reviews(
    connection: &mut Connection,
    orders: &[OrderId],
) -> Result<HashMap<OrderId, Review>, Error> {
    if orders.is_empty() {
        return Ok(HashMap::new());
    }
    let read = ReadReviews {
        orders: orders.iter().map(|order| order.0).collect(),
    };
    let rows: Vec<(Uuid, String)> = read.load(connection).await?;
    rows.into_iter()
        .map(|(order, state)| {
            let review = match state.as_str() {
                "open" => Review::Open,
                "approved" => Review::Approved,
                "rejected" => Review::Rejected,
                "withdrawn" => Review::Withdrawn,
                other => return Err(Error::BadRow(format!("a review is `{other}`"))),
            };
            Ok((OrderId(order), review))
        })
        .collect()
}

/// Closes the open reviews of orders that end.
///
/// # Errors
/// The database refuses.
pub async fn withdraw_reviews(
    connection: &mut Connection,
    orders: &[OrderId],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let withdraw = WithdrawReviews {
        orders: orders.iter().map(|order| order.0).collect(),
        now,
    };
    withdraw.execute(connection).await?;
    Ok(())
}

fn score(score: u32) -> i32 {
    i32::try_from(score).unwrap_or(i32::MAX)
}
