//! A saga's row and back.

use contract::{Outcome, SagaId, StepKind};
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, SmallInt, Text, Uuid as SqlUuid};
use saga::{Cursor, Flags, Instance, State, Steps};
use uuid::Uuid;

/// The columns of [`Row`], in its order. Times are milliseconds since the epoch.
macro_rules! saga_columns {
    () => {
        "s.id, (extract(epoch FROM s.wake_at) * 1000)::bigint, \
         (extract(epoch FROM s.budget_until) * 1000)::bigint, \
         (extract(epoch FROM s.deadline) * 1000)::bigint, \
         (extract(epoch FROM s.waiting_since) * 1000)::bigint, \
         (extract(epoch FROM s.flagged_at) * 1000)::bigint, \
         (extract(epoch FROM s.paused_at) * 1000)::bigint, s.pause_audit, \
         s.trace_id, s.rev, s.seq, s.done, s.maybe_in_force, s.failed_undo, s.pivot, s.definition, \
         s.state, s.flags, s.step, s.kind, s.attempt, s.resends, s.outstanding, s.reason, s.shard, s.approver"
    };
}
pub(crate) type RowSql = (
    SqlUuid,
    Nullable<BigInt>,
    Nullable<BigInt>,
    BigInt,
    Nullable<BigInt>,
    Nullable<BigInt>,
    Nullable<BigInt>,
    Nullable<BigInt>,
    SqlUuid,
    Integer,
    Integer,
    Integer,
    Integer,
    Integer,
    Integer,
    SmallInt,
    SmallInt,
    SmallInt,
    Nullable<SmallInt>,
    Nullable<SmallInt>,
    SmallInt,
    SmallInt,
    Bool,
    Nullable<Text>,
    SmallInt,
    Nullable<Text>,
);

/// One row of `sagas`.
#[derive(diesel::Queryable)]
pub(crate) struct Row {
    id: Uuid,
    wake_at: Option<i64>,
    budget_until: Option<i64>,
    deadline: i64,
    waiting_since: Option<i64>,
    flagged_at: Option<i64>,
    paused_at: Option<i64>,
    pause_audit: Option<i64>,
    trace_id: Uuid,
    rev: i32,
    seq: i32,
    done: i32,
    maybe_in_force: i32,
    failed_undo: i32,
    pivot: i32,
    definition: i16,
    state: i16,
    flags: i16,
    step: Option<i16>,
    kind: Option<i16>,
    attempt: i16,
    resends: i16,
    outstanding: bool,
    reason: Option<String>,
    shard: i16,
    approver: Option<String>,
}

impl Row {
    pub(crate) fn id(&self) -> SagaId {
        SagaId(self.id)
    }

    pub(crate) fn ended(&self) -> bool {
        State::from_number(self.state).is_some_and(State::is_end)
    }

    pub(crate) fn held(&self) -> bool {
        Flags::from_bits(self.flags).held
    }

    pub(crate) fn shard(&self) -> i16 {
        self.shard
    }

    pub(crate) fn trace_id(&self) -> u128 {
        self.trace_id.as_u128()
    }

    /// The saga, or the column that makes no sense.
    pub(crate) fn into_instance(self) -> Result<Instance, &'static str> {
        let cursor = match (self.step, self.kind) {
            (None, None) => None,
            (Some(step), Some(kind)) => Some(Cursor {
                step: u8::try_from(step).map_err(|_| "step")?,
                kind: kind_from(kind).ok_or("kind")?,
                attempt: self.attempt,
                outstanding: self.outstanding,
            }),
            _ => return Err("step without kind"),
        };
        Ok(Instance {
            id: SagaId(self.id),
            definition: self.definition,
            trace_id: self.trace_id.as_u128(),
            rev: self.rev,
            seq: self.seq,
            state: State::from_number(self.state).ok_or("state")?,
            flags: Flags::from_bits(self.flags),
            flagged_at: self.flagged_at,
            paused_at: self.paused_at,
            pause_audit: self.pause_audit,
            cursor,
            resends: self.resends,
            done: Steps::from_bits(self.done),
            maybe_in_force: Steps::from_bits(self.maybe_in_force),
            failed_undo: Steps::from_bits(self.failed_undo),
            pivot: Steps::from_bits(self.pivot),
            wake_at: self.wake_at,
            budget_until: self.budget_until,
            deadline: self.deadline,
            waiting_since: self.waiting_since,
            reason: self.reason,
            approver: self.approver,
        })
    }
}

pub(crate) fn kind_number(kind: StepKind) -> i16 {
    match kind {
        StepKind::Do => 1,
        StepKind::Undo => 2,
        StepKind::Probe => 3,
    }
}

/// What a command asks, from the number in a row.
#[must_use]
pub fn kind_from(number: i16) -> Option<StepKind> {
    match number {
        1 => Some(StepKind::Do),
        2 => Some(StepKind::Undo),
        3 => Some(StepKind::Probe),
        _ => None,
    }
}

pub(crate) fn outcome_number(outcome: Outcome) -> i16 {
    match outcome {
        Outcome::Done => 1,
        Outcome::Rejected => 2,
        Outcome::Retry => 3,
        Outcome::Unknown => 4,
        Outcome::Waiting => 5,
    }
}

pub(crate) fn outcome_from(number: i16) -> Option<Outcome> {
    match number {
        1 => Some(Outcome::Done),
        2 => Some(Outcome::Rejected),
        3 => Some(Outcome::Retry),
        4 => Some(Outcome::Unknown),
        5 => Some(Outcome::Waiting),
        _ => None,
    }
}

database::statement! {
    /// Sagas by id, with whether they have ended.
    pub(crate) struct ReadSagas {
        ids: Vec<Uuid> => diesel::sql_types::Array<SqlUuid>,
    } -> RowSql =
    concat!("SELECT ", saga_columns!(), " FROM sagas s WHERE s.id = ANY ({ids})")
}

database::statement! {
    /// The live sagas of some shards, without those that wait for so long that they need not be in memory.
    pub(crate) struct ReadLive {
        shards: Vec<i16> => diesel::sql_types::Array<SmallInt>,
        sleeps_ms: i64 => BigInt,
    } -> RowSql =
    concat!("SELECT ", saga_columns!(), " FROM sagas s
             WHERE s.shard = ANY ({shards}) AND NOT s.ended
               AND (s.state <> 2 OR s.wake_at IS NULL
                    OR s.wake_at <= clock_timestamp() + {sleeps_ms} * interval '1 ms')")
}

database::statement! {
    /// The live sagas of some definitions behind an id, the oldest first.
    pub(crate) struct InFlight {
        definitions: Vec<i16> => diesel::sql_types::Array<SmallInt>,
        behind: Uuid => SqlUuid,
        most: i64 => BigInt,
    } -> SqlUuid =
    "WITH live AS MATERIALIZED (
       SELECT s.id FROM sagas s
       WHERE NOT s.ended AND s.definition = ANY ({definitions}) AND s.id > {behind})
     SELECT id FROM live ORDER BY id LIMIT {most}"
}

database::statement! {
    /// Ids and revisions of the live sagas of some shards, without those that sleep.
    pub(crate) struct LiveIds {
        shards: Vec<i16> => diesel::sql_types::Array<SmallInt>,
        sleeps_ms: i64 => BigInt,
    } -> (SqlUuid, Integer) =
    "SELECT s.id, s.rev FROM sagas s
     WHERE s.shard = ANY ({shards}) AND NOT s.ended
       AND (s.state <> 2 OR s.wake_at IS NULL
            OR s.wake_at <= clock_timestamp() + {sleeps_ms} * interval '1 ms')"
}

database::statement! {
    /// How many live sagas sleep, by shard.
    pub(crate) struct CountAsleep {
        shards: Vec<i16> => diesel::sql_types::Array<SmallInt>,
        sleeps_ms: i64 => BigInt,
    } -> (SmallInt, Integer) =
    "SELECT s.shard, count(*)::int FROM sagas s
     WHERE s.shard = ANY ({shards}) AND NOT s.ended
       AND s.state = 2 AND s.wake_at > clock_timestamp() + {sleeps_ms} * interval '1 ms'
     GROUP BY s.shard"
}

database::statement! {
    /// Of some shards the sagas that wait, run by a definition, and that nothing ends or stops.
    pub(crate) struct WaitingBy {
        shards: Vec<i16> => diesel::sql_types::Array<SmallInt>,
        definition: i16 => SmallInt,
        most: i64 => BigInt,
    } -> SqlUuid =
    "SELECT id FROM sagas
     WHERE shard = ANY ({shards}) AND NOT ended AND definition = {definition} AND state = 2
       AND reason IS NULL AND flags & 3 = 0
     LIMIT {most}"
}

database::statement! {
    /// Of some sagas those whose rows cannot be written now, for somebody else holds them locked.
    pub(crate) struct Locked {
        ids: Vec<Uuid> => diesel::sql_types::Array<SqlUuid>,
    } -> SqlUuid =
    "WITH given AS (SELECT {ids} AS ids), free AS (
       SELECT s.id FROM sagas s, given g WHERE s.id = ANY (g.ids)
       FOR NO KEY UPDATE OF s SKIP LOCKED
     )
     SELECT s.id FROM sagas s, given g
     WHERE s.id = ANY (g.ids) AND NOT EXISTS (SELECT FROM free f WHERE f.id = s.id)"
}

database::statement! {
    /// Sets sagas aside that cannot be read.
    pub(crate) struct Hold {
        ids: Vec<Uuid> => diesel::sql_types::Array<SqlUuid>,
    } -> Integer =
    "UPDATE sagas SET flags = flags | 2, rev = rev + 1, updated_at = clock_timestamp(),
            flagged_at = coalesce(flagged_at, date_trunc('milliseconds', clock_timestamp()))
     WHERE id = ANY ({ids}) AND flags & 2 = 0 AND NOT ended"
}
