//! Latencies and their quantiles.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

const HOUR_US: u64 = 3_600_000_000;

/// Quantiles in milliseconds, each rounded up by less than 0.1 %.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) max_ms: f64,
}

impl Latency {
    /// Of these times; none if there are none.
    pub(crate) fn of(times: impl IntoIterator<Item = Duration>) -> Option<Self> {
        let mut histogram =
            Histogram::<u64>::new_with_bounds(1, HOUR_US, 3).expect("the bounds are sound");
        for time in times {
            let us = u64::try_from(time.as_micros()).unwrap_or(HOUR_US);
            histogram.saturating_record(us.max(1));
        }
        let ms = |quantile| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
        (!histogram.is_empty()).then(|| Self {
            p50_ms: ms(0.5),
            p90_ms: ms(0.9),
            p99_ms: ms(0.99),
            p999_ms: ms(0.999),
            max_ms: histogram.max() as f64 / 1_000.0,
        })
    }

    /// From pairs of begin and end.
    pub(crate) fn between(pairs: impl IntoIterator<Item = (Instant, Instant)>) -> Option<Self> {
        Self::of(
            pairs
                .into_iter()
                .map(|(begin, end)| end.saturating_duration_since(begin)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_sorted_times() {
        let latency = Latency::of((1..=1_000).map(Duration::from_millis)).expect("some");
        let close = |found: f64, wanted: f64| (found - wanted).abs() <= wanted / 1_000.0;
        assert!(close(latency.p50_ms, 500.0), "{latency:?}");
        assert!(close(latency.p99_ms, 990.0), "{latency:?}");
        assert!(close(latency.p999_ms, 999.0), "{latency:?}");
        assert!(close(latency.max_ms, 1_000.0), "{latency:?}");
        assert!(Latency::of([]).is_none());
    }
}
