//! `undo`: some cards are declined at `pay`, and what was done before is undone. An order that is cancelled
//! so counts as ended: it took as many messages and writes.

use anyhow::Result;

use crate::{
    entry::Entry,
    outcome::Outcome,
    report, run,
    session::{ALLOWANCE_S, Bench, spread},
    world::World,
};

/// Runs it.
pub(crate) async fn run(bench: &mut Bench<'_>) -> Result<()> {
    let maximum = bench.known_maximum().await?;
    for of_ten in [1, 3] {
        let mut world = bench.open(bench.plain()).await?;
        let mixed = async |world: &mut World, requests: u64| {
            Ok(spread(world, requests).await?.declined(of_ten))
        };
        let rate = bench.most(&mut world, maximum, ALLOWANCE_S, &mixed).await?;
        let load = bench.window(rate);
        let orders = mixed(&mut world, load.requests()).await?;
        let outcome = Outcome::of(run::run(&mut world, &orders, &load).await?, ALLOWANCE_S);
        let text = report::orders(&outcome);
        let mut entry = Entry::new(&format!("{of_ten}0 % declined"), text, &outcome)?;
        entry.figure("maximum_per_s", maximum);
        entry.figure("share_of_maximum", outcome.ended_per_s / f64::from(maximum));
        bench.close(world, entry).await?;
    }
    Ok(())
}
