//! `saga`: five steps that do nothing, so that what is measured is the platform alone: the engine, the bus,
//! the worker kit with its ledger. See [`crate::noop`] for who runs them.
//!
//! *In bulk*: started 500 in a transaction, as fast as that goes, while no more than 20,000 are under way (so
//! many a gateway would admit). *One by one*: 256 callers, each of whom starts one and waits for its end; the
//! callers' sagas that come together share a transaction, as orders do in the gateway.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use contract::SagaId;
use database::Pool;
use diesel_async::AsyncConnection;
use engine::{Client, NewSaga};
use futures_util::future::try_join_all;
use runtime::batch::{Batcher, Options};
use serde::Serialize;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::{
    entry::Entry,
    latency::Latency,
    meter::{self, Budget, Meter},
    noop, postgres, report,
    session::Bench,
    setup::{Cast, Setup},
    world::World,
};

const BULK: usize = 500;
const UNDER_WAY_MAX: usize = 20_000;
const CALLERS: usize = 256;
const WARM_UP: usize = 2_000;
const LOOK: Duration = Duration::from_millis(5);
/// A caller who heard nothing for so long goes on; his saga counts with all that time. So long, too, what is
/// under way may take to end.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Serialize)]
struct Outcome {
    /// Ended within the window, per second.
    rate_per_s: f64,
    seconds: u32,
    #[serde(flatten)]
    ended_after: Option<Latency>,
    started: usize,
    seen_ended: usize,
    rows_ended: i64,
    /// Committed and not ended at the end of observation.
    rows_open: i64,
    #[serde(flatten)]
    budget: Budget,
}

/// Runs it.
pub(crate) async fn run(bench: &mut Bench<'_>) -> Result<()> {
    let setup = Setup {
        cast: Cast::NoOps,
        ..bench.plain()
    };
    let mut world = bench.open(setup).await?;
    let starter = Starter::new(&world).await?;
    let deadline = Instant::now() + PATIENCE;
    starter.bulk(&world, deadline, WARM_UP).await?;
    drain(&mut world, WARM_UP).await?;
    meter::settle().await;

    let seconds = bench.arguments.seconds();
    for variant in ["in bulk", "one by one"] {
        let before = postgres::rows(&mut world.connection).await?;
        let meter = Meter::start(&mut world).await?;
        drop(world.observer.take());
        let began = Instant::now();
        let until = began + Duration::from_secs(u64::from(seconds));
        let started = match variant {
            "in bulk" => starter.bulk(&world, until, usize::MAX).await?,
            _ => starter.one_by_one(&world, until).await?,
        };
        drain(&mut world, started.len()).await?;
        let now = Instant::now();
        let seen = world.observer.take();
        let rows = postgres::rows(&mut world.connection).await?;
        let budget = meter.stop(&mut world, started.len() as u64).await?;
        let in_window = seen.confirmed.values().filter(|end| **end <= until).count();
        let waits = started
            .iter()
            .map(|(id, at)| (*at, seen.end(id).unwrap_or(now)));
        let outcome = Outcome {
            rate_per_s: in_window as f64 / f64::from(seconds),
            seconds,
            ended_after: Latency::between(waits),
            started: started.len(),
            seen_ended: seen.ends(),
            rows_ended: rows.confirmed - before.confirmed,
            rows_open: rows.open,
            budget,
        };
        let entry = Entry::new(variant, text(&outcome), &outcome)?;
        bench.record(&mut world, entry).await?;
    }
    world.stop(true).await
}

fn text(run: &Outcome) -> String {
    format!(
        "{} s\n  ended in the window       {:.1} sagas/s\n  started {}, ended {} on the stream and {} by \
         committed rows, without an end {}\n\n",
        run.seconds, run.rate_per_s, run.started, run.seen_ended, run.rows_ended, run.rows_open
    ) + &report::latencies(&[("from its start to its end", run.ended_after)])
        + &report::budget(&run.budget, "saga")
}

async fn drain(world: &mut World, started: usize) -> Result<()> {
    let began = Instant::now();
    while world.observer.ends() < started && began.elapsed() < PATIENCE {
        sleep(LOOK).await;
    }
    // Events may be lost, rows not.
    while postgres::open(&mut world.connection).await? > 0 && began.elapsed() < PATIENCE {
        sleep(LOOK).await;
    }
    Ok(())
}

/// Starts sagas, as a gateway does.
#[derive(Clone)]
struct Starter {
    client: Client,
    pool: Pool,
}

impl Starter {
    async fn new(world: &World) -> Result<Self> {
        let pool = database::pool(&database::Config::new(world.database.url(), "bench"))?;
        let bus = world.observer.bus.clone();
        let client = Client::new(&pool, bus, &noop::definitions(), noop::DEFINITION).await?;
        Ok(Self { client, pool })
    }

    /// In one transaction; the first commands are sent after its end, by themselves.
    async fn start(&self, count: usize) -> Result<Vec<(Uuid, Instant)>> {
        let new: Vec<NewSaga> = (0..count).map(|_| new_saga()).collect();
        let began = Instant::now();
        self.insert(&new).await?;
        Ok(new.iter().map(|saga| (saga.id.0, began)).collect())
    }

    async fn insert(&self, new: &[NewSaga]) -> Result<()> {
        let mut connection = self.pool.get().await?;
        let (client, new) = (self.client.clone(), new.to_vec());
        let started = connection
            .transaction::<_, engine::Error, _>(async move |connection| {
                client.start(connection, &new).await
            })
            .await?;
        let client = self.client.clone();
        tokio::spawn(async move { client.send_first(started).await });
        Ok(())
    }

    async fn bulk(
        &self,
        world: &World,
        until: Instant,
        most: usize,
    ) -> Result<Vec<(Uuid, Instant)>> {
        let mut started = Vec::new();
        let ends_before = world.observer.ends();
        while Instant::now() < until && started.len() < most {
            let ended = world.observer.ends() - ends_before;
            if started.len().saturating_sub(ended) >= UNDER_WAY_MAX {
                sleep(LOOK).await;
                continue;
            }
            started.extend(self.start(BULK).await?);
        }
        Ok(started)
    }

    async fn one_by_one(&self, world: &World, until: Instant) -> Result<Vec<(Uuid, Instant)>> {
        let starter = self.clone();
        let batcher = Batcher::start("sagas", Options::default(), move |new: Vec<NewSaga>| {
            let starter = starter.clone();
            async move {
                let inserted = starter.insert(&new).await;
                let failed = inserted.err().map(|error| format!("{error:#}"));
                vec![failed; new.len()]
            }
        });
        let callers = (0..CALLERS).map(|_| async {
            let mut started = Vec::new();
            while Instant::now() < until {
                let saga = new_saga();
                let end = world.observer.ended(saga.id.0);
                let began = Instant::now();
                if let Some(problem) = batcher.submit(saga).await? {
                    return Err(anyhow!(problem).context("cannot start a saga"));
                }
                started.push((saga.id.0, began));
                let heard = timeout(PATIENCE, end).await;
                heard.unwrap_or(Ok(())).context("the observer is gone")?;
            }
            Ok(started)
        });
        Ok(try_join_all(callers).await?.concat())
    }
}

fn new_saga() -> NewSaga {
    let id = SagaId::new();
    NewSaga {
        id,
        trace_id: id.0.as_u128(),
    }
}
