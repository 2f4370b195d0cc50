//! What people corrected of what a step is given, and refusals that are opened again because of it.
//!
//! `guichet saga retry --step` writes the rows; here they are only read, and only where they may matter: of
//! effects that were refused, and by steps whose input can be corrected.

use super::{
    plan::{Newest, Reopening},
    sql::range,
};
use crate::Error;
use contract::{SagaId, StepKind, StepName};
use database::Connection;
use diesel::sql_types::{Array, BigInt, Integer, Jsonb, SmallInt, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

database::statement! {
    /// The newest correction of each effect.
    struct NewestCorrections {
        ids: Vec<Uuid> => Array<SqlUuid>,
        step: String => Text,
        kind: i16 => SmallInt,
    } -> (SqlUuid, BigInt, Integer, Jsonb) =
    "SELECT DISTINCT ON (saga_id) saga_id, audit, after_seq, fields FROM corrections \
     WHERE saga_id = ANY({ids}) AND step = {step} AND kind = {kind} \
     ORDER BY saga_id, audit DESC"
}

database::statement! {
    /// Opens refusals again, each once for its correction; returns those opened.
    struct ReopenEffects {
        ids: Vec<Uuid> => Array<SqlUuid>,
        first: Uuid => SqlUuid,
        last: Uuid => SqlUuid,
        step: String => Text,
        corrections: Vec<i64> => Array<BigInt>,
    } -> SqlUuid =
    "UPDATE effects AS e \
     SET state = 1, settled_at = NULL, error = NULL, correction = t.correction \
     FROM unnest({ids}, {corrections}) AS t(id, correction) \
     WHERE e.saga_id = t.id AND e.saga_id = ANY({ids}) AND e.saga_id BETWEEN {first} AND {last} AND e.step = {step} \
       AND e.state = 3 AND (e.correction IS NULL OR e.correction < t.correction) \
     RETURNING e.saga_id"
}

/// The newest corrections of what a step's `do` or `undo` is given, with the fields; of most effects there
/// is none.
pub(crate) async fn newest(
    connection: &mut Connection,
    step: &StepName,
    kind: StepKind,
    sagas: impl IntoIterator<Item = SagaId>,
) -> Result<HashMap<SagaId, (Newest, Value)>, Error> {
    let statement = NewestCorrections {
        ids: sagas.into_iter().map(|saga| saga.0).collect(),
        step: step.as_str().to_owned(),
        kind: if kind == StepKind::Undo { 2 } else { 1 },
    };
    if statement.ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<(Uuid, i64, i32, Value)> = statement.load(connection).await?;
    let found = rows.into_iter().map(|(saga, audit, after_seq, fields)| {
        let newest = Newest { audit, after_seq };
        (SagaId(saga), (newest, fields))
    });
    Ok(found.collect())
}

/// Opens refusals again; returns those whose condition held.
pub(crate) async fn reopen(
    connection: &mut Connection,
    step: &StepName,
    mut openings: Vec<(SagaId, Reopening)>,
) -> Result<HashSet<SagaId>, Error> {
    openings.sort_by_key(|opening| opening.0);
    let ids: Vec<Uuid> = openings.iter().map(|opening| opening.0.0).collect();
    let Some((first, last)) = range(&ids) else {
        return Ok(HashSet::new());
    };
    let statement = ReopenEffects {
        ids,
        first,
        last,
        step: step.as_str().to_owned(),
        corrections: openings
            .iter()
            .map(|opening| opening.1.correction)
            .collect(),
    };
    let opened: Vec<Uuid> = statement.load(connection).await?;
    Ok(opened.into_iter().map(SagaId).collect())
}
