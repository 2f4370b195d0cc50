//! What the database counts, and what it says about itself.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use database::Connection;
use diesel::sql_types::{Array, BigInt, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

/// A backend reports what it counted within a second while it works, and within ten when it idles.
pub(crate) const REPORTED_WITHIN: Duration = Duration::from_secs(11);

/// Counters until now.
#[derive(Debug, Clone, Copy, diesel::QueryableByName)]
pub(crate) struct Written {
    /// Bytes of the write-ahead log.
    #[diesel(sql_type = BigInt)]
    pub(crate) wal_bytes: i64,
    /// Whole pages in it: the first change of a page after a checkpoint.
    #[diesel(sql_type = BigInt)]
    pub(crate) wal_full_pages: i64,
    /// Times it was forced to disk.
    #[diesel(sql_type = BigInt)]
    pub(crate) wal_syncs: i64,
    /// Committed transactions, those that only read included.
    #[diesel(sql_type = BigInt)]
    pub(crate) commits: i64,
}

/// The orders, as their sagas' rows say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, diesel::QueryableByName)]
pub(crate) struct Rows {
    /// All of them.
    #[diesel(sql_type = BigInt)]
    pub(crate) all: i64,
    /// Past the pivot.
    #[diesel(sql_type = BigInt)]
    pub(crate) confirmed: i64,
    /// Undone.
    #[diesel(sql_type = BigInt)]
    pub(crate) cancelled: i64,
    /// Not at their end; a confirmed one may still have its mail to come.
    #[diesel(sql_type = BigInt)]
    pub(crate) open: i64,
}

/// What makes a figure comparable.
const SETTINGS: [&str; 11] = [
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_sync_method",
    "wal_compression",
    "checkpoint_timeout",
    "max_wal_size",
    "shared_buffers",
    "autovacuum",
    "data_directory",
];

#[derive(diesel::QueryableByName)]
struct Setting {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    value: String,
}

#[derive(diesel::QueryableByName)]
struct Id {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

#[derive(diesel::QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// Reads the counters. `wal_full_pages`, `wal_syncs` and `commits` lag by [`REPORTED_WITHIN`].
pub(crate) async fn written(connection: &mut Connection) -> Result<Written> {
    diesel::sql_query(
        "SELECT (pg_current_wal_lsn() - '0/0')::bigint AS wal_bytes, w.wal_fpi AS wal_full_pages, \
                w.wal_sync AS wal_syncs, d.xact_commit AS commits \
         FROM pg_stat_wal w, pg_stat_database d WHERE d.datname = current_database()",
    )
    .get_result(connection)
    .await
    .context("cannot read the database's statistics")
}

/// Counts the orders.
pub(crate) async fn rows(connection: &mut Connection) -> Result<Rows> {
    diesel::sql_query(
        "SELECT count(*) AS all, count(*) FILTER (WHERE done & pivot <> 0) AS confirmed, \
                count(*) FILTER (WHERE state = 5) AS cancelled, \
                count(*) FILTER (WHERE NOT ended) AS open \
         FROM sagas",
    )
    .get_result(connection)
    .await
    .context("cannot count the orders")
}

/// How many orders are under way; cheap.
pub(crate) async fn open(connection: &mut Connection) -> Result<i64> {
    let count: Count = diesel::sql_query("SELECT count(*) FROM sagas WHERE NOT ended")
        .get_result(connection)
        .await
        .context("cannot count the open orders")?;
    Ok(count.count)
}

/// The offers that can take `each` more tickets, with the number of all offers.
pub(crate) async fn offers(connection: &mut Connection, each: i64) -> Result<(Vec<Uuid>, i64)> {
    let ids: Vec<Id> = diesel::sql_query(
        "SELECT o.id FROM offers o JOIN events e ON e.id = o.event_id JOIN stock s ON s.offer_id = o.id \
         WHERE e.status = 'on_sale' AND e.starts_at > now() + interval '1 day' \
           AND s.capacity - s.taken >= $1 ORDER BY o.id",
    )
    .bind::<BigInt, _>(each)
    .load(connection)
    .await
    .context("cannot read the offers")?;
    let all: Count = diesel::sql_query("SELECT count(*) FROM offers")
        .get_result(connection)
        .await
        .context("cannot count the offers")?;
    Ok((ids.into_iter().map(|row| row.id).collect(), all.count))
}

/// The settings that the figures depend on, as the server has them.
pub(crate) async fn settings(connection: &mut Connection) -> Result<BTreeMap<String, String>> {
    let names: Vec<String> = SETTINGS.map(str::to_owned).to_vec();
    let rows: Vec<Setting> = diesel::sql_query(
        "SELECT name, current_setting(name) AS value FROM unnest($1) AS name ORDER BY name",
    )
    .bind::<Array<Text>, _>(names)
    .load(connection)
    .await
    .context("cannot read the database's settings")?;
    Ok(rows.into_iter().map(|row| (row.name, row.value)).collect())
}
