//! Leases on shards.

use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, SmallInt, Text};

database::statement! {
    /// Says that this process lives, renews its leases and tells how all shards stand: shard, owner,
    /// epoch, whether the lease is live (after the renewal), how many other processes live, the
    /// database's time. Who has no reply queue can serve nobody: he does not count, and renews only while
    /// nobody else could do better.
    pub(crate) struct Renew {
        node: String => Text,
        lease_ms: i64 => BigInt,
        reply_queue: Option<String> => Nullable<Text>,
        shards: Vec<i16> => Array<SmallInt>,
        epochs: Vec<i64> => Array<BigInt>,
        live: Vec<i32> => Array<Integer>,
        asleep: Vec<i32> => Array<Integer>,
        away_step: Option<i16> => Nullable<SmallInt>,
        away_since: Option<i64> => Nullable<BigInt>,
    } -> (SmallInt, Nullable<Text>, BigInt, Bool, BigInt, BigInt) =
    "WITH given AS (
       SELECT {node} AS node, clock_timestamp() + {lease_ms} * interval '1 ms' AS until,
              {reply_queue} AS reply_queue, {away_step} AS away_step,
              to_timestamp({away_since} / 1000.0) AS away_since
     ), others AS (
       SELECT count(*) AS alive FROM orchestrators o, given g
       WHERE o.node <> g.node AND o.seen_until > clock_timestamp()
     ), me AS (
       INSERT INTO orchestrators (node, seen_until)
       SELECT node, until FROM given WHERE reply_queue IS NOT NULL
       ON CONFLICT (node) DO UPDATE SET seen_until = excluded.seen_until
     ), renewed AS (
       UPDATE shards s SET lease_until = CASE WHEN g.reply_queue IS NULL AND o.alive > 0
                                              THEN s.lease_until ELSE g.until END,
                           reply_queue = g.reply_queue, live = m.live, asleep = m.asleep,
                           away_step = g.away_step, away_since = g.away_since
       FROM given g, others o,
            unnest({shards}, {epochs}, {live}, {asleep}) AS m(shard, epoch, live, asleep)
       WHERE s.shard = m.shard AND s.epoch = m.epoch AND s.owner = g.node
       RETURNING s.shard, s.lease_until
     )
     SELECT s.shard, s.owner, s.epoch,
            coalesce(r.lease_until, s.lease_until) > clock_timestamp(),
            (SELECT alive FROM others),
            (extract(epoch FROM clock_timestamp()) * 1000)::bigint
     FROM shards s LEFT JOIN renewed r ON r.shard = s.shard ORDER BY s.shard"
}

database::statement! {
    /// Takes shards that are free, whose lease is over, or that were this node's before it died;
    /// returns them with their new epoch.
    pub(crate) struct Acquire {
        node: String => Text,
        lease_ms: i64 => BigInt,
        reply_queue: Option<String> => Nullable<Text>,
        shards: Vec<i16> => Array<SmallInt>,
    } -> (SmallInt, BigInt) =
    "WITH given AS (
       SELECT {node} AS node, {lease_ms} AS lease_ms, {reply_queue} AS reply_queue
     ), wanted AS (
       SELECT s.shard FROM shards s, given g
       WHERE s.shard = ANY ({shards})
         AND (s.owner IS NULL OR s.owner = g.node OR s.lease_until <= clock_timestamp())
       ORDER BY s.shard FOR UPDATE OF s
     )
     UPDATE shards s SET owner = g.node, epoch = s.epoch + 1, reply_queue = g.reply_queue, live = 0,
                         away_step = NULL, away_since = NULL,
                         lease_until = clock_timestamp() + g.lease_ms * interval '1 ms'
     FROM wanted w, given g WHERE s.shard = w.shard
     RETURNING s.shard, s.epoch"
}

database::statement! {
    /// Gives shards back at once, for another process to take; not those that a younger process of this
    /// name has taken, which have another epoch.
    pub(crate) struct Release {
        node: String => Text,
        shards: Vec<i16> => Array<SmallInt>,
        epochs: Vec<i64> => Array<BigInt>,
    } -> Integer =
    "UPDATE shards s SET owner = NULL, lease_until = '-infinity', reply_queue = NULL, live = 0,
                         away_step = NULL, away_since = NULL
     FROM unnest({shards}, {epochs}) AS m(shard, epoch)
     WHERE s.shard = m.shard AND s.epoch = m.epoch AND s.owner = {node}"
}

database::statement! {
    /// Says that this process is gone, unless another one of its name has shards.
    pub(crate) struct SignOff {
        node: String => Text,
    } -> Integer =
    "DELETE FROM orchestrators o
     WHERE o.node = {node} AND NOT EXISTS (SELECT FROM shards s WHERE s.owner = o.node)"
}

database::statement! {
    /// Deletes what is left of processes that nobody has seen for so long.
    pub(crate) struct ForgetNodes { hours: i32 => Integer } -> Integer =
    "DELETE FROM orchestrators WHERE seen_until < clock_timestamp() - {hours} * interval '1 hour'"
}

database::statement! {
    /// Makes the partitions of the months to come; NULL if somebody was in the way.
    pub(crate) struct MakePartitions { months: i32 => Integer } -> Nullable<Integer> =
    "SELECT make_partitions(clock_timestamp(), {months})"
}
