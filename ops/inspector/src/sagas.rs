//! Sagas as an operator finds them.

use crate::{Error, error::checked_limit};
use chrono::{DateTime, Utc};
use contract::{SagaId, StepKind};
use database::Connection;
use diesel::sql_types::{
    BigInt, Bool, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::RunQueryDsl;
use engine::{definitions::Definitions, view::kind_from};
use saga::{Flags, State};
use serde::Serialize;
use uuid::Uuid;

/// Which sagas.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only those in this state: `running`, `waiting`, `compensating`, `completed`, `compensated`,
    /// `abandoned`.
    pub state: Option<String>,
    /// Only those that a person has paused.
    pub paused: bool,
    /// Only those that have not ended.
    pub live: bool,
    /// So many at most, 1 to 1000; the newest first.
    pub limit: i64,
}

/// Which of the sagas that ask for a person.
#[derive(Clone, Debug, Default)]
pub struct Asking {
    /// Only those that nobody has taken on.
    pub untaken: bool,
    /// Only those that this person has taken on, whatever the case of the letters.
    pub taken_by: Option<String>,
    /// So many at most, 1 to 1000; those that have asked longest first.
    pub limit: i64,
}

/// One saga in a list.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its id; an order's saga has the order's.
    pub id: Uuid,
    /// Name and version of its definition, or its number if this program does not know it.
    pub definition: String,
    /// Where it is.
    pub state: &'static str,
    /// What it is at, as `pay do #2`.
    pub at: Option<String>,
    /// Why it ends.
    pub reason: Option<String>,
    /// `attention`, `held`, `paused`.
    pub flags: Vec<&'static str>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// When it will be looked at again.
    pub wake_at: Option<DateTime<Utc>>,
}

/// One saga that asks for a person: it is marked with `attention` or `held`.
#[derive(Clone, Debug, Serialize)]
pub struct AskingRow {
    /// The saga.
    #[serde(flatten)]
    pub saga: Row,
    /// Since when it asks.
    pub asks_since: DateTime<Utc>,
    /// For how many seconds, by the database's clock.
    pub asks_for_s: i64,
    /// Who has taken it on.
    pub taken_by: Option<String>,
    /// Since when.
    pub taken_at: Option<DateTime<Utc>>,
}

database::statement! {
    /// Sagas, the newest first: id, definition, state, flags, step, kind, attempt, reason, updated,
    /// wake (milliseconds).
    struct ListSagas {
        state: Option<i16> => Nullable<SmallInt>,
        paused: bool => Bool,
        live: bool => Bool,
        most: i64 => BigInt,
    } -> StoredSql =
    "SELECT s.id, s.definition, s.state, s.flags, s.step, s.kind, s.attempt, s.reason,
            (extract(epoch FROM s.updated_at) * 1000)::bigint,
            (extract(epoch FROM s.wake_at) * 1000)::bigint
     FROM sagas s
     WHERE ({state} IS NULL OR s.state = {state})
       AND (NOT {paused} OR s.flags & 1 <> 0)
       AND (NOT {live} AND NOT {paused} OR NOT s.ended)
     ORDER BY s.id DESC LIMIT {most}"
}

database::statement! {
    /// Sagas that ask for a person, the longest asking first: the same, since when and for how many
    /// seconds, who has it and since when.
    struct ListAsking {
        untaken: bool => Bool,
        taken_by: Option<String> => Nullable<Text>,
        most: i64 => BigInt,
    } -> (StoredSql, Timestamptz, BigInt, Nullable<Text>, Nullable<Timestamptz>) =
    "SELECT s.id, s.definition, s.state, s.flags, s.step, s.kind, s.attempt, s.reason,
            (extract(epoch FROM s.updated_at) * 1000)::bigint,
            (extract(epoch FROM s.wake_at) * 1000)::bigint,
            s.flagged_at, extract(epoch FROM clock_timestamp() - s.flagged_at)::bigint,
            o.owner, o.taken_at
     FROM (SELECT * FROM sagas WHERE flags & 4 <> 0
           UNION ALL
           SELECT * FROM sagas WHERE flags & 2 <> 0 AND flags & 4 = 0) AS s
     LEFT JOIN attention_owners o ON o.saga_id = s.id AND o.flagged_at = s.flagged_at
     WHERE NOT s.ended AND s.flagged_at IS NOT NULL
       AND (NOT {untaken} OR o.owner IS NULL)
       AND ({taken_by} IS NULL OR lower(o.owner) = lower({taken_by}))
     ORDER BY s.flagged_at, s.id LIMIT {most}"
}

type StoredSql = (
    SqlUuid,
    SmallInt,
    SmallInt,
    SmallInt,
    Nullable<SmallInt>,
    Nullable<SmallInt>,
    SmallInt,
    Nullable<Text>,
    BigInt,
    Nullable<BigInt>,
);

#[derive(diesel::Queryable)]
struct Stored {
    id: Uuid,
    definition: i16,
    state: i16,
    flags: i16,
    step: Option<i16>,
    kind: Option<i16>,
    attempt: i16,
    reason: Option<String>,
    updated_ms: i64,
    wake_ms: Option<i64>,
}

/// Sagas by a filter.
///
/// # Errors
/// There is no such state, the limit is out of its bounds, or the database fails.
pub async fn list(
    connection: &mut Connection,
    definitions: &Definitions,
    filter: &Filter,
) -> Result<Vec<Row>, Error> {
    let state = match &filter.state {
        None => None,
        Some(name) => match State::ALL.into_iter().find(|state| state.name() == name) {
            Some(state) => Some(state as i16),
            None => return Err(Error::BadRequest(format!("there is no state `{name}`"))),
        },
    };
    let statement = ListSagas {
        state,
        paused: filter.paused,
        live: filter.live,
        most: checked_limit(filter.limit)?,
    };
    let stored: Vec<Stored> = statement.load(connection).await?;
    Ok(stored
        .into_iter()
        .map(|row| shown(row, definitions))
        .collect())
}

/// Sagas that ask for a person: a failed undo, a step after the pivot that keeps failing, or a saga that is
/// set aside.
///
/// # Errors
/// The limit is out of its bounds, or the database fails.
pub async fn asking(
    connection: &mut Connection,
    definitions: &Definitions,
    which: &Asking,
) -> Result<Vec<AskingRow>, Error> {
    let statement = ListAsking {
        untaken: which.untaken,
        taken_by: which.taken_by.as_ref().map(|name| name.trim().to_owned()),
        most: checked_limit(which.limit)?,
    };
    type Read = (
        Stored,
        DateTime<Utc>,
        i64,
        Option<String>,
        Option<DateTime<Utc>>,
    );
    let rows: Vec<Read> = statement.load(connection).await?;
    let rows =
        rows.into_iter().map(
            |(row, asks_since, asks_for_s, taken_by, taken_at)| AskingRow {
                saga: shown(row, definitions),
                asks_since,
                asks_for_s,
                taken_by,
                taken_at,
            },
        );
    Ok(rows.collect())
}

fn shown(row: Stored, definitions: &Definitions) -> Row {
    let definition = definitions.get(row.definition);
    let step = row.step.and_then(|number| {
        let number = u8::try_from(number).ok()?;
        Some(definition?.step(number)?.name.to_string())
    });
    let kind = row.kind.and_then(kind_from).map_or("", StepKind::name);
    let flags = Flags::from_bits(row.flags);
    let marks = [
        (flags.attention, "attention"),
        (flags.held, "held"),
        (flags.paused, "paused"),
    ];
    let time = |ms| DateTime::from_timestamp_millis(ms).unwrap_or_default();
    Row {
        id: row.id,
        definition: definition.map_or_else(|| row.definition.to_string(), |d| d.label()),
        state: State::from_number(row.state).map_or("unknown", State::name),
        at: step.map(|step| format!("{step} {kind} #{}", row.attempt)),
        reason: row.reason,
        flags: marks
            .into_iter()
            .filter_map(|(on, name)| on.then_some(name))
            .collect(),
        started_at: time(SagaId(row.id).created_at_ms()),
        updated_at: time(row.updated_ms),
        wake_at: row.wake_ms.map(time),
    }
}

database::statement! {
    /// The ledger of one saga: step, state, outside id, output, error, refusal of the undo.
    struct ReadEffects {
        id: Uuid => SqlUuid,
    } -> (
        Text, SmallInt, Nullable<Text>, Nullable<diesel::sql_types::Jsonb>,
        Nullable<diesel::sql_types::Jsonb>, Nullable<diesel::sql_types::Jsonb>, Integer,
    ) =
    "SELECT step, state, outside_id, output, error, undo_refusal,
            definition::integer
     FROM effects WHERE saga_id = {id} ORDER BY claimed_at, step"
}

/// What a step brought about.
#[derive(Clone, Debug, Serialize)]
pub struct Effect {
    /// The step.
    pub step: String,
    /// `claimed`, `done`, `rejected` or `undone`.
    pub state: &'static str,
    /// What it is called outside, such as the payment intent.
    pub outside_id: Option<String>,
    /// What it produced.
    pub output: Option<serde_json::Value>,
    /// Why it was refused.
    pub error: Option<serde_json::Value>,
    /// Why its undo was refused.
    pub undo_refusal: Option<serde_json::Value>,
    /// Number of the definition that decided it.
    pub definition: i32,
}

type EffectRow = (
    String,
    i16,
    Option<String>,
    Option<serde_json::Value>,
    Option<serde_json::Value>,
    Option<serde_json::Value>,
    i32,
);

/// The effect ledger of a saga.
///
/// # Errors
/// The database fails.
pub async fn effects(connection: &mut Connection, id: SagaId) -> Result<Vec<Effect>, Error> {
    let rows: Vec<EffectRow> = ReadEffects { id: id.0 }.load(connection).await?;
    Ok(rows
        .into_iter()
        .map(
            |(step, state, outside_id, output, error, undo_refusal, definition)| Effect {
                step,
                state: match state {
                    1 => "claimed",
                    2 => "done",
                    3 => "rejected",
                    4 => "undone",
                    _ => "unknown",
                },
                outside_id,
                output,
                error,
                undo_refusal,
                definition,
            },
        )
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use database::testing::TestDatabase;
    use engine::NewSaga;
    use saga::Now;

    #[tokio::test]
    async fn sagas_are_found_by_state_and_marks_the_newest_first() {
        let database = TestDatabase::create().await;
        let mut connection = database.connection().await;
        let definitions = Definitions::ours();
        let new: Vec<NewSaga> = (0..3)
            .map(|_| NewSaga {
                id: SagaId::new(),
                trace_id: 1,
            })
            .collect();
        let now = Now::new(1_800_000_000_000, 0);
        engine::start(&mut connection, &saga::order::v1(), &new, 8, now)
            .await
            .expect("started");
        let marks = format!(
            "UPDATE sagas SET flags = 4, state = 3, kind = 2 WHERE id = '{}'",
            new[1].id
        );
        diesel_async::SimpleAsyncConnection::batch_execute(&mut connection, &marks)
            .await
            .expect("marked");
        let found = async |connection: &mut Connection, filter: Filter| {
            let rows = list(connection, &definitions, &filter).await;
            rows.map(|rows| {
                rows.into_iter()
                    .map(|row| (row.id, row.at))
                    .collect::<Vec<_>>()
            })
        };
        let at = |kind: &str| Some(format!("reserve {kind} #1"));
        let all = Filter {
            limit: 10,
            ..Filter::default()
        };
        let expected = [
            (new[2].id.0, at("do")),
            (new[1].id.0, at("undo")),
            (new[0].id.0, at("do")),
        ];
        assert_eq!(
            found(&mut connection, all.clone()).await.expect("readable"),
            expected
        );
        let pause = format!(
            "UPDATE sagas SET flags = 1, paused_at = now() WHERE id = '{}'",
            new[2].id
        );
        diesel_async::SimpleAsyncConnection::batch_execute(&mut connection, &pause)
            .await
            .expect("paused");
        let paused = Filter {
            paused: true,
            ..all.clone()
        };
        let rows = list(&mut connection, &definitions, &paused).await;
        let rows = rows.expect("readable");
        assert_eq!((rows.len(), rows[0].id), (1, new[2].id.0));
        assert_eq!(rows[0].flags, ["paused"]);
        let running = Filter {
            state: Some("running".to_owned()),
            live: true,
            limit: 1,
            ..all.clone()
        };
        assert_eq!(
            found(&mut connection, running).await.expect("readable"),
            expected[..1]
        );
        for bad in [
            Filter {
                state: Some("asleep".to_owned()),
                ..all.clone()
            },
            Filter { limit: 0, ..all },
        ] {
            assert!(matches!(
                found(&mut connection, bad).await,
                Err(Error::BadRequest(_))
            ));
        }
    }

    #[tokio::test]
    async fn the_ledger_of_a_saga_is_read_in_its_order() {
        let database = TestDatabase::create().await;
        let mut connection = database.connection().await;
        let id = SagaId::new();
        let rows = format!(
            "INSERT INTO effects (saga_id, step, claimed_at, definition, state, outside_id, output)
             VALUES ('{id}', 'pay', now(), 1, 1, 'pi_1', NULL),
                    ('{id}', 'reserve', now() - interval '1 s', 1, 2, NULL, '{{\"taken\": 1}}')"
        );
        diesel_async::SimpleAsyncConnection::batch_execute(&mut connection, &rows)
            .await
            .expect("written");
        let effects = effects(&mut connection, id).await.expect("readable");
        let seen: Vec<_> = effects
            .iter()
            .map(|effect| {
                (
                    effect.step.as_str(),
                    effect.state,
                    effect.outside_id.as_deref(),
                )
            })
            .collect();
        assert_eq!(
            seen,
            [("reserve", "done", None), ("pay", "claimed", Some("pi_1"))]
        );
    }
}
