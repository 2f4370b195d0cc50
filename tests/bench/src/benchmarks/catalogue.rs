//! `catalogue`: searches over the whole catalogue, with every filter, order and page, and the pages of events.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Response, StatusCode};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde::Serialize;
use serde_json::Value;

use crate::{
    connection::{self, Connection},
    entry::Entry,
    latency::Latency,
    load,
    meter::{Budget, Meter},
    report,
    session::Bench,
    world::World,
};

/// Offered unless `--rate` says otherwise.
const RATE_PER_S: u32 = 5_000;
/// Different searches, before their further pages are added.
const SEARCHES: usize = 300;
/// Further pages of one search that are asked for too.
const PAGES: usize = 3;
/// Different events whose pages are asked for, as often as searches.
const EVENTS: usize = 300;
const SORTS: [&str; 6] = [
    "starts_at",
    "-starts_at",
    "price",
    "-price",
    "name",
    "-name",
];
const WORDS: [&str; 8] = [
    "final", "women", "men", "paris", "stade", "semi", "gym", "bask fin",
];

/// What became of the requests.
#[derive(Debug, Serialize)]
struct Outcome {
    /// Answered within the window, per second.
    rate_per_s: f64,
    offered_per_s: u32,
    seconds: u32,
    #[serde(flatten)]
    answered_after: Option<Latency>,
    sent_late: Option<Latency>,
    sent: usize,
    /// Not answered 200.
    failed: usize,
    different_requests: usize,
    events_all: usize,
    bytes_per_unit: f64,
    #[serde(flatten)]
    budget: Budget,
}

/// Runs it.
pub(crate) async fn run(bench: &mut Bench<'_>) -> Result<()> {
    let mut world = bench.open(bench.plain()).await?;
    let load = bench.window(bench.arguments.rate.unwrap_or(RATE_PER_S));
    let outcome = measure(&mut world, load).await?;
    let entry = Entry::new("", text(&outcome), &outcome)?;
    bench.close(world, entry).await
}

async fn measure(world: &mut World, load: load::Load) -> Result<Outcome> {
    let gateway = world.gateway;
    let (paths, events_all) = paths(gateway).await?;
    let different_requests = paths.len();
    let meter = Meter::start(world).await?;
    let run = load::run(
        gateway,
        load.clone(),
        move |number| {
            let index = usize::try_from(number).unwrap_or(0) % paths.len();
            connection::get(gateway, &paths[index])
        },
        |answer: &Response<Bytes>| answer.body().len(),
    )
    .await?;
    let sent = run.answers.len();
    let budget = meter.stop(world, u64::try_from(sent)?).await?;
    let fine = || {
        let answers = run.answers.iter();
        answers.filter(|answer| answer.status == Some(StatusCode::OK))
    };
    let window_end = run.began + Duration::from_secs(u64::from(load.seconds()));
    let in_time = fine().filter(|answer| answer.answered <= window_end);
    let bytes: usize = fine().filter_map(|answer| answer.read).sum();
    Ok(Outcome {
        rate_per_s: in_time.count() as f64 / f64::from(load.seconds()),
        offered_per_s: load.phases[0].rate_per_s,
        seconds: load.seconds(),
        // One that failed has taken its time too.
        answered_after: Latency::between(run.answers.iter().map(|a| (a.intended, a.answered))),
        sent_late: Latency::between(run.answers.iter().map(|a| (a.intended, a.sent))),
        sent,
        failed: sent - fine().count(),
        different_requests,
        events_all,
        bytes_per_unit: bytes as f64 / sent.max(1) as f64,
        budget,
    })
}

fn text(run: &Outcome) -> String {
    format!(
        "{} requests/s offered for {} s, {} different ones over {} events\n\
         \x20 answered in the window    {:.1} requests/s, {:.0} bytes each\n  sent {}, failed {}\n\n",
        run.offered_per_s,
        run.seconds,
        run.different_requests,
        run.events_all,
        run.rate_per_s,
        run.bytes_per_unit,
        run.sent,
        run.failed,
    ) + &report::latencies(&[
        ("to the whole answer", run.answered_after),
        ("sent late (included)", run.sent_late),
    ]) + &report::budget(&run.budget, "request")
}

/// Searches, their further pages, and pages of events, in an order of chance that is the same in each run;
/// and how many events there are.
async fn paths(gateway: SocketAddr) -> Result<(Vec<String>, usize)> {
    let mut connection = Connection::open(gateway).await?;
    let catalogue = Catalogue::read(&mut connection).await?;
    let mut rng = StdRng::seed_from_u64(7);
    let searches = searches(&mut connection, &catalogue, &mut rng).await?;
    if searches.is_empty() || catalogue.ids.is_empty() {
        bail!("there is nothing to search for");
    }
    let mut ids = catalogue.ids;
    let all = ids.len();
    ids.shuffle(&mut rng);
    ids.truncate(EVENTS);
    let events = ids.iter().map(|id| format!("/v1/events/{id}")).cycle();
    let events: Vec<String> = events.take(searches.len()).collect();
    let mut paths = [searches, events].concat();
    paths.shuffle(&mut rng);
    Ok((paths, all))
}

/// What the filters can say.
struct Catalogue {
    sports: Vec<String>,
    venues: Vec<String>,
    /// The day of each event.
    days: Vec<String>,
    ids: Vec<String>,
}

impl Catalogue {
    async fn read(connection: &mut Connection) -> Result<Self> {
        let (mut days, mut ids) = (Vec::new(), Vec::new());
        let mut path = Some("/v1/events?limit=100".to_owned());
        while let Some(next) = path.take() {
            let page = connection.json(&next).await?;
            for event in list(&page)? {
                let starts_at = event["starts_at"].as_str().context("an event's start")?;
                days.push(starts_at.chars().take(10).collect());
                ids.push(event["id"].as_str().context("an event's id")?.to_owned());
            }
            path = following(&page, "/v1/events?limit=100");
        }
        Ok(Self {
            sports: codes(connection, "/v1/sports?limit=100").await?,
            venues: codes(connection, "/v1/venues?limit=100").await?,
            days,
            ids,
        })
    }
}

async fn codes(connection: &mut Connection, path: &str) -> Result<Vec<String>> {
    let page = connection.json(path).await?;
    let codes = list(&page)?
        .iter()
        .map(|one| Some(one["code"].as_str()?.to_owned()));
    codes.collect::<Option<_>>().context("a code is missing")
}

fn list(page: &Value) -> Result<&Vec<Value>> {
    page["data"].as_array().context("a list has `data`")
}

fn following(page: &Value, path: &str) -> Option<String> {
    let cursor = page["next_cursor"].as_str()?;
    Some(format!("{path}&cursor={cursor}"))
}

/// The searches and their further pages.
async fn searches(
    connection: &mut Connection,
    catalogue: &Catalogue,
    rng: &mut StdRng,
) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    for _ in 0..SEARCHES {
        let first = search(rng, catalogue);
        let mut next = Some(first.clone());
        for _ in 0..=PAGES {
            let Some(path) = next.take() else { break };
            next = following(&connection.json(&path).await?, &first);
            paths.push(path);
        }
    }
    Ok(paths)
}

/// One to three filters, an order and a length of page.
fn search(rng: &mut StdRng, catalogue: &Catalogue) -> String {
    let mut path = format!(
        "/v1/events?sort={}&limit={}",
        SORTS[rng.random_range(0..SORTS.len())],
        [10, 20, 50, 100][rng.random_range(0..4)]
    );
    let one = |rng: &mut StdRng, of: &[String]| match of.len() {
        0 => String::new(),
        many => of[rng.random_range(0..many)].clone(),
    };
    let mut filters: Vec<String> = vec![
        format!(
            "q={}",
            WORDS[rng.random_range(0..WORDS.len())].replace(' ', "%20")
        ),
        format!(
            "sport={},{}",
            one(rng, &catalogue.sports),
            one(rng, &catalogue.sports)
        ),
        format!("venue={}", one(rng, &catalogue.venues)),
        format!("from={}", one(rng, &catalogue.days)),
        format!("to={}", one(rng, &catalogue.days)),
        format!("price_max={}", rng.random_range(30..500) * 100),
        "currency=EUR".to_owned(),
        format!("available={}", rng.random_bool(0.9)),
        format!("accessible={}", rng.random_bool(0.3)),
    ];
    filters.shuffle(rng);
    filters.truncate(rng.random_range(0..=3));
    for filter in filters {
        path.push('&');
        path.push_str(&filter);
    }
    path
}
