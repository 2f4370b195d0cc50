//! What a run of orders says, for programs. The text for people is in [`crate::report`].

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::Serialize;
use uuid::Uuid;

use crate::{latency::Latency, meter::Budget, run::Run, shop::Placed};

/// The length of one line in the table of the window at least, in seconds, and how many lines at most.
const SLOT_S: u32 = 5;
const SLOTS: u32 = 24;
/// Orders without an end that are named.
const NAMED: usize = 20;

/// The figures.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    /// Confirmed within the window, per second.
    pub(crate) rate_per_s: f64,
    /// The same, counted from committed rows.
    pub(crate) rate_by_rows_per_s: f64,
    /// Confirmed or cancelled within the window, per second.
    pub(crate) ended_per_s: f64,
    pub(crate) offered_per_s: u32,
    pub(crate) seconds: u32,
    /// From the intended sending to the event that says `confirmed`; for an order without one, to the
    /// end of observation.
    #[serde(flatten)]
    pub(crate) confirmed_after: Option<Latency>,
    /// From the intended sending to the whole 202.
    pub(crate) accepted_after: Option<Latency>,
    /// From the intended sending to the event that says `cancelled`.
    pub(crate) cancelled_after: Option<Latency>,
    /// By how much the generator itself was late: no free connection, or no CPU.
    pub(crate) sent_late: Option<Latency>,
    pub(crate) orders: Counts,
    pub(crate) not_confirmed: NotConfirmed,
    /// Whether the rate was kept up.
    pub(crate) sustained: bool,
    pub(crate) offers_used: usize,
    pub(crate) offers_all: usize,
    pub(crate) slots: Vec<Slot>,
    #[serde(flatten)]
    pub(crate) budget: Budget,
}

/// Orders, by what became of them.
#[derive(Debug, Serialize)]
pub(crate) struct Counts {
    pub(crate) sent: usize,
    /// Answered 202.
    pub(crate) accepted: usize,
    /// Committed rows of this run, and of those the confirmed and cancelled ones.
    pub(crate) rows: i64,
    pub(crate) rows_confirmed: i64,
    pub(crate) rows_cancelled: i64,
    /// Seen to be confirmed on the stream.
    pub(crate) seen_confirmed: usize,
    /// Accepted and not confirmed when the window ended, and at the end of observation.
    pub(crate) unconfirmed_at_window_end: usize,
    pub(crate) unconfirmed: usize,
}

/// Every order that was not confirmed.
#[derive(Debug, Serialize)]
pub(crate) struct NotConfirmed {
    /// Answered otherwise than 202, by the status.
    pub(crate) refused: BTreeMap<u16, usize>,
    pub(crate) unanswered: usize,
    /// Cancelled and undone, by the reason.
    pub(crate) cancelled: BTreeMap<String, i64>,
    /// Accepted, and neither seen confirmed nor cancelled on the stream, whose events may be lost (the rows
    /// say what became of them); some of them by name.
    pub(crate) without_end: usize,
    pub(crate) some_without_end: Vec<Uuid>,
}

/// A part of the window.
#[derive(Debug, Serialize)]
pub(crate) struct Slot {
    pub(crate) from_s: u32,
    pub(crate) sent_per_s: f64,
    pub(crate) confirmed_per_s: f64,
    /// Of the orders to be sent in this part.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

impl Outcome {
    /// Of a run; `allowance_s` as in [`Run::sustained`].
    pub(crate) fn of(run: Run, allowance_s: f64) -> Self {
        let seconds = run.load.seconds();
        let (from, to) = (run.began, run.window_end());
        let per_s = |count: f64| count / f64::from(seconds.max(1));
        let confirmed = run.confirmed(from, to) as f64;
        let from_intended = |end: fn(&crate::load::Answer<Placed>) -> Instant| {
            let pairs = run.accepted.iter();
            Latency::between(pairs.map(|(_, answer)| (answer.intended, end(answer))))
        };
        Self {
            rate_per_s: per_s(confirmed),
            rate_by_rows_per_s: per_s(run.rows_confirmed_in_window as f64),
            ended_per_s: per_s(confirmed + run.cancelled(from, to) as f64),
            offered_per_s: u32::try_from(run.load.requests()).unwrap_or(u32::MAX) / seconds.max(1),
            seconds,
            confirmed_after: Latency::of(run.waits().map(|(_, wait)| wait)),
            accepted_after: from_intended(|answer| answer.answered),
            cancelled_after: Latency::of(run.cancellations()),
            sent_late: Latency::between(
                run.answers
                    .iter()
                    .map(|answer| (answer.intended, answer.sent)),
            ),
            orders: Counts {
                sent: run.answers.len(),
                accepted: run.accepted.len(),
                rows: run.rows.all,
                rows_confirmed: run.rows.confirmed,
                rows_cancelled: run.rows.cancelled,
                seen_confirmed: run.seen.confirmed.len(),
                unconfirmed_at_window_end: run.unconfirmed(to),
                unconfirmed: run.unconfirmed(run.observed_until),
            },
            not_confirmed: NotConfirmed::of(&run),
            sustained: run.sustained(allowance_s),
            offers_used: run.offers_used,
            offers_all: run.offers_all,
            slots: slots(&run),
            budget: run.budget,
        }
    }
}

impl NotConfirmed {
    fn of(run: &Run) -> Self {
        let mut refused = BTreeMap::new();
        for answer in &run.answers {
            if let (Some(Placed::Refused { .. }), Some(status)) = (answer.read, answer.status) {
                *refused.entry(status.as_u16()).or_insert(0) += 1;
            }
        }
        let open = |id: &Uuid| run.seen.end(id).is_none();
        let some = run.accepted.iter().map(|(id, _)| *id).filter(open);
        Self {
            refused,
            unanswered: run.answers.iter().filter(|a| a.status.is_none()).count(),
            cancelled: run.reasons.clone(),
            without_end: run.unended(run.observed_until),
            some_without_end: some.take(NAMED).collect(),
        }
    }
}

fn slots(run: &Run) -> Vec<Slot> {
    let seconds = run.load.seconds();
    let waits: Vec<(Instant, Duration)> = run.waits().collect();
    let step = SLOT_S.max(seconds.div_ceil(SLOTS));
    let slot = |from_s: u32| {
        let length_s = step.min(seconds - from_s);
        let (from, to) = (run.after(from_s), run.after(from_s + length_s));
        let in_slot = |at: Instant| from <= at && at < to;
        let sent = run.answers.iter().filter(|answer| in_slot(answer.sent));
        let of_slot = waits.iter().filter(|(at, _)| in_slot(*at));
        let latency = Latency::of(of_slot.map(|(_, wait)| *wait)).unwrap_or_default();
        Slot {
            from_s,
            sent_per_s: sent.count() as f64 / f64::from(length_s),
            confirmed_per_s: run.confirmed(from, to) as f64 / f64::from(length_s),
            p50_ms: latency.p50_ms,
            p99_ms: latency.p99_ms,
        }
    };
    (0..seconds).step_by(step as usize).map(slot).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{observer::Seen, run::tests::run_of};

    #[test]
    fn every_order_that_was_not_confirmed_is_told() {
        let began = Instant::now();
        let [good, lost, cancelled] = [Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7()];
        let mut seen = Seen::default();
        seen.confirmed.insert(good, began);
        seen.cancelled.insert(cancelled, began);
        let refused = (Uuid::nil(), Placed::Refused { retry_after: true });
        let accepted = [good, lost, cancelled].map(|id| (id, Placed::As(id)));
        let run = run_of(began, &[&accepted[..], &[refused]].concat(), seen);
        let outcome = Outcome::of(run, 0.5);
        let not = &outcome.not_confirmed;
        assert_eq!(not.refused.values().sum::<usize>(), 1);
        assert_eq!((not.without_end, &*not.some_without_end), (1, &[lost][..]));
        assert_eq!((outcome.rate_per_s, outcome.ended_per_s), (1.0, 2.0));
        assert_eq!((outcome.orders.sent, outcome.orders.accepted), (4, 3));
        assert!(!outcome.sustained);
    }
}
