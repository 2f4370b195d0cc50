//! Correcting what a step is given, and having it tried again.
//!
//! The correction, the row of the audit log and the signal are one transaction. Its step's worker reads the
//! newest correction whenever it is at that step, so one that its saga is told too late of counts the next
//! time somebody has the step tried again. The values are personal data: they stand in `corrections` only,
//! and the audit log, the signal and the history say which fields they are.

use super::{Done, Intervention, intervene, of_engine};
use crate::Error;
use contract::{
    Correctable, Correction, SagaId, StepKind, StepName,
    correction::{CorrectionError, check},
};
use database::Connection;
use diesel::sql_types::{BigInt, Integer, Jsonb, SmallInt, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use engine::{definitions::Definitions, view};
use saga::State;
use serde_json::Value;
use uuid::Uuid;

database::statement! {
    /// Keeps a correction.
    struct KeepCorrection {
        saga: Uuid => SqlUuid,
        audit: i64 => BigInt,
        after_seq: i32 => Integer,
        kind: i16 => SmallInt,
        step: String => Text,
        by: String => Text,
        reason: String => Text,
        fields: Value => Jsonb,
    } -> Integer =
    "INSERT INTO corrections (saga_id, audit, after_seq, kind, step, made_by, reason, fields)
     VALUES ({saga}, {audit}, {after_seq}, {kind}, {step}, {by}, {reason}, {fields})"
}

/// Has a step tried again with what it is given corrected, in the name of `actor`, because of `reason`: its
/// failed undo, or its `do` after the pivot. `correctable` says what may be corrected; `input` is an object
/// of such fields.
///
/// # Errors
/// As [`intervene`]; and nothing of the step may be corrected, or not this, or not so.
pub async fn correct(
    connection: &mut Connection,
    definitions: &Definitions,
    saga: SagaId,
    correctable: &[Correctable],
    (step, input): (&StepName, &Value),
    (actor, reason): (&str, &str),
) -> Result<Done, Error> {
    let viewed = view::read(connection, definitions, saga).await;
    let viewed = viewed.map_err(of_engine)?.ok_or(Error::NotFound {
        what: "saga",
        id: saga.0,
    })?;
    let kind = match viewed.instance.state {
        State::Compensating => StepKind::Undo,
        _ => StepKind::Do,
    };
    let correction = check(correctable, step, kind, input);
    let correction =
        correction.map_err(|why: CorrectionError| Error::BadRequest(why.to_string()))?;
    let intervention = Intervention::Correct(correction);
    intervene(connection, definitions, saga, &intervention, actor, reason).await
}

pub(super) async fn keep(
    connection: &mut Connection,
    saga: SagaId,
    correction: &Correction,
    after_seq: i32,
    (audit, by, reason): (i64, &str, &str),
) -> Result<(), Error> {
    let keep = KeepCorrection {
        saga: saga.0,
        audit,
        after_seq,
        kind: if correction.kind() == StepKind::Undo {
            2
        } else {
            1
        },
        step: correction.step().as_str().to_owned(),
        by: by.to_owned(),
        reason: reason.to_owned(),
        fields: correction.clone().into_fields(),
    };
    keep.execute(connection).await?;
    Ok(())
}
