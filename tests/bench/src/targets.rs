//! Every target, in one place: those of issue 4, for a machine with two cores and everything on it.
//!
//! A target names a figure by its path in the result. What could not be measured is not met.

use serde::Serialize;
use serde_json::{Map, Value};

/// What a figure has to be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// One target.
#[derive(Debug)]
pub(crate) struct Target {
    benchmark: &'static str,
    /// Of which of its results; empty for the only one.
    variant: &'static str,
    /// Where the figure stands in the result; a dot leads deeper.
    figure: &'static str,
    bound: Bound,
    what: &'static str,
}

/// A target beside what was found.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Judged {
    pub(crate) what: &'static str,
    pub(crate) figure: &'static str,
    #[serde(flatten)]
    pub(crate) bound: Bound,
    pub(crate) found: Option<f64>,
    pub(crate) met: bool,
}

const fn target(
    benchmark: &'static str,
    variant: &'static str,
    figure: &'static str,
    bound: Bound,
    what: &'static str,
) -> Target {
    Target {
        benchmark,
        variant,
        figure,
        bound,
        what,
    }
}

use Bound::{AtLeast, AtMost};

/// All of them.
#[rustfmt::skip]
const TARGETS: [Target; 40] = [
    target("orders", "", "rate_per_s", AtLeast(2_000.0), "orders/s confirmed"),
    target("orders", "", "cpu_us_per_unit", AtMost(900.0), "µs CPU per order, all processes"),
    target("orders", "webhooks and mail", "rate_per_s", AtLeast(1_500.0), "orders/s confirmed"),
    target("hot", "", "rate_per_s", AtLeast(1_800.0), "orders/s confirmed"),
    target("hot", "until sold out", "sold_of_capacity", AtLeast(1.0), "sold of what there was"),
    target("hot", "until sold out", "sold_of_capacity", AtMost(1.0), "sold of what there was"),
    target("saga", "in bulk", "rate_per_s", AtLeast(5_000.0), "sagas/s"),
    target("saga", "one by one", "rate_per_s", AtLeast(4_000.0), "sagas/s"),
    target("saga", "one by one", "p50_ms", AtMost(70.0), "ms to the end, p50"),
    target("latency", "", "p50_ms", AtMost(12.0), "ms to confirmed, p50"),
    target("latency", "", "p99_ms", AtMost(40.0), "ms to confirmed, p99"),
    target("latency", "", "accepted_after.p99_ms", AtMost(10.0), "ms to 202, p99"),
    target("half", "", "p99_ms", AtMost(300.0), "ms to confirmed, p99"),
    target("undo", "10 % declined", "share_of_maximum", AtLeast(0.7), "of the orders/s without declined cards"),
    target("undo", "30 % declined", "share_of_maximum", AtLeast(0.7), "of the orders/s without declined cards"),
    target("slow-pay", "", "share_of_maximum", AtLeast(0.9), "of the orders/s with a provider that answers at once"),
    target("overload", "3 x", "goodput_of_maximum", AtLeast(0.8), "of the most confirmed"),
    target("overload", "3 x", "refusal_cpu_us", AtMost(40.0), "µs CPU per refusal"),
    target("overload", "3 x", "refused_after.p99_ms", AtMost(50.0), "ms to a refusal, p99"),
    target("overload", "3 x", "refused_without_retry_after", AtMost(0.0), "refusals without Retry-After"),
    target("overload", "3 x", "admitted_p99_of_normal", AtMost(3.0), "times the normal p99 of what was admitted"),
    target("overload", "3 x", "memory_growth", AtMost(1.2), "times the memory from the first third to the last"),
    target("overload", "3 x", "normal_after_s", AtMost(5.0), "s until it is normal again"),
    target("overload", "10 x", "goodput_of_rest", AtLeast(0.9), "of the most times the share of CPU that is left"),
    target("overload", "10 x", "refusal_cpu_us", AtMost(40.0), "µs CPU per refusal"),
    target("overload", "10 x", "refused_after.p99_ms", AtMost(50.0), "ms to a refusal, p99"),
    target("overload", "10 x", "refused_without_retry_after", AtMost(0.0), "refusals without Retry-After"),
    target("overload", "10 x", "admitted_p99_of_normal", AtMost(3.0), "times the normal p99 of what was admitted"),
    target("overload", "10 x", "memory_growth", AtMost(1.2), "times the memory from the first third to the last"),
    target("overload", "10 x", "normal_after_s", AtMost(5.0), "s until it is normal again"),
    target("grow", "all", "least_of_most", AtLeast(0.9), "the slowest of the fastest"),
    target("idle", "", "cpu_percent_of_a_core", AtMost(1.0), "% of a core, our processes"),
    target("idle", "", "statements_per_s", AtMost(1.0), "statements/s"),
    target("soak", "", "hot_ratio", AtLeast(0.95), "of the non-terminal updates of sagas HOT"),
    target("soak", "", "dead_growth", AtMost(1.2), "times the most dead rows, second half to first"),
    target("soak", "", "index_growth", AtMost(1.2), "times the index bytes per order, second half to first"),
    target("soak", "", "memory_slope_mb_per_h", AtMost(10.0), "MB/h more memory, gateway, orchestrator and worker"),
    target("scale", "all", "least_of_base", AtLeast(0.8), "of one process of each, the worst split"),
    target("catalogue", "", "rate_per_s", AtLeast(5_000.0), "requests/s"),
    target("catalogue", "", "p99_ms", AtMost(20.0), "ms to the whole answer, p99"),
];

/// The targets of a result beside its figures.
pub(crate) fn judge(benchmark: &str, variant: &str, result: &Map<String, Value>) -> Vec<Judged> {
    let ours = TARGETS
        .iter()
        .filter(|target| target.benchmark == benchmark && target.variant == variant);
    ours.map(|target| {
        let found = find(result, target.figure);
        Judged {
            what: target.what,
            figure: target.figure,
            bound: target.bound,
            found,
            met: found.is_some_and(|found| match target.bound {
                AtLeast(least) => found >= least,
                AtMost(most) => found <= most,
            }),
        }
    })
    .collect()
}

/// The number at a path.
fn find(result: &Map<String, Value>, figure: &str) -> Option<f64> {
    let mut parts = figure.split('.');
    let first = result.get(parts.next()?)?;
    parts
        .try_fold(first, |value, part| value.get(part))?
        .as_f64()
}

impl Judged {
    /// For people.
    pub(crate) fn text(&self) -> String {
        let (sign, bound) = match self.bound {
            AtLeast(least) => ("at least", least),
            AtMost(most) => ("at most", most),
        };
        let (found, verdict) = match (self.found, self.met) {
            (None, _) => ("not measured".to_owned(), "missed"),
            (Some(found), true) => (number(found), "met"),
            (Some(found), false) => (number(found), "missed"),
        };
        let what = self.what;
        format!(
            "  target: {sign} {} {what}: {found}: {verdict}\n",
            number(bound)
        )
    }
}

/// With as many digits as say something.
pub(crate) fn number(value: f64) -> String {
    let digits = match value.abs() {
        it if it >= 100.0 => 0,
        it if it >= 10.0 => 1,
        _ => 3,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::Name;
    use clap::ValueEnum;
    use serde_json::json;

    fn result(value: &Value) -> Map<String, Value> {
        value.as_object().expect("an object").clone()
    }

    #[test]
    fn every_benchmark_has_a_target_and_every_target_a_benchmark() {
        let names: Vec<String> = Name::value_variants().iter().map(|n| n.label()).collect();
        for name in &names {
            assert!(
                TARGETS.iter().any(|target| target.benchmark == name),
                "{name}"
            );
        }
        for target in &TARGETS {
            assert!(
                names.iter().any(|name| name == target.benchmark),
                "{target:?}"
            );
        }
    }

    #[test]
    fn a_figure_is_met_or_missed_and_what_is_not_measured_is_missed() {
        let good =
            result(&json!({"p50_ms": 12.0, "p99_ms": 41, "accepted_after": {"p99_ms": 9.9}}));
        let met = |judged: Vec<Judged>| judged.iter().map(|one| one.met).collect::<Vec<_>>();
        assert_eq!(met(judge("latency", "", &good)), [true, false, true]);
        let none = judge("latency", "", &Map::new());
        assert!(
            none.iter()
                .all(|one| !one.met && one.text().contains("not measured: missed"))
        );
        assert!(judge("latency", "another", &good).is_empty());
    }
}
