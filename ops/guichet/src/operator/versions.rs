//! `guichet saga migrate|withdraw`

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context;
use contract::SagaId;
use engine::definitions::Definitions;
use engine::withdrawal::InFlight;
use inspector::{
    migrate::{self, Came, Group},
    withdraw,
};
use serde::Serialize;

use super::{
    act::{LOOK_EVERY, OWNER_WITHIN},
    intervention::{By, connect, refused},
};
use crate::{
    failure::Failure,
    output::{self, Format},
};

/// A look at many sagas counts or reads them all, and their owners take a round of seconds each: so pauses grow
/// up to this, from that of a look at one saga, after which few are through.
const LOOK_AT_MOST_EVERY: Duration = Duration::from_secs(2);

/// Waiting for owners, as long as something moves.
struct Patience {
    moved: Instant,
    pause: Duration,
}

impl Patience {
    fn new() -> Self {
        Self {
            moved: Instant::now(),
            pause: LOOK_EVERY,
        }
    }

    /// Pauses before the next look; `false` if nothing has moved for so long that there is none.
    async fn goes_on(&mut self, moved: bool) -> bool {
        if moved {
            self.moved = Instant::now();
        }
        if self.moved.elapsed() >= OWNER_WITHIN {
            return false;
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LOOK_AT_MOST_EVERY);
        true
    }
}

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

    /// Sort only those that began after this one, which an earlier run named as its last
    #[arg(long, value_name = "ID")]
    behind: Option<SagaId>,

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
    /// More are in flight than are sorted at a time.
    more: bool,
    /// Then: run it again `--behind` this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    more_behind: Option<SagaId>,
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
    let survey = migrate::survey(&mut connection, &definitions, &migrate.to, migrate.behind).await;
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
        let mut open = told.await.map_err(refused)?;
        let mut seen = Came::none(&open);
        let mut patience = Patience::new();
        loop {
            let before = seen.pending;
            seen.look(&mut connection, &mut open)
                .await
                .map_err(refused)?;
            if seen.pending == 0 || !patience.goes_on(seen.pending < before).await {
                break;
            }
        }
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
        more: survey.more_behind.is_some(),
        more_behind: survey.more_behind,
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
        if let Some(last) = migrated.more_behind {
            let more = format!("not all were sorted: run it again --behind {last}");
            fields.push(("more", more));
        }
        fields
    })
}

/// The arguments of `guichet saga withdraw`.
#[derive(Debug, clap::Args)]
pub(crate) struct Withdraw {
    /// The version, as `order@1`
    #[arg(long, value_name = "DEFINITION")]
    definition: String,

    /// Agree to what somebody else asked for within the last day
    #[arg(long)]
    approve: bool,

    #[command(flatten)]
    by: By,
}

#[derive(Serialize)]
struct Withdrawn {
    definition: String,
    /// `asked_for`, `withdrawn`, or `pending` while owners have not looked.
    outcome: &'static str,
    audit: i64,
    /// What ran by it when this was done.
    running: i64,
    past_pivot: i64,
    stopped: i64,
    /// What still does, and is not ending yet.
    left: i64,
}

/// Asks for a version's being withdrawn, or withdraws it; then says how its sagas are being ended.
pub(crate) async fn withdraw(
    file: Option<&Path>,
    format: Format,
    withdraw: Withdraw,
) -> Result<(), Failure> {
    let mut connection = connect(file, "saga").await?;
    let definitions = Definitions::ours();
    let Withdraw {
        definition,
        approve,
        by,
    } = withdraw;
    let done = withdraw::withdraw(
        &mut connection,
        &definitions,
        &definition,
        approve,
        &by.actor,
        &by.reason,
    );
    let done = done.await.map_err(refused)?;
    let InFlight {
        running,
        past_pivot,
        stopped,
        ..
    } = done.in_flight;
    let (mut outcome, mut left) = ("asked_for", running);
    let mut patience = Patience::new();
    loop {
        if !approve {
            break;
        }
        let now = withdraw::in_flight(&mut connection, &definitions, &definition).await;
        let now = now.map_err(refused)?;
        let fewer = now.running < left;
        left = left.min(now.running);
        outcome = if now.running == 0 {
            "withdrawn"
        } else {
            "pending"
        };
        if outcome == "withdrawn" || !patience.goes_on(fewer).await {
            break;
        }
    }
    let withdrawn = Withdrawn {
        definition,
        outcome,
        audit: done.audit,
        running,
        past_pivot,
        stopped,
        left,
    };
    output::one(format, &withdrawn, |withdrawn| {
        let meaning = match withdrawn.outcome {
            "asked_for" => "asked for; a second person approves: guichet saga withdraw --approve",
            "withdrawn" => "withdrawn; what was before its pivot is being undone",
            _ => "withdrawn; not every owner has looked yet, the next ones will",
        };
        vec![
            ("definition", withdrawn.definition.clone()),
            ("outcome", meaning.to_owned()),
            ("before their pivot", withdrawn.running.to_string()),
            ("past it, go on", withdrawn.past_pivot.to_string()),
            ("paused or held", withdrawn.stopped.to_string()),
            ("not ending yet", withdrawn.left.to_string()),
            ("audit log", withdrawn.audit.to_string()),
        ]
    })
    .context("it is stored, but that could not be written")?;
    Ok(())
}
