//! What is counted of each request to the simulated API.

use crate::call::Call;
use runtime::metrics::{self, HistogramVec, IntCounterVec, IntGauge};
use std::sync::LazyLock;
use std::time::Instant;

static REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::counters(
        "guichet_psp_requests_total",
        "Requests to the simulated API by status; 0 stands for no answer at all",
        &["status"],
    )
});
static SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    metrics::latencies(
        "guichet_psp_request_seconds",
        "From a request to its answer, planned slowness included, by what it asks for",
        &["operation"],
    )
});
static IN_FLIGHT: LazyLock<IntGauge> = LazyLock::new(|| {
    metrics::gauge(
        "guichet_psp_requests_in_flight",
        "Requests that have no answer yet, those that will never get one included",
    )
});

/// A request in flight; gives its place back also when the caller goes away.
pub(crate) struct Observed {
    begun: Instant,
    operation: &'static str,
}

impl Observed {
    pub(crate) fn begin() -> Self {
        IN_FLIGHT.inc();
        Self {
            begun: Instant::now(),
            operation: "refused", // until it is known to be one of ours
        }
    }

    /// What it asks for.
    pub(crate) fn asks(&mut self, call: &Call) {
        self.operation = call.operations().last().map_or("other", |last| last.name());
    }

    /// It is answered.
    pub(crate) fn answered(&self, status: u16) {
        REQUESTS.with_label_values(&[status_label(status)]).inc();
        SECONDS
            .with_label_values(&[self.operation])
            .observe(self.begun.elapsed().as_secs_f64());
    }

    /// It never will be.
    pub(crate) fn ignored(&self) {
        REQUESTS.with_label_values(&["0"]).inc();
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        IN_FLIGHT.dec();
    }
}

fn status_label(status: u16) -> &'static str {
    match status {
        200 => "200",
        400 => "400",
        401 => "401",
        402 => "402",
        404 => "404",
        409 => "409",
        429 => "429",
        500 => "500",
        503 => "503",
        _ => "other",
    }
}
