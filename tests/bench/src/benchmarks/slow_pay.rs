//! `slow-pay`: a payment provider that takes 300 ms for every answer. What waits for it costs nothing, so
//! the throughput has to stay: it is a matter of how much may be under way, not of threads.

use anyhow::Result;

use crate::{
    entry::Entry,
    outcome::Outcome,
    report, run,
    session::{ALLOWANCE_S, Bench, spread},
    setup::Setup,
};

const PROVIDER_MS: u32 = 300;
/// Requests to the provider for one payment at most: what they take is no backlog.
const REQUESTS: u32 = 4;

/// Runs it.
pub(crate) async fn run(bench: &mut Bench<'_>) -> Result<()> {
    let maximum = bench.known_maximum().await?;
    let allowance_s = ALLOWANCE_S + f64::from(PROVIDER_MS * REQUESTS) / 1_000.0;
    let mut world = bench
        .open(Setup {
            provider_ms: PROVIDER_MS,
            ..bench.plain()
        })
        .await?;
    let rate = bench.most(&mut world, maximum, allowance_s, spread).await?;
    let load = bench.window(rate);
    let orders = spread(&mut world, load.requests()).await?;
    let outcome = Outcome::of(run::run(&mut world, &orders, &load).await?, allowance_s);
    let mut entry = Entry::new("", report::orders(&outcome), &outcome)?;
    entry.figure("maximum_per_s", maximum);
    entry.figure("share_of_maximum", outcome.rate_per_s / f64::from(maximum));
    bench.close(world, entry).await
}
