//! The process-global Prometheus registry and the few ways to add to it.
//!
//! Names are `guichet_<area>_<what>_<unit>`: seconds for time, bytes for sizes, `_total` for counters.
//! Keep a metric in a `static` beside the code that moves it:
//!
//! ```
//! use std::sync::LazyLock;
//! use runtime::metrics::{self, IntCounter};
//!
//! static ORDERS: LazyLock<IntCounter> =
//!     LazyLock::new(|| metrics::counter("guichet_gateway_orders_total", "Orders accepted"));
//! ORDERS.inc();
//! ```
//!
//! Asking twice for one name gives the same metric, so two components (or two tests) may share it.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

pub use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
};
use prometheus::{HistogramOpts, Opts, Registry, core::Collector};

mod process;

/// Bucket bounds of every latency histogram, in seconds: 0.5 ms to 60 s, about 2.5 times apart,
/// so that a p99 can be read for a statement as well as for a whole order.
pub const LATENCY_BUCKETS_SECONDS: [f64; 16] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0,
];

/// Bucket bounds of every histogram of batch sizes, in items.
pub const SIZE_BUCKETS: [f64; 11] = [
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0,
];

/// The default one of `prometheus`: crates that may not know this one (the bus) register there, too.
static REGISTRY: LazyLock<Registry> = LazyLock::new(|| {
    let registry = prometheus::default_registry().clone();
    registry
        .register(Box::new(process::ProcessCollector::new()))
        .expect("nothing else collects what the system knows of this process");
    registry
});

/// What was registered, by name: the registry itself only gives text back, never the metric.
static KNOWN: LazyLock<Mutex<HashMap<String, Box<dyn Any + Send>>>> = LazyLock::new(Mutex::default);

/// The registry itself, for a collector of one's own.
#[must_use]
pub fn registry() -> &'static Registry {
    &REGISTRY
}

/// Everything registered, in Prometheus' text format.
#[must_use]
pub fn render() -> String {
    let mut text = String::new();
    if let Err(error) = prometheus::TextEncoder::new().encode_utf8(&REGISTRY.gather(), &mut text) {
        tracing::error!(%error, "metrics cannot be written as text");
    }
    text
}

/// A number that only grows; its name ends in `_total`.
///
/// # Panics
/// Like every constructor here: if the name is not a legal metric name, or is taken by a metric of
/// another kind or with other labels. Names are literals, so the first use shows it.
#[must_use]
pub fn counter(name: &str, help: &str) -> IntCounter {
    get_or_register(name, || IntCounter::new(name, help))
}

/// Counters with labels. Labels are few and their values bounded: never an id.
#[must_use]
pub fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    get_or_register(name, || IntCounterVec::new(Opts::new(name, help), labels))
}

/// A whole number that rises and falls.
#[must_use]
pub fn gauge(name: &str, help: &str) -> IntGauge {
    get_or_register(name, || IntGauge::new(name, help))
}

/// Gauges with labels.
#[must_use]
pub fn gauges(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    get_or_register(name, || IntGaugeVec::new(Opts::new(name, help), labels))
}

/// A latency in seconds, over [`LATENCY_BUCKETS_SECONDS`]; its name ends in `_seconds`.
#[must_use]
pub fn latency(name: &str, help: &str) -> Histogram {
    get_or_register(name, || {
        Histogram::with_opts(buckets(name, help, &LATENCY_BUCKETS_SECONDS))
    })
}

/// Latencies with labels.
#[must_use]
pub fn latencies(name: &str, help: &str, labels: &[&str]) -> HistogramVec {
    get_or_register(name, || {
        HistogramVec::new(buckets(name, help, &LATENCY_BUCKETS_SECONDS), labels)
    })
}

/// Sizes of batches, over [`SIZE_BUCKETS`]; its name ends in what is counted (`_items`).
#[must_use]
pub fn sizes(name: &str, help: &str, labels: &[&str]) -> HistogramVec {
    get_or_register(name, || {
        HistogramVec::new(buckets(name, help, &SIZE_BUCKETS), labels)
    })
}

fn buckets(name: &str, help: &str, bounds: &[f64]) -> HistogramOpts {
    HistogramOpts::new(name, help).buckets(bounds.to_vec())
}

fn get_or_register<M>(name: &str, new: impl FnOnce() -> prometheus::Result<M>) -> M
where
    M: Collector + Clone + Send + 'static,
{
    // A panic below leaves the map as it was, so a poisoned lock hides nothing.
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(metric) = known.get(name) {
        return metric
            .downcast_ref::<M>()
            .unwrap_or_else(|| panic!("metric {name} is already of another kind"))
            .clone();
    }
    let metric = new().unwrap_or_else(|error| panic!("metric {name}: {error}"));
    REGISTRY
        .register(Box::new(metric.clone()))
        .unwrap_or_else(|error| panic!("metric {name}: {error}"));
    known.insert(name.to_owned(), Box::new(metric.clone()));
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_is_one_metric() {
        let first = counter("guichet_test_shared_total", "Shared");
        counter("guichet_test_shared_total", "Shared").inc_by(2);
        assert_eq!(first.get(), 2);
        assert!(render().contains("\nguichet_test_shared_total 2\n"));
    }

    #[test]
    fn what_others_registered_by_default_is_rendered_too() {
        let theirs = IntCounter::new("guichet_test_theirs_total", "Theirs").expect("a legal name");
        prometheus::register(Box::new(theirs)).expect("it is free");
        assert!(render().contains("\nguichet_test_theirs_total 0\n"));
    }

    #[test]
    #[should_panic(expected = "already of another kind")]
    fn one_name_is_one_kind() {
        let _counter = counter("guichet_test_kind_total", "A counter");
        let _gauge = gauge("guichet_test_kind_total", "A gauge");
    }

    #[test]
    fn latencies_have_the_common_buckets() {
        let seconds = latencies("guichet_test_wait_seconds", "Waits", &["what"]);
        seconds.with_label_values(&["a"]).observe(0.002);
        let text = render();
        assert!(text.contains("guichet_test_wait_seconds_bucket{what=\"a\",le=\"0.001\"} 0"));
        assert!(text.contains("guichet_test_wait_seconds_bucket{what=\"a\",le=\"0.0025\"} 1"));
    }
}
