//! `soak`: 70 % of the most for half an hour. What grows then grows for ever: dead rows, indexes, memory.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{
    entry::Entry,
    load::Load,
    meter,
    outcome::Outcome,
    postgres::{self, Table},
    report,
    run::{self, Run},
    sampler::{Sample, Sampler, slope, within},
    session::{ALLOWANCE_S, Bench, spread},
    targets::number,
};

const SECONDS: u32 = 1_800;
const SHARE: f64 = 0.7;
/// A hundred readings or so, but no more than one a second.
const SAMPLES: u32 = 100;
/// Caches and pools fill first.
const WARM: f64 = 0.25;

#[derive(Debug, Serialize)]
struct Soak {
    /// Of the updates of sagas that do not end them, those that no index heard of.
    hot_ratio: Option<f64>,
    /// The most dead rows at a time, of all tables.
    dead_rows_max: i64,
    /// The most in the second half by the most in the first.
    dead_growth: Option<f64>,
    index_bytes: i64,
    index_bytes_per_order: f64,
    /// What an order adds in the second half by what it adds in the first.
    index_growth: Option<f64>,
    /// Gateway, orchestrator and worker, after the first quarter.
    memory_slope_mb_per_h: Option<f64>,
}

/// Runs it.
pub(crate) async fn run(bench: &mut Bench<'_>) -> Result<()> {
    let mut world = bench.open(bench.plain()).await?;
    let maximum = bench.maximum(&mut world).await?;
    meter::settle().await;
    let seconds = bench.arguments.seconds.unwrap_or(SECONDS);
    let rate = (f64::from(maximum) * SHARE).round() as u32;
    let load = Load::flat(rate.max(1), seconds, bench.arguments.connections);
    let orders = spread(&mut world, load.requests()).await?;
    let before = sagas(&postgres::tables(&mut world.connection).await?)?;
    let every = Duration::from_secs(u64::from((seconds / SAMPLES).max(1)));
    let sampler = Sampler::start(every, Some(world.database.connection().await?));
    let run = run::run(&mut world, &orders, &load).await?;
    let samples = sampler.stop().await?;
    let after = sagas(&postgres::tables(&mut world.connection).await?)?;
    let soak = Soak::of(&run, &samples, &before, &after);
    let outcome = Outcome::of(run, ALLOWANCE_S);
    let mut entry = Entry::new("", report::orders(&outcome) + &soak.text(), &outcome)?;
    entry
        .figures
        .extend(Entry::new("", String::new(), &soak)?.figures);
    bench.close(world, entry).await
}

fn sagas(tables: &[Table]) -> Result<Table> {
    let sagas = tables.iter().find(|table| table.name == "sagas");
    sagas.cloned().context("there are no statistics of sagas")
}

impl Soak {
    fn of(run: &Run, samples: &[Sample], before: &Table, after: &Table) -> Self {
        let seconds = run.load.seconds();
        let at = |share: f64| run.began + Duration::from_secs_f64(f64::from(seconds) * share);
        let part = |from: f64, to: f64| within(samples, at(from), at(to));
        let dead = |samples: &[Sample]| samples.iter().map(|sample| sum(sample, |t| t.dead)).max();
        let per_order = |samples: &[Sample]| {
            let (first, last) = (samples.first()?, samples.last()?);
            let grown = sum(last, |t| t.index_bytes) - sum(first, |t| t.index_bytes);
            let orders = run.confirmed(first.at, last.at);
            (orders > 0).then(|| grown as f64 / orders as f64)
        };
        let ratio = |second: Option<f64>, first: Option<f64>| {
            let (second, first) = (second?, first?);
            (first > 0.0).then(|| second / first)
        };
        let updates = after.updated - before.updated;
        let ends = run.rows.confirmed + run.rows.cancelled;
        let hot = after.updated_hot - before.updated_hot;
        let memory: Vec<(f64, f64)> = part(WARM, 1.0)
            .iter()
            .map(|sample| (hours(run.began, sample.at), sample.resident_of_ours() / 1e6))
            .collect();
        let float = |count: Option<i64>| count.map(|count| count as f64);
        Self {
            hot_ratio: (updates > ends).then(|| hot as f64 / (updates - ends) as f64),
            dead_rows_max: dead(samples).unwrap_or(0),
            dead_growth: ratio(float(dead(part(0.5, 1.0))), float(dead(part(0.0, 0.5)))),
            index_bytes: samples
                .last()
                .map_or(0, |sample| sum(sample, |t| t.index_bytes)),
            index_bytes_per_order: per_order(part(0.0, 1.0)).unwrap_or(0.0),
            index_growth: ratio(per_order(part(0.5, 1.0)), per_order(part(0.0, 0.5))),
            memory_slope_mb_per_h: slope(&memory),
        }
    }

    fn text(&self) -> String {
        let or_none = |value: Option<f64>| value.map_or("not known".to_owned(), number);
        format!(
            "\n  of the updates of sagas that do not end them {} are HOT\n\
             \x20 dead rows: at most {}, the second half {} times the first\n\
             \x20 indexes: {:.1} MB, {:.0} bytes an order, the second half {} times the first\n\
             \x20 memory of gateway, orchestrator and worker: {} MB/h\n",
            or_none(self.hot_ratio),
            self.dead_rows_max,
            or_none(self.dead_growth),
            self.index_bytes as f64 / 1e6,
            self.index_bytes_per_order,
            or_none(self.index_growth),
            or_none(self.memory_slope_mb_per_h),
        )
    }
}

fn sum(sample: &Sample, of: impl Fn(&Table) -> i64) -> i64 {
    sample.tables.iter().map(of).sum()
}

fn hours(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() / 3_600.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{observer::Seen, processes::Cpu, run::tests::run_of};
    use std::collections::BTreeMap;
    use uuid::Uuid;

    fn table(updated: i64, updated_hot: i64, dead: i64, index_bytes: i64) -> Table {
        Table {
            name: "sagas".to_owned(),
            inserted: 0,
            updated,
            updated_hot,
            deleted: 0,
            dead,
            index_bytes,
        }
    }

    #[test]
    fn what_grows_is_seen_to_grow() {
        let began = Instant::now();
        let mut seen = Seen::default();
        for n in 0..100_u32 {
            let at = began + Duration::from_millis(u64::from(n) * 36);
            seen.confirmed.insert(Uuid::from_u128(n.into()), at);
        }
        let mut run = run_of(began, &[], seen);
        run.load = Load::flat(1, 4, 1);
        run.rows.confirmed = 100;
        let cpu = Cpu::now().expect("/proc is there");
        // Dead rows double, indexes grow steadily, memory grows by a megabyte each 0.4 s.
        let samples: Vec<Sample> = (0..10_u32)
            .map(|n| Sample {
                at: began + Duration::from_millis(u64::from(n) * 400),
                cpu: cpu.clone(),
                resident: BTreeMap::from([
                    ("gateway".to_owned(), u64::from(n) * 1_000_000),
                    ("psp".to_owned(), u64::from(n) * 7_000_000),
                ]),
                tables: vec![table(
                    0,
                    0,
                    if n <= 5 { 50 } else { 100 },
                    i64::from(n) * 1_000,
                )],
            })
            .collect();
        let soak = Soak::of(&run, &samples, &table(0, 0, 0, 0), &table(500, 390, 0, 0));
        assert_eq!(soak.hot_ratio, Some(390.0 / 400.0));
        assert_eq!(soak.dead_growth, Some(2.0));
        assert_eq!(soak.dead_rows_max, 100);
        assert!(
            soak.index_growth
                .is_some_and(|growth| (0.8..1.3).contains(&growth)),
            "{soak:?}"
        );
        let slope = soak.memory_slope_mb_per_h.expect("there are points");
        assert!((slope - 9_000.0).abs() < 1.0, "{slope}");
    }
}
