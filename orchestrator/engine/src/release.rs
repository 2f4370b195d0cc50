//! Letting go on what was set aside.
//!
//! A saga is held because this program could not read it, or because the database refused its change. A
//! person who has mended that releases it. The race is with its owner, who may hold it again at the same
//! moment: the write is conditional on the flag and counts as a revision, and the row that tells the owner
//! to read the saga again is written with it. If the saga still cannot be read, that owner holds it again.

use crate::{Told, signal::Person};
use contract::{MessageId, SagaId};
use database::Connection;
use diesel::sql_types::{Jsonb, SmallInt, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use saga::State;
use serde_json::{Value, json};
use uuid::Uuid;

/// What the signal says, in the place of an action.
const ACTION: &str = "release";

database::statement! {
    /// Clears the mark, notes it in the saga's history, and tells its owner.
    struct ReleaseHeld {
        saga: Uuid => SqlUuid,
        signal: Uuid => SqlUuid,
        says: Value => Jsonb,
    } -> (SqlUuid, SmallInt, SmallInt) =
    "WITH given AS (SELECT {saga} AS saga, {signal} AS signal, {says} AS says),
     released AS (
       UPDATE sagas s
       SET flags = s.flags & ~2, rev = s.rev + 1, updated_at = clock_timestamp(),
           flagged_at = CASE WHEN s.flags & 4 <> 0 THEN s.flagged_at END
       FROM given g
       WHERE s.id = g.saga AND s.flags & 2 <> 0 AND NOT s.ended
       RETURNING s.id, s.rev, s.seq, s.state, s.shard, s.trace_id, s.step, s.kind, s.attempt
     ), noted AS (
       INSERT INTO history (saga_id, at, message_id, rev, seq, input, step, kind, attempt, state, code,
                            detail)
       SELECT r.id, clock_timestamp(), g.signal, r.rev, r.seq, 6, r.step, r.kind, r.attempt, r.state,
              'release', g.says
       FROM released r, given g
     ), told AS (
       INSERT INTO signals (id, saga_id, shard, kind, step, payload)
       SELECT g.signal, r.id, r.shard, 4, '', g.says FROM released r, given g
     )
     SELECT trace_id, shard, state FROM released"
}

/// Releases a saga that is held, in the caller's transaction; `None` if it is not held. Hand the result to
/// [`crate::Client::nudge`], or leave it: the owner finds the row within seconds.
///
/// # Errors
/// The database fails.
pub async fn release(
    connection: &mut Connection,
    saga: SagaId,
    person: &Person,
) -> Result<Option<Told>, database::Error> {
    let signal = MessageId::new().0;
    let release = ReleaseHeld {
        saga: saga.0,
        signal,
        says: json!({ "action": ACTION, "by": person.by, "audit": person.audit }),
    };
    let released: Vec<(Uuid, i16, i16)> = release.load(connection).await?;
    let told = released.into_iter().next();
    Ok(told.map(|(trace_id, shard, state)| Told {
        signal,
        saga,
        shard,
        trace_id: trace_id.as_u128(),
        waits: state == State::Waiting as i16,
    }))
}

/// Whether a signal's row says that its saga was released.
pub(crate) fn is_release(says: Option<&Value>) -> bool {
    says.and_then(|says| says.get("action"))
        .and_then(Value::as_str)
        == Some(ACTION)
}
