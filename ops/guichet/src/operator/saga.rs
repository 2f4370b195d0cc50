//! `guichet saga ls|show`

use std::path::Path;

use chrono::{DateTime, Utc};
use contract::SagaId;
use engine::{definitions::Definitions, view};
use inspector::sagas::{self, Effect, Filter};
use serde::Serialize;

use super::{
    intervention::{connect, refused},
    timeline,
};
use crate::{
    failure::Failure,
    output::{self, Format},
};

/// The arguments of `guichet saga ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Only sagas in this state
    #[arg(long, value_name = "STATE",
          value_parser = ["running", "waiting", "compensating", "completed", "compensated", "abandoned"])]
    state: Option<String>,

    /// Only sagas that need a person
    #[arg(long)]
    attention: bool,

    /// Only sagas that a person has paused
    #[arg(long)]
    paused: bool,

    /// Only sagas that have not ended
    #[arg(long)]
    live: bool,

    /// So many at most, the newest first
    #[arg(long, value_name = "N", default_value_t = 50,
          value_parser = clap::value_parser!(i64).range(1..=inspector::LIST_MAX))]
    limit: i64,
}

/// The arguments of `guichet saga show`.
#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    /// The saga; an order's has the order's id
    #[arg(value_name = "ID")]
    id: SagaId,
}

/// Prints sagas, the newest first.
pub(crate) async fn list(file: Option<&Path>, format: Format, list: List) -> Result<(), Failure> {
    let mut connection = connect(file, "saga").await?;
    let filter = Filter {
        state: list.state,
        attention: list.attention,
        paused: list.paused,
        live: list.live,
        limit: list.limit,
    };
    let rows = sagas::list(&mut connection, &Definitions::ours(), &filter)
        .await
        .map_err(refused)?;
    let header = [
        "saga",
        "definition",
        "state",
        "at",
        "reason",
        "flags",
        "started",
        "wakes",
    ];
    Ok(output::rows(format, &header, &rows, |row| {
        let time = |at: DateTime<Utc>| at.format("%F %T").to_string();
        vec![
            row.id.to_string(),
            row.definition.clone(),
            row.state.to_owned(),
            row.at.clone().unwrap_or_default(),
            row.reason.clone().unwrap_or_default(),
            row.flags.join(" "),
            time(row.started_at),
            row.wake_at.map(time).unwrap_or_default(),
        ]
    })?)
}

#[derive(Serialize)]
struct Shown {
    id: SagaId,
    definition: String,
    state: &'static str,
    status: &'static str,
    reason: Option<String>,
    attention: bool,
    held: bool,
    /// Since when, if a person has paused it.
    paused_at: Option<DateTime<Utc>>,
    trace_id: String,
    timeline: Vec<view::Moment>,
    effects: Vec<Effect>,
}

/// Prints a saga: where it is, what happened when, and what is in force.
pub(crate) async fn show(file: Option<&Path>, format: Format, show: Show) -> Result<(), Failure> {
    let mut connection = connect(file, "saga").await?;
    let read = view::read(&mut connection, &Definitions::ours(), show.id).await;
    let saga = read
        .map_err(anyhow::Error::from)?
        .ok_or_else(|| Failure::not_found(anyhow::anyhow!("there is no saga {}", show.id)))?;
    let effects = sagas::effects(&mut connection, show.id)
        .await
        .map_err(refused)?;
    let shown = Shown {
        id: show.id,
        definition: saga.definition,
        state: saga.instance.state.name(),
        status: saga.status.name(),
        reason: saga.instance.reason,
        attention: saga.instance.flags.attention,
        held: saga.instance.flags.held,
        paused_at: saga
            .instance
            .paused_at
            .and_then(DateTime::from_timestamp_millis),
        trace_id: format!("{:032x}", saga.instance.trace_id),
        timeline: saga.timeline,
        effects,
    };
    if format != Format::Table {
        return Ok(output::one(format, &shown, |_| Vec::new())?);
    }
    output::one(format, &shown, |shown| {
        let marks = [
            (shown.attention, "attention"),
            (shown.held, "held"),
            (shown.paused_at.is_some(), "paused"),
        ];
        let marks = marks.iter().filter_map(|(on, name)| on.then_some(*name));
        vec![
            ("saga", shown.id.to_string()),
            ("definition", shown.definition.clone()),
            ("state", shown.state.to_owned()),
            ("order's status", shown.status.to_owned()),
            ("reason", shown.reason.clone().unwrap_or_default()),
            ("flags", marks.collect::<Vec<_>>().join(" ")),
            (
                "paused since",
                shown
                    .paused_at
                    .map(|at| at.format("%F %T").to_string())
                    .unwrap_or_default(),
            ),
            ("trace", shown.trace_id.clone()),
        ]
    })?;
    output::print("\n")?;
    timeline::print(&shown.timeline)?;
    output::print("\n")?;
    let header = ["effect", "state", "outside id", "detail"];
    Ok(output::rows(format, &header, &shown.effects, |effect| {
        let detail = effect
            .undo_refusal
            .as_ref()
            .or(effect.error.as_ref())
            .or(effect.output.as_ref());
        vec![
            effect.step.clone(),
            effect.state.to_owned(),
            effect.outside_id.clone().unwrap_or_default(),
            detail.map(ToString::to_string).unwrap_or_default(),
        ]
    })?)
}
