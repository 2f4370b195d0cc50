//! A run of orders, from the first request to the last end, and what was seen of it.

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use tokio::time::sleep;
use uuid::Uuid;

use crate::{
    load::{self, Answer, Load},
    meter::{Budget, Meter},
    observer::Seen,
    postgres::{self, Rows},
    shop::{self, Orders, Placed},
    world::World,
};

/// How long orders may take to end after the window.
const DRAIN: Duration = Duration::from_secs(120);
/// The pause between two looks at what is still open. Each costs the server milliseconds.
const LOOK: Duration = Duration::from_secs(1);
/// How long the last events may be on their way when all rows are written.
const LAST_EVENTS: Duration = Duration::from_secs(2);

/// Everything that was seen.
pub(crate) struct Run {
    pub(crate) load: Load,
    pub(crate) offers_used: usize,
    pub(crate) offers_all: usize,
    pub(crate) began: Instant,
    pub(crate) answers: Vec<Answer<Placed>>,
    pub(crate) accepted: Vec<(Uuid, Answer<Placed>)>,
    pub(crate) seen: Seen,
    pub(crate) observed_until: Instant,
    /// Committed rows of this run.
    pub(crate) rows: Rows,
    /// Confirmed within the window, by committed rows and the database's clock.
    pub(crate) rows_confirmed_in_window: i64,
    /// Why orders were cancelled.
    pub(crate) reasons: BTreeMap<String, i64>,
    pub(crate) budget: Budget,
}

/// Sends the orders and waits until every one that was accepted has ended.
///
/// # Errors
/// Something could not be measured, or an order that was accepted is not there.
pub(crate) async fn run(world: &mut World, orders: &Orders, load: &Load) -> Result<Run> {
    let before = postgres::rows(&mut world.connection).await?;
    let meter = Meter::start(world).await?;
    drop(world.observer.take());
    let (wall, clock) = (SystemTime::now(), Instant::now());
    let sent = send(orders, load).await?;
    let accepted = accepted(&sent.answers)?;
    drain(world, accepted.len()).await?;
    let observed_until = Instant::now();
    let after = postgres::rows(&mut world.connection).await?;
    let seen = world.observer.take();
    let rows = Rows {
        all: after.all - before.all,
        confirmed: after.confirmed - before.confirmed,
        cancelled: after.cancelled - before.cancelled,
        open: after.open,
    };
    // What was accepted must be there; of what was not answered, some may be.
    if rows.all < i64::try_from(accepted.len())? {
        bail!(
            "nothing-accepted-is-lost is broken: {} orders were accepted and {} are in the database",
            accepted.len(),
            rows.all
        );
    }
    let budget = meter.stop(world, u64::try_from(rows.all)?).await?;
    let began_at = wall + sent.began.saturating_duration_since(clock);
    let from = began_at.duration_since(UNIX_EPOCH)?.as_secs_f64();
    let to = from + f64::from(load.seconds());
    let connection = &mut world.connection;
    Ok(Run {
        rows_confirmed_in_window: postgres::confirmed_between(connection, from, to).await?,
        reasons: postgres::reasons(connection, from).await?,
        load: load.clone(),
        offers_used: orders.offers_used(load.requests()),
        offers_all: orders.offers_all,
        began: sent.began,
        answers: sent.answers,
        accepted,
        seen,
        observed_until,
        rows,
        budget,
    })
}

/// Sends the orders, waits until all have ended, and says whether the rate was kept up. Nothing else is
/// measured.
pub(crate) async fn trial(
    world: &mut World,
    orders: &Orders,
    load: &Load,
    allowance_s: f64,
) -> Result<bool> {
    drop(world.observer.take());
    let sent = send(orders, load).await?;
    let accepted = accepted(&sent.answers)?;
    drain(world, accepted.len()).await?;
    let run = Run {
        load: load.clone(),
        offers_used: 0,
        offers_all: 0,
        began: sent.began,
        answers: sent.answers,
        accepted,
        seen: world.observer.take(),
        observed_until: Instant::now(),
        rows: Rows::default(),
        rows_confirmed_in_window: 0,
        reasons: BTreeMap::new(),
        budget: Budget::default(),
    };
    Ok(run.sustained(allowance_s))
}

/// Puts everything through its first orders: connections, prepared statements, caches.
pub(crate) async fn warm_up(world: &mut World, orders: &Orders, load: &Load) -> Result<()> {
    let sent = send(orders, load).await?;
    let accepted = accepted(&sent.answers)?.len();
    if accepted == 0 {
        let first = sent.answers.first().context("nothing was sent")?;
        bail!("no order was accepted: {:?}", first.status);
    }
    drain(world, accepted).await
}

async fn send(orders: &Orders, load: &Load) -> Result<load::Run<Placed>> {
    let of = orders.clone();
    load::run(
        orders.gateway(),
        load.clone(),
        move |number| of.request(number),
        shop::read,
    )
    .await
}

fn accepted(answers: &[Answer<Placed>]) -> Result<Vec<(Uuid, Answer<Placed>)>> {
    let mut accepted = Vec::new();
    for answer in answers {
        match answer.read {
            Some(Placed::As(id)) => accepted.push((id, answer.clone())),
            Some(Placed::Unreadable) => bail!("a 202 without an order"),
            Some(Placed::Refused { .. }) | None => {}
        }
    }
    let distinct: HashSet<Uuid> = accepted.iter().map(|(id, _)| *id).collect();
    if distinct.len() != accepted.len() {
        bail!("two requests were answered with the same order");
    }
    Ok(accepted)
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

impl Run {
    /// The end of the window.
    pub(crate) fn window_end(&self) -> Instant {
        self.after(self.load.seconds())
    }

    /// So many seconds after its beginning.
    pub(crate) fn after(&self, seconds: u32) -> Instant {
        self.began + Duration::from_secs(u64::from(seconds))
    }

    /// Orders that were accepted and not seen to be confirmed at that time.
    pub(crate) fn unconfirmed(&self, at: Instant) -> usize {
        let confirmed = |id| self.seen.confirmed.get(id).is_some_and(|seen| *seen <= at);
        let open = self.accepted.iter().filter(|(id, _)| !confirmed(id));
        open.count()
    }

    /// Orders that were accepted and not seen to end, either way.
    pub(crate) fn unended(&self, at: Instant) -> usize {
        let ended = |id| self.seen.end(id).is_some_and(|seen| seen <= at);
        self.accepted.iter().filter(|(id, _)| !ended(id)).count()
    }

    /// Orders that were seen to be confirmed in a span.
    pub(crate) fn confirmed(&self, from: Instant, to: Instant) -> usize {
        let within = |seen: &&Instant| from <= **seen && **seen < to;
        self.seen.confirmed.values().filter(within).count()
    }

    /// Orders that were seen to be cancelled in a span.
    pub(crate) fn cancelled(&self, from: Instant, to: Instant) -> usize {
        let within = |seen: &&Instant| from <= **seen && **seen < to;
        self.seen.cancelled.values().filter(within).count()
    }

    /// When each order was to be sent and how long it took to be confirmed. One that never was has
    /// taken at least until now; left out, it would make the others look better. A cancelled one is
    /// told apart.
    pub(crate) fn waits(&self) -> impl Iterator<Item = (Instant, Duration)> {
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

    /// How long it took from the intended sending to the news that an order is cancelled.
    pub(crate) fn cancellations(&self) -> impl Iterator<Item = Duration> {
        self.accepted.iter().filter_map(|(id, answer)| {
            let seen = self.seen.cancelled.get(id)?;
            Some(seen.saturating_duration_since(answer.intended))
        })
    }

    /// Whether the rate was kept up: nothing refused, and when the window ended no more than the orders of
    /// the last `allowance_s` seconds had not ended.
    pub(crate) fn sustained(&self, allowance_s: f64) -> bool {
        let rate = self.load.phases.last().map_or(0, |phase| phase.rate_per_s);
        self.accepted.len() == self.answers.len()
            && self.unended(self.window_end()) as f64 <= f64::from(rate) * allowance_s
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A run over a second, of orders that were to be sent at its beginning.
    pub(crate) fn run_of(began: Instant, orders: &[(Uuid, Placed)], seen: Seen) -> Run {
        let answer = |read: Placed| Answer {
            intended: began,
            sent: began,
            answered: began,
            status: Some(http::StatusCode::ACCEPTED),
            read: Some(read),
        };
        let answers: Vec<_> = orders.iter().map(|(_, read)| answer(*read)).collect();
        Run {
            load: Load::flat(u32::try_from(orders.len()).expect("few"), 1, 1),
            offers_used: 1,
            offers_all: 1,
            began,
            accepted: accepted(&answers).expect("sound"),
            answers,
            seen,
            observed_until: began + Duration::from_secs(60),
            rows: Rows::default(),
            rows_confirmed_in_window: 0,
            reasons: BTreeMap::new(),
            budget: Budget::default(),
        }
    }

    /// The trap this benchmark must not fall into: what never came back is left out, and the rest
    /// looks fine.
    #[test]
    fn what_was_never_confirmed_counts_with_all_the_time_it_was_waited_for() {
        let began = Instant::now();
        let ids = [Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7()];
        let [confirmed, _lost, cancelled] = ids;
        let mut seen = Seen::default();
        seen.confirmed
            .insert(confirmed, began + Duration::from_millis(500));
        seen.cancelled
            .insert(cancelled, began + Duration::from_secs(2));
        let run = run_of(began, &ids.map(|id| (id, Placed::As(id))), seen);
        let waits: Vec<u128> = run.waits().map(|(_, wait)| wait.as_millis()).collect();
        assert_eq!(waits, [500, 60_000]);
        let cancellations: Vec<_> = run.cancellations().collect();
        assert_eq!(cancellations, [Duration::from_secs(2)]);
        assert_eq!(run.unconfirmed(run.window_end()), 2);
        assert_eq!(run.unended(run.window_end()), 2);
        assert_eq!(run.unended(run.observed_until), 1);
        assert_eq!(run.confirmed(began, run.window_end()), 1);
        assert!(
            run.sustained(0.7),
            "two of three a second are two thirds of one"
        );
        assert!(!run.sustained(0.5));
    }

    #[test]
    fn what_was_refused_was_not_sustained() {
        let refused = Placed::Refused { retry_after: true };
        let run = run_of(Instant::now(), &[(Uuid::nil(), refused)], Seen::default());
        assert!(!run.sustained(10.0));
    }
}
