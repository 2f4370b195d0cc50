//! Counting orders in sliding windows.
//!
//! A window is twelve buckets; the oldest falls out as a whole, so an order counts for between
//! eleven twelfths of the window and all of it. Orders are counted when they are first checked,
//! refused ones too, and never given back: what is watched is the trying.

use super::subject::Subject;
use crate::Error;
use chrono::{DateTime, TimeDelta, Utc};
use database::Connection;
use diesel::sql_types::{Array, BigInt, Binary, Integer, Text, Timestamptz};
use diesel_async::RunQueryDsl;
use std::collections::{BTreeMap, HashMap};

/// Buckets of a window.
const BUCKETS: i64 = 12;

/// Buckets older than this are deleted; twice the longest window.
const KEPT: TimeDelta = TimeDelta::days(14);

/// So many at a time.
pub const PRUNE_MAX: usize = 2_000;

database::statement! {
    /// Adds orders to buckets and says the sum of each subject's window, with what was added.
    struct CountOrders {
        subjects: Vec<Vec<u8>> => Array<Binary>,
        kinds: Vec<&'static str> => Array<Text>,
        buckets: Vec<DateTime<Utc>> => Array<Timestamptz>,
        orders: Vec<i32> => Array<Integer>,
        windows: Vec<&'static str> => Array<Text>,
        since: Vec<DateTime<Utc>> => Array<Timestamptz>,
    } -> (Binary, BigInt) =
    "WITH counted AS (
       INSERT INTO velocity AS v (subject, bucket, kind, orders)
       SELECT subject, bucket, kind, orders
       FROM unnest({subjects}, {buckets}, {kinds}, {orders}) AS t(subject, bucket, kind, orders)
       ORDER BY subject, bucket
       ON CONFLICT (subject, bucket) DO UPDATE SET orders = v.orders + excluded.orders
       RETURNING v.subject, v.bucket, v.kind, v.orders)
     SELECT c.subject, c.orders + coalesce((
       SELECT sum(v.orders) FROM velocity v
       WHERE v.subject = c.subject AND v.bucket >= t.since AND v.bucket < c.bucket), 0)::bigint
     FROM counted c JOIN unnest({windows}, {since}) AS t(kind, since) USING (kind)"
}

database::statement! {
    /// Deletes some old buckets, passing over those that another worker deletes.
    struct Prune {
        before: DateTime<Utc> => Timestamptz,
        at_most: i64 => BigInt,
    } -> (Integer,) =
    "DELETE FROM velocity v USING (
       SELECT subject, bucket FROM velocity WHERE bucket < {before}
       LIMIT {at_most} FOR UPDATE SKIP LOCKED) AS old
     WHERE v.subject = old.subject AND v.bucket = old.bucket"
}

/// A subject's orders that are to be counted, and the window to count them in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// How many orders, at least 1.
    pub orders: i32,
    /// Length of the window.
    pub window_ms: i64,
}

/// Counts orders at `now`, in the caller's transaction: each counter is written once. Subjects of one
/// kind have one window. Returns each subject's orders in its window *before* these.
///
/// # Errors
/// The database refuses.
pub async fn count(
    connection: &mut Connection,
    counts: &BTreeMap<Subject, Count>,
    now: DateTime<Utc>,
) -> Result<HashMap<Subject, i64>, Error> {
    if counts.is_empty() {
        return Ok(HashMap::new());
    }
    let mut statement = CountOrders {
        subjects: Vec::with_capacity(counts.len()),
        kinds: Vec::with_capacity(counts.len()),
        buckets: Vec::with_capacity(counts.len()),
        orders: Vec::with_capacity(counts.len()),
        windows: Vec::new(),
        since: Vec::new(),
    };
    for (subject, count) in counts {
        let (bucket, since) = buckets(count.window_ms, now);
        let kind = subject.kind.as_str();
        statement.subjects.push(subject.hash.to_vec());
        statement.kinds.push(kind);
        statement.buckets.push(bucket);
        statement.orders.push(count.orders);
        // The window is its rule's, and there is one rule for a kind.
        if !statement.windows.contains(&kind) {
            statement.windows.push(kind);
            statement.since.push(since);
        }
    }
    let rows: Vec<(Vec<u8>, i64)> = statement.load(connection).await?;
    let sums: HashMap<Vec<u8>, i64> = rows.into_iter().collect();
    let before = counts.iter().map(|(subject, count)| {
        let sum = sums.get(subject.hash.as_slice()).copied().unwrap_or(0);
        (*subject, sum - i64::from(count.orders))
    });
    Ok(before.collect())
}

/// Deletes a bounded number of buckets that no window reaches any more; returns how many.
///
/// # Errors
/// The database refuses.
pub async fn prune(connection: &mut Connection, now: DateTime<Utc>) -> Result<usize, Error> {
    let prune = Prune {
        before: now - KEPT,
        at_most: PRUNE_MAX as i64,
    };
    Ok(prune.execute(connection).await?)
}

/// Beginning of the current bucket, and of the window's oldest.
fn buckets(window_ms: i64, now: DateTime<Utc>) -> (DateTime<Utc>, DateTime<Utc>) {
    let width_ms = (window_ms / BUCKETS).max(1);
    let at = now.timestamp_millis();
    let bucket = now - TimeDelta::milliseconds(at.rem_euclid(width_ms));
    let bucket = truncated(bucket);
    (
        bucket,
        bucket - TimeDelta::milliseconds(width_ms * (BUCKETS - 1)),
    )
}

/// Without the part below a millisecond, which would make each bucket another one.
fn truncated(at: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(at.timestamp_millis()).unwrap_or(at)
}
