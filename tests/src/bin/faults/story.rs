//! What happened to the order that was the last to end, for whoever wants to know why.

use checker::{Evidence, books::Moment};
use std::{fmt::Write, time::Duration};

/// Moments of a story at most: the last ones tell why it took long.
const MOMENTS_MAX: usize = 24;

/// The order whose end took longest after the fault's end or its own birth.
pub(crate) struct Slowest {
    pub(crate) took: Duration,
    /// Moment by moment, in seconds since the fault's end.
    pub(crate) story: String,
}

/// The slowest of all, waiting for somebody outside not counted.
pub(crate) fn slowest(evidence: &Evidence) -> Option<Slowest> {
    let (saga, took_ms) = checker::ends(evidence)
        .into_iter()
        .max_by_key(|(_, took_ms)| *took_ms)?;
    let history = evidence.books.history.iter();
    let moments: Vec<&Moment> = history.filter(|one| one.saga_id == saga.id).collect();
    let mut story = format!("order {}:", saga.id);
    for moment in &moments[moments.len().saturating_sub(MOMENTS_MAX)..] {
        let _ = write!(story, "\n      {}", told(moment, evidence.healed_at_ms));
    }
    Some(Slowest {
        took: Duration::from_millis(u64::try_from(took_ms).unwrap_or_default()),
        story,
    })
}

fn told(moment: &Moment, healed_at_ms: i64) -> String {
    let name = |names: &[&'static str], number: Option<i16>| {
        let at = usize::try_from(number.unwrap_or_default()).unwrap_or_default();
        names.get(at).copied().unwrap_or("")
    };
    let input = name(
        &["", "start", "reply", "wake", "signal", "end", "operator"],
        Some(moment.input),
    );
    let outcome = name(
        &["", "done", "rejected", "retry", "unknown", "waiting"],
        moment.outcome,
    );
    let kinds = ["", "do", "undo", "probe"];
    let seconds = (moment.at_ms - healed_at_ms) as f64 / 1000.0;
    let mut told = format!(
        "{seconds:+.1} s: {input} of command {} (step {:?} {}) {outcome} {}",
        moment.seq,
        moment.step.unwrap_or_default(),
        name(&kinds, moment.kind),
        moment.code.as_deref().unwrap_or_default(),
    );
    if let Some(next) = moment.next_seq {
        let _ = write!(
            told,
            " -> command {next} (step {} {}, attempt {})",
            moment.next_step.unwrap_or_default(),
            name(&kinds, moment.next_kind),
            moment.next_attempt.unwrap_or_default()
        );
    }
    told
}
