//! What the database counts, and what it says about itself.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use database::Connection;
use diesel::sql_types::{Array, BigInt, Double, Text, Uuid as SqlUuid};
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

/// Rows of one table until now.
#[derive(Debug, Clone, diesel::QueryableByName)]
pub(crate) struct Table {
    #[diesel(sql_type = Text)]
    pub(crate) name: String,
    #[diesel(sql_type = BigInt)]
    pub(crate) inserted: i64,
    #[diesel(sql_type = BigInt)]
    pub(crate) updated: i64,
    /// Of the updated: those that no index heard of.
    #[diesel(sql_type = BigInt)]
    pub(crate) updated_hot: i64,
    #[diesel(sql_type = BigInt)]
    pub(crate) deleted: i64,
    /// Versions of rows that nobody sees any more and that are not cleaned away yet.
    #[diesel(sql_type = BigInt)]
    pub(crate) dead: i64,
    /// Bytes of its indexes.
    #[diesel(sql_type = BigInt)]
    pub(crate) index_bytes: i64,
}

impl Table {
    /// Rows written.
    pub(crate) fn written(&self) -> i64 {
        self.inserted + self.updated + self.deleted
    }
}

/// The orders, as their sagas' rows say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, diesel::QueryableByName)]
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
const SETTINGS: [&str; 14] = [
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
    "commit_delay",
    "max_connections",
    "shared_preload_libraries",
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
struct Reason {
    #[diesel(sql_type = Text)]
    reason: String,
    #[diesel(sql_type = BigInt)]
    count: i64,
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

/// Reads what was written to each table; partitions of one are one. It lags by [`REPORTED_WITHIN`].
pub(crate) async fn tables(connection: &mut Connection) -> Result<Vec<Table>> {
    diesel::sql_query(
        "SELECT coalesce(p.relname, t.relname)::text AS name, \
                sum(t.n_tup_ins)::bigint AS inserted, sum(t.n_tup_upd)::bigint AS updated, \
                sum(t.n_tup_hot_upd)::bigint AS updated_hot, sum(t.n_tup_del)::bigint AS deleted, \
                sum(t.n_dead_tup)::bigint AS dead, sum(pg_indexes_size(t.relid))::bigint AS index_bytes \
         FROM pg_stat_user_tables t LEFT JOIN pg_inherits i ON i.inhrelid = t.relid \
         LEFT JOIN pg_class p ON p.oid = i.inhparent GROUP BY 1 ORDER BY 1",
    )
    .load(connection)
    .await
    .context("cannot read the tables' statistics")
}

/// How many orders were confirmed between two moments, in seconds since the epoch, by the history's rows.
pub(crate) async fn confirmed_between(
    connection: &mut Connection,
    from: f64,
    to: f64,
) -> Result<i64> {
    let count: Count = diesel::sql_query(
        "SELECT count(*) FROM history h JOIN sagas s ON s.id = h.saga_id \
         WHERE h.saga_id >= uuid7_floor(to_timestamp($1) - interval '1 hour') \
           AND h.kind = 1 AND h.outcome = 1 AND (1 << h.step) & s.pivot <> 0 \
           AND h.at >= to_timestamp($1) AND h.at < to_timestamp($2)",
    )
    .bind::<Double, _>(from)
    .bind::<Double, _>(to)
    .get_result(connection)
    .await
    .context("cannot count what was confirmed")?;
    Ok(count.count)
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

/// Why orders were cancelled, and how many for each reason: those that are no older than this moment, in
/// seconds since the epoch.
pub(crate) async fn reasons(
    connection: &mut Connection,
    since: f64,
) -> Result<BTreeMap<String, i64>> {
    let rows: Vec<Reason> = diesel::sql_query(
        "SELECT coalesce(reason, 'none') AS reason, count(*) AS count FROM sagas \
         WHERE state = 5 AND id >= uuid7_floor(to_timestamp($1)) GROUP BY 1",
    )
    .bind::<Double, _>(since)
    .load(connection)
    .await
    .context("cannot read why orders were cancelled")?;
    Ok(rows
        .into_iter()
        .map(|row| (row.reason, row.count))
        .collect())
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
