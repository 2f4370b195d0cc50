//! `grow`: `orders` in a database that already holds finished ones, up to years of them. What slows down
//! with them (an index that no longer fits, a plan that reads too much, a partition too many) shows here.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::json;

use crate::{
    entry::Entry,
    grown,
    outcome::Outcome,
    report, run,
    session::{ALLOWANCE_S, Bench, spread},
    world::say,
};

/// Runs it.
pub(crate) async fn run(bench: &mut Bench<'_>) -> Result<()> {
    let mut table = String::from("finished orders in the database\n");
    let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
    for finished in bench.arguments.finished.clone() {
        let mut world = bench.open(bench.plain()).await?;
        if finished > 0 {
            let mut connection = world.database.connection().await?;
            grown::make(&mut connection, finished, |made| {
                say(&format!("made {made} of {finished} finished orders"));
            })
            .await?;
        }
        let rate = bench
            .most(&mut world, bench.known(), ALLOWANCE_S, spread)
            .await?;
        let load = bench.window(rate);
        let orders = spread(&mut world, load.requests()).await?;
        let outcome = Outcome::of(run::run(&mut world, &orders, &load).await?, ALLOWANCE_S);
        least = least.min(outcome.rate_per_s);
        most = most.max(outcome.rate_per_s);
        let _ = writeln!(
            table,
            "  {finished:>10}  {:>9.1} orders/s",
            outcome.rate_per_s
        );
        let variant = format!("{finished} finished");
        let mut entry = Entry::new(&variant, report::orders(&outcome), &outcome)?;
        entry.figure("finished", finished);
        bench.close(world, entry).await?;
    }
    let figures = json!({ "least_of_most": least / most.max(f64::MIN_POSITIVE) });
    bench.tell(Entry::new("all", table, &figures)?)
}
