//! What customers and the payment provider say in the middle of an order.

use contract::{OrderId, StepKind, StepName};
use futures_util::future::join_all;
use inspector::review;
use serde_json::{Value, json};
use tests::{
    provider::Balance,
    world::{
        Placed, Stands, Wish, World,
        catalogue::{DIVING, DIVING_A, SWIMMING_A},
        tap::{Kind, Tap},
        until,
    },
};

const SECURE: &str = "pm_card_threeDSecure2Required";

/// Waits for the customer to act, and says where he has to.
async fn redirect_url(world: &World, placed: &Placed) -> String {
    let order = world.shop.until_status(placed, "action_required").await;
    let url = order["next_action"]["redirect_url"].as_str();
    url.unwrap_or_else(|| panic!("no redirect: {order}"))
        .to_owned()
}

async fn assert_given_back(world: &World, order: OrderId) {
    let saga = world.judge.at_rest(order).await;
    assert!(saga.instance.maybe_in_force.is_empty());
    assert_eq!(world.judge.taken(DIVING_A).await, 0);
    assert_eq!(world.judge.quotas().await, 0);
    assert_eq!(world.judge.tickets(order).await, []);
}

fn asks_of_pay(saga: &engine::view::SagaView, kind: StepKind) -> usize {
    let about = |moment: &&engine::view::Moment| {
        moment.step == Some(StepName::PAY) && moment.kind == Some(kind) && moment.input == "reply"
    };
    saga.timeline.iter().filter(about).count()
}

#[tokio::test]
async fn a_payment_that_the_customer_approves_is_confirmed_by_the_providers_event() {
    let world = World::start().await;
    let placed = world
        .shop
        .place(&Wish::of(DIVING_A, 1).paid_with(SECURE))
        .await;
    let url = redirect_url(&world, &placed).await;
    assert_eq!(
        world.provider.balance(placed.id.0).await,
        Balance::default()
    );
    world.provider.authenticate(&url, "approve").await;
    let ended = world.shop.ended(&placed).await;
    let told = ["pending", "action_required", "pending", "confirmed"];
    assert_eq!(ended.told, told);
    // The event was not believed: the provider was asked.
    let saga = world.judge.at_rest(placed.id).await;
    assert!(asks_of_pay(&saga, StepKind::Probe) > 0);
    let once = Balance {
        captures: 1,
        captured_minor: DIVING_A.amount_minor,
        refunded_minor: 0,
    };
    assert_eq!(world.provider.balance(placed.id.0).await, once);
    assert!(ended.order["next_action"].is_null(), "{}", ended.order);
    world.close().await;
}

#[tokio::test]
async fn a_payment_that_the_customer_refuses_gives_everything_back() {
    let world = World::start().await;
    let placed = world
        .shop
        .place(&Wish::of(DIVING_A, 2).paid_with(SECURE))
        .await;
    let url = redirect_url(&world, &placed).await;
    world.provider.authenticate(&url, "refuse").await;
    let ended = world.shop.ended(&placed).await;
    assert_eq!(
        (ended.status(), ended.reason()),
        ("cancelled", "authentication_failed")
    );
    assert!(ended.order["next_action"].is_null(), "{}", ended.order);
    assert_given_back(&world, placed.id).await;
    let balance = world.provider.balance(placed.id.0).await;
    assert_eq!(balance, Balance::default());
    // Nobody can confirm it any more.
    let entries = world.provider.entries(placed.id.0).await;
    let last = entries.last().map(|entry| entry.kind.as_str());
    assert_eq!(last, Some("canceled"));
    world.close().await;
}

/// The provider's events are lost; the customer comes back with what the provider put into his
/// address.
#[tokio::test]
async fn the_customers_return_has_the_payment_looked_at() {
    let world = World::start().await;
    let wish = Wish::of(DIVING_A, 1).paid_with(SECURE);
    let matching = json!({ "receipt_email": wish.email() });
    world
        .provider
        .plan_for(&matching, "webhook", &json!("missing"), 20)
        .await;
    let placed = world.shop.place(&wish).await;
    let url = redirect_url(&world, &placed).await;
    // A return that is none: he has not answered the bank yet.
    let order = world.shop.come_back(&placed).await;
    assert_eq!(order["status"], "action_required");
    until("the provider was asked in vain", async || {
        let saga = world.judge.saga(placed.id).await;
        (asks_of_pay(&saga, StepKind::Probe) == 1).then_some(())
    })
    .await;
    // It waits on, and says where, as before.
    assert_eq!(redirect_url(&world, &placed).await, url);
    world.provider.authenticate(&url, "approve").await;
    // As the default address has it, straight from the provider's page: without a token.
    assert_eq!(world.shop.come_back_without_token(&placed).await, 404);
    until("the payment is looked at", async || {
        let saga = world.judge.saga(placed.id).await;
        (saga.instance.state != saga::State::Waiting).then_some(())
    })
    .await;
    // Several returns within a moment are one.
    until("the payment is looked at", async || {
        let order = world.shop.come_back(&placed).await;
        (order["status"] == "confirmed").then_some(())
    })
    .await;
    world.close().await;
}

/// Each look is a request to the provider: nobody may cause as many as he can reload a page.
#[tokio::test]
async fn a_page_that_is_reloaded_for_ever_has_the_payment_looked_at_twenty_times() {
    let world = World::start().await;
    let placed = world
        .shop
        .place(&Wish::of(DIVING_A, 1).paid_with(SECURE))
        .await;
    let url = redirect_url(&world, &placed).await;
    for _ in 0..60 {
        world.shop.come_back(&placed).await;
        until("it was looked at, or not told", async || {
            let saga = world.judge.saga(placed.id).await;
            let waits = saga.instance.state == saga::State::Waiting;
            (waits && world.judge.signals(placed.id).await.1 == 0).then_some(())
        })
        .await;
    }
    let (told, _) = world.judge.signals(placed.id).await;
    assert!(
        (20..=21).contains(&told),
        "{told}: an event may come beside"
    );
    // The provider's own word still counts.
    world.provider.authenticate(&url, "approve").await;
    assert_eq!(world.shop.ended(&placed).await.status(), "confirmed");
    world.close().await;
}

#[tokio::test]
async fn an_order_that_its_customer_cancels_is_undone_and_its_payment_never_made() {
    let world = World::start().await;
    // While the customer should authenticate.
    let placed = world
        .shop
        .place(&Wish::of(DIVING_A, 2).paid_with(SECURE))
        .await;
    let url = redirect_url(&world, &placed).await;
    for _ in 0..2 {
        let answer = world.shop.cancel(&placed).await;
        assert_eq!(answer.status, 202);
        assert_eq!(answer.json()["id"], json!(placed.id));
    }
    let ended = world.shop.ended(&placed).await;
    assert_eq!(
        (ended.status(), ended.reason()),
        ("cancelled", "customer_cancelled")
    );
    assert_given_back(&world, placed.id).await;
    let pay = world.judge.effect(placed.id, &StepName::PAY).await;
    assert_eq!(pay.map(|pay| pay.stands), Some(Stands::Undone));
    // Too late for the bank's page: what is cancelled at the provider stays so.
    world.provider.try_authenticate(&url, "approve").await;
    assert_eq!(world.provider.balance(placed.id.0).await.captures, 0);
    let again = world.shop.cancel(&placed).await;
    assert_eq!(
        (again.status, &again.json()["status"]),
        (202, &json!("cancelled"))
    );
    world.close().await;
}

#[tokio::test]
async fn a_cancellation_is_told_to_the_orders_owner_whatever_the_order_is_at() {
    let world = World::start().await;
    let tap = Tap::open(&world.ground.namespace).await;
    let told = || tap.copies().get(&Kind::Signal).copied().unwrap_or(0);
    let wish = Wish::of(DIVING_A, 1);
    let matching = json!({ "receipt_email": wish.email() });
    let slow = json!({ "slow": { "ms": 3_000 } });
    world
        .provider
        .plan_for(&matching, "confirm", &slow, 1)
        .await;
    let placed = world.shop.place(&wish).await;
    until("its payment is under way", async || {
        world.judge.effect(placed.id, &StepName::PAY).await
    })
    .await;
    assert_eq!(told(), 0);
    assert_eq!(world.shop.cancel(&placed).await.status, 202);
    until("its owner is told", async || (told() > 0).then_some(())).await;
    let ended = world.shop.ended(&placed).await;
    assert_eq!(
        (ended.status(), ended.reason()),
        ("cancelled", "customer_cancelled")
    );
    world.close().await;
}

#[tokio::test]
async fn an_order_in_review_can_be_cancelled_and_the_review_is_withdrawn() {
    let world = World::start().await;
    let suspicious = Wish::of(DIVING_A, 2)
        .attended_by(&["Bo Guest", "Cy Guest"])
        .with("email", "ada@mailinator.com")
        .with("name", "Zed Quux");
    let placed = world.shop.place(&suspicious).await;
    world.shop.until_status(&placed, "in_review").await;
    assert_eq!(world.shop.cancel(&placed).await.status, 202);
    let ended = world.shop.ended(&placed).await;
    assert_eq!(ended.reason(), "customer_cancelled");
    assert_given_back(&world, placed.id).await;
    let mut connection = world.ground.database.connection().await;
    let late = review::approve(&mut connection, placed.id, "rita", "fine").await;
    assert!(late.is_err(), "it is withdrawn");
    world.close().await;
}

#[tokio::test]
async fn a_confirmed_order_cannot_be_cancelled_and_a_stranger_cancels_nothing() {
    let world = World::start().await;
    let (placed, ended) = world.shop.buy(&Wish::of(DIVING_A, 1)).await;
    assert_eq!(ended.status(), "confirmed");
    let refused = world.shop.cancel(&placed).await;
    assert_eq!(refused.status, 409);
    assert_eq!(refused.json()["code"], "order_confirmed");
    let stranger = Placed {
        token: "A".repeat(43),
        ..placed.clone()
    };
    assert_eq!(world.shop.cancel(&stranger).await.status, 404);
    assert_eq!(world.judge.tickets(placed.id).await.len(), 1);
    world.close().await;
}

/// The customer changes his mind at any moment: a ticket or his money, never both, never neither.
#[tokio::test]
async fn a_cancellation_that_races_with_the_order_ends_in_a_ticket_or_in_nothing() {
    let world = World::start().await;
    let ends = join_all((0..60_i32).map(async |n| {
        let offer = if n % 2 == 0 { DIVING_A } else { SWIMMING_A };
        let placed = world.shop.place(&Wish::of(offer, 1)).await;
        // The races are spread over all steps, and what comes after the pivot.
        until("it has come so far", async || {
            let saga = world.judge.saga(placed.id).await;
            (saga.instance.rev > n % 6).then_some(())
        })
        .await;
        let answer = world.shop.cancel(&placed).await;
        let ended = world.shop.ended(&placed).await;
        let balance = world.provider.balance(placed.id.0).await;
        match ended.status() {
            "confirmed" => {
                assert_eq!(balance.captures, 1);
                assert_eq!(balance.refunded_minor, 0);
            }
            "cancelled" => {
                assert_eq!(answer.status, 202);
                assert_eq!(ended.reason(), "customer_cancelled");
                world.judge.at_rest(placed.id).await;
                let balance = world.provider.balance(placed.id.0).await;
                assert_eq!(balance.captured_minor, balance.refunded_minor);
            }
            other => panic!("{other}"),
        }
        ended.status().to_owned()
    }))
    .await;
    let cancelled = ends.iter().filter(|end| *end == "cancelled").count();
    assert!(
        cancelled > 0 && cancelled < 60,
        "both ends happen: {cancelled}"
    );
    world.close().await;
}

/// It comes while the pivot's command is out: its outcome decides.
#[tokio::test]
async fn a_cancellation_during_the_pivot_waits_for_its_outcome() {
    let mut world = World::without_workers(tests::world::Settings::default()).await;
    world
        .work_on(&[StepName::RESERVE, StepName::FRAUD_CHECK, StepName::PAY])
        .await;
    let confirmed = world.shop.place(&Wish::of(DIVING_A, 1)).await;
    let issuing = async |placed: &Placed| {
        let saga = world.judge.saga(placed.id).await;
        let cursor = saga.instance.cursor?;
        (cursor.step == 3 && cursor.outstanding).then_some(())
    };
    until("its tickets are being issued", async || {
        issuing(&confirmed).await
    })
    .await;
    assert_eq!(world.shop.cancel(&confirmed).await.status, 202);
    until("the owner has heard of it", async || {
        let saga = world.judge.saga(confirmed.id).await;
        saga.instance.reason.is_some().then_some(())
    })
    .await;
    let order: Value = world.shop.look(&confirmed).await.expect("readable");
    assert_eq!(order["status"], "pending", "nothing is undone yet");
    world.work_on(&[StepName::ISSUE, StepName::NOTIFY]).await;
    assert_eq!(world.shop.ended(&confirmed).await.status(), "confirmed");
    assert_eq!(world.judge.numbers(DIVING).await, [1]);
    world.close().await;
}
