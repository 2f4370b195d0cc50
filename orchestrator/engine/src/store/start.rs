//! New sagas, in the caller's transaction.

use crate::{Error, shard_of, store::row::kind_number};
use contract::SagaId;
use database::Connection;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, SmallInt, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use saga::{Definition, Instance, Now, Send};
use uuid::Uuid;

database::statement! {
    /// Inserts sagas with their first row of history, and reads the leases: shard, reply queue of a
    /// live owner, sagas before their pivot, those that sleep, the database's time.
    struct InsertSagas {
        ids: Vec<Uuid> => Array<SqlUuid>,
        traces: Vec<Uuid> => Array<SqlUuid>,
        shards: Vec<i16> => Array<SmallInt>,
        definitions: Vec<i16> => Array<SmallInt>,
        pivots: Vec<i32> => Array<Integer>,
        maybe: Vec<i32> => Array<Integer>,
        steps: Vec<Option<i16>> => Array<Nullable<SmallInt>>,
        kinds: Vec<Option<i16>> => Array<Nullable<SmallInt>>,
        wakes: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        budgets: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        deadlines: Vec<i64> => Array<BigInt>,
    } -> (SmallInt, Nullable<Text>, Bool, Integer, Integer, BigInt) =
    "WITH born AS (
       INSERT INTO sagas (id, trace_id, shard, definition, pivot, maybe_in_force, step, kind,
                          wake_at, budget_until, deadline, rev, seq, state, attempt, outstanding,
                          updated_at)
       SELECT n.id, n.trace, n.shard, n.definition, n.pivot, n.maybe, n.step, n.kind,
              to_timestamp(n.wake / 1000.0), to_timestamp(n.budget / 1000.0),
              to_timestamp(n.deadline / 1000.0), 1, 1, 1, 1, true, clock_timestamp()
       FROM unnest({ids}, {traces}, {shards}, {definitions}, {pivots}, {maybe}, {steps}, {kinds},
                   {wakes}, {budgets}, {deadlines})
         AS n(id, trace, shard, definition, pivot, maybe, step, kind, wake, budget, deadline)
       RETURNING id, step, kind
     ), noted AS (
       INSERT INTO history (saga_id, at, rev, seq, input, state, next_seq, next_step, next_kind,
                            next_attempt)
       SELECT id, clock_timestamp(), 1, 0, 1, 1, 1, step, kind, 1 FROM born
     )
     SELECT shard, reply_queue, owner IS NOT NULL AND lease_until > clock_timestamp(), live, asleep,
            (extract(epoch FROM clock_timestamp()) * 1000)::bigint
     FROM shards ORDER BY shard"
}

/// A saga to start.
#[derive(Clone, Copy, Debug)]
pub struct NewSaga {
    /// Its id, made by the caller.
    pub id: SagaId,
    /// The trace of the request.
    pub trace_id: u128,
}

/// What to do once the caller's transaction is committed: see [`crate::Client::send_first`].
#[derive(Debug)]
pub struct Started {
    pub(crate) sagas: Vec<StartedSaga>,
    pub(crate) database_now_ms: i64,
    pub(crate) live: i64,
    pub(crate) asleep: i64,
    pub(crate) owned: bool,
}

#[derive(Debug)]
pub(crate) struct StartedSaga {
    pub(crate) instance: Instance,
    pub(crate) send: Option<Send>,
    pub(crate) shard: i16,
    pub(crate) reply_to: Option<String>,
}

impl Started {
    /// The database's time at the insert, in milliseconds since the epoch.
    #[must_use]
    pub fn database_now_ms(&self) -> i64 {
        self.database_now_ms
    }

    /// Whether any shard has an owner at the moment; without one nobody counts what is live.
    #[must_use]
    pub fn owned(&self) -> bool {
        self.owned
    }

    /// Sagas before their pivot, as the owners of the shards last said: for admission.
    #[must_use]
    pub fn live(&self) -> i64 {
        self.live
    }

    /// Sagas that wait for so long that they are not in memory, as the owners last counted: for admission.
    #[must_use]
    pub fn asleep(&self) -> i64 {
        self.asleep
    }
}

/// Inserts new sagas with their first command decided, in the caller's transaction: nothing is sent
/// before it commits. `shards` is the number of shards in the database, `now` the database's time.
///
/// # Errors
/// The statement fails; the caller's transaction is broken.
pub async fn start(
    connection: &mut Connection,
    definition: &Definition,
    new: &[NewSaga],
    shards: i16,
    now: Now,
) -> Result<Started, Error> {
    let mut born: Vec<_> = new
        .iter()
        .map(|new| {
            (
                saga::start(definition, new.id, new.trace_id, now),
                shard_of(new.id, shards),
            )
        })
        .collect();
    born.sort_by_key(|(transition, _)| transition.next.id);
    let instances = || born.iter().map(|(transition, _)| &transition.next);
    let leases: Vec<(i16, Option<String>, bool, i32, i32, i64)> = InsertSagas {
        ids: instances().map(|saga| saga.id.0).collect(),
        traces: instances()
            .map(|saga| Uuid::from_u128(saga.trace_id))
            .collect(),
        shards: born.iter().map(|(_, shard)| *shard).collect(),
        definitions: instances().map(|saga| saga.definition).collect(),
        pivots: instances().map(|saga| saga.pivot.bits()).collect(),
        maybe: instances().map(|saga| saga.maybe_in_force.bits()).collect(),
        steps: instances()
            .map(|saga| saga.cursor.map(|c| i16::from(c.step)))
            .collect(),
        kinds: instances()
            .map(|saga| saga.cursor.map(|c| kind_number(c.kind)))
            .collect(),
        wakes: instances().map(|saga| saga.wake_at).collect(),
        budgets: instances().map(|saga| saga.budget_until).collect(),
        deadlines: instances().map(|saga| saga.deadline).collect(),
    }
    .load(connection)
    .await?;
    let database_now_ms = leases.iter().map(|lease| lease.5).max().unwrap_or(now.ms);
    let owned = leases.iter().any(|lease| lease.2);
    let live = leases.iter().map(|lease| i64::from(lease.3)).sum();
    let asleep = leases.iter().map(|lease| i64::from(lease.4)).sum();
    let queue_of = |shard: i16| {
        let lease = leases.iter().find(|lease| lease.0 == shard)?;
        lease.1.clone().filter(|_| lease.2)
    };
    let sagas = born
        .into_iter()
        .map(|(transition, shard)| StartedSaga {
            send: transition.send,
            instance: transition.next,
            shard,
            reply_to: queue_of(shard),
        })
        .collect();
    Ok(Started {
        sagas,
        database_now_ms,
        live,
        asleep,
        owned,
    })
}
