//! Signals and new sagas that this process may not know of.

use crate::owner::SLEEPS_MS;
use diesel::sql_types::{
    Array, BigInt, Bool, Integer, Jsonb, Nullable, SmallInt, Text, Uuid as SqlUuid,
};
use uuid::Uuid;

/// Signals of one look; the rest comes with the next.
const SIGNALS_MAX: i64 = 5_000;
/// Sagas of one look that were born lately; the rest comes with the next, or with the scan.
const BORN_MAX: i64 = 50_000;

database::statement! {
    /// What the owner of some shards has to look at: its signals that are not applied (signal, saga,
    /// kind, step, what it says), and its live sagas born within the last minute (with kind 0).
    /// Nudges come last: some stay open until their saga waits, and must not stand before an end. What a saga
    /// was told while it is paused or held stays open, for days perhaps, and must not stand before what the
    /// others are told: it is left out until somebody lets the saga go on.
    pub(crate) struct LookAround {
        shards: Vec<i16> => Array<SmallInt>,
        signals_max: i64 => BigInt,
        born_max: i64 => BigInt,
        sleeps_ms: i64 => BigInt,
    } -> (SqlUuid, SqlUuid, SmallInt, Text, Nullable<Jsonb>) =
    "WITH given AS (SELECT {shards} AS shards), moved AS (
       SELECT s.saga_id FROM signals s, given g
       WHERE s.shard = ANY (g.shards) AND s.applied_at IS NULL AND s.kind = 4
         AND s.payload->>'action' IN ('pause', 'resume', 'release')
     )
     (SELECT s.id, s.saga_id, s.kind, s.step, s.payload
      FROM given g, signals s LEFT JOIN sagas a ON a.id = s.saga_id
      WHERE s.shard = ANY (g.shards) AND s.applied_at IS NULL
        AND (a.id IS NULL OR a.ended OR a.flags & 3 = 0
             OR s.saga_id IN (SELECT m.saga_id FROM moved m))
      ORDER BY s.kind = 2, s.id
      LIMIT {signals_max})
     UNION ALL
     (SELECT s.id, s.id, 0::smallint, '', NULL FROM sagas s, given g
      WHERE s.id >= uuid7_floor(now() - interval '60 s')
        AND s.shard = ANY (g.shards) AND NOT s.ended
        AND (s.state <> 2 OR s.wake_at IS NULL
             OR s.wake_at <= clock_timestamp() + {sleeps_ms} * interval '1 ms')
      LIMIT {born_max})"
}

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// What somebody was told. Nudges come often, and reading the sagas of a minute for each would cost more
    /// than all else.
    Signals,
    /// That, and the sagas that were born lately.
    SignalsAndBorn,
}

impl LookAround {
    /// For the owner of some shards.
    pub(crate) fn at(shards: Vec<i16>, look: Look) -> Self {
        Self {
            shards,
            signals_max: SIGNALS_MAX,
            born_max: match look {
                Look::Signals => 0,
                Look::SignalsAndBorn => BORN_MAX,
            },
            sleeps_ms: SLEEPS_MS,
        }
    }
}

database::statement! {
    /// Deletes signals that were applied long ago.
    pub(crate) struct ForgetSignals {
        days: i32 => Integer,
        most: i32 => Integer,
    } -> Integer =
    "DELETE FROM signals WHERE id IN (
       SELECT id FROM signals WHERE applied_at < now() - {days} * interval '1 day' LIMIT {most})"
}

database::statement! {
    /// Settles what nobody can apply any more: what has been open for so long, and its saga is not there, or
    /// has ended without anybody's knowing what the signal says. The row says why. Returns them: signal,
    /// saga, whether that is there.
    pub(crate) struct SettleStrays {
        shards: Vec<i16> => Array<SmallInt>,
        hours: i32 => Integer,
        most: i32 => Integer,
    } -> (SqlUuid, SqlUuid, Bool) =
    "WITH stray AS (
       SELECT s.id, a.id IS NOT NULL AS ended
       FROM signals s LEFT JOIN sagas a ON a.id = s.saga_id
       WHERE s.shard = ANY ({shards}) AND s.applied_at IS NULL
         AND s.created_at < now() - {hours} * interval '1 hour' AND (a.id IS NULL OR a.ended)
       ORDER BY s.id LIMIT {most}
     )
     UPDATE signals s
     SET applied_at = clock_timestamp(),
         payload = s.payload || jsonb_build_object('stray',
           CASE WHEN t.ended THEN 'saga_ended' ELSE 'no_such_saga' END)
     FROM stray t WHERE s.id = t.id AND s.applied_at IS NULL
     RETURNING s.id, s.saga_id, t.ended"
}

database::statement! {
    /// Marks signals as applied, those with a revision on condition that their saga has it, or has ended.
    /// Returns the sagas that have another one: their signals stay open.
    pub(crate) struct MarkApplied {
        ids: Vec<Uuid> => Array<SqlUuid>,
        revs: Vec<Option<i32>> => Array<Nullable<Integer>>,
    } -> SqlUuid =
    "WITH given AS (
       SELECT g.id, g.rev IS NULL OR a.rev = g.rev OR a.ended AS settled, s.saga_id
       FROM unnest({ids}, {revs}) AS g(id, rev)
       JOIN signals s ON s.id = g.id
       JOIN sagas a ON a.id = s.saga_id
     ), marked AS (
       UPDATE signals s SET applied_at = clock_timestamp() FROM given g
       WHERE s.id = g.id AND g.settled AND s.applied_at IS NULL
     )
     SELECT DISTINCT saga_id FROM given WHERE NOT settled"
}
