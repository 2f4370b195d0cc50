//! `orders`: the most orders a second, spread over all events, for a whole window. Then the same with what
//! a shop has beside: the provider tells what happens to payments, and mails go to a mail server.

use anyhow::Result;

use crate::{
    entry::Entry,
    outcome::Outcome,
    report, run,
    session::{ALLOWANCE_S, Bench, spread},
    setup::{Mail, Setup},
    world::World,
};

/// Runs it.
pub(crate) async fn run(bench: &mut Bench<'_>) -> Result<()> {
    let mut world = bench.open(bench.plain()).await?;
    let rate = bench.maximum(&mut world).await?;
    let plain = window(bench, &mut world, rate).await?;
    let entry = Entry::new("", report::orders(&plain), &plain)?;
    bench.close(world, entry).await?;

    let mut world = bench
        .open(Setup {
            webhooks: true,
            mail: Mail::Server,
            ..bench.plain()
        })
        .await?;
    let rate = bench.most(&mut world, rate, ALLOWANCE_S, spread).await?;
    let full = window(bench, &mut world, rate).await?;
    let mut entry = Entry::new("webhooks and mail", report::orders(&full), &full)?;
    let costs = full.budget.cpu_us_per_unit - plain.budget.cpu_us_per_unit;
    entry.figure("cpu_us_per_unit_more", costs);
    entry.text += &format!("  webhooks and mail by SMTP cost {costs:.0} µs CPU an order more\n");
    bench.close(world, entry).await
}

async fn window(bench: &Bench<'_>, world: &mut World, rate: u32) -> Result<Outcome> {
    let load = bench.window(rate);
    let orders = spread(world, load.requests()).await?;
    Ok(Outcome::of(
        run::run(world, &orders, &load).await?,
        ALLOWANCE_S,
    ))
}
