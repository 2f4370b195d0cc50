//! What commands have in common that look into the database or intervene.

use std::path::Path;

use anyhow::Context;
use inspector::Error;

use super::ON_DATABASE;
use crate::{config, failure::Failure};

/// Who intervenes, and why: both go into the audit log.
#[derive(Debug, clap::Args)]
pub(crate) struct By {
    /// Why; kept in the audit log
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,

    /// Who you are; kept in the audit log
    #[arg(long = "as", value_name = "NAME", env = "USER")]
    pub(crate) actor: String,
}

/// A connection of the command's own.
pub(crate) async fn connect(
    file: Option<&Path>,
    name: &str,
) -> Result<database::Connection, Failure> {
    connect_for(file, name, None).await
}

/// The same, for statements that may take so long.
pub(crate) async fn connect_for(
    file: Option<&Path>,
    name: &str,
    statement_timeout_ms: Option<u64>,
) -> Result<database::Connection, Failure> {
    let mut database = config::load(file, &ON_DATABASE)?.database.named(name);
    if let Some(longer) = statement_timeout_ms {
        database.statement_timeout_ms = longer;
    }
    let connection = database::connect(&database)
        .await
        .context("cannot reach the database")?;
    Ok(connection)
}

/// The exit code of what the inspector refuses.
pub(crate) fn refused(error: Error) -> Failure {
    match error {
        Error::NotFound { .. } => Failure::not_found(error.into()),
        Error::Conflict(_) => Failure::conflict(error.into()),
        Error::BadRequest(_) => Failure::usage(error.into()),
        Error::BadRow(_) | Error::Database(_) => anyhow::Error::from(error).into(),
    }
}
