//! Results beside each other: today's beside those of an earlier run, or the two sides of a pair.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use crate::{entry::Entry, targets::number};

/// Figures by their paths.
pub(crate) type Figures = BTreeMap<String, f64>;

/// What is told of the parts of a window, and what was asked for rather than found.
const LEFT_OUT: [&str; 5] = ["slots", "targets", "queues", "offered_per_s", "seconds"];

/// Every number of a result.
pub(crate) fn figures(result: &Map<String, Value>) -> Figures {
    let mut found = Figures::new();
    collect("", result, &mut found);
    found
}

fn collect(prefix: &str, result: &Map<String, Value>, into: &mut Figures) {
    for (name, value) in result {
        if LEFT_OUT.contains(&name.as_str()) {
            continue;
        }
        let path = format!("{prefix}{name}");
        match value {
            Value::Object(inner) => collect(&format!("{path}."), inner, into),
            _ => drop(value.as_f64().map(|number| into.insert(path, number))),
        }
    }
}

/// The results of an earlier run.
pub(crate) struct Earlier {
    commit: String,
    results: Vec<Value>,
}

impl Earlier {
    /// Reads what `--json` wrote.
    pub(crate) fn read(file: &Path) -> Result<Self> {
        let cannot = || format!("cannot read the results in {}", file.display());
        let text = fs::read_to_string(file).with_context(cannot)?;
        let value: Value = serde_json::from_str(&text).with_context(cannot)?;
        let results = value["results"].as_array().with_context(cannot)?;
        Ok(Self {
            commit: value["commit"].as_str().unwrap_or("unknown").to_owned(),
            results: results.clone(),
        })
    }

    /// A result beside its earlier one, if there is one.
    pub(crate) fn beside(&self, entry: &Entry) -> String {
        let of = |result: &&Value| {
            // Results from before there were variants have none.
            result["name"] == entry.benchmark.as_str()
                && result["variant"].as_str().unwrap_or_default() == entry.variant
        };
        let Some(earlier) = self.results.iter().find(of).and_then(Value::as_object) else {
            return "  compared: the earlier run has no such result\n".to_owned();
        };
        let (now, then) = (figures(&entry.figures), figures(earlier));
        let mut text = format!("  compared with commit {}\n", self.commit);
        text += &row(["figure", "then", "now", "now/then"]);
        for (name, now) in &now {
            if let Some(then) = then.get(name) {
                text += &row([name, &number(*then), &number(*now), &ratio(*now, *then)]);
            }
        }
        text
    }
}

/// The runs of both sides of a pair, result by result.
#[derive(Debug, Default)]
pub(crate) struct Sides(BTreeMap<String, [Vec<Figures>; 2]>);

impl Sides {
    /// Adds a result of a side, 0 or 1.
    pub(crate) fn add(&mut self, side: usize, entry: &Entry) {
        let sides = self.0.entry(entry.title()).or_default();
        sides[side].push(figures(&entry.figures));
    }

    /// Medians, ratios of medians, and the spread of each side.
    pub(crate) fn told(&self, labels: [&str; 2]) -> String {
        let mut text = format!("\nA: {}\nB: {}\n", labels[0], labels[1]);
        for (title, [a, b]) in &self.0 {
            let _ = writeln!(
                text,
                "\n{title}: medians of {} and {} runs",
                a.len(),
                b.len()
            );
            text += &row(["figure", "A", "B", "B/A      A from .. to, B from .. to"]);
            for name in a
                .iter()
                .flat_map(BTreeMap::keys)
                .collect::<std::collections::BTreeSet<_>>()
            {
                let (a, b) = (values(a, name), values(b, name));
                if let (Some(median_a), Some(median_b)) = (median(&a), median(&b)) {
                    let last = format!(
                        "{:<9}{}, {}",
                        ratio(median_b, median_a),
                        spread(&a),
                        spread(&b)
                    );
                    text += &row([name, &number(median_a), &number(median_b), &last]);
                }
            }
        }
        text
    }

    /// The same for programs.
    pub(crate) fn value(&self) -> Value {
        let medians = |runs: &[Figures]| -> Figures {
            let names = runs.iter().flat_map(BTreeMap::keys);
            let pairs = names.filter_map(|name| Some((name.clone(), median(&values(runs, name))?)));
            pairs.collect()
        };
        let sides = self.0.iter().map(|(title, [a, b])| {
            let value = serde_json::json!({
                "a": { "medians": medians(a), "runs": a },
                "b": { "medians": medians(b), "runs": b },
            });
            (title.clone(), value)
        });
        Value::Object(sides.collect())
    }
}

fn values(runs: &[Figures], name: &str) -> Vec<f64> {
    let mut values: Vec<f64> = runs
        .iter()
        .filter_map(|run| run.get(name).copied())
        .collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Of sorted values.
fn median(values: &[f64]) -> Option<f64> {
    let middle = values.len() / 2;
    let upper = values.get(middle)?;
    match values.len() % 2 {
        0 => Some(f64::midpoint(values[middle - 1], *upper)),
        _ => Some(*upper),
    }
}

fn spread(values: &[f64]) -> String {
    match (values.first(), values.last()) {
        (Some(first), Some(last)) => format!("{} .. {}", number(*first), number(*last)),
        _ => String::new(),
    }
}

fn ratio(now: f64, then: f64) -> String {
    if then == 0.0 {
        return "-".to_owned();
    }
    format!("{:.3}", now / then)
}

fn row([name, first, second, third]: [&str; 4]) -> String {
    format!("  {name:<52}{first:>12}{second:>12}  {third}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(figures: &Value) -> Entry {
        let mut entry = Entry::new("", String::new(), figures).expect("an object");
        entry.benchmark = "orders".to_owned();
        entry
    }

    #[test]
    fn a_result_stands_beside_its_earlier_one() {
        let earlier = Earlier {
            commit: "abc".to_owned(),
            results: vec![json!({"name": "orders", "rate_per_s": 100.0, "gone": 1, "slots": [1]})],
        };
        let now = json!({"rate_per_s": 150.0, "new": 1, "cpu": {"psp": 2.0}});
        let text = earlier.beside(&entry(&now));
        assert!(text.contains("1.500") && text.contains("abc"), "{text}");
        assert_eq!(text.lines().count(), 3, "only what both have: {text}");
    }

    #[test]
    fn sides_are_compared_by_their_medians() {
        let mut sides = Sides::default();
        for (a, b) in [(1.0, 2.0), (100.0, 4.0), (3.0, 6.0)] {
            sides.add(0, &entry(&json!({"x": {"y": a}})));
            sides.add(1, &entry(&json!({"x": {"y": b}})));
        }
        let text = sides.told(["-", "GUICHET_A=1"]);
        assert!(
            text.contains("x.y") && text.contains("1.333"),
            "4 to 3: {text}"
        );
        assert!(
            text.contains("1.000 .. 100") && text.contains("B: GUICHET_A=1"),
            "{text}"
        );
        assert_eq!(sides.value()["orders"]["a"]["medians"]["x.y"], 3.0);
        assert_eq!(median(&[1.0, 2.0]), Some(1.5));
        assert_eq!(median(&[]), None);
    }
}
