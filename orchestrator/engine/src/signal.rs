//! Telling sagas what happened outside.
//!
//! A signal is a row, written before whoever told us gets his answer, so it is lost neither with the
//! broker nor with a crash. The message that follows is a nudge to look. A signal may come before its
//! saga waits for it (it stays open until then), twice (its id is its own: the second one is none), or
//! too late (it is marked as applied and changes nothing).

use contract::{SagaId, StepName};
use database::Connection;
use diesel::sql_types::{Array, Jsonb, SmallInt, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use saga::State;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Something that happened outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSignal {
    /// Its own id: the same happening has the same one.
    pub id: Uuid,
    /// The saga that it is for.
    pub saga: SagaId,
    /// What happened.
    pub what: What,
}

/// What may happen to a saga from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Somebody entitled decided what the step waits for, and it is recorded where the step reads it;
    /// the text is for the history.
    Decision(StepName, &'static str),
    /// Somebody says that something happened to the step. Never believed: it causes a look. There is
    /// no such signal unless the saga is at that step.
    Nudge(StepName),
    /// Somebody entitled ends the saga; a code of at most 40 characters says why.
    End(&'static str),
}

/// A saga that was told something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The saga.
    pub saga: SagaId,
    /// Where its owner listens.
    pub shard: i16,
    /// Whether it sleeps until it is told, so that telling its owner at once helps.
    pub waits: bool,
}

pub(crate) const DECISION: i16 = 1;
pub(crate) const NUDGE: i16 = 2;
pub(crate) const END: i16 = 3;

database::statement! {
    /// Writes signals of sagas that have not ended; returns those written (saga, shard, its state).
    struct InsertSignals {
        ids: Vec<Uuid> => Array<SqlUuid>,
        sagas: Vec<Uuid> => Array<SqlUuid>,
        kinds: Vec<i16> => Array<SmallInt>,
        steps: Vec<String> => Array<Text>,
        payloads: Vec<Value> => Array<Jsonb>,
    } -> (SqlUuid, SmallInt, SmallInt) =
    "WITH given AS (
       SELECT n.id, n.kind, n.step, n.payload, s.id AS saga_id, s.shard, s.state
       FROM unnest({ids}, {sagas}, {kinds}, {steps}, {payloads}) AS n(id, saga, kind, step, payload)
       JOIN sagas s ON s.id = n.saga
       WHERE NOT s.ended
         AND (n.kind <> 2 OR s.step = (SELECT number FROM steps WHERE name = n.step))
     ), written AS (
       INSERT INTO signals (id, saga_id, shard, kind, step, payload)
       SELECT id, saga_id, shard, kind, step, payload FROM given ORDER BY id
       ON CONFLICT (id) DO NOTHING
       RETURNING id
     )
     SELECT saga_id, shard, state FROM given JOIN written USING (id)"
}

/// Writes signals in the caller's transaction. Returns the sagas that were told something new; one
/// that has ended, or that is not there, is told nothing. Once it is committed, hand the result to
/// [`crate::Client::nudge`], or leave it: the owner finds the rows within seconds.
///
/// # Errors
/// The database fails.
pub async fn signal(
    connection: &mut Connection,
    signals: &[NewSignal],
) -> Result<Vec<Told>, database::Error> {
    // One of each id: the same happening may be told twice in one batch.
    let signals: BTreeMap<Uuid, &NewSignal> = signals.iter().map(|one| (one.id, one)).collect();
    let mut insert = InsertSignals {
        ids: Vec::with_capacity(signals.len()),
        sagas: Vec::with_capacity(signals.len()),
        kinds: Vec::with_capacity(signals.len()),
        steps: Vec::with_capacity(signals.len()),
        payloads: Vec::with_capacity(signals.len()),
    };
    for (id, signal) in signals {
        let (kind, step, payload) = match &signal.what {
            What::Decision(step, decision) => {
                (DECISION, step.as_str(), json!({ "decision": decision }))
            }
            What::Nudge(step) => (NUDGE, step.as_str(), json!({})),
            What::End(reason) => (END, "", json!({ "reason": reason })),
        };
        insert.ids.push(id);
        insert.sagas.push(signal.saga.0);
        insert.kinds.push(kind);
        insert.steps.push(step.to_owned());
        insert.payloads.push(payload);
    }
    if insert.ids.is_empty() {
        return Ok(Vec::new());
    }
    let told: Vec<(Uuid, i16, i16)> = insert.load(connection).await?;
    Ok(told
        .into_iter()
        .map(|(saga, shard, state)| Told {
            saga: SagaId(saga),
            shard,
            waits: state == State::Waiting as i16,
        })
        .collect())
}
