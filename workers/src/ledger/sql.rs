//! The statements of the ledger. All take arrays of ids that are sorted and without repeats, which
//! is also the order in which rows are locked.
//!
//! `effects` is partitioned by the saga's id. PostgreSQL does not prune partitions by `= ANY` of a
//! parameter nor by a join, so each statement names the range of its ids as well: they are
//! time-ordered, and a batch seldom reaches beyond one partition. Where there is a join, it names the ids
//! too: planned while a partition is empty, it would read the whole range, which is all that is under way.

use crate::{
    Error,
    ledger::plan::{Change, LedgerRow, State},
};
use chrono::{DateTime, Utc};
use contract::{ReplyError, SagaId, StepName};
use database::Connection;
use diesel::sql_types::{
    Array, BigInt, Jsonb, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::RunQueryDsl;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

database::statement! {
    /// Begins rows in a state, where there are none; returns those begun, and the time.
    struct BeginEffects {
        ids: Vec<Uuid> => Array<SqlUuid>,
        definitions: Vec<i16> => Array<SmallInt>,
        step: String => Text,
        state: i16 => SmallInt,
        now: DateTime<Utc> => Timestamptz,
    } -> (SqlUuid, BigInt) =
    "INSERT INTO effects (saga_id, step, definition, state, claimed_at, settled_at) \
     SELECT id, {step}, definition, {state}, {now}, CASE {state} WHEN 1 THEN NULL ELSE {now} END \
     FROM unnest({ids}, {definitions}) AS t(id, definition) \
     ON CONFLICT DO NOTHING \
     RETURNING saga_id, (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
}

database::statement! {
    /// Reads and locks rows.
    struct LockEffects {
        ids: Vec<Uuid> => Array<SqlUuid>,
        first: Uuid => SqlUuid,
        last: Uuid => SqlUuid,
        step: String => Text,
    } -> (
        SqlUuid, SmallInt, SmallInt, Nullable<Text>, Nullable<Jsonb>, Nullable<Jsonb>, Nullable<Jsonb>,
        Nullable<BigInt>,
    ) =
    "SELECT saga_id, definition, state, outside_id, output, error, undo_refusal, correction FROM effects \
     WHERE saga_id = ANY({ids}) AND saga_id BETWEEN {first} AND {last} AND step = {step} \
     ORDER BY saga_id FOR UPDATE"
}

database::statement! {
    /// Changes rows, each on its condition; returns those changed.
    struct ChangeEffects {
        ids: Vec<Uuid> => Array<SqlUuid>,
        first: Uuid => SqlUuid,
        last: Uuid => SqlUuid,
        step: String => Text,
        states: Vec<Option<i16>> => Array<Nullable<SmallInt>>,
        outputs: Vec<Option<Value>> => Array<Nullable<Jsonb>>,
        errors: Vec<Option<Value>> => Array<Nullable<Jsonb>>,
        refusals: Vec<Option<Value>> => Array<Nullable<Jsonb>>,
        at_most: Vec<i16> => Array<SmallInt>,
        corrections: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        now: DateTime<Utc> => Timestamptz,
    } -> SqlUuid =
    "UPDATE effects AS e SET \
       state = coalesce(t.state, e.state), \
       settled_at = CASE WHEN t.state IS NULL THEN e.settled_at ELSE {now} END, \
       output = coalesce(t.output, e.output), \
       error = coalesce(t.error, e.error), \
       undo_refusal = coalesce(t.refusal, e.undo_refusal) \
     FROM unnest({ids}, {states}, {outputs}, {errors}, {refusals}, {at_most}, {corrections}) \
       AS t(id, state, output, error, refusal, at_most, correction) \
     WHERE e.saga_id = t.id AND e.saga_id = ANY({ids}) AND e.saga_id BETWEEN {first} AND {last} \
       AND e.step = {step} \
       AND e.state <= t.at_most AND (t.correction IS NULL OR coalesce(e.correction, 0) <= t.correction) \
     RETURNING e.saga_id"
}

database::statement! {
    /// Stores what the outside calls effects that are still claimed and are not called otherwise;
    /// returns those for which it holds now.
    struct StoreOutsideIds {
        ids: Vec<Uuid> => Array<SqlUuid>,
        first: Uuid => SqlUuid,
        last: Uuid => SqlUuid,
        step: String => Text,
        outside_ids: Vec<String> => Array<Text>,
    } -> SqlUuid =
    "UPDATE effects AS e SET outside_id = t.outside_id \
     FROM unnest({ids}, {outside_ids}) AS t(id, outside_id) \
     WHERE e.saga_id = t.id AND e.saga_id = ANY({ids}) AND e.saga_id BETWEEN {first} AND {last} \
       AND e.step = {step} \
       AND e.state = 1 AND (e.outside_id IS NULL OR e.outside_id = t.outside_id) \
     RETURNING e.saga_id"
}

database::statement! {
    /// What the outside calls effects.
    struct ReadOutsideIds {
        ids: Vec<Uuid> => Array<SqlUuid>,
        first: Uuid => SqlUuid,
        last: Uuid => SqlUuid,
        step: String => Text,
    } -> (SqlUuid, Text) =
    "SELECT saga_id, outside_id FROM effects \
     WHERE saga_id = ANY({ids}) AND saga_id BETWEEN {first} AND {last} AND step = {step} \
       AND outside_id IS NOT NULL"
}

type EffectRow = (
    Uuid,
    i16,
    i16,
    Option<String>,
    Option<Value>,
    Option<Value>,
    Option<Value>,
    Option<i64>,
);

/// Begins effects that have no row yet; returns those that this statement began, and the
/// database's time in milliseconds if there was one.
pub(crate) async fn begin(
    connection: &mut Connection,
    step: &StepName,
    mut effects: Vec<(SagaId, i16)>,
    state: State,
    now: DateTime<Utc>,
) -> Result<(HashSet<SagaId>, Option<i64>), Error> {
    if effects.is_empty() {
        return Ok((HashSet::new(), None));
    }
    effects.sort_unstable();
    let statement = BeginEffects {
        ids: effects.iter().map(|effect| effect.0.0).collect(),
        definitions: effects.iter().map(|effect| effect.1).collect(),
        step: step.as_str().to_owned(),
        state: state as i16,
        now,
    };
    let begun: Vec<(Uuid, i64)> = statement.load(connection).await?;
    let time = begun.iter().map(|row| row.1).max();
    Ok((begun.into_iter().map(|row| SagaId(row.0)).collect(), time))
}

/// Reads rows and locks them until the transaction ends.
pub(crate) async fn lock(
    connection: &mut Connection,
    step: &StepName,
    sagas: impl IntoIterator<Item = SagaId>,
) -> Result<HashMap<SagaId, LedgerRow>, Error> {
    let mut ids: Vec<Uuid> = sagas.into_iter().map(|saga| saga.0).collect();
    ids.sort_unstable();
    let Some((first, last)) = range(&ids) else {
        return Ok(HashMap::new());
    };
    let statement = LockEffects {
        ids,
        first,
        last,
        step: step.as_str().to_owned(),
    };
    let rows: Vec<EffectRow> = statement.load(connection).await?;
    rows.into_iter()
        .map(|row| Ok((SagaId(row.0), ledger_row(row)?)))
        .collect()
}

/// What the outside calls a step's effects, for a step that goes on with what another one began. Ids
/// never change once they are stored, so nothing is locked.
pub(crate) async fn outside_ids(
    connection: &mut Connection,
    step: &StepName,
    sagas: impl IntoIterator<Item = SagaId>,
) -> Result<HashMap<SagaId, String>, Error> {
    let mut ids: Vec<Uuid> = sagas.into_iter().map(|saga| saga.0).collect();
    ids.sort_unstable();
    let Some((first, last)) = range(&ids) else {
        return Ok(HashMap::new());
    };
    let statement = ReadOutsideIds {
        ids,
        first,
        last,
        step: step.as_str().to_owned(),
    };
    let rows: Vec<(Uuid, String)> = statement.load(connection).await?;
    Ok(rows
        .into_iter()
        .map(|(id, text)| (SagaId(id), text))
        .collect())
}

/// Changes rows; returns those whose condition held.
pub(crate) async fn change(
    connection: &mut Connection,
    step: &StepName,
    mut changes: Vec<(SagaId, Change)>,
    now: DateTime<Utc>,
) -> Result<HashSet<SagaId>, Error> {
    changes.sort_by_key(|change| change.0);
    let ids: Vec<Uuid> = changes.iter().map(|change| change.0.0).collect();
    let Some((first, last)) = range(&ids) else {
        return Ok(HashSet::new());
    };
    let mut statement = ChangeEffects {
        ids,
        first,
        last,
        step: step.as_str().to_owned(),
        states: Vec::with_capacity(changes.len()),
        outputs: Vec::with_capacity(changes.len()),
        errors: Vec::with_capacity(changes.len()),
        refusals: Vec::with_capacity(changes.len()),
        at_most: Vec::with_capacity(changes.len()),
        corrections: Vec::with_capacity(changes.len()),
        now,
    };
    for (_, change) in changes {
        statement.states.push(change.state);
        statement.outputs.push(change.output);
        statement.errors.push(to_json(change.error));
        statement.refusals.push(to_json(change.undo_refusal));
        statement.at_most.push(change.while_at_most);
        statement.corrections.push(change.correction);
    }
    let changed: Vec<Uuid> = statement.load(connection).await?;
    Ok(changed.into_iter().map(SagaId).collect())
}

/// Stores outside ids; returns the sagas whose `do` may go on.
pub(crate) async fn store_outside_ids(
    connection: &mut Connection,
    step: &StepName,
    mut named: Vec<(SagaId, String)>,
) -> Result<HashSet<SagaId>, Error> {
    named.sort();
    let (ids, outside_ids): (Vec<Uuid>, _) =
        named.into_iter().map(|(saga, id)| (saga.0, id)).unzip();
    let Some((first, last)) = range(&ids) else {
        return Ok(HashSet::new());
    };
    let statement = StoreOutsideIds {
        ids,
        first,
        last,
        step: step.as_str().to_owned(),
        outside_ids,
    };
    let stored: Vec<Uuid> = statement.load(connection).await?;
    Ok(stored.into_iter().map(SagaId).collect())
}

/// The first and the last of sorted ids.
pub(super) fn range(ids: &[Uuid]) -> Option<(Uuid, Uuid)> {
    Some((*ids.first()?, *ids.last()?))
}

fn to_json(error: Option<ReplyError>) -> Option<Value> {
    // Strings and a number: it cannot fail.
    serde_json::to_value(error?).ok()
}

fn ledger_row(row: EffectRow) -> Result<LedgerRow, Error> {
    let (saga, definition, state, outside_id, output, error, undo_refusal, correction) = row;
    let bad = |what: &str| Error::BadRow(format!("the ledger's row of {saga} has no known {what}"));
    let from_json = |value: Option<Value>| value.map(serde_json::from_value).transpose();
    Ok(LedgerRow {
        definition,
        state: State::from_number(state).ok_or_else(|| bad("state"))?,
        outside_id,
        output,
        error: from_json(error).map_err(|_| bad("error"))?,
        undo_refusal: from_json(undo_refusal).map_err(|_| bad("refusal"))?,
        correction,
    })
}

#[cfg(test)]
#[path = "sql_tests.rs"]
mod tests;
