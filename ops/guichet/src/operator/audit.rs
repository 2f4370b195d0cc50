//! `guichet audit verify|ls`

use std::path::Path;

use anyhow::anyhow;
use inspector::audit::{self, Filter, Verdict};
use serde::Serialize;
use uuid::Uuid;

use super::intervention::{connect, refused};
use crate::{
    failure::Failure,
    output::{self, Format},
};

/// The arguments of `guichet audit ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Only what was done to this order or saga
    #[arg(long, value_name = "ID")]
    subject: Option<Uuid>,

    /// Only what this person did
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,

    /// Only rows before this number: the next page
    #[arg(long, value_name = "NUMBER")]
    before: Option<i64>,

    /// So many at most
    #[arg(long, value_name = "N", default_value_t = 100,
          value_parser = clap::value_parser!(i64).range(1..=inspector::LIST_MAX))]
    limit: i64,
}

#[derive(Serialize)]
struct Whole {
    rows: i64,
    head: String,
}

/// Walks the whole chain; fails at the first row that does not follow from the one before.
pub(crate) async fn verify(file: Option<&Path>, format: Format) -> Result<(), Failure> {
    let mut connection = connect(file, "audit").await?;
    match audit::verify(&mut connection).await.map_err(refused)? {
        Verdict::Broken { id, problem } => {
            Err(anyhow!("the audit log was tampered with: row {id}: {problem}").into())
        }
        Verdict::Whole(head) => {
            let whole = Whole {
                rows: head.id,
                head: head.hash.iter().map(|byte| format!("{byte:02x}")).collect(),
            };
            Ok(output::one(format, &whole, |whole| {
                vec![
                    ("rows", whole.rows.to_string()),
                    // To be noted elsewhere: it tells whether the last rows were cut off.
                    ("head", whole.head.clone()),
                ]
            })?)
        }
    }
}

/// Prints what people did, newest first.
pub(crate) async fn list(file: Option<&Path>, format: Format, list: List) -> Result<(), Failure> {
    let mut connection = connect(file, "audit").await?;
    let filter = Filter {
        subject: list.subject,
        actor: list.actor,
        before: list.before,
        limit: list.limit,
    };
    let rows = audit::list(&mut connection, filter)
        .await
        .map_err(refused)?;
    let header = ["number", "at", "actor", "action", "subject", "reason"];
    Ok(output::rows(format, &header, &rows, |row| {
        vec![
            row.id.to_string(),
            row.at.format("%F %T").to_string(),
            row.actor.clone(),
            row.action.clone(),
            row.subject
                .map_or_else(String::new, |subject| subject.to_string()),
            row.reason.clone(),
        ]
    })?)
}
