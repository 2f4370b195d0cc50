//! The end of an order's time against the success of its payment. Payments take between nothing and
//! twice the time that there is, so the two meet at every distance, on both sides; every order ends with
//! its tickets or with the money back.
//!
//! Half of the payments succeed late (the request is slow). The other half succeed at once, and it is
//! known late (the answer is); those that end meanwhile have to be given back.
//!
//! By `order@2` the captures race as well: the authorisations before them take so long that they begin at
//! every distance from the end, and they are slow themselves. The outcome of one that was begun in time decides,
//! whenever it comes. Of some nothing is heard or seen, though they succeeded: either another try finds that out, or
//! the end of the order's time comes first, and gives the money back.

use crate::{alone, place};
use contract::{OrderId, Outcome, StepKind, StepName};
use engine::{definitions::Definitions, view::Moment};
use futures_util::{StreamExt as _, stream};
use saga::{Definition, RetryPolicy, State};
use serde_json::json;
use std::time::{Duration, Instant};
use tests::{
    provider::Balance,
    world::{Settings, Wish, World, catalogue::DIVING_A, judge::times, until},
};
use tokio::time::sleep;

/// Races of a test.
const RACES: u64 = 1_000;
/// Between two orders.
const PACE: Duration = Duration::from_millis(25);
/// So many orders at most are on their way to the payment: on a slow machine there are fewer a second, and
/// not fewer that come to it in time.
const ON_THE_WAY: i64 = 20;
/// The time that there is: more than a machine that is busy with other things needs to come to the
/// payment.
const TIME_MS: u32 = 4_000;
/// How long a payment takes at least, and how much longer at most: of a prime number of steps, so that
/// they are spread evenly and do not go with the pace.
const TAKES_MS: u64 = 200;
const STEPS: u64 = 197;
const STEP_MS: u64 = 40;
/// How long a capture takes at most.
const CAPTURE_MAX_MS: u64 = 2_000;
/// Of so many captures one is not heard of, and cannot be looked at once.
const UNHEARD_EVERY: u64 = 4;
/// How long after that it is tried again.
const AGAIN_MS: u32 = 2_000;
/// How long a worker waits for a payment: longer than any takes.
const PAYS_WITHIN_MS: u64 = 10_000;
/// Captures have to be decided after the end, and to be given back, at least so often.
const LATE_AT_LEAST: usize = 20;
/// Each end comes at least so often.
const AT_LEAST: usize = 50;
/// From the last order to the last end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A version with other times, under a number of its own.
fn definition(mut definition: Definition, change: impl FnOnce(&mut Definition)) -> Definition {
    (definition.id, definition.version) = (90, 90);
    change(&mut definition);
    definition.checked().expect("it is sound")
}

fn pay(definition: &mut Definition) -> &mut saga::StepDefinition {
    let pay = |step: &&mut saga::StepDefinition| step.name == StepName::PAY;
    definition.steps.iter_mut().find(pay).expect("orders pay")
}

/// How the races of a world ended.
struct Ends {
    world: World,
    orders: Vec<(OrderId, State, Balance)>,
}

impl Ends {
    fn count(&self, fits: impl Fn(State, Balance) -> bool) -> usize {
        let orders = self.orders.iter();
        orders
            .filter(|(_, state, balance)| fits(*state, balance.clone()))
            .count()
    }

    fn sold(&self) -> usize {
        self.count(|state, _| state == State::Completed)
    }

    /// The payment succeeded, and was given back.
    fn given_back(&self) -> usize {
        self.count(|state, balance| state == State::Compensated && balance.captures == 1)
    }

    fn never_charged(&self) -> usize {
        self.count(|state, balance| state == State::Compensated && balance.captures == 0)
    }
}

/// What is slow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Racer {
    /// The request that charges, or authorises.
    Confirm,
    /// That one, and the one that takes what was authorised.
    Capture,
}

/// Runs the races, and judges each order: tickets or the money back, never both, never neither.
async fn race(mut definition: Definition, racer: Racer) -> Ends {
    let _alone = alone().await;
    let pays_at = pay(&mut definition).number;
    let world = World::with(Settings {
        server: None,
        pay_timeout_ms: PAYS_WITHIN_MS,
        version: definition.id,
        definitions: Definitions::of([definition]),
        worker: workers::Config {
            permits: 256,
            undo_permits: 128,
            ..workers::Config::default()
        },
    })
    .await;
    let enough = "UPDATE stock SET capacity = 100000";
    world.judge.execute(enough).await;
    let paced = stream::iter(0..RACES).then(async |number| {
        sleep(PACE).await;
        until("those before it came to their payments", async || {
            (world.judge.before(pays_at).await < ON_THE_WAY).then_some(())
        })
        .await;
        number
    });
    let races = paced.map(async |number| {
        let wish = Wish::of(DIVING_A, 1);
        let takes_ms = TAKES_MS + number * 89 % STEPS * STEP_MS;
        let mut plan = json!({
            "match": {"receipt_email": wish.email()}, "on": "confirm", "times": 1,
            "fault": {"slow": {"ms": takes_ms}},
        });
        if number % 2 == 1 && racer == Racer::Confirm {
            plan["fault"] = "timeout_after".into();
            plan["hold_ms"] = takes_ms.into();
        }
        world.provider.plan_as(&plan).await;
        if racer == Racer::Capture {
            plan["on"] = "capture".into();
            plan["fault"]["slow"]["ms"] = (1 + number * 53 % CAPTURE_MAX_MS).into();
            let heard = !number.is_multiple_of(UNHEARD_EVERY);
            if !heard {
                plan["fault"] = "reset_after".into();
            }
            world.provider.plan_as(&plan).await;
            if !heard {
                (plan["on"], plan["fault"]) = ("retrieve".into(), "500".into());
                world.provider.plan_as(&plan).await;
            }
        }
        place(&world.shop, &wish).await
    });
    let at_once = usize::try_from(ON_THE_WAY).expect("few");
    let orders: Vec<OrderId> = races.buffered(at_once).collect().await;
    let begun = Instant::now();
    while world.judge.live().await > 0 {
        assert!(begun.elapsed() < PATIENCE, "not all ended in time");
        sleep(Duration::from_millis(50)).await;
    }
    let mut ends = Vec::with_capacity(orders.len());
    for order in orders {
        let (state, balance) = world.judge.verdict_of(order).await;
        ends.push((order, state, balance));
    }
    Ends {
        world,
        orders: ends,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_s_deadline_against_the_payment() {
    let short = definition(saga::order::v1(), |order| order.deadline_ms = TIME_MS);
    let ends = race(short, Racer::Confirm).await;
    let counts = [ends.sold(), ends.given_back(), ends.never_charged()];
    assert_eq!(counts.iter().sum::<usize>(), ends.orders.len());
    assert!(counts.iter().all(|count| *count >= AT_LEAST), "{counts:?}");
    ends.world.judge.check_finds_nothing().await;
}

/// What is only authorised when its time ends is not taken at all.
#[tokio::test(flavor = "multi_thread")]
async fn the_order_s_deadline_against_the_authorisation() {
    let short = definition(saga::order::v2(), |order| order.deadline_ms = TIME_MS);
    let ends = race(short, Racer::Confirm).await;
    let counts = [ends.sold(), ends.never_charged()];
    assert_eq!(counts.iter().sum::<usize>(), ends.orders.len());
    assert!(counts.iter().all(|count| *count >= AT_LEAST), "{counts:?}");
    ends.world.judge.check_finds_nothing().await;
}

/// A capture that was begun in time is ended by its outcome; one that would begin too late is not begun.
#[tokio::test(flavor = "multi_thread")]
async fn the_order_s_deadline_against_the_capture() {
    let short = definition(saga::order::v2(), |order| {
        order.deadline_ms = TIME_MS;
        let capture = |step: &&mut saga::StepDefinition| step.name == StepName::CAPTURE;
        let capture = order.steps.iter_mut().find(capture).expect("it captures");
        capture.do_policy.initial_ms = AGAIN_MS;
    });
    let ends = race(short, Racer::Capture).await;
    let (sold, given_back, never) = (ends.sold(), ends.given_back(), ends.never_charged());
    assert_eq!(sold + given_back + never, ends.orders.len());
    let mut late = 0;
    for (order, state, _) in &ends.orders {
        if *state == State::Completed {
            let timeline = ends.world.judge.saga(*order).await.timeline;
            let is_capture = |moment: &&Moment| {
                moment.step == Some(StepName::CAPTURE) && moment.outcome == Some(Outcome::Done)
            };
            let captured = timeline.iter().find(is_capture).expect("it was captured");
            let took = captured.at - timeline[0].at;
            late += usize::from(took.num_milliseconds() > i64::from(TIME_MS));
        }
    }
    let counts = [sold, given_back + never];
    assert!(counts.iter().all(|count| *count >= AT_LEAST), "{counts:?}");
    let rare = [late, given_back];
    assert!(
        rare.iter().all(|count| *count >= LATE_AT_LEAST),
        "late and given back: {rare:?}"
    );
    ends.world.judge.check_finds_nothing().await;
}

/// A payment whose time is over is asked about first, and only if it stays unknown is it taken back.
#[tokio::test(flavor = "multi_thread")]
async fn the_payment_s_own_time_against_the_payment() {
    let ends = race(
        definition(saga::order::v1(), |order| {
            let pay = pay(order);
            pay.do_policy.budget_ms = Some(TIME_MS / 2);
            pay.probe_policy = RetryPolicy {
                initial_ms: 100,
                max_ms: 500,
                max_attempts: None,
                budget_ms: Some(TIME_MS / 2),
            };
        }),
        Racer::Confirm,
    )
    .await;
    let (sold, cancelled) = (ends.sold(), ends.given_back() + ends.never_charged());
    assert_eq!(sold + cancelled, ends.orders.len());
    let mut by_asking = 0;
    for (order, state, _) in &ends.orders {
        if *state == State::Completed {
            let saga = ends.world.judge.saga(*order).await;
            let asked = times(&saga, &StepName::PAY, StepKind::Probe, Outcome::Done);
            by_asking += usize::from(asked > 0);
        }
    }
    let counts = [sold, by_asking, cancelled];
    assert!(counts.iter().all(|count| *count >= AT_LEAST), "{counts:?}");
    ends.world.judge.check_finds_nothing().await;
}
