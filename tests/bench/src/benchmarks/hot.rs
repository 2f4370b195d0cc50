//! `hot`: everybody wants the same offer, an event that exists only here. First a window in which there is
//! enough; then until it is sold out, with more orders than there are places: exactly as many tickets as
//! places must be sold.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use diesel::sql_types::{BigInt, Integer, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use tokio::time::sleep;
use uuid::Uuid;

use crate::{
    connection::Connection,
    entry::Entry,
    load::Load,
    outcome::Outcome,
    report, run,
    session::{ALLOWANCE_S, Bench},
    shop::Orders,
    world::World,
};

/// A gateway takes over a change of the catalogue within seconds.
const SHOWN_WITHIN: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(100);
/// How much more is ordered than there is.
const DEMAND: f64 = 1.1;
/// What is left after that because orders were refused is offered again, so often.
const ROUNDS: usize = 10;

/// Runs it.
pub(crate) async fn run(bench: &mut Bench<'_>) -> Result<()> {
    let places = bench.arguments.places;
    let mut world = bench.open(bench.plain()).await?;
    let first = offer(&mut world, "BENCH1", places).await?;
    let of_first = async |world: &mut World, _: u64| Ok(Orders::all_of(world.gateway, first));
    let guess = bench.known();
    let rate = bench.most(&mut world, guess, ALLOWANCE_S, of_first).await?;
    // Trials have sold some of it.
    let second = offer(&mut world, "BENCH2", places).await?;
    let orders = Orders::all_of(world.gateway, second);
    let outcome = run::run(&mut world, &orders, &bench.window(rate)).await?;
    let outcome = Outcome::of(outcome, ALLOWANCE_S);
    let mut entry = Entry::new("", report::orders(&outcome), &outcome)?;
    entry.figure("places", places);
    bench.record(&mut world, entry).await?;

    let third = offer(&mut world, "BENCH3", places).await?;
    let entry = sell_out(bench, &mut world, third, rate).await?;
    bench.close(world, entry).await
}

async fn sell_out(bench: &Bench<'_>, world: &mut World, offer: Uuid, rate: u32) -> Result<Entry> {
    let orders = Orders::all_of(world.gateway, offer);
    let demand = |places: i64| {
        let requests = places as f64 * DEMAND + 10.0;
        let seconds = (requests / f64::from(rate)).ceil() as u32;
        Load::flat(rate, seconds, bench.arguments.connections)
    };
    let places = i64::from(bench.arguments.places);
    let outcome = run::run(world, &orders, &demand(places)).await?;
    let outcome = Outcome::of(outcome, ALLOWANCE_S);
    let mut sold = sold(world, offer).await?;
    for _ in 0..ROUNDS {
        if sold.taken >= sold.capacity {
            break;
        }
        let load = demand(sold.capacity - sold.taken);
        run::trial(
            world,
            &Orders::all_of(world.gateway, offer),
            &load,
            ALLOWANCE_S,
        )
        .await?;
        sold = self::sold(world, offer).await?;
    }
    let Sold {
        capacity,
        taken,
        tickets,
    } = sold;
    let text = report::orders(&outcome)
        + &format!("  places {capacity}, taken {taken}, valid tickets {tickets}\n");
    let mut entry = Entry::new("until sold out", text, &outcome)?;
    entry.figure("sold_of_capacity", tickets as f64 / capacity as f64);
    if (taken, tickets) != (capacity, capacity) {
        entry.breaks(format!(
            "exactly {capacity} should have been sold: {taken} are taken, {tickets} tickets are valid"
        ));
    }
    Ok(entry)
}

/// Makes an event with one offer, and waits until the gateway sells it.
async fn offer(world: &mut World, code: &str, places: i32) -> Result<Uuid> {
    let (event, offer) = (Uuid::now_v7(), Uuid::now_v7());
    diesel::sql_query(
        "INSERT INTO events (id, starts_at, ends_at, published_starts_at, code, sport, venue, name, \
                             status, tier, currency) \
         SELECT $1, now() + interval '60 days', now() + interval '60 days 2 hours', now(), $2, s.code, \
                v.code, 'Benchmark', 'on_sale', 'standard', 'EUR' \
         FROM (SELECT code FROM sports ORDER BY code LIMIT 1) s, \
              (SELECT code FROM venues ORDER BY code LIMIT 1) v",
    )
    .bind::<SqlUuid, _>(event)
    .bind::<Text, _>(code)
    .execute(&mut world.connection)
    .await?;
    diesel::sql_query(
        "WITH stocked AS (INSERT INTO stock (offer_id, capacity) VALUES ($1, $3)) \
         INSERT INTO offers (id, event_id, amount_minor, category, currency, accessible, companion) \
         VALUES ($1, $2, 5000, 'A', 'EUR', false, false)",
    )
    .bind::<SqlUuid, _>(offer)
    .bind::<SqlUuid, _>(event)
    .bind::<Integer, _>(places)
    .execute(&mut world.connection)
    .await?;
    let mut connection = Connection::open(world.gateway).await?;
    let began = Instant::now();
    loop {
        let shown = connection.json(&format!("/v1/events/{event}")).await;
        if shown.is_ok_and(|event| event["offers"][0]["remaining"] == places) {
            return Ok(offer);
        }
        if began.elapsed() > SHOWN_WITHIN {
            bail!("the gateway does not sell the event of the benchmark");
        }
        sleep(LOOK).await;
    }
}

#[derive(Debug, diesel::QueryableByName)]
struct Sold {
    #[diesel(sql_type = BigInt)]
    capacity: i64,
    #[diesel(sql_type = BigInt)]
    taken: i64,
    #[diesel(sql_type = BigInt)]
    tickets: i64,
}

async fn sold(world: &mut World, offer: Uuid) -> Result<Sold> {
    let sold = diesel::sql_query(
        "SELECT s.capacity::bigint AS capacity, s.taken::bigint AS taken, \
                (SELECT count(*) FROM tickets t WHERE t.offer_id = s.offer_id AND t.revoked_at IS NULL) \
                  AS tickets \
         FROM stock s WHERE s.offer_id = $1",
    );
    let sold = sold.bind::<SqlUuid, _>(offer);
    Ok(sold.get_result(&mut world.connection).await?)
}
