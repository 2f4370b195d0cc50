//! The promises as queries against the live database. Only reads.
//!
//! Orders are in flight while it looks. So everything is read in one snapshot, and each query asks
//! for something that holds at every instant, not only at rest: what must agree is written in one
//! transaction.

mod queries;
#[cfg(test)]
mod tests;

use queries::QUERIES;

use crate::{
    Error,
    audit::{self, Verdict},
};
use database::Connection;
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use serde::Serialize;

/// Rows that are reported per query; the number of the others is not counted.
pub const ROWS_MAX: usize = 100;

/// Orders in attention or abandoned that are listed.
pub const APART_MAX: usize = 1_000;

/// What is checked beside the queries; it is [`audit::verify`], no single query can walk a chain.
pub const AUDIT_CHAIN: Statement = Statement {
    name: "audit-chain",
    promise: "tamper-evident",
    says: "Each row of the audit log follows from the one before.",
};

/// How long one query may take; the connection has to bear with it.
pub const TIMEOUT_MS: u32 = 600_000;

/// What must be true.
#[derive(Clone, Copy, Debug)]
pub struct Statement {
    /// Its name.
    pub name: &'static str,
    /// The promise that it guards, as in the README.
    pub promise: &'static str,
    /// What it says.
    pub says: &'static str,
}

/// An invariant as a query that returns the rows which violate it.
#[derive(Clone, Copy, Debug)]
struct Query {
    name: &'static str,
    promise: &'static str,
    says: &'static str,
    /// Returns `subject` and `detail` as text.
    sql: &'static str,
}

/// A row that violates an invariant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The query's name.
    pub check: &'static str,
    /// The promise that it guards.
    pub promise: &'static str,
    /// The row: what it is and its id.
    pub subject: String,
    /// What is wrong with it.
    pub detail: String,
}

/// An order that no check condemns, but a person has to end or has abandoned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Apart {
    /// The saga, and order.
    pub saga: String,
    /// Why it stands apart: `attention`, `abandoned`, `resolved` (a person dealt with its payment
    /// elsewhere), or `paused` (for more than an hour).
    pub why: String,
    /// The reason that its saga gives.
    pub reason: Option<String>,
    /// What is or may be captured of it, in minor units.
    pub at_stake_minor: i64,
    /// In which currency.
    pub currency: String,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Rows that violate an invariant, at most [`ROWS_MAX`] for each.
    pub findings: Vec<Finding>,
    /// Orders that people have taken over, at most [`APART_MAX`].
    pub apart: Vec<Apart>,
}

#[derive(diesel::QueryableByName)]
struct FoundRow {
    #[diesel(sql_type = Text)]
    subject: String,
    #[diesel(sql_type = Text)]
    detail: String,
}

#[derive(diesel::QueryableByName)]
struct ApartRow {
    #[diesel(sql_type = Text)]
    saga: String,
    #[diesel(sql_type = Text)]
    why: String,
    #[diesel(sql_type = Nullable<Text>)]
    reason: Option<String>,
    #[diesel(sql_type = BigInt)]
    at_stake_minor: i64,
    #[diesel(sql_type = Text)]
    currency: String,
}

/// Everything that [`run`] checks.
pub fn statements() -> impl Iterator<Item = Statement> {
    let of_queries = QUERIES.iter().map(|query| Statement {
        name: query.name,
        promise: query.promise,
        says: query.says,
    });
    of_queries.chain([AUDIT_CHAIN])
}

/// Runs every query in one snapshot.
///
/// # Errors
/// The database cannot be asked.
pub async fn run(connection: &mut Connection) -> Result<Report, Error> {
    connection
        .build_transaction()
        .repeatable_read()
        .read_only()
        .run(async |connection| {
            let patience = format!("SET LOCAL statement_timeout = {TIMEOUT_MS}");
            connection.batch_execute(&patience).await?;
            connection.batch_execute(database::WHOLE_TABLES).await?;
            let mut report = Report::default();
            for query in QUERIES {
                report.findings.extend(violations(connection, query).await?);
            }
            if let Verdict::Broken { id, problem } = audit::verify(connection).await? {
                report.findings.push(Finding {
                    check: AUDIT_CHAIN.name,
                    promise: AUDIT_CHAIN.promise,
                    subject: format!("audit {id}"),
                    detail: problem,
                });
            }
            let apart = format!("{} LIMIT {APART_MAX}", queries::APART);
            let apart: Vec<ApartRow> = diesel::sql_query(apart).load(connection).await?;
            report.apart = apart.into_iter().map(Apart::from).collect();
            Ok(report)
        })
        .await
}

async fn violations(connection: &mut Connection, query: &Query) -> Result<Vec<Finding>, Error> {
    let sql = format!(
        "SELECT subject::text, coalesce(detail, '')::text AS detail FROM ({}) AS found \
         ORDER BY subject LIMIT {ROWS_MAX}",
        query.sql
    );
    let rows: Vec<FoundRow> = diesel::sql_query(sql).load(connection).await?;
    let findings = rows.into_iter().map(|row| Finding {
        check: query.name,
        promise: query.promise,
        subject: row.subject,
        detail: row.detail,
    });
    Ok(findings.collect())
}

impl From<ApartRow> for Apart {
    fn from(row: ApartRow) -> Self {
        Self {
            saga: row.saga,
            why: row.why,
            reason: row.reason,
            at_stake_minor: row.at_stake_minor,
            currency: row.currency,
        }
    }
}
