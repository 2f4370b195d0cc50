//! `guichet saga ls|show`

use std::path::Path;

use chrono::{DateTime, Utc};
use contract::SagaId;
use engine::{
    attention::{self as takings, Taken},
    definitions::Definitions,
    view,
};
use inspector::{
    audit, interventions,
    sagas::{self, Asking, Effect, Filter},
};
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

    /// Only sagas that ask for a person, the longest asking first: failed undos, a mail that keeps
    /// failing, and what is set aside
    #[arg(long, conflicts_with_all = ["state", "live", "paused"])]
    attention: bool,

    /// Of these only those that nobody has taken on
    #[arg(long, requires = "attention", conflicts_with = "taken_by")]
    untaken: bool,

    /// Of these only those that this person has taken on
    #[arg(long, value_name = "NAME", requires = "attention")]
    taken_by: Option<String>,

    /// Only sagas that a person has paused
    #[arg(long)]
    paused: bool,

    /// Only sagas that have not ended
    #[arg(long)]
    live: bool,

    /// So many at most, the newest first unless they ask for a person
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
    if list.attention {
        return asking(file, format, list).await;
    }
    let mut connection = connect(file, "saga").await?;
    let filter = Filter {
        state: list.state,
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

/// Prints the sagas that ask for a person, the longest asking first.
async fn asking(file: Option<&Path>, format: Format, list: List) -> Result<(), Failure> {
    let mut connection = connect(file, "saga").await?;
    let which = Asking {
        untaken: list.untaken,
        taken_by: list.taken_by,
        limit: list.limit,
    };
    let rows = sagas::asking(&mut connection, &Definitions::ours(), &which)
        .await
        .map_err(refused)?;
    let header = [
        "saga", "asks for", "since", "taken by", "taken", "state", "at", "reason", "flags",
    ];
    Ok(output::rows(format, &header, &rows, |row| {
        vec![
            row.saga.id.to_string(),
            span(row.asks_for_s),
            time(row.asks_since),
            row.taken_by.clone().unwrap_or_default(),
            row.taken_at.map(time).unwrap_or_default(),
            row.saga.state.to_owned(),
            row.saga.at.clone().unwrap_or_default(),
            row.saga.reason.clone().unwrap_or_default(),
            row.saga.flags.join(" "),
        ]
    })?)
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%F %T").to_string()
}

/// Its two greatest units: `3 d 4 h`, `12 min 5 s`.
fn span(seconds: i64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let at = units.iter().position(|(unit, _)| seconds >= *unit);
    let at = at.unwrap_or(units.len() - 1);
    let mut rest = seconds.max(0);
    let mut parts = Vec::new();
    for (unit, name) in units.iter().skip(at).take(2) {
        parts.push(format!("{} {name}", rest / unit));
        rest %= unit;
    }
    parts.join(" ")
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
    /// Since when it asks for a person.
    asks_since: Option<DateTime<Utc>>,
    /// Who has taken it on.
    taken: Option<Taken>,
    trace_id: String,
    timeline: Vec<Told>,
    /// What people did about it, the oldest first.
    people: Vec<audit::Row>,
    effects: Vec<Effect>,
}

/// A moment, with who of us brought it about.
#[derive(Serialize)]
struct Told {
    #[serde(flatten)]
    moment: view::Moment,
    #[serde(skip_serializing_if = "Option::is_none")]
    person: Option<Person>,
}

#[derive(Serialize)]
struct Person {
    by: String,
    reason: String,
}

impl Person {
    fn said_in(moment: &view::Moment) -> Option<Self> {
        let detail = moment.detail.as_ref().filter(|it| !it["audit"].is_null())?;
        let text = |name: &str| detail[name].as_str().map(str::to_owned);
        let (by, reason) = (text("by")?, text("reason")?);
        Some(Self { by, reason })
    }
}

/// Prints a saga: where it is, what happened when, and what is in force.
pub(crate) async fn show(file: Option<&Path>, format: Format, show: Show) -> Result<(), Failure> {
    let mut connection = connect(file, "saga").await?;
    let read = view::read(&mut connection, &Definitions::ours(), show.id).await;
    let Some(saga) = read.map_err(anyhow::Error::from)? else {
        let held = interventions::held(&mut connection, show.id).await;
        return Err(match held.map_err(refused)? {
            None => Failure::not_found(anyhow::anyhow!("there is no saga {}", show.id)),
            Some((held, definition)) => Failure::conflict(anyhow::anyhow!(
                "this program cannot read saga {} (definition number {definition}){}",
                show.id,
                if held { "; it is held" } else { "" }
            )),
        });
    };
    let effects = sagas::effects(&mut connection, show.id)
        .await
        .map_err(refused)?;
    let taken = takings::read(&mut connection, show.id)
        .await
        .map_err(anyhow::Error::from)?;
    let of_saga = audit::Filter {
        subject: Some(show.id.0),
        limit: inspector::LIST_MAX,
        ..audit::Filter::default()
    };
    let mut people = audit::list(&mut connection, of_saga)
        .await
        .map_err(refused)?;
    people.reverse();
    let told = |moment: view::Moment| {
        let audit = timeline::audit_of(&moment);
        let row = people.iter().find(|row| Some(row.id) == audit);
        let person = row.map(|row| Person {
            by: row.actor.clone(),
            reason: row.reason.clone(),
        });
        // What somebody did to all sagas of a version is not among what was done to this one.
        let person = person.or_else(|| Person::said_in(&moment));
        Told { moment, person }
    };
    let flags = saga.instance.flags;
    let asks = flags.attention || flags.held;
    let asks_since = saga.instance.flagged_at.filter(|_| asks);
    let shown = Shown {
        id: show.id,
        definition: saga.definition,
        state: saga.instance.state.name(),
        status: saga.status.name(),
        reason: saga.instance.reason,
        attention: flags.attention,
        held: flags.held,
        asks_since: asks_since.and_then(DateTime::from_timestamp_millis),
        taken,
        paused_at: saga
            .instance
            .paused_at
            .and_then(DateTime::from_timestamp_millis),
        trace_id: format!("{:032x}", saga.instance.trace_id),
        timeline: saga.timeline.into_iter().map(told).collect(),
        people,
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
                shown.paused_at.map(time).unwrap_or_default(),
            ),
            (
                "asks for a person since",
                shown.asks_since.map(time).unwrap_or_default(),
            ),
            (
                "taken on",
                shown.taken.as_ref().map(taken_on).unwrap_or_default(),
            ),
            ("trace", shown.trace_id.clone()),
        ]
    })?;
    output::print("\n")?;
    let moments: Vec<view::Moment> = shown.timeline.iter().map(|it| it.moment.clone()).collect();
    let who = shown.timeline.iter().filter_map(|told| {
        let person = told.person.as_ref()?;
        let audit = timeline::audit_of(&told.moment)?;
        Some((audit, format!("{}: {}", person.by, person.reason)))
    });
    timeline::print(&moments, &who.collect())?;
    output::print("\n")?;
    if !shown.people.is_empty() {
        let header = ["audit", "at", "who", "did", "why"];
        output::rows(Format::Table, &header, &shown.people, |row| {
            vec![
                row.id.to_string(),
                time(row.at),
                row.actor.clone(),
                row.action.clone(),
                row.reason.clone(),
            ]
        })?;
        output::print("\n")?;
    }
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

fn taken_on(taken: &Taken) -> String {
    format!("by {} at {}: {}", taken.by, time(taken.at), taken.reason)
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn a_span_has_two_units() {
        let spans = [0, 59, 61, 7_260, 90_000, -3].map(span);
        assert_eq!(
            spans,
            ["0 s", "59 s", "1 min 1 s", "2 h 1 min", "1 d 1 h", "0 s"]
        );
    }
}
