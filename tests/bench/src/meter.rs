//! What a unit of work costs: two readings of every counter, and their difference.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use serde::Serialize;
use tokio::time::sleep;

use crate::{
    postgres::{self, REPORTED_WITHIN, Table, Written},
    processes::{self, Cpu},
    scrape::{Counts, Queue},
    world::World,
};

/// All counters at the beginning.
pub(crate) struct Meter {
    cpu: Cpu,
    bus: Counts,
    written: Written,
    tables: Vec<Table>,
}

/// The difference, per unit.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Budget {
    pub(crate) commits_per_unit: f64,
    pub(crate) wal_bytes_per_unit: f64,
    pub(crate) wal_full_pages_per_unit: f64,
    pub(crate) wal_syncs_per_unit: f64,
    pub(crate) rows_written_per_unit: f64,
    pub(crate) rows_written_per_unit_by_table: BTreeMap<String, f64>,
    pub(crate) messages_per_unit: f64,
    pub(crate) envelopes_per_message: f64,
    pub(crate) queues: Vec<Queue>,
    /// Everything that takes part, the load generator too.
    pub(crate) cpu_us_per_unit: f64,
    pub(crate) cpu_us_per_unit_by_process: BTreeMap<String, f64>,
    pub(crate) cpu_percent: CpuPercent,
    /// Resident memory at the end; the pages that PostgreSQL's processes share count for each of them.
    pub(crate) resident_mb_by_process: BTreeMap<String, f64>,
    pub(crate) done_again: BTreeMap<&'static str, f64>,
}

/// Shares of the machine's cores.
#[derive(Debug, Default, Serialize)]
pub(crate) struct CpuPercent {
    pub(crate) ours: f64,
    pub(crate) others: f64,
    pub(crate) stolen: f64,
}

impl Meter {
    /// Reads everything. The database's own statistics must have settled: see [`settle`].
    pub(crate) async fn start(world: &mut World) -> Result<Self> {
        Ok(Self {
            bus: Counts::now(&world.roles).await?,
            written: postgres::written(&mut world.connection).await?,
            tables: postgres::tables(&mut world.connection).await?,
            cpu: Cpu::now()?,
        })
    }

    /// Reads everything again when the work is done, and waits for the counters that lag.
    pub(crate) async fn stop(self, world: &mut World, units: u64) -> Result<Budget> {
        let used = Cpu::now()?.since(&self.cpu);
        let wal_bytes = postgres::written(&mut world.connection).await?.wal_bytes;
        let bus = Counts::now(&world.roles).await?;
        let resident = processes::resident()?;
        settle().await;
        let written = postgres::written(&mut world.connection).await?;
        let tables = postgres::tables(&mut world.connection).await?;
        let units = units.max(1) as f64;
        let per_unit = |after: i64, before: i64| (after - before) as f64 / units;
        let queues = bus.queues(&self.bus, units);
        let (mut messages, mut envelopes) = (0.0, 0.0);
        for queue in &queues {
            messages += queue.messages_per_unit;
            envelopes += queue.messages_per_unit * queue.envelopes_per_message;
        }
        let rows = written_by_table(&self.tables, &tables, units);
        let by_process: BTreeMap<String, f64> = used
            .us
            .into_iter()
            .map(|(name, us)| (name, us as f64 / units))
            .collect();
        Ok(Budget {
            commits_per_unit: per_unit(written.commits, self.written.commits),
            wal_bytes_per_unit: per_unit(wal_bytes, self.written.wal_bytes),
            wal_full_pages_per_unit: per_unit(written.wal_full_pages, self.written.wal_full_pages),
            wal_syncs_per_unit: per_unit(written.wal_syncs, self.written.wal_syncs),
            rows_written_per_unit: rows.values().sum(),
            rows_written_per_unit_by_table: rows,
            messages_per_unit: messages,
            envelopes_per_message: if messages > 0.0 {
                envelopes / messages
            } else {
                0.0
            },
            queues,
            cpu_us_per_unit: by_process.values().sum(),
            cpu_us_per_unit_by_process: by_process,
            cpu_percent: CpuPercent {
                ours: used.ours_percent,
                others: used.others_percent,
                stolen: used.stolen_percent,
            },
            resident_mb_by_process: resident
                .into_iter()
                .map(|(name, bytes)| (name, bytes as f64 / 1e6))
                .collect(),
            done_again: bus.again(&self.bus),
        })
    }
}

/// Rows written per unit, of the tables that were written at all.
fn written_by_table(before: &[Table], after: &[Table], units: f64) -> BTreeMap<String, f64> {
    let was = |name: &str| {
        let earlier = before.iter().find(|table| table.name == name);
        earlier.map_or(0, Table::written)
    };
    let written = after
        .iter()
        .map(|table| (table.name.clone(), table.written() - was(&table.name)));
    written
        .filter(|(_, rows)| *rows > 0)
        .map(|(name, rows)| (name, rows as f64 / units))
        .collect()
}

/// How long [`settle`] takes.
pub(crate) const SETTLES: Duration = REPORTED_WITHIN;

/// Waits until the database's statistics hold what happened so far. It offers no way to ask.
pub(crate) async fn settle() {
    sleep(SETTLES).await;
}
