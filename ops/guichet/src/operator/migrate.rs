//! `guichet migrate`

use std::path::Path;

use anyhow::{Context, Result};
use engine::definitions::{Definitions, register};
use serde::Serialize;

use super::ON_DATABASE;
use crate::{
    config,
    failure::Failure,
    output::{self, Format},
};

#[derive(Serialize)]
struct Done {
    migrations: Vec<String>,
    definitions: Vec<String>,
}

/// Applies what is missing and registers this program's definitions.
pub(crate) async fn run(file: Option<&Path>, format: Format) -> Result<(), Failure> {
    let database = config::load(file, &ON_DATABASE)?.database.named("migrate");
    let migrations = database::migrate(&database)
        .await
        .context("cannot migrate the database")?;
    let ours = Definitions::ours();
    let mut connection = database::connect(&database)
        .await
        .context("cannot reach the database")?;
    register(&mut connection, &ours)
        .await
        .context("cannot register the definitions")?;
    database::incarnation(&mut connection)
        .await
        .context("cannot tell which database this is")?;
    let definitions = ours.iter();
    let definitions = definitions.map(|ours| format!("{} {}", ours.name, ours.version));
    let done = Done {
        migrations,
        definitions: definitions.collect(),
    };
    Ok(output::one(format, &done, |done| {
        let applied = match done.migrations.as_slice() {
            [] => "nothing to apply".to_owned(),
            names => names.join(", "),
        };
        vec![
            ("migrations", applied),
            ("definitions", done.definitions.join(", ")),
        ]
    })?)
}
