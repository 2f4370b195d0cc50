//! Taking from counters and giving back.
//!
//! The race: many workers, one buyer. Each worker locks the counters of its batch in the order of
//! their key, reads what is taken, decides in memory, and adds one sum to each. A counter that does
//! not exist yet cannot be locked; two workers may both find it missing. So the write says what it
//! found: an insert that meets a row, or a sum that is not what was read plus what was added, means
//! that another worker was faster, and the batch is rolled back and tried again; by then the row
//! is there to be locked.
//!
//! What an order took stands in `quota_takes`. Giving back flips its `returned` and subtracts what
//! stands there, so it happens once, and gives back what was taken even if limits, spellings or
//! tiers are different by then.

use super::{
    rules::{CounterKey, Need},
    subject::Kind,
};
use crate::Error;
use contract::{OrderId, Refusal};
use database::Connection;
use diesel::{
    result::{DatabaseErrorKind, Error as DieselError},
    sql_types::{Array, Binary, Integer, Nullable, Text, Uuid as SqlUuid},
};
use diesel_async::RunQueryDsl;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use uuid::Uuid;

database::statement! {
    /// Locks counters in the order of their key; those that do not exist are missing.
    struct LockQuotas {
        subjects: Vec<Vec<u8>> => Array<Binary>,
        events: Vec<Uuid> => Array<SqlUuid>,
    } -> (Binary, SqlUuid, Integer) =
    "SELECT q.subject, q.event_id, q.taken
     FROM quotas q JOIN unnest({subjects}, {events}) AS t(subject, event_id)
       USING (subject, event_id)
     ORDER BY q.subject, q.event_id FOR UPDATE OF q"
}

database::statement! {
    /// Adds to counters, making those that are missing.
    struct TakeQuotas {
        subjects: Vec<Vec<u8>> => Array<Binary>,
        events: Vec<Uuid> => Array<SqlUuid>,
        kinds: Vec<&'static str> => Array<Text>,
        quantities: Vec<i32> => Array<Integer>,
    } -> (Binary, SqlUuid, Integer) =
    "INSERT INTO quotas AS q (subject, event_id, kind, taken)
     SELECT subject, event_id, kind, quantity
     FROM unnest({subjects}, {events}, {kinds}, {quantities}) AS t(subject, event_id, kind, quantity)
     ORDER BY subject, event_id
     ON CONFLICT (subject, event_id) DO UPDATE SET taken = q.taken + excluded.taken
     RETURNING q.subject, q.event_id, q.taken"
}

database::statement! {
    /// Subtracts from locked counters.
    struct GiveBackQuotas {
        subjects: Vec<Vec<u8>> => Array<Binary>,
        events: Vec<Uuid> => Array<SqlUuid>,
        quantities: Vec<i32> => Array<Integer>,
    } -> (Integer,) =
    "UPDATE quotas q SET taken = q.taken - t.quantity
     FROM unnest({subjects}, {events}, {quantities}) AS t(subject, event_id, quantity)
     WHERE q.subject = t.subject AND q.event_id = t.event_id"
}

database::statement! {
    /// Keeps what each order took.
    struct RecordTakes {
        step: &'static str => Text,
        orders: Vec<Uuid> => Array<SqlUuid>,
        subjects: Vec<Vec<u8>> => Array<Binary>,
        events: Vec<Uuid> => Array<SqlUuid>,
        quantities: Vec<i32> => Array<Integer>,
    } -> (Integer,) =
    "INSERT INTO quota_takes (order_id, step, subjects, events, quantities)
     SELECT order_id, {step}, array_agg(subject), array_agg(event_id), array_agg(quantity)
     FROM unnest({orders}, {subjects}, {events}, {quantities})
       AS t(order_id, subject, event_id, quantity)
     GROUP BY order_id ORDER BY order_id
     ON CONFLICT (order_id, step) DO NOTHING"
}

database::statement! {
    /// Forbids takes that have not come yet, and says why if there is a reason.
    struct FenceTakes {
        step: &'static str => Text,
        orders: Vec<Uuid> => Array<SqlUuid>,
        refusals: Vec<Option<&'static str>> => Array<Nullable<Text>>,
    } -> (Integer,) =
    "INSERT INTO quota_takes (order_id, step, subjects, events, quantities, returned, refusal)
     SELECT order_id, {step}, ARRAY[]::bytea[], ARRAY[]::uuid[], ARRAY[]::integer[], true, refusal
     FROM unnest({orders}, {refusals}) AS t(order_id, refusal) ORDER BY order_id
     ON CONFLICT (order_id, step) DO NOTHING"
}

database::statement! {
    /// Marks what orders took as returned and says the sums to give back; nothing the second time.
    struct ReturnTakes {
        step: &'static str => Text,
        orders: Vec<Uuid> => Array<SqlUuid>,
    } -> (Binary, SqlUuid, Integer) =
    "WITH given AS (
       UPDATE quota_takes SET returned = true
       WHERE order_id = ANY({orders}) AND step = {step} AND NOT returned
       RETURNING subjects, events, quantities)
     SELECT t.subject, t.event_id, sum(t.quantity)::integer
     FROM given, unnest(given.subjects, given.events, given.quantities)
       AS t(subject, event_id, quantity)
     GROUP BY t.subject, t.event_id"
}

/// What is taken from counters, or to be given back.
pub type Sums = BTreeMap<CounterKey, i32>;

/// A step's takes. The names of steps that take are fixed, so that the statements stay so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taker {
    /// The limits per account and mailbox.
    FraudCheck,
    /// The limit per payment fingerprint.
    Pay,
}

impl Taker {
    fn step(self) -> &'static str {
        match self {
            Self::FraudCheck => "fraud-check",
            Self::Pay => "pay",
        }
    }
}

/// Marks what the orders took as returned; the sums are yet to be [`subtract`]ed.
///
/// # Errors
/// The database refuses.
pub async fn mark_returned(
    connection: &mut Connection,
    taker: Taker,
    orders: &[OrderId],
) -> Result<Sums, Error> {
    if orders.is_empty() {
        return Ok(Sums::new());
    }
    let mark = ReturnTakes {
        step: taker.step(),
        orders: orders.iter().map(|order| order.0).collect(),
    };
    let rows: Vec<(Vec<u8>, Uuid, i32)> = mark.load(connection).await?;
    rows.into_iter()
        .map(|(subject, event, sum)| Ok((key(&subject, event)?, sum)))
        .collect()
}

/// Locks the counters, all that a transaction needs at once, and reads them; those that do not
/// exist yet are missing.
///
/// # Errors
/// The database refuses.
pub async fn lock(
    connection: &mut Connection,
    keys: impl IntoIterator<Item = CounterKey>,
) -> Result<HashMap<CounterKey, i32>, Error> {
    let keys: BTreeSet<CounterKey> = keys.into_iter().collect();
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let lock = LockQuotas {
        subjects: keys.iter().map(|key| key.subject.to_vec()).collect(),
        events: keys.iter().map(|key| key.event).collect(),
    };
    let rows: Vec<(Vec<u8>, Uuid, i32)> = lock.load(connection).await?;
    rows.into_iter()
        .map(|(subject, event, taken)| Ok((key(&subject, event)?, taken)))
        .collect()
}

/// Gives back to locked counters, here and in the database.
///
/// # Errors
/// The database refuses.
pub async fn subtract(
    connection: &mut Connection,
    taken: &mut HashMap<CounterKey, i32>,
    sums: &Sums,
) -> Result<(), Error> {
    if sums.is_empty() {
        return Ok(());
    }
    let give_back = GiveBackQuotas {
        subjects: sums.keys().map(|key| key.subject.to_vec()).collect(),
        events: sums.keys().map(|key| key.event).collect(),
        quantities: sums.values().copied().collect(),
    };
    give_back.execute(connection).await?;
    for (key, sum) in sums {
        *taken.entry(*key).or_insert(0) -= sum;
    }
    Ok(())
}

/// Takes what was decided upon `taken`, as [`lock`] read it: one write per counter, and a row for
/// each order.
///
/// # Errors
/// A transient one if another worker made one of the counters, or took for one of the orders,
/// meanwhile; or the database refuses.
pub async fn add(
    connection: &mut Connection,
    taker: Taker,
    taken: &HashMap<CounterKey, i32>,
    takes: &[(OrderId, Vec<Need>)],
) -> Result<(), Error> {
    let mut sums: BTreeMap<CounterKey, (Kind, i32)> = BTreeMap::new();
    let mut record = RecordTakes {
        step: taker.step(),
        orders: Vec::new(),
        subjects: Vec::new(),
        events: Vec::new(),
        quantities: Vec::new(),
    };
    for (order, needs) in takes {
        for need in needs {
            sums.entry(need.key).or_insert((need.kind, 0)).1 += need.quantity;
            record.orders.push(order.0);
            record.subjects.push(need.key.subject.to_vec());
            record.events.push(need.key.event);
            record.quantities.push(need.quantity);
        }
    }
    if sums.is_empty() {
        return Ok(());
    }
    let take = TakeQuotas {
        subjects: sums.keys().map(|key| key.subject.to_vec()).collect(),
        events: sums.keys().map(|key| key.event).collect(),
        kinds: sums.values().map(|(kind, _)| kind.as_str()).collect(),
        quantities: sums.values().map(|(_, sum)| *sum).collect(),
    };
    let rows: Vec<(Vec<u8>, Uuid, i32)> = take.load(connection).await?;
    for (subject, event, now) in rows {
        let key = key(&subject, event)?;
        let before = taken.get(&key).copied().unwrap_or(0);
        let sum = sums.get(&key).map_or(0, |(_, sum)| *sum);
        if now != before + sum {
            return Err(overtaken().into());
        }
    }
    if record.execute(connection).await? != takes.len() {
        return Err(overtaken().into());
    }
    Ok(())
}

/// Forbids the step to take for these orders from now on, each with the reason if it is a refusal: a
/// `take` that was overtaken by its own undo, or comes again, meets a row. For steps whose ledger row
/// is not held while they take. Returns how many were not forbidden, or taken for, before.
///
/// # Errors
/// The database refuses.
pub async fn fence(
    connection: &mut Connection,
    taker: Taker,
    orders: &[(OrderId, Option<Refusal>)],
) -> Result<usize, Error> {
    if orders.is_empty() {
        return Ok(0);
    }
    let fence = FenceTakes {
        step: taker.step(),
        orders: orders.iter().map(|(order, _)| order.0).collect(),
        refusals: orders
            .iter()
            .map(|(_, refusal)| refusal.map(Refusal::code))
            .collect(),
    };
    Ok(fence.execute(connection).await?)
}

/// Gives back what the orders took, once, in the caller's transaction.
///
/// # Errors
/// The database refuses.
pub async fn give_back(
    connection: &mut Connection,
    taker: Taker,
    orders: &[OrderId],
) -> Result<(), Error> {
    let sums = mark_returned(connection, taker, orders).await?;
    let mut taken = lock(connection, sums.keys().copied()).await?;
    subtract(connection, &mut taken, &sums).await
}

fn key(subject: &[u8], event: Uuid) -> Result<CounterKey, Error> {
    let subject = subject
        .try_into()
        .map_err(|_| Error::BadRow("a subject of quotas is not 16 bytes long".into()))?;
    Ok(CounterKey { subject, event })
}

/// The same kind of failure as PostgreSQL's own 40001, and as harmless.
pub(super) fn overtaken() -> DieselError {
    DieselError::DatabaseError(
        DatabaseErrorKind::SerializationFailure,
        Box::new("another worker took from the same counters first".to_owned()),
    )
}
