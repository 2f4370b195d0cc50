//! `scale`: the same two cores split among more processes. What that costs on one machine is what more
//! machines cost beside what they bring; how batches shrink when more hands reach for them shows in the
//! envelopes per message.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::json;

use crate::{
    entry::Entry,
    outcome::Outcome,
    report, run,
    session::{ALLOWANCE_S, Bench, spread},
    setup::{Setup, Workers},
};

/// Orchestrators, and workers; the first is what the others are measured by.
const SPLITS: [(usize, Workers); 9] = [
    (1, Workers::AllInOne),
    (2, Workers::AllInOne),
    (4, Workers::AllInOne),
    (1, Workers::OfEachStep(1)),
    (1, Workers::OfEachStep(2)),
    (1, Workers::OfEachStep(3)),
    (1, Workers::OfEachStep(4)),
    (2, Workers::OfEachStep(2)),
    (4, Workers::OfEachStep(4)),
];

/// Runs it.
pub(crate) async fn run(bench: &mut Bench<'_>) -> Result<()> {
    let mut table = String::from("one process of each is 1\n");
    let (mut base, mut least) = (None, f64::INFINITY);
    for (orchestrators, workers) in SPLITS {
        let mut world = bench
            .open(Setup {
                orchestrators,
                workers,
                ..bench.plain()
            })
            .await?;
        let rate = match base {
            None => bench.maximum(&mut world).await?,
            Some(_) => {
                bench
                    .most(&mut world, bench.known(), ALLOWANCE_S, spread)
                    .await?
            }
        };
        let load = bench.window(rate);
        let orders = spread(&mut world, load.requests()).await?;
        let outcome = Outcome::of(run::run(&mut world, &orders, &load).await?, ALLOWANCE_S);
        let share = outcome.rate_per_s / *base.get_or_insert(outcome.rate_per_s);
        least = least.min(share);
        let variant = match workers {
            Workers::AllInOne => format!("{orchestrators} orchestrators, 1 worker of all"),
            Workers::OfEachStep(each) => {
                format!("{orchestrators} orchestrators, {each} workers of each")
            }
        };
        let _ = writeln!(
            table,
            "  {variant:<40}{:>9.1} orders/s  {share:>6.3}  {:>6.1} envelopes per message",
            outcome.rate_per_s, outcome.budget.envelopes_per_message
        );
        let mut entry = Entry::new(&variant, report::orders(&outcome), &outcome)?;
        entry.figure("share_of_base", share);
        bench.close(world, entry).await?;
    }
    bench.tell(Entry::new(
        "all",
        table,
        &json!({ "least_of_base": least }),
    )?)
}
