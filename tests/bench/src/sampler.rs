//! Readings taken while something runs: CPU time and memory of each process, and what the database counts.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::Result;
use diesel_async::AsyncPgConnection;
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    postgres::{self, Table},
    processes::{self, Cpu},
};

/// One reading.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) at: Instant,
    pub(crate) cpu: Cpu,
    /// Resident bytes by process.
    pub(crate) resident: BTreeMap<String, u64>,
    /// Empty without a connection to ask on.
    pub(crate) tables: Vec<Table>,
}

/// Takes readings until it is stopped.
pub(crate) struct Sampler {
    stop: CancellationToken,
    task: JoinHandle<Result<Vec<Sample>>>,
}

impl Sampler {
    /// Begins. With a connection the tables are read too.
    pub(crate) fn start(every: Duration, mut connection: Option<AsyncPgConnection>) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut samples = Vec::new();
            loop {
                let tables = match &mut connection {
                    Some(connection) => postgres::tables(connection).await?,
                    None => Vec::new(),
                };
                samples.push(Sample {
                    at: Instant::now(),
                    cpu: Cpu::now()?,
                    resident: processes::resident()?,
                    tables,
                });
                if stopped.run_until_cancelled(sleep(every)).await.is_none() {
                    return Ok(samples);
                }
            }
        });
        Self { stop, task }
    }

    /// Ends, and gives all readings, the earliest first.
    pub(crate) async fn stop(self) -> Result<Vec<Sample>> {
        self.stop.cancel();
        self.task.await?
    }
}

/// Those taken in a span.
pub(crate) fn within(samples: &[Sample], from: Instant, to: Instant) -> &[Sample] {
    let first = samples.partition_point(|sample| sample.at < from);
    let last = samples.partition_point(|sample| sample.at <= to);
    &samples[first.min(last)..last]
}

impl Sample {
    /// Resident bytes of the processes of Guichet that do the work; the simulator and its ledger, the
    /// servers and the load generator are not among them.
    pub(crate) fn resident_of_ours(&self) -> f64 {
        let ours = self.resident.iter().filter(|(name, _)| is_ours(name));
        ours.map(|(_, bytes)| *bytes as f64).sum()
    }
}

/// Whether it is a process of Guichet that does the work.
pub(crate) fn is_ours(name: &str) -> bool {
    ["gateway", "orchestrator", "worker"]
        .iter()
        .any(|role| name.starts_with(role))
}

/// The slope of points, by least squares; nothing for fewer than two places.
pub(crate) fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let n = points.len() as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / n;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / n;
    let across: f64 = points
        .iter()
        .map(|(x, y)| (x - mean_x) * (y - mean_y))
        .sum();
    let along: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    (along > 0.0).then(|| across / along)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slope_is_that_of_the_line_and_needs_two_points() {
        let line: Vec<(f64, f64)> = (0..10)
            .map(|x| (f64::from(x), 3.0 - 2.0 * f64::from(x)))
            .collect();
        assert!(slope(&line).is_some_and(|slope| (slope + 2.0).abs() < 1e-9));
        assert_eq!(slope(&line[..1]), None);
        assert_eq!(slope(&[]), None);
    }

    #[tokio::test]
    async fn readings_are_found_by_their_time() {
        let sampler = Sampler::start(Duration::from_millis(1), None);
        sleep(Duration::from_millis(50)).await;
        let samples = sampler.stop().await.expect("/proc is there");
        let (first, last) = (samples[0].at, samples[samples.len() - 1].at);
        assert!(samples.len() > 1);
        assert_eq!(within(&samples, first, last).len(), samples.len());
        assert!(
            within(
                &samples,
                first - Duration::from_secs(9),
                first - Duration::from_secs(8)
            )
            .is_empty()
        );
        assert!(is_ours("worker pay") && !is_ours("psp") && !is_ours("postgres"));
    }
}
