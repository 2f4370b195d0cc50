//! A saga's history as a table.

use std::collections::HashMap;

use anyhow::Result;
use engine::view::Moment;
use serde_json::Value;

use crate::output::{self, Format};

/// Prints what happened: when (since the beginning), what, how long it took, what became of it, what
/// followed, and the message it came with; and who of us did it and why, by the number of the audit log.
pub(crate) fn print(timeline: &[Moment], people: &HashMap<i64, String>) -> Result<()> {
    let begun = timeline.first().map(|moment| moment.at);
    let mut header = vec![
        "rev", "after", "what", "took", "outcome", "then", "state", "message",
    ];
    if !people.is_empty() {
        header.push("who");
    }
    output::rows(Format::Table, &header, timeline, |moment| {
        let after = begun.map_or(0, |begun| (moment.at - begun).num_milliseconds());
        let what = match (&moment.step, moment.kind, moment.attempt) {
            (Some(step), Some(kind), Some(attempt)) => {
                format!("{} {step} {} #{attempt}", moment.input, kind.name())
            }
            _ => moment.input.to_owned(),
        };
        let outcome = moment.outcome.map(|outcome| outcome.name().to_owned());
        let code = moment.code.clone();
        let next = moment
            .next
            .as_ref()
            .map(|next| format!("{} {} #{}", next.step, next.kind.name(), next.attempt));
        let mut cells = vec![
            moment.rev.to_string(),
            format!("{after} ms"),
            what,
            moment
                .took_ms
                .map(|ms| format!("{ms} ms"))
                .unwrap_or_default(),
            [outcome, code, fields_of(moment)]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(" "),
            next.unwrap_or_default(),
            moment.state.to_owned(),
            moment
                .message_id
                .map(|id| id.to_string())
                .unwrap_or_default(),
        ];
        let who = audit_of(moment).and_then(|audit| people.get(&audit));
        cells.extend(who.cloned());
        cells
    })
}

/// The row of the audit log that a moment of the timeline follows from.
pub(crate) fn audit_of(moment: &Moment) -> Option<i64> {
    moment.detail.as_ref()?.get("audit")?.as_i64()
}

/// Which fields a person corrected.
fn fields_of(moment: &Moment) -> Option<String> {
    let fields = moment.detail.as_ref()?.get("fields")?.as_array()?;
    let names: Vec<&str> = fields.iter().filter_map(Value::as_str).collect();
    Some(names.join(" "))
}
