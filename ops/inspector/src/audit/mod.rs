//! The audit log: every human intervention, each row holding the hash of the one before.
//!
//! Changing, removing or inserting a row breaks the chain at that row, and [`verify`] says where.
//! What a chain alone cannot show is that its last rows were cut off; therefore `verify` reports the
//! head, to be compared with one noted elsewhere.
//!
//! The race: two operators act at once, and both would append to the same head. The chain is
//! serialised by a transaction lock that is taken before the head is read and held until the
//! commit; interventions are rare, so nobody waits long.

mod chain;
#[cfg(test)]
mod tests;

pub use chain::Row;

use crate::{
    Error,
    error::{ACTOR_MAX_CHARS, REASON_MAX_CHARS, checked_limit, checked_text},
};
use chrono::{DateTime, SubsecRound, Utc};
use database::Connection;
use diesel::sql_types::{BigInt, Binary, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncConnection, RunQueryDsl};
use serde_json::Value;
use uuid::Uuid;

/// What the first row holds in place of a hash before it.
pub const GENESIS: [u8; 32] = [0; 32];

/// Any number, the same for all who append.
const LOCK: i64 = 4_745_003;

/// Characters of what was done, as `review.approve`.
const ACTION_MAX_CHARS: usize = 100;

/// Rows that `verify` reads at a time.
const PAGE: i64 = 1_000;

/// What somebody did.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Who, 1 to 200 characters.
    pub actor: String,
    /// What, as `review.approve`; 1 to 100 characters.
    pub action: String,
    /// To which saga, order or other thing.
    pub subject: Option<Uuid>,
    /// Why, 1 to 1000 characters.
    pub reason: String,
    /// What else is worth keeping; no secrets.
    pub detail: Value,
}

/// The end of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Number of the last row; 0 when there is none.
    pub id: i64,
    /// Its hash.
    pub hash: Vec<u8>,
}

/// What [`verify`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Each row follows from the one before, up to this one.
    Whole(Head),
    /// The first row that does not.
    Broken {
        /// Its number.
        id: i64,
        /// What is wrong with it.
        problem: String,
    },
}

/// Which rows to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only about this.
    pub subject: Option<Uuid>,
    /// Only by him.
    pub actor: Option<String>,
    /// Only rows before this number; for the next page.
    pub before: Option<i64>,
    /// So many at most, 1 to 1000.
    pub limit: i64,
}

type RawRow = (
    i64,
    DateTime<Utc>,
    String,
    String,
    Option<Uuid>,
    String,
    Value,
    Vec<u8>,
    Vec<u8>,
);

database::statement! {
    /// Waits until nobody else appends; held until the transaction ends.
    struct LockChain { number: i64 => BigInt } -> Text =
    "SELECT pg_advisory_xact_lock({number})::text"
}

database::statement! {
    /// The head of the chain, if there is one, and the time.
    struct ReadHead {} -> (Nullable<BigInt>, Nullable<Binary>, Timestamptz) =
    "SELECT a.id, a.hash, clock_timestamp()
     FROM (SELECT) AS always LEFT JOIN (SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1) AS a ON true"
}

database::statement! {
    /// Appends a row.
    struct Append {
        id: i64 => BigInt,
        at: DateTime<Utc> => Timestamptz,
        actor: String => Text,
        action: String => Text,
        subject: Option<Uuid> => Nullable<SqlUuid>,
        reason: String => Text,
        detail: Value => Jsonb,
        previous: Vec<u8> => Binary,
        hash: Vec<u8> => Binary,
    } -> (BigInt,) =
    "INSERT INTO audit (id, at, actor, action, subject, reason, detail, previous, hash)
     VALUES ({id}, {at}, {actor}, {action}, {subject}, {reason}, {detail}, {previous}, {hash})"
}

database::statement! {
    /// The rows behind one, in their order.
    struct ReadBehind {
        id: i64 => BigInt,
        limit: i64 => BigInt,
    } -> (BigInt, Timestamptz, Text, Text, Nullable<SqlUuid>, Text, Jsonb, Binary, Binary) =
    "SELECT id, at, actor, action, subject, reason, detail, previous, hash
     FROM audit WHERE id > {id} ORDER BY id LIMIT {limit}"
}

database::statement! {
    /// The newest rows that match, newest first.
    struct ReadNewest {
        subject: Option<Uuid> => Nullable<SqlUuid>,
        actor: Option<String> => Nullable<Text>,
        before: i64 => BigInt,
        limit: i64 => BigInt,
    } -> (BigInt, Timestamptz, Text, Text, Nullable<SqlUuid>, Text, Jsonb, Binary, Binary) =
    "SELECT id, at, actor, action, subject, reason, detail, previous, hash
     FROM audit
     WHERE id < {before} AND ({subject} IS NULL OR subject = {subject})
       AND ({actor} IS NULL OR actor = {actor})
     ORDER BY id DESC LIMIT {limit}"
}

/// Appends what somebody did, in the caller's transaction (begun with `READ COMMITTED`, the
/// default), and returns the row's number. Take other locks before: this one is held to the end.
///
/// # Errors
/// A text is empty, too long or not plain; or the database refuses.
pub async fn append(connection: &mut Connection, entry: Entry) -> Result<i64, Error> {
    let actor = checked_text("actor", &entry.actor, ACTOR_MAX_CHARS)?;
    let action = checked_text("action", &entry.action, ACTION_MAX_CHARS)?;
    let reason = checked_text("reason", &entry.reason, REASON_MAX_CHARS)?;
    let _: String = LockChain { number: LOCK }.get_result(connection).await?;
    let (id, hash, at): (Option<i64>, Option<Vec<u8>>, DateTime<Utc>) =
        ReadHead {}.get_result(connection).await?;
    let row = Row {
        id: id.unwrap_or(0) + 1,
        at: at.trunc_subsecs(6),
        actor,
        action,
        subject: entry.subject,
        reason,
        detail: entry.detail,
        previous: hash.unwrap_or_else(|| GENESIS.to_vec()),
    };
    let id = row.id;
    let append = Append {
        hash: row.hash().to_vec(),
        id,
        at: row.at,
        actor: row.actor,
        action: row.action,
        subject: row.subject,
        reason: row.reason,
        detail: row.detail,
        previous: row.previous,
    };
    append.execute(connection).await?;
    Ok(id)
}

/// Walks the chain from its beginning and reports its head, or the first row that does not follow.
/// Reads one state of the log, page by page.
///
/// # Errors
/// The database cannot be asked.
pub async fn verify(connection: &mut Connection) -> Result<Verdict, Error> {
    let mut head = Head {
        id: 0,
        hash: GENESIS.to_vec(),
    };
    loop {
        let page = ReadBehind {
            id: head.id,
            limit: PAGE,
        };
        let rows: Vec<RawRow> = page.load(connection).await?;
        let last = rows.len() < PAGE as usize;
        for raw in rows {
            let (row, stored) = row(raw);
            if let Some(problem) = chain::problem(&head, &row, &stored) {
                return Ok(Verdict::Broken {
                    id: row.id,
                    problem,
                });
            }
            head = Head {
                id: row.id,
                hash: stored,
            };
        }
        if last {
            return Ok(Verdict::Whole(head));
        }
    }
}

/// The rows that match, newest first.
///
/// # Errors
/// The limit is out of bounds, or the database cannot be asked.
pub async fn list(connection: &mut Connection, filter: Filter) -> Result<Vec<Row>, Error> {
    let newest = ReadNewest {
        subject: filter.subject,
        actor: filter.actor,
        before: filter.before.unwrap_or(i64::MAX),
        limit: checked_limit(filter.limit)?,
    };
    let rows: Vec<RawRow> = newest.load(connection).await?;
    Ok(rows.into_iter().map(|raw| row(raw).0).collect())
}

/// [`append`] in a transaction of its own.
///
/// # Errors
/// As [`append`].
pub async fn record(connection: &mut Connection, entry: Entry) -> Result<i64, Error> {
    connection
        .transaction(async |connection| append(connection, entry).await)
        .await
}

fn row(raw: RawRow) -> (Row, Vec<u8>) {
    let (id, at, actor, action, subject, reason, detail, previous, hash) = raw;
    let row = Row {
        id,
        at,
        actor,
        action,
        subject,
        reason,
        detail,
        previous,
    };
    (row, hash)
}
