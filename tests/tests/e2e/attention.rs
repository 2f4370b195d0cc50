//! An undo that is refused for good: the others run, and people deal with what is left.

use contract::{OrderId, StepName};
use engine::definitions::Definitions;
use inspector::interventions::{Came, Done, Intervention, intervene, what_came};
use saga::State;
use serde_json::{Value, json};
use tests::world::{
    Stands, Wish, World,
    catalogue::{DIVING, DIVING_A},
    until,
};

/// An order whose event is cancelled after its payment, and whose refund the provider refuses because
/// the customer disputes the charge.
async fn disputed(world: &World) -> OrderId {
    let wish = Wish::of(DIVING_A, 1).paid_with("pm_card_createDispute");
    let matching = json!({ "receipt_email": wish.email() });
    let slow = json!({"slow": {"ms": 500}});
    world
        .provider
        .plan_for(&matching, "confirm", &slow, 1)
        .await;
    let placed = world.shop.place(&wish).await;
    until("the payment is under way", async || {
        let pay = world.judge.effect(placed.id, &StepName::PAY).await?;
        (pay.stands == Stands::Claimed && pay.outside_id.is_some()).then_some(())
    })
    .await;
    world
        .judge
        .execute(&format!(
            "UPDATE events SET status = 'cancelled' WHERE id = '{DIVING}'"
        ))
        .await;
    stuck(world, placed.id).await;
    // It is before a person, and everything else is undone.
    assert_eq!(world.judge.taken(DIVING_A).await, 0);
    assert_eq!(world.judge.quotas().await, 1, "its card still paid");
    assert_eq!(
        world.shop.look(&placed).await.expect("shown")["status"],
        "cancelling"
    );
    placed.id
}

async fn stuck(world: &World, order: OrderId) {
    until("a person is asked", async || {
        let saga = world.judge.saga(order).await.instance;
        (saga.flags.attention && saga.cursor.is_none()).then_some(())
    })
    .await;
}

async fn act(world: &World, order: OrderId, what: Intervention, actor: &str) -> Done {
    let mut connection = world.ground.database.connection().await;
    let definitions = Definitions::ours();
    let done = intervene(
        &mut connection,
        &definitions,
        order.into(),
        &what,
        actor,
        "case 12",
    );
    done.await.expect("it is asked for")
}

async fn came(world: &World, order: OrderId, done: &Done) -> Came {
    let signal = done.signal.expect("a signal");
    until("the owner looked", async || {
        let mut connection = world.ground.database.connection().await;
        let came = what_came(&mut connection, order.into(), signal).await;
        came.expect("readable")
    })
    .await
}

/// No promise is broken, and what people have taken over is listed with what is at stake.
async fn assert_listed_as(world: &World, order: OrderId, why: &str) {
    let report = world.judge.check().await;
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    let [apart] = &report.apart[..] else {
        panic!("one order: {:#?}", report.apart);
    };
    assert_eq!(
        (apart.saga.as_str(), apart.why.as_str()),
        (order.to_string().as_str(), why)
    );
    assert_eq!(apart.at_stake_minor, 12_500);
}

#[tokio::test]
async fn a_refund_that_is_refused_waits_for_a_person_who_tries_again_and_then_resolves_it() {
    let world = World::start().await;
    let order = disputed(&world).await;
    let retried = act(&world, order, Intervention::Retry, "ann").await;
    assert_eq!(came(&world, order, &retried).await, Came::Applied);
    stuck(&world, order).await;
    let order_s = order.to_string();
    let step = ["saga", "resolve", &order_s, "--step", "pay"];
    let because = ["--as", "ann", "--reason", "paid back by bank transfer 7"];
    let (code, said) = world.operator(&[&step[..], &because].concat()).await;
    assert_eq!(code, Some(0), "{said}");
    let saga = world.judge.at_rest(order).await;
    assert_eq!(saga.instance.state, State::Compensated);
    let people: Vec<_> = saga
        .timeline
        .iter()
        .filter(|moment| moment.input == "operator")
        .map(|moment| {
            let by = moment.detail.as_ref().map(|detail| detail["by"].clone());
            (moment.code.as_deref(), by)
        })
        .collect();
    let ann = || Some(json!("ann"));
    assert_eq!(people, [(Some("retry"), ann()), (Some("resolve"), ann())]);
    assert_listed_as(&world, order, "resolved").await;
}

#[tokio::test]
async fn two_people_give_up_what_cannot_be_undone_and_it_stays_visible() {
    let world = World::start().await;
    let order = disputed(&world).await;
    let order_s = order.to_string();
    let abandon = ["saga", "abandon", &order_s, "--reason", "the bank is gone"];
    let typed = async |more: &[&str]| world.operator(&[&abandon[..], more].concat()).await;
    let (code, said) = typed(&["--as", "ann"]).await;
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = typed(&["--as", "ann", "--approve"]).await;
    assert_eq!(code, Some(4), "nobody is two people: {said}");
    let saga = world.judge.saga(order).await.instance;
    assert_eq!(saga.state, State::Compensating, "one person is not enough");
    let (code, said) = typed(&["--as", "bob", "--approve", "-o", "json"]).await;
    assert_eq!(code, Some(0), "{said}");
    let approved: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(approved["maybe_in_force"], json!(["pay"]), "{said}");
    let saga = world.judge.saga(order).await.instance;
    assert_eq!(saga.state, State::Abandoned);
    assert_eq!(saga.approver.as_deref(), Some("bob"));
    assert!(!saga.maybe_in_force.is_empty());
    assert_listed_as(&world, order, "abandoned").await;
}

/// Two orders wait for their customers and are stopped: what is told meanwhile is kept.
#[tokio::test]
async fn an_order_that_is_paused_waits_and_then_goes_on_with_all_it_was_told() {
    let world = World::start().await;
    let wish = || Wish::of(DIVING_A, 1).paid_with("pm_card_authenticationRequired");
    let (paying, ending) = (
        world.shop.place(&wish()).await,
        world.shop.place(&wish()).await,
    );
    let mut url = String::new();
    for placed in [&ending, &paying] {
        let waits = world.shop.until_status(placed, "action_required").await;
        let redirect = waits["next_action"]["redirect_url"].as_str();
        url = redirect.expect("where to go").to_owned();
        let paused = act(&world, placed.id, Intervention::Pause, "ann").await;
        assert_eq!(came(&world, placed.id, &paused).await, Came::Applied);
    }
    world.provider.authenticate(&url, "approve").await;
    until("the provider has told of it", async || {
        let (signals, _) = world.judge.signals(paying.id).await;
        (signals > 1).then_some(())
    })
    .await;
    let cancelled = world.shop.cancel(&ending).await;
    assert_eq!(cancelled.status, 202);
    for placed in [&ending, &paying] {
        let shown = world.shop.look(placed).await.expect("shown");
        assert_eq!(shown["status"], "action_required");
        let resumed = act(&world, placed.id, Intervention::Resume, "ann").await;
        assert_eq!(came(&world, placed.id, &resumed).await, Came::Applied);
    }
    assert_eq!(world.shop.ended(&paying).await.status(), "confirmed");
    let ended = world.shop.ended(&ending).await;
    assert_eq!(
        (ended.status(), ended.reason()),
        ("cancelled", "customer_cancelled")
    );
    let report = world.judge.check().await;
    assert_eq!((report.findings, report.apart), (Vec::new(), Vec::new()));
    world.close().await;
}
