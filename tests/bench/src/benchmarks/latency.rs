//! `latency`: few orders a second, so that what is measured is the way of one order and no queue.

use anyhow::Result;

use crate::{
    entry::Entry,
    outcome::Outcome,
    report, run,
    session::{ALLOWANCE_S, Bench, spread},
};

const RATE_PER_S: u32 = 20;

/// Runs it.
pub(crate) async fn run(bench: &mut Bench<'_>) -> Result<()> {
    let mut world = bench.open(bench.plain()).await?;
    let load = bench.window(RATE_PER_S);
    let orders = spread(&mut world, load.requests()).await?;
    let outcome = Outcome::of(run::run(&mut world, &orders, &load).await?, ALLOWANCE_S);
    let entry = Entry::new("", report::orders(&outcome), &outcome)?;
    bench.close(world, entry).await
}
