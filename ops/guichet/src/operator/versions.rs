//! `guichet saga migrate`

use std::{path::Path, time::Instant};

use anyhow::Context;
use contract::SagaId;
use engine::definitions::Definitions;
use inspector::migrate::{self, Came, Group};
use serde::Serialize;

use super::{
    act::{LOOK_EVERY, OWNER_WITHIN},
    intervention::{connect, refused},
};
use crate::{
    failure::Failure,
    output::{self, Format},
};

/// The arguments of `guichet saga migrate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Migrate {
    /// The version to go on by, as `order@2`
    #[arg(long, value_name = "DEFINITION")]
    to: String,

    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,

    /// Name each saga
    #[arg(long)]
    ids: bool,

    /// Why; kept in the audit log
    #[arg(long, value_name = "TEXT", required_unless_present = "dry_run")]
    reason: Option<String>,

    /// Who you are; kept in the audit log
    #[arg(long = "as", value_name = "NAME", env = "USER")]
    actor: Option<String>,
}

#[derive(Serialize)]
struct Migrated {
    to: String,
    dry_run: bool,
    sorted: Vec<Group>,
    /// More are in flight than are sorted at a time: run it again.
    more: bool,
    /// What became of the safe ones; nothing with `--dry-run`.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    came: Option<Came>,
}

/// Sorts the sagas in flight, and moves the safe ones.
pub(crate) async fn migrate(
    file: Option<&Path>,
    format: Format,
    migrate: Migrate,
) -> Result<(), Failure> {
    let mut connection = connect(file, "saga").await?;
    let definitions = Definitions::ours();
    let survey = migrate::survey(&mut connection, &definitions, &migrate.to).await;
    let survey = survey.map_err(refused)?;
    let mut came = None;
    if let Some(reason) = migrate.reason.as_deref().filter(|_| !migrate.dry_run) {
        let actor = migrate.actor.as_deref().unwrap_or_default();
        let safe = survey.groups.iter().filter(|group| group.sorted == "safe");
        let safe: Vec<SagaId> = safe.flat_map(|group| group.ids.iter().copied()).collect();
        let told = migrate::tell(
            &mut connection,
            &definitions,
            &migrate.to,
            &safe,
            actor,
            reason,
        );
        let signals = told.await.map_err(refused)?;
        let (mut looked, mut last) = (Instant::now(), usize::MAX);
        let seen = loop {
            let seen = migrate::what_came(&mut connection, &signals).await;
            let seen = seen.map_err(refused)?;
            if seen.pending < last {
                (looked, last) = (Instant::now(), seen.pending);
            }
            if seen.pending == 0 || looked.elapsed() >= OWNER_WITHIN {
                break seen;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        came = Some(seen);
    }
    let mut sorted = survey.groups;
    if !migrate.ids {
        sorted.iter_mut().for_each(|group| group.ids.clear());
    }
    let migrated = Migrated {
        to: migrate.to,
        dry_run: migrate.dry_run,
        sorted,
        more: survey.more,
        came,
    };
    show(format, &migrated).context("what was told is stored, but this could not be written")?;
    Ok(())
}

fn show(format: Format, migrated: &Migrated) -> anyhow::Result<()> {
    if format != Format::Table {
        return output::one(format, migrated, |_| Vec::new());
    }
    let header = ["from", "sorted", "sagas", "why"];
    output::rows(format, &header, &migrated.sorted, |group| {
        vec![
            group.from.clone(),
            group.sorted.to_owned(),
            group.sagas.to_string(),
            group.reason.clone().unwrap_or_default(),
        ]
    })?;
    let each = migrated.sorted.iter();
    let each: Vec<_> = each
        .flat_map(|group| group.ids.iter().map(move |id| (group, id)))
        .map(|(group, id)| (id.to_string(), group.from.clone(), group.sorted))
        .collect();
    if !each.is_empty() {
        output::print("\n")?;
        output::rows(format, &["saga", "from", "sorted"], &each, |one| {
            vec![one.0.clone(), one.1.clone(), one.2.to_owned()]
        })?;
    }
    output::print("\n")?;
    output::one(format, migrated, |migrated| {
        let mut fields = vec![("to", migrated.to.clone())];
        match &migrated.came {
            None => fields.push(("dry run", "nothing was done".to_owned())),
            Some(came) => fields.extend([
                ("moved", came.moved.to_string()),
                ("too late", came.too_late.to_string()),
                ("not looked at yet", came.pending.to_string()),
            ]),
        }
        if migrated.more {
            fields.push(("more", "not all were sorted: run it again".to_owned()));
        }
        fields
    })
}
