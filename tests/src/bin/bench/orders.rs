//! `orders` and `half`: orders through the HTTP API until they are confirmed.

use std::{
    collections::HashSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use http::{Request, StatusCode, header};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::sleep;
use uuid::Uuid;

use crate::{
    latency::Latency,
    load::{self, Answer, Body, Load},
    meter::{Budget, Meter},
    observer::Seen,
    postgres,
    world::World,
};

/// How long orders may take to end after the window.
const DRAIN: Duration = Duration::from_secs(60);
/// The pause between two looks at what is still open.
const LOOK: Duration = Duration::from_millis(200);
/// How long the last events may be on their way when all rows are written.
const LAST_EVENTS: Duration = Duration::from_secs(2);
/// The length of one line in the table of the window, in seconds.
const SLOT_S: u32 = 5;

/// What became of the orders of one run.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    /// Confirmed within the window, per second.
    pub(crate) rate_per_s: f64,
    pub(crate) offered_per_s: u32,
    pub(crate) seconds: u32,
    /// From the intended sending to the event that says `confirmed`; for an order without one, to the
    /// end of observation.
    #[serde(flatten)]
    pub(crate) confirmed_after: Option<Latency>,
    /// From the intended sending to the whole 202.
    pub(crate) accepted_after: Option<Latency>,
    /// By how much the generator itself was late: no free connection, or no CPU.
    pub(crate) sent_late: Option<Latency>,
    pub(crate) orders: Orders,
    /// Whether the rate was kept up: nothing refused, and when the window ended the orders of at most
    /// half a second were unconfirmed.
    pub(crate) sustained: bool,
    pub(crate) offers_used: u64,
    pub(crate) offers_all: u64,
    pub(crate) slots: Vec<Slot>,
    #[serde(flatten)]
    pub(crate) budget: Budget,
}

/// Orders, by what became of them.
#[derive(Debug, Serialize)]
pub(crate) struct Orders {
    pub(crate) sent: usize,
    /// Answered 202.
    pub(crate) accepted: usize,
    /// Answered otherwise.
    pub(crate) refused: usize,
    /// Not answered.
    pub(crate) unanswered: usize,
    /// Committed rows of this run, and of those the confirmed and cancelled ones.
    pub(crate) rows: i64,
    pub(crate) rows_confirmed: i64,
    pub(crate) rows_cancelled: i64,
    /// Seen to be confirmed on the stream.
    pub(crate) seen_confirmed: usize,
    /// Accepted and not confirmed when the window ended, and at the end of observation.
    pub(crate) unconfirmed_at_window_end: usize,
    pub(crate) unconfirmed: usize,
}

/// A part of the window.
#[derive(Debug, Serialize)]
pub(crate) struct Slot {
    pub(crate) from_s: u32,
    pub(crate) sent_per_s: f64,
    pub(crate) confirmed_per_s: f64,
    /// Of the orders to be sent in this part.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// Runs it.
pub(crate) async fn run(world: &mut World, load: Load) -> Result<Outcome> {
    let requests = load.requests();
    let offers = offers(world, requests).await?;
    let before = postgres::rows(&mut world.connection).await?;
    let meter = Meter::start(world).await?;
    drop(world.observer.take());
    let buyer = letters(rand::random());
    let used = offers.ids.len().min(usize::try_from(requests)?);
    let (gateway, ids) = (world.gateway, offers.ids);
    let sent = load::run(gateway, load, move |number| {
        order(gateway, &ids, &buyer, number)
    })
    .await?;
    let accepted: Vec<(Uuid, &Answer)> = accepted(&sent.answers)?;
    drain(world, accepted.len()).await?;
    let observed_until = Instant::now();
    let rows = postgres::rows(&mut world.connection).await?;
    let seen = world.observer.take();
    let orders = Orders {
        sent: sent.answers.len(),
        accepted: accepted.len(),
        refused: count(&sent.answers, |status| {
            status.is_some_and(|status| status != StatusCode::ACCEPTED)
        }),
        unanswered: count(&sent.answers, |status| status.is_none()),
        rows: rows.all - before.all,
        rows_confirmed: rows.confirmed - before.confirmed,
        rows_cancelled: rows.cancelled - before.cancelled,
        seen_confirmed: seen.confirmed.len(),
        unconfirmed_at_window_end: 0,
        unconfirmed: 0,
    };
    // What was accepted must be there; of what was not answered, some may be.
    if orders.rows < i64::try_from(orders.accepted)? {
        bail!(
            "nothing-accepted-is-lost is broken: {} orders were accepted and {} are in the database",
            orders.accepted,
            orders.rows
        );
    }
    let window = Duration::from_secs(u64::from(load.seconds));
    let view = View {
        accepted,
        seen,
        window_end: sent.began + window,
        observed_until,
    };
    let budget = meter.stop(world, u64::try_from(orders.rows)?).await?;
    let unconfirmed_at_window_end = view.unconfirmed(view.window_end);
    let half_a_second = load.rate_per_s as usize / 2;
    Ok(Outcome {
        rate_per_s: view.confirmed(sent.began, view.window_end) as f64 / f64::from(load.seconds),
        offered_per_s: load.rate_per_s,
        seconds: load.seconds,
        confirmed_after: Latency::of(view.waits().map(|(_, wait)| wait)),
        accepted_after: Latency::between(
            view.accepted
                .iter()
                .map(|(_, answer)| (answer.intended, answer.answered)),
        ),
        sent_late: Latency::between(
            sent.answers
                .iter()
                .map(|answer| (answer.intended, answer.sent)),
        ),
        sustained: orders.accepted == orders.sent && unconfirmed_at_window_end <= half_a_second,
        orders: Orders {
            unconfirmed_at_window_end,
            unconfirmed: view.unconfirmed(observed_until),
            ..orders
        },
        offers_used: u64::try_from(used)?,
        offers_all: u64::try_from(offers.all)?,
        slots: slots(&view, &sent.answers, sent.began, load),
        budget,
    })
}

/// Puts everything through its first orders: connections, prepared statements, caches.
pub(crate) async fn warm_up(world: &mut World, load: Load) -> Result<()> {
    let offers = offers(world, load.requests()).await?;
    let buyer = letters(rand::random());
    let (gateway, ids) = (world.gateway, offers.ids);
    let sent = load::run(gateway, load, move |number| {
        order(gateway, &ids, &buyer, number)
    })
    .await?;
    let accepted = accepted(&sent.answers)?.len();
    if accepted == 0 {
        let first = sent.answers.first().context("nothing was sent")?;
        bail!(
            "no order was accepted: {:?} {}",
            first.status,
            String::from_utf8_lossy(&first.body)
        );
    }
    drain(world, accepted).await
}

struct Offers {
    ids: Vec<Uuid>,
    all: i64,
}

/// The offers to spread the orders over: all that have enough, in an order in which neighbours belong
/// to different events. The same in each run.
async fn offers(world: &mut World, requests: u64) -> Result<Offers> {
    let (_, all) = postgres::offers(&mut world.connection, 1).await?;
    let each = i64::try_from(requests)? / all.max(1) + 2;
    let (mut ids, all) = postgres::offers(&mut world.connection, each).await?;
    if ids.is_empty() {
        bail!("no offer has {each} tickets left");
    }
    ids.shuffle(&mut StdRng::seed_from_u64(7));
    Ok(Offers { ids, all })
}

/// One ticket for a buyer of his own, so that no purchase limit is met.
fn order(gateway: SocketAddr, offers: &[Uuid], buyers: &str, number: u64) -> Request<Body> {
    let index = usize::try_from(number).unwrap_or(0) % offers.len();
    let body = json!({
        "items": [{ "offer_id": offers[index], "quantity": 1 }],
        "payment": { "method": "pm_card_visa" },
        "email": format!("ada.{buyers}.{}@example.org", letters(number)),
        "name": "Ada Lovelace",
        "locale": if number.is_multiple_of(2) { "en" } else { "fr" },
    });
    Request::post("/v1/orders")
        .header(header::HOST, gateway.to_string())
        .header(header::CONTENT_TYPE, "application/json")
        .header("idempotency-key", Uuid::now_v7().to_string())
        .body(Body::from(body.to_string()))
        .expect("the parts are legal in a request")
}

/// A number in letters: digits in an address count against it.
fn letters(mut number: u64) -> String {
    let mut text = String::new();
    loop {
        text.push(char::from(b'a' + u8::try_from(number % 26).unwrap_or(0)));
        number /= 26;
        if number == 0 {
            return text;
        }
    }
}

#[derive(Deserialize)]
struct Placed {
    id: Uuid,
}

fn accepted(answers: &[Answer]) -> Result<Vec<(Uuid, &Answer)>> {
    let accepted = answers
        .iter()
        .filter(|answer| answer.status == Some(StatusCode::ACCEPTED));
    let ids: Vec<(Uuid, &Answer)> = accepted
        .map(|answer| {
            let placed: Placed =
                serde_json::from_slice(&answer.body).context("a 202 without an order")?;
            Ok((placed.id, answer))
        })
        .collect::<Result<_>>()?;
    let distinct: HashSet<Uuid> = ids.iter().map(|(id, _)| *id).collect();
    if distinct.len() != ids.len() {
        bail!("two requests were answered with the same order");
    }
    Ok(ids)
}

fn count(answers: &[Answer], of: impl Fn(Option<StatusCode>) -> bool) -> usize {
    answers.iter().filter(|answer| of(answer.status)).count()
}

/// Waits until every order has ended, mails sent and all, and its event has come.
async fn drain(world: &mut World, accepted: usize) -> Result<()> {
    let began = Instant::now();
    while postgres::open(&mut world.connection).await? > 0 && began.elapsed() < DRAIN {
        sleep(LOOK).await;
    }
    let began = Instant::now();
    while world.observer.ends() < accepted && began.elapsed() < LAST_EVENTS {
        sleep(LOOK / 4).await;
    }
    Ok(())
}

/// Accepted orders beside what was seen of them.
struct View<'a> {
    accepted: Vec<(Uuid, &'a Answer)>,
    seen: Seen,
    window_end: Instant,
    observed_until: Instant,
}

impl View<'_> {
    fn unconfirmed(&self, at: Instant) -> usize {
        let confirmed = |id| self.seen.confirmed.get(id).is_some_and(|seen| *seen <= at);
        self.accepted
            .iter()
            .filter(|(id, _)| !confirmed(id))
            .count()
    }

    fn confirmed(&self, from: Instant, to: Instant) -> usize {
        let within = |seen: &&Instant| from <= **seen && **seen <= to;
        self.seen.confirmed.values().filter(within).count()
    }

    /// When each order was to be sent and how long it took to be confirmed. One that never was has
    /// taken at least until now; left out, it would make the others look better. A cancelled one is
    /// told apart.
    fn waits(&self) -> impl Iterator<Item = (Instant, Duration)> {
        let open = self
            .accepted
            .iter()
            .filter(|(id, _)| !self.seen.cancelled.contains_key(id));
        open.map(|(id, answer)| {
            let seen = self.seen.confirmed.get(id).unwrap_or(&self.observed_until);
            (
                answer.intended,
                seen.saturating_duration_since(answer.intended),
            )
        })
    }
}

fn slots(view: &View<'_>, answers: &[Answer], began: Instant, load: Load) -> Vec<Slot> {
    let slot = |from_s: u32| {
        let length_s = SLOT_S.min(load.seconds - from_s);
        let from = began + Duration::from_secs(u64::from(from_s));
        let to = from + Duration::from_secs(u64::from(length_s));
        let sent = answers
            .iter()
            .filter(|answer| from <= answer.sent && answer.sent < to)
            .count();
        let of_slot = view.waits().filter(|(at, _)| from <= *at && *at < to);
        let latency = Latency::of(of_slot.map(|(_, wait)| wait)).unwrap_or_default();
        Slot {
            from_s,
            sent_per_s: sent as f64 / f64::from(length_s),
            confirmed_per_s: view.confirmed(from, to) as f64 / f64::from(length_s),
            p50_ms: latency.p50_ms,
            p99_ms: latency.p99_ms,
        }
    };
    (0..load.seconds)
        .step_by(SLOT_S as usize)
        .map(slot)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn every_number_has_letters_of_its_own() {
        let all: HashSet<String> = (0..20_000).map(letters).collect();
        assert_eq!(all.len(), 20_000);
        assert!(
            all.iter()
                .all(|text| text.bytes().all(|b| b.is_ascii_lowercase()))
        );
    }

    /// The trap this benchmark must not fall into: what never came back is left out, and the rest
    /// looks fine.
    #[test]
    fn what_was_never_confirmed_counts_with_all_the_time_it_was_waited_for() {
        let began = Instant::now();
        let answer = Answer {
            intended: began,
            sent: began,
            answered: began,
            status: Some(StatusCode::ACCEPTED),
            body: Bytes::new(),
        };
        let (confirmed, lost, cancelled) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
        let mut seen = Seen::default();
        seen.confirmed
            .insert(confirmed, began + Duration::from_secs(1));
        seen.cancelled
            .insert(cancelled, began + Duration::from_secs(2));
        let view = View {
            accepted: [confirmed, lost, cancelled]
                .map(|id| (id, &answer))
                .to_vec(),
            seen,
            window_end: began,
            observed_until: began + Duration::from_secs(60),
        };
        let waits: Vec<u64> = view.waits().map(|(_, wait)| wait.as_secs()).collect();
        assert_eq!(waits, [1, 60]);
        assert_eq!(view.unconfirmed(view.window_end), 3);
        assert_eq!(view.unconfirmed(view.observed_until), 2);
    }
}
