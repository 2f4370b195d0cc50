//! What is counted and logged of each request.

use contract::{OrderId, TraceParent};
use http::{Method, StatusCode};
use runtime::metrics::{self, HistogramVec, IntCounterVec, IntGauge};
use std::{net::IpAddr, sync::LazyLock, time::Duration};
use tracing::{Span, field};

static REQUESTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::counters(
        "guichet_http_requests_total",
        "Requests answered by the gateway",
        &["route", "method", "status"],
    )
});
static SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    metrics::latencies(
        "guichet_http_request_seconds",
        "From a request's head to the head of its answer",
        &["route", "method"],
    )
});
pub(super) static IN_FLIGHT: LazyLock<IntGauge> = LazyLock::new(|| {
    metrics::gauge(
        "guichet_http_requests_in_flight",
        "Requests that are being answered",
    )
});

/// A request in flight; gives its place back also when the caller goes away.
pub(super) struct InFlight;

impl InFlight {
    pub(super) fn begin() -> Self {
        IN_FLIGHT.inc();
        Self
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        IN_FLIGHT.dec();
    }
}

/// What every line about a request bears: its trace and, once it is known, the order's saga.
pub(super) fn span(trace: TraceParent, route: &'static str) -> Span {
    // Of the highest level, or a filter that lets only warnings pass would take their ids from them.
    tracing::error_span!("request", trace_id = %trace.trace_id(), saga_id = field::Empty, route)
}

/// Says which order the current request is about. Only once it is stored, opened by its token, or named
/// under the provider's signature: what a caller merely claims is not for the log.
pub(crate) fn about(order: OrderId) {
    Span::current().record("saga_id", field::display(order));
}

/// Counts an answer, and logs it if asked to. Neither the query nor any header is logged: they may
/// hold tokens and addresses of people.
pub(super) fn answered(
    route: &'static str,
    method: &Method,
    status: StatusCode,
    took: Duration,
    client: IpAddr,
    log: bool,
) {
    // Methods are the callers' invention: labels must not be.
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
    ]
    .contains(method)
        || *method == Method::OPTIONS;
    let method = if known { method.as_str() } else { "other" };
    REQUESTS
        .with_label_values(&[route, method, status.as_str()])
        .inc();
    SECONDS
        .with_label_values(&[route, method])
        .observe(took.as_secs_f64());
    if log {
        let (status, took_us) = (status.as_u16(), took.as_micros());
        tracing::info!(target: "gateway::access", route, method, status, took_us, %client, "answered");
    }
}
