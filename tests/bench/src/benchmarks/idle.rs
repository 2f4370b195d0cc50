//! `idle`: everything is up and nobody orders. What still runs runs all year.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use diesel::sql_types::{BigInt, Bool, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::Serialize;
use tokio::time::sleep;

use crate::{entry::Entry, meter, processes::Cpu, sampler::is_ours, session::Bench};

/// After the first orders: old timers run out, statistics are written.
const QUIET: Duration = Duration::from_secs(15);

#[derive(Debug, Serialize)]
struct Idle {
    seconds: u32,
    /// Gateway, orchestrator, worker and the payment simulator.
    cpu_percent_of_a_core: f64,
    cpu_percent_of_a_core_by_process: BTreeMap<String, f64>,
    statements_per_s: f64,
    /// Where that is from: the extension pg_stat_statements, or transactions where it is missing.
    counted: &'static str,
}

/// Runs it.
pub(crate) async fn run(bench: &mut Bench<'_>) -> Result<()> {
    let world = bench.open(bench.plain()).await?;
    let name = world.database.name().to_owned();
    // On a connection to another database, so that asking is not counted.
    let mut admin = world.database.admin().await?;
    sleep(QUIET).await;
    let seconds = bench.arguments.seconds();
    let before = statements(&mut admin, &name).await?;
    let cpu = Cpu::now()?;
    sleep(Duration::from_secs(u64::from(seconds))).await;
    let used = Cpu::now()?.since(&cpu).us;
    meter::settle().await;
    let after = statements(&mut admin, &name).await?;
    let percent = |us: u64| us as f64 / f64::from(seconds) / 1e4;
    let by_process: BTreeMap<String, f64> = used
        .into_iter()
        .map(|(name, us)| (name, percent(us)))
        .collect();
    let ours = by_process
        .iter()
        .filter(|(name, _)| is_ours(name) || *name == "psp");
    // What was counted while the statistics were waited for belongs to a longer time.
    let counted_s = f64::from(seconds) + meter::SETTLES.as_secs_f64();
    let idle = Idle {
        seconds,
        cpu_percent_of_a_core: ours.map(|(_, percent)| percent).sum(),
        statements_per_s: (after.calls - before.calls) as f64 / counted_s,
        counted: if after.exact {
            "statements"
        } else {
            "transactions"
        },
        cpu_percent_of_a_core_by_process: by_process,
    };
    let entry = Entry::new("", idle.text(), &idle)?;
    bench.close(world, entry).await
}

impl Idle {
    fn text(&self) -> String {
        let mut text = format!(
            "{} s\n  CPU of our processes      {:.2} % of a core\n",
            self.seconds, self.cpu_percent_of_a_core
        );
        for (name, percent) in &self.cpu_percent_of_a_core_by_process {
            text += &format!("    {name:<20}{percent:>9.2} %\n");
        }
        text += &format!("  {} {:.2} a second\n", self.counted, self.statements_per_s);
        if self.counted == "transactions" {
            text += "  (PostgreSQL has no pg_stat_statements here: a transaction of several statements is one)\n";
        }
        text
    }
}

struct Statements {
    calls: i64,
    exact: bool,
}

#[derive(diesel::QueryableByName)]
struct Calls {
    #[diesel(sql_type = BigInt)]
    calls: i64,
}

#[derive(diesel::QueryableByName)]
struct There {
    #[diesel(sql_type = Bool)]
    there: bool,
}

async fn statements(admin: &mut AsyncPgConnection, database: &str) -> Result<Statements> {
    let there: There = diesel::sql_query(
        "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_stat_statements') \
            AND current_setting('shared_preload_libraries') LIKE '%pg_stat_statements%' AS there",
    )
    .get_result(admin)
    .await?;
    let sql = match there.there {
        true => {
            "SELECT coalesce(sum(s.calls), 0)::bigint AS calls FROM pg_stat_statements s \
             JOIN pg_database d ON d.oid = s.dbid WHERE d.datname = $1"
        }
        false => {
            "SELECT xact_commit + xact_rollback AS calls FROM pg_stat_database WHERE datname = $1"
        }
    };
    let query = diesel::sql_query(sql).bind::<Text, _>(database);
    let Calls { calls } = query.get_result(admin).await?;
    Ok(Statements {
        calls,
        exact: there.there,
    })
}
