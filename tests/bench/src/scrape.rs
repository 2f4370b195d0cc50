//! What the roles count about the bus, from their `/metrics`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{connection::Connection, roles::Role};

const MESSAGES: &str = "guichet_bus_messages_published_total";
const ENVELOPES: &str = "guichet_bus_envelopes_published_total";
/// What is not there without faults: work that is done again.
const AGAIN: [&str; 4] = [
    "guichet_saga_resends_total",
    "guichet_saga_commands_unpublished_total",
    "guichet_bus_redelivered_total",
    "guichet_worker_halved_total",
];

/// Sums over all roles until now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    queues: BTreeMap<String, (f64, f64)>,
    again: BTreeMap<&'static str, f64>,
}

/// One queue in a span.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Queue {
    pub(crate) queue: String,
    pub(crate) messages_per_unit: f64,
    pub(crate) envelopes_per_message: f64,
}

impl Counts {
    /// Asks every role.
    pub(crate) async fn now(roles: &[Role]) -> Result<Self> {
        let mut counts = Self::default();
        for role in roles {
            let asked = async { Connection::open(role.admin).await?.text("/metrics").await };
            let text = asked
                .await
                .with_context(|| format!("cannot read the metrics of {}", role.name))?;
            counts.add(&text);
        }
        Ok(counts)
    }

    fn add(&mut self, text: &str) {
        for (name, queue, value) in text.lines().filter_map(sample) {
            match name {
                MESSAGES => self.queues.entry(queue.to_owned()).or_default().0 += value,
                ENVELOPES => self.queues.entry(queue.to_owned()).or_default().1 += value,
                _ => {
                    if let Some(known) = AGAIN.iter().find(|known| **known == name) {
                        *self.again.entry(known).or_default() += value;
                    }
                }
            }
        }
    }

    /// The queues that were used since `before`, per unit of work.
    pub(crate) fn queues(&self, before: &Self, units: f64) -> Vec<Queue> {
        let used = self.queues.iter().map(|(queue, (messages, envelopes))| {
            let (m, e) = before.queues.get(queue).copied().unwrap_or_default();
            (queue, messages - m, envelopes - e)
        });
        used.filter(|(_, messages, _)| *messages > 0.0)
            .map(|(queue, messages, envelopes)| Queue {
                queue: queue.clone(),
                messages_per_unit: messages / units,
                envelopes_per_message: envelopes / messages,
            })
            .collect()
    }

    /// What was done again since `before`, by the counter's name.
    pub(crate) fn again(&self, before: &Self) -> BTreeMap<&'static str, f64> {
        let since = AGAIN.iter().map(|name| {
            let of = |counts: &Self| counts.again.get(name).copied().unwrap_or(0.0);
            (*name, of(self) - of(before))
        });
        since.collect()
    }
}

/// A line of Prometheus' text format: name, value of the label `queue` or nothing, value.
fn sample(line: &str) -> Option<(&str, &str, f64)> {
    if line.starts_with('#') {
        return None;
    }
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let queue = labels
        .split_once("queue=\"")
        .and_then(|(_, rest)| rest.split('"').next());
    Some((name, queue.unwrap_or(""), value.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_differences_of_sums_over_roles() {
        let mut before = Counts::default();
        before.add("# HELP x\nguichet_bus_messages_published_total{queue=\"pay\"} 4");
        let mut after = before.clone();
        after.add(
            "guichet_bus_messages_published_total{queue=\"pay\"} 5\n\
             guichet_bus_envelopes_published_total{queue=\"pay\"} 50\n\
             guichet_saga_resends_total{reason=\"overdue\"} 2\n\
             guichet_saga_resends_total{reason=\"loaded\"} 1",
        );
        let queues = after.queues(&before, 100.0);
        assert_eq!(queues.len(), 1);
        assert_eq!(queues[0].messages_per_unit, 0.05);
        assert_eq!(queues[0].envelopes_per_message, 10.0);
        assert_eq!(after.again(&before)["guichet_saga_resends_total"], 3.0);
    }
}
