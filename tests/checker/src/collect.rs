//! Reading what others have written.

use crate::{books::Books, evidence::LedgerEntry};
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

/// How long one answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be asked.
    #[error("the database cannot be read: {0}")]
    Database(#[from] tokio_postgres::Error),
    /// Somebody does not answer over HTTP.
    #[error("{what} does not answer: {source}")]
    Http {
        /// Who.
        what: &'static str,
        /// Why.
        source: reqwest::Error,
    },
    /// What was read is not what it should be.
    #[error("{what} cannot be understood: {source}")]
    Strange {
        /// What.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
}

/// A connection of the checker's own, which can only read.
pub struct Reader {
    client: Client,
}

impl Reader {
    /// Connects.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        // It ends with the client.
        tokio::spawn(connection);
        client
            .batch_execute(
                "SET default_transaction_read_only = on; SET statement_timeout = '30s'; SET application_name = 'checker'",
            )
            .await?;
        Ok(Self { client })
    }

    /// The database's clock, in milliseconds since 1970.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn now_ms(&self) -> Result<i64, Error> {
        let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
        Ok(self.client.query_one(sql, &[]).await?.get(0))
    }

    /// How many sagas were born about so many seconds from now, by the ids that they were given.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn sagas_born_off(&self, seconds: i64) -> Result<i64, Error> {
        self.made_off("SELECT id FROM sagas", seconds).await
    }

    /// How many answers of workers were made about so many seconds from now, by their ids.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn answers_made_off(&self, seconds: i64) -> Result<i64, Error> {
        let answers = "SELECT message_id AS id FROM history WHERE input = 2";
        self.made_off(answers, seconds).await
    }

    async fn made_off(&self, ids: &str, seconds: i64) -> Result<i64, Error> {
        let at = |around: i64| format!("uuid7_floor(now() + interval '{} s')", seconds + around);
        let (from, to) = (at(-120), at(120));
        let sql = format!("SELECT count(*) FROM ({ids}) AS a WHERE id >= {from} AND id < {to}");
        Ok(self.client.query_one(&sql, &[]).await?.get(0))
    }

    /// How many shards somebody has a lease of.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn leases_of(&self, owner: &str) -> Result<i64, Error> {
        let sql = "SELECT count(*) FROM shards WHERE owner = $1 AND lease_until > now()";
        Ok(self.client.query_one(sql, &[&owner]).await?.get(0))
    }

    /// How many orders have ended as they should.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn completed(&self) -> Result<i64, Error> {
        let sql = "SELECT count(*) FROM sagas WHERE state = 4";
        Ok(self.client.query_one(sql, &[]).await?.get(0))
    }

    /// How many sagas have neither ended nor are held, and the oldest of them: those that ask for a person are
    /// dealt with.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn restless(&self) -> Result<(i64, Option<Uuid>), Error> {
        let row = self
            .client
            .query_one(
                "SELECT count(*), min(id::text) FROM sagas WHERE NOT ended AND flags & 2 = 0",
                &[],
            )
            .await?;
        let oldest: Option<String> = row.get(1);
        Ok((row.get(0), oldest.and_then(|id| id.parse().ok())))
    }

    /// All books, of one instant.
    ///
    /// # Errors
    /// The database cannot be read, or a row is not as it should be.
    pub async fn books(&self) -> Result<Books, Error> {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        self.client.batch_execute(begin).await?;
        let books = self.read().await;
        self.client.batch_execute("ROLLBACK").await?;
        books
    }

    async fn read(&self) -> Result<Books, Error> {
        Ok(Books {
            orders: self.rows("orders", "SELECT id, total_minor, email FROM orders").await?,
            items: self
                .rows("order_items", "SELECT order_id, line, offer_id, quantity, unit_amount_minor FROM order_items")
                .await?,
            sagas: self.rows("sagas", SAGAS).await?,
            history: self.rows("history", HISTORY).await?,
            effects: self.rows("effects", "SELECT saga_id, step, state FROM effects").await?,
            tickets: self.rows("tickets", TICKETS).await?,
            stock: self.rows("stock", STOCK).await?,
            quotas: self
                .rows("quotas", "SELECT encode(subject, 'hex') || ' ' || event_id AS counter, taken FROM quotas")
                .await?,
            takes: self.rows("quota_takes", TAKES).await?,
            definitions: self.rows("definitions", "SELECT id, body FROM definitions").await?,
            audit: self.rows("audit", AUDIT).await?,
        })
    }

    async fn rows<T: DeserializeOwned>(
        &self,
        what: &'static str,
        sql: &str,
    ) -> Result<Vec<T>, Error> {
        let sql = format!("SELECT row_to_json(r)::text FROM ({sql}) AS r");
        let rows = self.client.query(&sql, &[]).await?;
        let read = |row: &tokio_postgres::Row| serde_json::from_str(row.get(0));
        rows.iter()
            .map(read)
            .collect::<Result<_, _>>()
            .map_err(|source| Error::Strange { what, source })
    }
}

const SAGAS: &str =
    "SELECT id, state, flags, done, maybe_in_force, failed_undo, pivot, definition, step, kind,
    seq, resends, reason, (extract(epoch FROM flagged_at) * 1000)::bigint AS flagged_at_ms,
    (extract(epoch FROM updated_at) * 1000)::bigint AS updated_at_ms FROM sagas";

const HISTORY: &str = "SELECT saga_id, rev, (extract(epoch FROM at) * 1000)::bigint AS at_ms, seq, input, step, kind,
    outcome, state, next_seq, next_step, next_kind, next_attempt, code, detail FROM history ORDER BY saga_id, rev";

const TICKETS: &str = "SELECT order_id, line, event_id, offer_id, number, companion, revoked_at IS NOT NULL AS revoked
    FROM tickets";

/// Of what anybody has ordered.
const STOCK: &str = "SELECT offer_id, capacity, taken, EXISTS (
      SELECT FROM offers JOIN events ON events.id = event_id
      WHERE offers.id = offer_id AND status = 'cancelled') AS cancelled
    FROM stock WHERE taken > 0 OR offer_id IN (SELECT offer_id FROM order_items)";

const TAKES: &str =
    "SELECT q.order_id, q.step, encode(t.subject, 'hex') || ' ' || t.event_id AS counter, t.quantity
    FROM quota_takes q, unnest(q.subjects, q.events, q.quantities) AS t(subject, event_id, quantity)
    WHERE NOT q.returned";

const AUDIT: &str = "SELECT id, (extract(epoch FROM at) * 1000000)::bigint AS at_us, actor, action, subject, reason,
    detail, encode(previous, 'hex') AS previous, encode(hash, 'hex') AS hash FROM audit ORDER BY id";

/// The payment provider's whole ledger.
///
/// # Errors
/// It does not answer, or not with a ledger.
pub async fn ledger(provider_url: &str) -> Result<Vec<LedgerEntry>, Error> {
    #[derive(serde::Deserialize)]
    struct Ledger {
        entries: Vec<LedgerEntry>,
    }
    let what = "the provider's ledger";
    let http = |source| Error::Http { what, source };
    let client = reqwest::Client::builder().timeout(ANSWER_WITHIN).build();
    let request = client
        .map_err(http)?
        .get(format!("{provider_url}/_sim/ledger"));
    let text = request
        .send()
        .await
        .map_err(http)?
        .text()
        .await
        .map_err(http)?;
    let ledger: Ledger =
        serde_json::from_str(&text).map_err(|source| Error::Strange { what, source })?;
    Ok(ledger.entries)
}
