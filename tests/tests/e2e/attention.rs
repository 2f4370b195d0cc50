//! An undo that is refused for good: the others run, and people deal with what is left.

use contract::{OrderId, Outcome, StepKind, StepName};
use engine::definitions::Definitions;
use inspector::interventions::{Came, Done, Intervention, intervene, what_came};
use saga::State;
use serde_json::{Value, json};
use tests::world::{
    Placed, Stands, Wish, World,
    catalogue::{DIVING, DIVING_A, SWIMMING_A},
    until,
};

/// An order whose event is cancelled while it is paid, so that its payment is to be given back, which fails.
async fn not_given_back(world: &World, wish: Wish) -> Placed {
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
    placed
}

/// An order whose refund the provider refuses because the customer disputes the charge.
async fn disputed(world: &World) -> OrderId {
    let wish = Wish::of(DIVING_A, 1).paid_with("pm_card_createDispute");
    let placed = not_given_back(world, wish).await;
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

#[tokio::test]
async fn an_order_that_an_operator_ends_is_undone_in_reverse_and_its_history_says_who_and_why() {
    let world = World::start().await;
    let wish = Wish::of(DIVING_A, 2).paid_with("pm_card_authenticationRequired");
    let placed = world.shop.place(&wish).await;
    world.shop.until_status(&placed, "action_required").await;
    assert_eq!(world.judge.taken(DIVING_A).await, 2);
    let id = placed.id.to_string();
    let end = ["saga", "compensate", &id];
    let because = ["--as", "rita", "--reason", "his bank asks us to"];
    let typed = async || world.operator(&[&end[..], &because].concat()).await;
    let (code, said) = typed().await;
    assert_eq!(code, Some(0), "{said}");
    let ended = world.shop.ended(&placed).await;
    assert_eq!(
        (ended.status(), ended.reason()),
        ("cancelled", "operator_ended")
    );
    let saga = world.judge.at_rest(placed.id).await;
    assert_eq!(saga.instance.state, State::Compensated);
    assert!(saga.instance.maybe_in_force.is_empty());
    let undone = saga.timeline.iter().filter(|moment| {
        moment.kind == Some(StepKind::Undo) && moment.outcome == Some(Outcome::Done)
    });
    let undone: Vec<_> = undone.filter_map(|moment| moment.step.clone()).collect();
    let reversed = [StepName::PAY, StepName::FRAUD_CHECK, StepName::RESERVE];
    assert_eq!(undone, reversed);
    let effects = world.judge.effects(placed.id).await;
    assert!(
        effects
            .values()
            .all(|effect| effect.stands == Stands::Undone),
        "{effects:?}"
    );
    assert_eq!(world.judge.taken(DIVING_A).await, 0);
    assert_eq!(world.judge.quotas().await, 0);

    let ends = saga.timeline.iter().filter(|moment| moment.input == "end");
    let by: Vec<_> = ends
        .filter_map(|moment| moment.detail.as_ref()?["by"].as_str())
        .collect();
    assert_eq!(by, ["rita"]);
    let (_, shown) = world.operator(&["saga", "show", &id]).await;
    assert!(shown.contains("rita: his bank asks us to"), "{shown}");
    let (code, said) = typed().await;
    assert_eq!(code, Some(4), "it has ended: {said}");
    world.close().await;
}

/// The refund fails. What a person names first is another customer's payment, and is left alone.
#[tokio::test]
async fn a_refund_that_failed_is_tried_again_with_the_payment_that_a_person_names() {
    let world = World::start().await;
    let (theirs, bought) = world.shop.buy(&Wish::of(SWIMMING_A, 1)).await;
    assert_eq!(bought.status(), "confirmed");
    let wish = Wish::of(DIVING_A, 1);
    let of = json!({ "receipt_email": wish.email() });
    let fails = json!({"refund_fails": {"ms": 50}});
    world.provider.plan_for(&of, "refund", &fails, 1).await;
    let order = not_given_back(&world, wish).await.id;
    assert_eq!(world.provider.balance(order.0).await.refunded_minor, 0);

    let id = order.to_string();
    let name = async |of: OrderId| {
        let paid = world.judge.effect(of, &StepName::PAY).await;
        let intent = paid.and_then(|paid| paid.outside_id).expect("a payment");
        let input = json!({ "payment_intent": intent }).to_string();
        let retry = ["saga", "retry", &id, "--step", "pay", "--input", &input];
        let because = ["--as", "ann", "--reason", "looked it up"];
        let (code, said) = world.operator(&[&retry[..], &because].concat()).await;
        assert_eq!(code, Some(0), "{said}");
    };
    name(theirs.id).await;
    stuck(&world, order).await;
    assert_eq!(world.provider.balance(theirs.id.0).await.refunded_minor, 0);
    name(order).await;
    let saga = world.judge.at_rest(order).await;
    assert_eq!(saga.instance.state, State::Compensated);
    let given_back = world.provider.balance(order.0).await;
    assert_eq!(
        (given_back.captured_minor, given_back.refunded_minor),
        (12_500, 12_500)
    );
    assert_eq!(world.provider.balance(theirs.id.0).await.refunded_minor, 0);

    let undos = saga.timeline.iter().filter(|moment| {
        let is_pay = moment.step == Some(StepName::PAY);
        is_pay && moment.kind == Some(StepKind::Undo) && moment.input == "reply"
    });
    let undos: Vec<_> = undos
        .map(|moment| (moment.outcome, moment.code.as_deref()))
        .filter(|(outcome, _)| *outcome != Some(Outcome::Retry))
        .collect();
    assert_eq!(
        undos,
        [
            (Some(Outcome::Rejected), Some("refund_failed")),
            (Some(Outcome::Rejected), Some("payment_of_another_order")),
            (Some(Outcome::Done), None),
        ]
    );
    let corrected = saga.timeline.iter().filter_map(|moment| {
        let detail = moment
            .detail
            .as_ref()
            .filter(|_| moment.input == "operator")?;
        Some([&detail["by"], &detail["step"], &detail["fields"][0]])
    });
    let by_ann = [json!("ann"), json!("pay"), json!("payment_intent")];
    let corrected: Vec<_> = corrected.collect();
    assert_eq!(corrected, [by_ann.each_ref(), by_ann.each_ref()]);
    let (_, shown) = world.operator(&["saga", "show", &id]).await;
    assert!(shown.contains("ann: looked it up"), "{shown}");
    world.close().await;
}
