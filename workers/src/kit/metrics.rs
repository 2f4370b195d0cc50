//! What a worker counts.

use crate::kit::Verdict;
use contract::Command;
use runtime::metrics::{self, HistogramVec, IntCounterVec, IntGaugeVec};
use std::sync::LazyLock;

pub(crate) struct Metrics {
    pub(crate) batch_items: HistogramVec,
    pub(crate) batch_seconds: HistogramVec,
    pub(crate) effect_seconds: HistogramVec,
    pub(crate) outcomes: IntCounterVec,
    pub(crate) dropped: IntCounterVec,
    pub(crate) halved: IntCounterVec,
    pub(crate) batches_retried: IntCounterVec,
    pub(crate) in_flight: IntGaugeVec,
}

pub(crate) static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics {
    batch_items: metrics::sizes(
        "guichet_worker_batch_items",
        "Commands worked on together",
        &["step", "lane"],
    ),
    batch_seconds: metrics::latencies(
        "guichet_worker_batch_seconds",
        "From a batch's begin until its transaction is committed",
        &["step", "lane"],
    ),
    effect_seconds: metrics::latencies(
        "guichet_worker_effect_seconds",
        "Time one effect outside took",
        &["step", "kind"],
    ),
    outcomes: metrics::counters(
        "guichet_worker_outcomes_total",
        "Answers, by outcome and code",
        &["step", "kind", "outcome", "code"],
    ),
    dropped: metrics::counters(
        "guichet_worker_dropped_total",
        "Commands acknowledged without an answer",
        &["step", "reason"],
    ),
    halved: metrics::counters(
        "guichet_worker_halved_total",
        "Batches that failed in the database and were halved",
        &["step"],
    ),
    batches_retried: metrics::counters(
        "guichet_worker_batches_retried_total",
        "Batches tried again after trouble with the database: of commands, the ledger's writes, the limits per card",
        &["step", "of"],
    ),
    in_flight: metrics::gauges(
        "guichet_worker_in_flight_items",
        "Commands taken and not yet answered",
        &["step", "lane"],
    ),
});

/// Counts and logs an answer.
pub(crate) fn answered(command: &Command, verdict: &Verdict) {
    let (kind, outcome) = (command.kind.name(), verdict.outcome().name());
    let code = verdict.code().unwrap_or("");
    METRICS
        .outcomes
        .with_label_values(&[command.step.as_str(), kind, outcome, code])
        .inc();
    tracing::debug!(
        saga_id = %command.saga_id,
        trace_id = %command.traceparent.trace_id(),
        step = %command.step,
        kind,
        attempt = command.attempt,
        outcome,
        code,
        "answered"
    );
}
