//! `guichet catalogue load`

use std::path::{Path, PathBuf};

use anyhow::Context;
use gateway::catalogue::{self, LoadOptions, Source};
use serde::Serialize;

use super::ON_DATABASE;
use crate::{
    config,
    failure::Failure,
    output::{self, Format},
};

/// The arguments of `guichet catalogue load`.
#[derive(Debug, clap::Args)]
pub(crate) struct Load {
    /// A folder with venues.csv, sports.csv and sessions.csv instead of the built-in Paris 2024
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,

    /// Leave the times as published, even if they are past
    ///
    /// Otherwise they move by a whole multiple of 364 days until the first session is 60 days ahead.
    #[arg(long)]
    as_published: bool,
}

#[derive(Serialize)]
struct Loaded {
    venues: usize,
    sports: usize,
    events: usize,
    offers: usize,
    places: u64,
    shift_days: i32,
    first_starts_at: String,
    others: usize,
}

/// Loads all or nothing; loading the same again changes nothing.
pub(crate) async fn run(file: Option<&Path>, format: Format, load: Load) -> Result<(), Failure> {
    let database = config::load(file, &ON_DATABASE)?
        .database
        .named("catalogue");
    let loaded = write(database, load).await?;
    Ok(output::one(format, &loaded, |loaded| {
        let moved = match loaded.shift_days {
            0 => "as published".to_owned(),
            days => format!("{days} days later than published"),
        };
        vec![
            ("venues", loaded.venues.to_string()),
            ("sports", loaded.sports.to_string()),
            ("events", loaded.events.to_string()),
            ("offers", loaded.offers.to_string()),
            ("places", loaded.places.to_string()),
            ("times", moved),
            ("first starts", loaded.first_starts_at.clone()),
            ("events not in the source", loaded.others.to_string()),
        ]
    })?)
}

async fn write(database: database::Config, arguments: Load) -> anyhow::Result<Loaded> {
    let source = match &arguments.from {
        Some(folder) => Source::directory(folder)
            .with_context(|| format!("cannot load the catalogue of {}", folder.display()))?,
        None => Source::embedded().context("cannot load the built-in catalogue")?,
    };
    let mut connection = database::connect(&database)
        .await
        .context("cannot reach the database")?;
    let options = LoadOptions {
        as_published: arguments.as_published,
    };
    let report = catalogue::load(&mut connection, &source, options)
        .await
        .context("the catalogue was not loaded")?;
    Ok(Loaded {
        venues: report.venues,
        sports: report.sports,
        events: report.events,
        offers: report.offers,
        places: report.places,
        shift_days: report.shift_days,
        first_starts_at: report.first_starts_at.to_rfc3339(),
        others: report.others,
    })
}
