//! What is counted.

use runtime::metrics::{
    self, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
};
use std::sync::LazyLock;

pub(crate) struct Metrics {
    pub(crate) inputs: IntCounterVec,
    pub(crate) batch: HistogramVec,
    pub(crate) settle_seconds: Histogram,
    pub(crate) batches_retried: IntCounter,
    pub(crate) step_seconds: HistogramVec,
    pub(crate) ended: IntCounterVec,
    pub(crate) resends: IntCounterVec,
    pub(crate) unpublished: IntCounter,
    pub(crate) live: IntGauge,
    pub(crate) asleep: IntGauge,
    pub(crate) shards: IntGauge,
    pub(crate) held: IntCounter,
    pub(crate) postponed: IntCounter,
    pub(crate) attention: IntCounter,
    pub(crate) asking: IntGaugeVec,
    pub(crate) oldest_untaken_s: IntGauge,
    pub(crate) strays: IntCounterVec,
    pub(crate) deadline_near: IntCounterVec,
    pub(crate) breaker_open: IntGaugeVec,
    pub(crate) breaker_openings: IntCounterVec,
}

pub(crate) static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics {
    inputs: metrics::counters(
        "guichet_saga_inputs_total",
        "Inputs of sagas, by kind and what became of them",
        &["input", "settled"],
    ),
    batch: metrics::sizes(
        "guichet_saga_batch_size_inputs",
        "Inputs settled in one transaction",
        &["of"],
    ),
    settle_seconds: metrics::latency(
        "guichet_saga_batch_seconds",
        "Time from having a batch of inputs to its commit",
    ),
    batches_retried: metrics::counter(
        "guichet_saga_batches_retried_total",
        "Batches of inputs tried again after trouble with the database",
    ),
    step_seconds: metrics::latencies(
        "guichet_saga_step_seconds",
        "Time from a command's decision to its answer, by step, kind and outcome",
        &["step", "kind", "outcome"],
    ),
    ended: metrics::counters(
        "guichet_sagas_ended_total",
        "Sagas that ended, by state",
        &["state"],
    ),
    resends: metrics::counters(
        "guichet_saga_resends_total",
        "Commands sent again, by the reason: overdue, loaded, session",
        &["reason"],
    ),
    unpublished: metrics::counter(
        "guichet_saga_commands_unpublished_total",
        "Commands whose publishing failed; they are sent again in time",
    ),
    live: metrics::gauge(
        "guichet_sagas_live",
        "Sagas that this process owns, without those that sleep for minutes",
    ),
    asleep: metrics::gauge(
        "guichet_sagas_asleep",
        "Sagas of this process's shards that sleep for minutes, as it last counted",
    ),
    shards: metrics::gauge("guichet_saga_shards_owned", "Shards that this process owns"),
    held: metrics::counter(
        "guichet_sagas_held_total",
        "Sagas set aside because they cannot be read",
    ),
    postponed: metrics::counter(
        "guichet_sagas_postponed_total",
        "How often a saga was left alone for a while because its row could not be written",
    ),
    attention: metrics::counter(
        "guichet_sagas_attention_total",
        "Sagas that began to need a person's attention",
    ),
    asking: metrics::gauges(
        "guichet_sagas_asking",
        "Sagas of this process that ask for a person, by whether somebody has taken them on, and by for \
         how long they have asked: up to 1h, 4h, 24h, or more",
        &["taken", "age"],
    ),
    oldest_untaken_s: metrics::gauge(
        "guichet_sagas_oldest_untaken_seconds",
        "For how long a saga of this process has asked for a person without anybody's having taken it on: \
         the longest; 0 when there is none",
    ),
    strays: metrics::counters(
        "guichet_saga_signals_stray_total",
        "Signals that nobody applies, by why: there is no such saga, or it has ended",
        &["why"],
    ),
    deadline_near: metrics::counters(
        "guichet_saga_deadline_near_total",
        "Deadlines of which four fifths were over, by the step that the saga was at",
        &["step"],
    ),
    breaker_open: metrics::gauges(
        "guichet_saga_breaker_open",
        "1 while what a step needs outside is away and only a few commands are sent to it",
        &["step"],
    ),
    breaker_openings: metrics::counters(
        "guichet_saga_breaker_openings_total",
        "How often what a step needs outside was found to be away",
        &["step"],
    ),
});
