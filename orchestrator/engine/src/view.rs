//! A saga as it is shown: its state and its history.

use crate::{
    Error,
    definitions::Definitions,
    orchestrator::input_name,
    store::row::{InFlight, ReadSagas, Row, outcome_from},
};
use chrono::{DateTime, Utc};
use contract::{Outcome, SagaId, StepKind, StepName};
use database::Connection;
use diesel::sql_types::{BigInt, Integer, Jsonb, Nullable, SmallInt, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use saga::{InputKind, Instance, State, Status};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

pub use crate::store::row::kind_from;

/// A saga and what happened to it.
#[derive(Debug)]
pub struct SagaView {
    /// Its state.
    pub instance: Instance,
    /// Its definition's name and version.
    pub definition: String,
    /// What the customer is told.
    pub status: Status,
    /// Oldest first; of a long history the newest [`TIMELINE_MAX`].
    pub timeline: Vec<Moment>,
}

/// Rows of a history that are read. Only a step that is tried for ever makes more.
pub const TIMELINE_MAX: usize = 1_000;

/// One row of the history.
#[derive(Clone, Debug, Serialize)]
pub struct Moment {
    /// The saga's revision after it.
    pub rev: i32,
    /// When it was committed, by the database's clock.
    pub at: DateTime<Utc>,
    /// What came in: `start`, `reply`, `wake`, `signal`, `end`, `operator`.
    pub input: &'static str,
    /// The step it was about.
    pub step: Option<StepName>,
    /// What had been asked.
    pub kind: Option<StepKind>,
    /// 1 for the first.
    pub attempt: Option<i16>,
    /// What became of it.
    pub outcome: Option<Outcome>,
    /// Milliseconds since the command was decided.
    pub took_ms: Option<i64>,
    /// The error's code or the ending's reason.
    pub code: Option<String>,
    /// The error's text and the output.
    pub detail: Option<Value>,
    /// The state after it.
    pub state: &'static str,
    /// The order's status after it.
    pub status: &'static str,
    /// The command decided by it.
    pub next: Option<Next>,
    /// Id of the message it came with.
    pub message_id: Option<Uuid>,
}

/// A command that was decided.
#[derive(Clone, Debug, Serialize)]
pub struct Next {
    /// The step.
    pub step: StepName,
    /// What is asked.
    pub kind: StepKind,
    /// 1 for the first.
    pub attempt: i16,
    /// The command's id on the bus.
    pub command_id: Uuid,
}

type HistorySql = (
    SqlUuid,
    BigInt,
    Nullable<SqlUuid>,
    Integer,
    SmallInt,
    Nullable<SmallInt>,
    Nullable<SmallInt>,
    Nullable<SmallInt>,
    Nullable<SmallInt>,
    SmallInt,
    Nullable<Integer>,
    Nullable<SmallInt>,
    Nullable<SmallInt>,
    Nullable<SmallInt>,
    Nullable<Text>,
    Nullable<Jsonb>,
);

database::statement! {
    /// The history of a saga, newest first.
    struct ReadHistory {
        id: Uuid => SqlUuid,
        most: i64 => BigInt,
    } -> HistorySql =
    "SELECT saga_id, (extract(epoch FROM at) * 1000)::bigint, message_id, rev, input, step,
            kind, attempt, outcome, state, next_seq, next_step, next_kind, next_attempt, code, detail
     FROM history WHERE saga_id = {id} ORDER BY rev DESC LIMIT {most}"
}

#[derive(diesel::Queryable)]
struct HistoryRow {
    saga_id: Uuid,
    at: i64,
    message_id: Option<Uuid>,
    rev: i32,
    input: i16,
    step: Option<i16>,
    kind: Option<i16>,
    attempt: Option<i16>,
    outcome: Option<i16>,
    state: i16,
    next_seq: Option<i32>,
    next_step: Option<i16>,
    next_kind: Option<i16>,
    next_attempt: Option<i16>,
    code: Option<String>,
    detail: Option<Value>,
}

/// One saga with its history; `None` if there is none with this id, or this program does not have
/// its definition.
///
/// # Errors
/// The database fails.
pub async fn read(
    connection: &mut Connection,
    definitions: &Definitions,
    id: SagaId,
) -> Result<Option<SagaView>, Error> {
    let rows: Vec<Row> = ReadSagas { ids: vec![id.0] }.load(connection).await?;
    let Some(instance) = rows
        .into_iter()
        .next()
        .and_then(|row| row.into_instance().ok())
    else {
        return Ok(None);
    };
    let Some(definition) = definitions.get(instance.definition) else {
        return Ok(None);
    };
    let read = ReadHistory {
        id: id.0,
        most: TIMELINE_MAX as i64,
    };
    let history: Vec<HistoryRow> = read.load(connection).await?;
    let ends_pivot = |row: &HistoryRow| {
        let about_pivot = row
            .step
            .is_some_and(|step| u8::try_from(step).is_ok_and(|step| instance.pivot.contains(step)));
        let done = row.outcome.and_then(outcome_from) == Some(Outcome::Done);
        about_pivot && done && row.state == State::Running as i16
    };
    let mut timeline: Vec<Moment> = Vec::with_capacity(history.len());
    let mut decided_at: Option<i64> = None;
    // It may have been done before the oldest row that was read.
    let mut pivot_done = instance.pivot_done() && !history.iter().any(ends_pivot);
    for row in history.into_iter().rev() {
        pivot_done |= ends_pivot(&row);
        let step_name = |number: Option<i16>| {
            let number = u8::try_from(number?).ok()?;
            definition.step(number).map(|step| step.name.clone())
        };
        let state = State::from_number(row.state).unwrap_or(State::Running);
        let outcome = row.outcome.and_then(outcome_from);
        let waiting = row
            .step
            .and_then(|n| definition.step(u8::try_from(n).ok()?)?.waiting.as_ref());
        let status = Status::of(state, pivot_done, waiting);
        let took_ms = decided_at
            .map(|at| row.at - at)
            .filter(|_| row.step.is_some());
        let next = step_name(row.next_step).zip(row.next_kind.and_then(kind_from));
        if next.is_some() {
            decided_at = Some(row.at);
        }
        let next_seq = row.next_seq.unwrap_or_default();
        timeline.push(Moment {
            rev: row.rev,
            at: DateTime::from_timestamp_millis(row.at).unwrap_or_default(),
            input: input_kind(row.input).map_or("unknown", input_name),
            step: step_name(row.step),
            kind: row.kind.and_then(kind_from),
            attempt: row.attempt,
            outcome,
            took_ms,
            code: row.code,
            detail: row.detail,
            state: state.name(),
            status: status.name(),
            next: next.map(|(step, kind)| Next {
                step,
                kind,
                attempt: row.next_attempt.unwrap_or(1),
                command_id: crate::command::command_id(SagaId(row.saga_id), next_seq).0,
            }),
            message_id: row.message_id,
        });
    }
    let status = instance.status(definition);
    Ok(Some(SagaView {
        definition: definition.label(),
        status,
        instance,
        timeline,
    }))
}

/// The sagas that have not ended and run by one of some definitions, those that began first, or first after
/// `behind`; at most so many.
///
/// # Errors
/// The database fails.
pub async fn in_flight(
    connection: &mut Connection,
    definitions: Vec<i16>,
    behind: Option<SagaId>,
    most: i64,
) -> Result<Vec<SagaId>, database::Error> {
    let in_flight = InFlight {
        definitions,
        behind: behind.map_or(Uuid::nil(), |id| id.0),
        most,
    };
    let ids: Vec<Uuid> = in_flight.load(connection).await?;
    Ok(ids.into_iter().map(SagaId).collect())
}

/// Some sagas as they are stored, in the order of their ids; `None` for a row that cannot be read. One that
/// is not there is left out.
///
/// # Errors
/// The database fails.
pub async fn instances(
    connection: &mut Connection,
    ids: &[SagaId],
) -> Result<Vec<(SagaId, Option<Instance>)>, database::Error> {
    let ids = ids.iter().map(|id| id.0).collect();
    let rows: Vec<Row> = ReadSagas { ids }.load(connection).await?;
    let sagas = rows
        .into_iter()
        .map(|row| (row.id(), row.into_instance().ok()));
    let mut sagas: Vec<_> = sagas.collect();
    sagas.sort_by_key(|(id, _)| *id);
    Ok(sagas)
}

fn input_kind(number: i16) -> Option<InputKind> {
    [
        InputKind::Start,
        InputKind::Reply,
        InputKind::Wake,
        InputKind::Signal,
        InputKind::Operator,
        InputKind::End,
    ]
    .into_iter()
    .find(|kind| *kind as i16 == number)
}
