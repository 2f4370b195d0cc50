//! Who has taken on a saga that asks for a person.
//!
//! The races: two take the same saga; or it stops asking, and asks again for something else, while
//! somebody still believes to have it. The primary key decides the first. Against the second, a taking
//! names the moment since when the saga asks, and counts only while that is the saga's own: it ends with
//! the asking, and the engine has nothing to write for it.

use contract::SagaId;
use database::Connection;
use diesel::sql_types::{
    Array, BigInt, Bool, Integer, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::RunQueryDsl;
use serde::Serialize;
use uuid::Uuid;

/// Who has taken a saga on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Taken {
    /// Who.
    pub by: String,
    /// Why, or what he is going to do.
    pub reason: String,
    /// Since when.
    pub at: chrono::DateTime<chrono::Utc>,
}

database::statement! {
    /// Takes a saga on that asks for a person, unless somebody has it.
    struct Take {
        saga: Uuid => SqlUuid,
        owner: String => Text,
        reason: String => Text,
    } -> SqlUuid =
    "INSERT INTO attention_owners AS o (saga_id, owner, reason, flagged_at)
     SELECT id, {owner}, {reason}, flagged_at FROM sagas
     WHERE id = {saga} AND flags & 6 <> 0 AND flagged_at IS NOT NULL AND NOT ended
     ON CONFLICT (saga_id) DO UPDATE
     SET owner = excluded.owner, reason = excluded.reason, flagged_at = excluded.flagged_at,
         taken_at = clock_timestamp()
     WHERE o.flagged_at <> excluded.flagged_at
     RETURNING o.saga_id"
}

database::statement! {
    /// Gives a saga back; returns who had it.
    struct GiveBack { saga: Uuid => SqlUuid } -> Text =
    "DELETE FROM attention_owners o USING sagas s
     WHERE o.saga_id = {saga} AND s.id = o.saga_id AND s.flags & 6 <> 0 AND s.flagged_at = o.flagged_at
     RETURNING o.owner"
}

database::statement! {
    /// Who has a saga.
    struct ReadTaken { saga: Uuid => SqlUuid } -> (Text, Text, Timestamptz) =
    "SELECT o.owner, o.reason, o.taken_at FROM attention_owners o JOIN sagas s ON s.id = o.saga_id
     WHERE o.saga_id = {saga} AND s.flags & 6 <> 0 AND s.flagged_at = o.flagged_at"
}

database::statement! {
    /// How many sagas of some shards ask for a person: whether somebody has them, for how long they have
    /// asked (up to 1 h, 4 h, 24 h, longer: 0 to 3), how many, and the longest in seconds.
    pub(crate) struct CountAsking {
        shards: Vec<i16> => Array<SmallInt>,
    } -> (Bool, Integer, BigInt, BigInt) =
    "WITH given AS (SELECT {shards} AS shards), asking AS (
       SELECT id, shard, ended, flagged_at FROM sagas WHERE flags & 4 <> 0
       UNION ALL
       SELECT id, shard, ended, flagged_at FROM sagas WHERE flags & 2 <> 0 AND flags & 4 = 0
     ), aged AS (
       SELECT o.owner IS NOT NULL AS taken,
              greatest(extract(epoch FROM clock_timestamp() - a.flagged_at), 0) AS age
       FROM given g, asking a
       LEFT JOIN attention_owners o ON o.saga_id = a.id AND o.flagged_at = a.flagged_at
       WHERE a.shard = ANY (g.shards) AND NOT a.ended AND a.flagged_at IS NOT NULL
     )
     SELECT taken, width_bucket(age, ARRAY[3600, 14400, 86400]::numeric[]), count(*), max(age)::bigint
     FROM aged GROUP BY 1, 2"
}

database::statement! {
    /// Deletes takings of sagas that ask no more, or for something else.
    pub(crate) struct ForgetTakings { most: i32 => Integer } -> Integer =
    "DELETE FROM attention_owners WHERE saga_id IN (
       SELECT o.saga_id FROM attention_owners o
       WHERE NOT EXISTS (SELECT FROM sagas s WHERE s.id = o.saga_id AND s.flags & 6 <> 0
                           AND s.flagged_at = o.flagged_at)
       LIMIT {most} FOR UPDATE SKIP LOCKED)"
}

/// Takes a saga on, in the caller's transaction; `false` if it does not ask for a person, or somebody has
/// it ([`read`] says who).
///
/// # Errors
/// The database fails.
pub async fn take(
    connection: &mut Connection,
    saga: SagaId,
    by: &str,
    reason: &str,
) -> Result<bool, database::Error> {
    let take = Take {
        saga: saga.0,
        owner: by.to_owned(),
        reason: reason.to_owned(),
    };
    let taken: Vec<Uuid> = take.load(connection).await?;
    Ok(!taken.is_empty())
}

/// Gives a saga back, in the caller's transaction; says who had it.
///
/// # Errors
/// The database fails.
pub async fn give_back(
    connection: &mut Connection,
    saga: SagaId,
) -> Result<Option<String>, database::Error> {
    let had: Vec<String> = GiveBack { saga: saga.0 }.load(connection).await?;
    Ok(had.into_iter().next())
}

/// Who has a saga that asks for a person, if anybody does.
///
/// # Errors
/// The database fails.
pub async fn read(
    connection: &mut Connection,
    saga: SagaId,
) -> Result<Option<Taken>, database::Error> {
    let rows: Vec<(String, String, chrono::DateTime<chrono::Utc>)> =
        ReadTaken { saga: saga.0 }.load(connection).await?;
    let taken = rows.into_iter().next();
    Ok(taken.map(|(by, reason, at)| Taken { by, reason, at }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use database::testing::TestDatabase;
    use diesel_async::SimpleAsyncConnection;

    #[tokio::test]
    async fn what_asks_is_counted_by_its_age_and_whether_somebody_has_it() {
        let database = TestDatabase::create().await;
        let mut connection = database.connection().await;
        let rows = "INSERT INTO sagas (id, deadline, updated_at, trace_id, rev, seq, pivot, shard, definition,
                                       state, flags, flagged_at)
             SELECT uuid_in(lpad(n::text, 32, '0')::cstring), now(), now(),
                    uuid_in(lpad(n::text, 32, '0')::cstring), 1, 1, 8, n % 2, 1, 3,
                    (ARRAY[4, 2, 6, 0])[1 + n % 4], now() - n * interval '1 hour'
             FROM generate_series(0, 39) AS n";
        connection.batch_execute(rows).await.expect("written");
        let count = async |connection: &mut Connection, shards: Vec<i16>| {
            let counted = CountAsking { shards }.load(connection).await;
            let mut counted: Vec<(bool, i32, i64, i64)> = counted.expect("readable");
            counted.sort_unstable();
            counted
        };
        // Of 0 to 39 hours every fourth does not ask.
        let whole = count(&mut connection, vec![0, 1]).await;
        let expected = [
            (false, 0, 1, 0),
            (false, 1, 2, 2 * 3600),
            (false, 2, 15, 22 * 3600),
            (false, 3, 12, 38 * 3600),
        ];
        assert_eq!(whole, expected);
        let oldest = SagaId(Uuid::from_u128(0x38));
        assert!(
            take(&mut connection, oldest, "ann", "x")
                .await
                .expect("written")
        );
        let even = count(&mut connection, vec![0]).await;
        assert_eq!(even.last(), Some(&(true, 3, 1, 38 * 3600)), "{even:?}");
        assert_eq!(even[even.len() - 2].3, 36 * 3600, "{even:?}");
        assert_eq!(count(&mut connection, vec![5]).await, []);
        // Nothing is forgotten while it counts.
        let forget = async |connection: &mut Connection| {
            ForgetTakings { most: 10 }
                .execute(connection)
                .await
                .expect("deleted")
        };
        assert_eq!(forget(&mut connection).await, 0);
        let over = format!("UPDATE sagas SET flags = 0 WHERE id = '{oldest}'");
        connection.batch_execute(&over).await.expect("written");
        assert_eq!(forget(&mut connection).await, 1);
    }
}
