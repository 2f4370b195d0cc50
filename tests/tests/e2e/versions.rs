//! Orders of both versions at once, in one installation, each way they can end. The provider's books say
//! what the version is for: an order of the second that is cancelled has neither capture nor refund.

use contract::{StepKind, StepName};
use futures_util::future::join_all;
use serde_json::json;
use tests::world::{
    Placed, Shop, Stands, Wish, World,
    catalogue::{DIVING, DIVING_A, DIVING_B, DIVING_FEW, SWIMMING, SWIMMING_A},
    until,
};

const SECURE: &str = "pm_card_threeDSecure2Required";

/// What the provider's books say of an order, without what they repeat.
async fn books(world: &World, order: &Placed) -> Vec<String> {
    let entries = world.provider.entries(order.id.0).await;
    entries.into_iter().map(|entry| entry.kind).collect()
}

/// Never taken, and so never given back.
async fn assert_never_charged(world: &World, order: &Placed) {
    let books = books(world, order).await;
    let moved = |kind: &String| kind == "captured" || kind == "refunded";
    assert!(!books.iter().any(moved), "{books:?}");
}

/// What is in force of an order that was cancelled: nothing.
async fn assert_undone(world: &World, order: &Placed) {
    let saga = world.judge.at_rest(order.id).await;
    assert!(saga.instance.maybe_in_force.is_empty());
    let tickets = world.judge.tickets(order.id).await;
    assert!(tickets.iter().all(|ticket| ticket.revoked), "{tickets:?}");
}

#[tokio::test]
async fn good_declined_and_sold_out_end_the_same_by_both_versions() {
    let mut world = World::start().await;
    let second = world.sell_by(2).await;
    let shops = [(1, &world.shop), (2, &second)];
    join_all(shops.map(async |(version, shop): (i16, &Shop)| {
        let (good, declined, sold_out) = (
            Wish::of(DIVING_A, 2),
            Wish::of(SWIMMING_A, 1).paid_with("pm_card_visa_chargeDeclined"),
            Wish::of(DIVING_B, 1)
                .and(DIVING_FEW, 4)
                .and(DIVING_FEW, 4)
                .and(DIVING_FEW, 4),
        );
        let (good, declined, sold_out) =
            tokio::join!(shop.buy(&good), shop.buy(&declined), shop.buy(&sold_out));
        assert_eq!(good.1.told, ["pending", "confirmed"]);
        let saga = world.judge.at_rest(good.0.id).await;
        assert_eq!(saga.definition, format!("order@{version}"));
        assert_eq!(world.judge.tickets(good.0.id).await.len(), 2);
        assert_eq!(books(&world, &good.0).await, ["authorised", "captured"]);

        assert_eq!(declined.1.reason(), "card_declined");
        assert_eq!(books(&world, &declined.0).await, ["declined", "canceled"]);
        assert_undone(&world, &declined.0).await;

        assert_eq!(sold_out.1.status(), "cancelled");
        assert!(books(&world, &sold_out.0).await.is_empty());
        assert_undone(&world, &sold_out.0).await;
    }))
    .await;
    assert_eq!(world.judge.numbers(DIVING).await, [1, 2, 3, 4]);
    world.close().await;
}

#[tokio::test]
async fn a_customer_who_has_to_authenticate_approves_refuses_or_cancels_by_both_versions() {
    let mut world = World::start().await;
    let second = world.sell_by(2).await;
    let shops = [(1, &world.shop), (2, &second)];
    join_all(shops.map(async |(version, shop): (i16, &Shop)| {
        let wish = || Wish::of(DIVING_A, 1).paid_with(SECURE);
        let (approved, refused, cancelled) = tokio::join!(
            async { shop.place(&wish()).await },
            async { shop.place(&wish()).await },
            async { shop.place(&wish()).await },
        );
        for (placed, decision) in [(&approved, "approve"), (&refused, "refuse")] {
            let order = shop.until_status(placed, "action_required").await;
            let url = order["next_action"]["redirect_url"]
                .as_str()
                .expect("a page");
            world.provider.authenticate(url, decision).await;
        }
        shop.until_status(&cancelled, "action_required").await;
        assert_eq!(shop.cancel(&cancelled).await.status, 202);

        assert_eq!(
            shop.ended(&approved).await.status(),
            "confirmed",
            "{version}"
        );
        let entries = books(&world, &approved).await;
        assert_eq!(entries, ["authorised", "captured"], "{version}");
        assert_eq!(shop.ended(&refused).await.reason(), "authentication_failed");
        assert_eq!(shop.ended(&cancelled).await.reason(), "customer_cancelled");
        for order in [&refused, &cancelled] {
            assert_undone(&world, order).await;
            assert_never_charged(&world, order).await;
        }
    }))
    .await;
    world.close().await;
}

/// The same misfortune costs the customer of the first version a refund, and the other one nothing.
#[tokio::test]
async fn an_event_cancelled_in_the_middle_is_refunded_by_one_version_and_never_charged_by_the_other()
 {
    let mut world = World::start().await;
    let second = world.sell_by(2).await;
    let mut under_way = Vec::new();
    for shop in [&world.shop, &second] {
        let wish = Wish::of(DIVING_A, 2);
        let of = json!({ "receipt_email": wish.email() });
        world
            .provider
            .plan_for(&of, "confirm", &json!({"slow": {"ms": 1_500}}), 1)
            .await;
        under_way.push((shop, shop.place(&wish).await));
    }
    until("both payments are under way", async || {
        for (_, placed) in &under_way {
            let pay = world.judge.effect(placed.id, &StepName::PAY).await?;
            (pay.stands == Stands::Claimed && pay.outside_id.is_some()).then_some(())?;
        }
        Some(())
    })
    .await;
    world
        .judge
        .execute(&format!(
            "UPDATE events SET status = 'cancelled' WHERE id = '{DIVING}'"
        ))
        .await;
    for (shop, placed) in &under_way {
        assert_eq!(shop.ended(placed).await.reason(), "event_cancelled");
        assert_undone(&world, placed).await;
    }
    let [(_, first), (_, other)] = &under_way[..] else {
        panic!("two orders");
    };
    assert_eq!(
        books(&world, first).await,
        ["authorised", "captured", "refunded"]
    );
    assert_eq!(books(&world, other).await, ["authorised", "canceled"]);
    world.close().await;
}

/// All steps but `capture` are worked on: the order stands before its pivot, its tickets made and not
/// shown.
async fn before_the_capture(world: &mut World) -> Placed {
    let mut steps = StepName::OF_AN_ORDER.to_vec();
    steps.retain(|step| *step != StepName::CAPTURE);
    world.work_on(&steps).await;
    let placed = world.shop.place(&Wish::of(SWIMMING_A, 2)).await;
    until("the tickets are made", async || {
        let saga = world.judge.saga(placed.id).await;
        let next = saga.timeline.last()?.next.as_ref()?;
        (next.step == StepName::CAPTURE).then_some(())
    })
    .await;
    assert_eq!(world.judge.tickets(placed.id).await.len(), 2);
    let order = world.shop.look(&placed).await.expect("it is there");
    assert_eq!(order["status"], "pending", "{order}");
    assert!(
        order["tickets"].is_null(),
        "shown before the pivot: {order}"
    );
    assert_eq!(books(world, &placed).await, ["authorised"]);
    placed
}

fn second() -> tests::world::Settings {
    tests::world::Settings {
        version: 2,
        ..tests::world::Settings::default()
    }
}

#[tokio::test]
async fn tickets_are_shown_once_they_are_paid_and_an_ending_waits_for_the_capture() {
    let mut world = World::without_workers(second()).await;
    let placed = before_the_capture(&mut world).await;
    assert_eq!(world.shop.cancel(&placed).await.status, 202);
    until("the ending is told and waits", async || {
        let saga = world.judge.saga(placed.id).await;
        saga.instance.reason.is_some().then_some(())
    })
    .await;
    world.work_on(&[StepName::CAPTURE]).await;
    let ended = world.shop.ended(&placed).await;
    assert_eq!(ended.status(), "confirmed");
    let shown = ended.order["tickets"].as_array().expect("tickets");
    assert_eq!(shown.len(), 2, "{}", ended.order);
    let timeline = ended.order["timeline"].as_array().expect("a timeline");
    for entry in timeline {
        let at_issue = entry["step"] == "issue" && entry["outcome"] == "done";
        assert!(!at_issue || entry["status"] == "pending", "{entry}");
        let captured = entry["step"] == "capture" && entry["outcome"] == "done";
        assert!(!captured || entry["status"] == "confirmed", "{entry}");
    }
    assert_eq!(books(&world, &placed).await, ["authorised", "captured"]);
    world.close().await;
}

/// The authorisation ends while nobody captures it: the tickets are revoked and keep their numbers.
#[tokio::test]
async fn a_capture_that_is_refused_revokes_the_tickets_and_charges_nobody() {
    let mut world = World::without_workers(second()).await;
    let placed = before_the_capture(&mut world).await;
    let pay = world.judge.effect(placed.id, &StepName::PAY).await;
    let intent = pay.and_then(|pay| pay.outside_id).expect("authorised");
    let (status, body) = world
        .provider
        .api(&format!("payment_intents/{intent}/cancel"), &[])
        .await;
    assert_eq!(status, 200, "{body}");
    world.work_on(&[StepName::CAPTURE]).await;
    let ended = world.shop.ended(&placed).await;
    assert_eq!(
        (ended.status(), ended.reason()),
        ("cancelled", "payment_unavailable")
    );
    assert!(ended.order["tickets"].is_null(), "{}", ended.order);
    assert_undone(&world, &placed).await;
    assert_never_charged(&world, &placed).await;
    let saga = world.judge.saga(placed.id).await;
    let undone: Vec<_> = saga
        .timeline
        .iter()
        .filter(|moment| moment.kind == Some(StepKind::Undo))
        .filter_map(|moment| moment.step.clone())
        .collect();
    let reverse = [
        StepName::ISSUE,
        StepName::PAY,
        StepName::FRAUD_CHECK,
        StepName::RESERVE,
    ];
    assert_eq!(undone, reverse);
    let (_, ended) = world.shop.buy(&Wish::of(SWIMMING_A, 1)).await;
    assert_eq!(ended.order["tickets"][0]["number"], 3, "{}", ended.order);
    assert_eq!(world.judge.numbers(SWIMMING).await, [1, 2, 3]);
    world.close().await;
}
