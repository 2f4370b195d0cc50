//! `catalogue`: searches over the whole catalogue, with every filter, order and page.

use anyhow::{Context, Result, bail};
use http::StatusCode;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde::Serialize;
use serde_json::Value;

use crate::{
    latency::Latency,
    load::{self, Connection, Load},
    meter::{Budget, Meter},
    world::World,
};

/// Different searches, before their further pages are added.
const SEARCHES: usize = 300;
/// Further pages of one search that are asked for too.
const PAGES: usize = 3;
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

/// What became of the searches.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    /// Answered within the window, per second.
    pub(crate) rate_per_s: f64,
    pub(crate) offered_per_s: u32,
    pub(crate) seconds: u32,
    #[serde(flatten)]
    pub(crate) answered_after: Option<Latency>,
    pub(crate) sent_late: Option<Latency>,
    pub(crate) sent: usize,
    /// Not answered 200.
    pub(crate) failed: usize,
    pub(crate) different_searches: usize,
    pub(crate) events_all: usize,
    pub(crate) bytes_per_unit: f64,
    #[serde(flatten)]
    pub(crate) budget: Budget,
}

/// Runs it.
pub(crate) async fn run(world: &mut World, load: Load) -> Result<Outcome> {
    let gateway = world.gateway;
    let mut connection = Connection::open(gateway).await?;
    let catalogue = Catalogue::read(&mut connection).await?;
    let paths = searches(&mut connection, &catalogue).await?;
    drop(connection);
    let different_searches = paths.len();
    let meter = Meter::start(world).await?;
    let run = load::run(gateway, load, move |number| {
        let index = usize::try_from(number).unwrap_or(0) % paths.len();
        load::get(gateway, &paths[index])
    })
    .await?;
    let sent = run.answers.len();
    let budget = meter.stop(world, u64::try_from(sent)?).await?;
    let fine: Vec<_> = run
        .answers
        .iter()
        .filter(|answer| answer.status == Some(StatusCode::OK))
        .collect();
    let window_end = run.began + std::time::Duration::from_secs(u64::from(load.seconds));
    let in_time = fine.iter().filter(|answer| answer.answered <= window_end);
    let bytes: usize = fine.iter().map(|answer| answer.body.len()).sum();
    Ok(Outcome {
        rate_per_s: in_time.count() as f64 / f64::from(load.seconds),
        offered_per_s: load.rate_per_s,
        seconds: load.seconds,
        // One that failed has taken its time too.
        answered_after: Latency::between(
            run.answers
                .iter()
                .map(|answer| (answer.intended, answer.answered)),
        ),
        sent_late: Latency::between(
            run.answers
                .iter()
                .map(|answer| (answer.intended, answer.sent)),
        ),
        sent,
        failed: sent - fine.len(),
        different_searches,
        events_all: catalogue.days.len(),
        bytes_per_unit: bytes as f64 / sent.max(1) as f64,
        budget,
    })
}

/// What the filters can say.
struct Catalogue {
    sports: Vec<String>,
    venues: Vec<String>,
    /// The day of each event.
    days: Vec<String>,
}

impl Catalogue {
    async fn read(connection: &mut Connection) -> Result<Self> {
        let mut days = Vec::new();
        let mut path = Some("/v1/events?limit=100".to_owned());
        while let Some(next) = path.take() {
            let page = connection.get(&next).await?;
            for event in list(&page)? {
                let starts_at = event["starts_at"].as_str().context("an event's start")?;
                days.push(starts_at.chars().take(10).collect());
            }
            path = following(&page, "/v1/events?limit=100");
        }
        Ok(Self {
            sports: codes(connection, "/v1/sports?limit=100").await?,
            venues: codes(connection, "/v1/venues?limit=100").await?,
            days,
        })
    }
}

async fn codes(connection: &mut Connection, path: &str) -> Result<Vec<String>> {
    let page = connection.get(path).await?;
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

/// The searches and their further pages, in an order of chance that is the same in each run.
async fn searches(connection: &mut Connection, catalogue: &Catalogue) -> Result<Vec<String>> {
    let mut rng = StdRng::seed_from_u64(7);
    let mut paths = Vec::new();
    for _ in 0..SEARCHES {
        let first = search(&mut rng, catalogue);
        let mut next = Some(first.clone());
        for _ in 0..=PAGES {
            let Some(path) = next.take() else { break };
            next = following(&connection.get(&path).await?, &first);
            paths.push(path);
        }
    }
    if paths.is_empty() {
        bail!("there is nothing to search for");
    }
    paths.shuffle(&mut rng);
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
