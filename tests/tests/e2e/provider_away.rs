//! A payment provider that is away for a while: it is left alone, nothing is lost, and what could not be
//! paid in time is cancelled for that reason.

use contract::{OrderId, StepKind, StepName};
use saga::{
    State,
    breaker::{COOL_DOWN_MS, TRIALS},
};
use serde_json::json;
use tests::world::{
    Placed, Processes, Shop, Wish,
    catalogue::{DIVING_A, SWIMMING_A},
    processes::Name,
    until,
};

const ORDERS: usize = 8;
/// It has to last for half a minute; what the owner says is heard within seconds.
const REFUSED_WITHIN: std::time::Duration = std::time::Duration::from_secs(50);

/// Orders whose payment cannot be made, once that is known of the provider.
async fn without_provider(world: &mut Processes) -> Vec<Placed> {
    world.kill(Name::Psp);
    let mut placed = Vec::new();
    for number in 0..ORDERS {
        let offer = [DIVING_A, SWIMMING_A][number % 2];
        placed.push(world.shop.place(&Wish::of(offer, 1)).await);
    }
    breaker(world, "pay", 1.0).await;
    placed
}

async fn breaker(world: &Processes, step: &str, wanted: f64) {
    let series = format!("guichet_saga_breaker_open{{step=\"{step}\"}}");
    until("the breaker has turned", async || {
        let metrics = world.metrics(Name::Orchestrator).await;
        (*metrics.get(&series)? == wanted).then_some(())
    })
    .await;
}

/// How many payments were commanded of an order, and the highest number of a try.
async fn payments(world: &Processes, order: OrderId) -> (usize, i16) {
    let saga = world.judge.saga(order).await;
    let sent = saga
        .timeline
        .iter()
        .filter_map(|moment| moment.next.as_ref());
    let sent = sent.filter(|next| next.step == StepName::PAY && next.kind == StepKind::Do);
    let tries: Vec<i16> = sent.map(|next| next.attempt).collect();
    (tries.len(), tries.into_iter().max().unwrap_or(0))
}

#[tokio::test]
async fn a_provider_that_is_away_is_left_alone_and_every_order_is_paid_when_it_is_back() {
    let mut world = Processes::start().await;
    let mut placed = without_provider(&mut world).await;
    let (mut before, began) = (Vec::new(), std::time::Instant::now());
    for order in &placed {
        before.push(payments(&world, order.id).await);
    }
    // One that came in between is paid like the others.
    placed.push(world.shop.place(&Wish::of(SWIMMING_A, 1)).await);
    before.push((0, 1));
    // No more orders are taken once it has lasted, and that is said before anything is stored.
    let deadline = std::time::Instant::now() + REFUSED_WITHIN;
    let refused = loop {
        // Each time somebody else: a repeat is answered as what it repeats.
        let asks = Wish::of(DIVING_A, 1);
        let answer = world.shop.try_place(&asks).await.expect("it answers");
        if answer.status != 202 {
            break answer;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "orders are still taken"
        );
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    };
    let code = refused.json()["code"].clone();
    assert_eq!(
        (refused.status, code.as_str()),
        (503, Some("payment_unavailable"))
    );
    let (mut more, mut tries) = (0, 0);
    for (order, (sent, most)) in placed.iter().zip(&before) {
        let now = payments(&world, order.id).await;
        more += now.0 - sent;
        tries = tries.max(now.1 - most);
    }
    // A few after each cool-down, and what was under way when it was found to be away.
    let cool_downs = 1 + began.elapsed().as_millis() / COOL_DOWN_MS.cast_unsigned() as u128;
    let most = ORDERS + usize::from(TRIALS) * usize::try_from(cool_downs).expect("few");
    assert!(
        more <= most,
        "{more} commands were sent to nobody, at most {most} to be expected"
    );
    assert!(tries <= 1, "tries were spent on nobody: {tries}");
    world.restart(Name::Psp).await;
    for order in &placed {
        assert_eq!(world.shop.ended(order).await.status(), "confirmed");
        assert_eq!(world.provider.balance(order.id.0).await.captures, 1);
    }
    breaker(&world, "pay", 0.0).await;
    // Orders are taken again, and nobody restarted anything.
    let wish = Wish::of(DIVING_A, 1);
    let answer = until("orders are taken again", async || {
        let answer = world.shop.try_place(&wish).await?;
        (answer.status == 202).then_some(answer)
    })
    .await;
    let placed = Shop::accepted(&answer);
    assert_eq!(world.shop.ended(&placed).await.status(), "confirmed");
    world.close().await;
}

#[tokio::test]
async fn what_could_not_be_paid_in_time_is_cancelled_for_that_reason() {
    let mut world = Processes::start().await;
    let placed = without_provider(&mut world).await;
    // Their time is nearly over, as whoever loads them next will read.
    their_time_ends(&mut world).await;
    all_are_cancelled(&world, &placed).await;
    world.restart(Name::Psp).await;
    for order in &placed {
        assert_eq!(world.provider.balance(order.id.0).await.captures, 0);
    }
    world.close().await;
}

async fn their_time_ends(world: &mut Processes) {
    world.kill(Name::Orchestrator);
    let soon = "UPDATE sagas SET deadline = now() + interval '12 seconds' WHERE NOT ended";
    world.judge.execute(soon).await;
    world.restart(Name::Orchestrator).await;
}

async fn all_are_cancelled(world: &Processes, placed: &[Placed]) {
    for order in placed {
        let ended = world.shop.ended(order).await;
        let end = (ended.status(), ended.reason());
        assert_eq!(end, ("cancelled", "payment_unavailable"), "{}", ended.order);
        let saga = world.judge.at_rest(order.id).await;
        assert_eq!(saga.instance.state, State::Compensated);
        assert!(saga.instance.maybe_in_force.is_empty());
        let writes = saga.instance.rev;
        assert!(
            writes < 100,
            "one that could only wait was written {writes} times"
        );
    }
    assert_eq!(world.judge.taken(DIVING_A).await, 0);
    assert_eq!(world.judge.quotas().await, 0);
}

/// The capture is the pivot: its commands may have had an effect, and none is out whose outcome could be
/// waited for.
#[tokio::test]
async fn what_could_not_be_captured_in_time_is_cancelled_and_given_back() {
    let mut world = Processes::start_selling(2).await;
    let any = json!({});
    world
        .provider
        .plan_for(&any, "capture", &json!("500"), 1_000)
        .await;
    let mut placed = Vec::new();
    for number in 0..ORDERS {
        let offer = [DIVING_A, SWIMMING_A][number % 2];
        placed.push(world.shop.place(&Wish::of(offer, 1)).await);
    }
    breaker(&world, "capture", 1.0).await;
    their_time_ends(&mut world).await;
    breaker(&world, "capture", 1.0).await;
    all_are_cancelled(&world, &placed).await;
    for order in &placed {
        assert_eq!(world.provider.balance(order.id.0).await.captures, 0);
    }
    // Whoever comes now finds that it works again, and nobody restarted anything.
    world.provider.forget_plans().await;
    let (_, ended) = world.shop.buy(&Wish::of(DIVING_A, 1)).await;
    assert_eq!(ended.status(), "confirmed");
    world.close().await;
}
