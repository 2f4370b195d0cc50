//! `half`: half of the most. Queues are short; what is long is the work itself.

use anyhow::Result;

use crate::{
    entry::Entry,
    outcome::Outcome,
    report, run,
    session::{ALLOWANCE_S, Bench, spread},
};

/// Runs it.
pub(crate) async fn run(bench: &mut Bench<'_>) -> Result<()> {
    let mut world = bench.open(bench.plain()).await?;
    let maximum = bench.maximum(&mut world).await?;
    let load = bench.window(maximum / 2);
    let orders = spread(&mut world, load.requests()).await?;
    let outcome = Outcome::of(run::run(&mut world, &orders, &load).await?, ALLOWANCE_S);
    let entry = Entry::new("", report::orders(&outcome), &outcome)?;
    bench.close(world, entry).await
}
