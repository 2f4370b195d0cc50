//! A saga's history as a table.

use anyhow::Result;
use engine::view::Moment;

use crate::output::{self, Format};

/// Prints what happened: when (since the beginning), what, how long it took, what became of it, what
/// followed, and the message it came with.
pub(crate) fn print(timeline: &[Moment]) -> Result<()> {
    let begun = timeline.first().map(|moment| moment.at);
    let header = [
        "rev", "after", "what", "took", "outcome", "then", "state", "message",
    ];
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
        vec![
            moment.rev.to_string(),
            format!("{after} ms"),
            what,
            moment
                .took_ms
                .map(|ms| format!("{ms} ms"))
                .unwrap_or_default(),
            [outcome, code]
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
        ]
    })
}
