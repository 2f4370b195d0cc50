//! Signals and new sagas that this process may not know of.

use diesel::sql_types::{Array, Integer, Nullable, SmallInt, Text, Uuid as SqlUuid};
use uuid::Uuid;

database::statement! {
    /// What the owner of some shards has to look at: its signals that are not applied (signal, saga,
    /// kind, step, reason), and its live sagas born within the last minute (with kind 0).
    pub(crate) struct LookAround {
        shards: Vec<i16> => Array<SmallInt>,
    } -> (SqlUuid, SqlUuid, SmallInt, Text, Nullable<Text>) =
    "WITH given AS (SELECT {shards} AS shards)
     (SELECT s.id, s.saga_id, s.kind, s.step, s.payload->>'reason' FROM signals s, given g
      WHERE s.shard = ANY (g.shards) AND s.applied_at IS NULL ORDER BY s.id LIMIT 5000)
     UNION ALL
     (SELECT s.id, s.id, 0::smallint, '', NULL FROM sagas s, given g
      WHERE s.id >= uuid7_floor(now() - interval '60 s')
        AND s.shard = ANY (g.shards) AND NOT s.ended LIMIT 50000)"
}

database::statement! {
    /// Marks signals as applied.
    pub(crate) struct MarkApplied {
        ids: Vec<Uuid> => Array<SqlUuid>,
    } -> Integer =
    "UPDATE signals SET applied_at = clock_timestamp() WHERE id = ANY ({ids}) AND applied_at IS NULL"
}
