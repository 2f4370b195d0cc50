//! A payment provider that fails for a while: whatever goes wrong, each order ends, and is charged
//! once or not at all.

use contract::StepName;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tests::{
    provider::Balance,
    world::{
        Settings, Stands, Wish, World,
        catalogue::{DIVING, DIVING_A, SWIMMING_A},
        until,
    },
};

/// How long the workers wait for the provider here, well below its own holding of 3 s.
const TIMEOUT_MS: u64 = 400;

async fn world() -> World {
    World::with(Settings {
        pay_timeout_ms: TIMEOUT_MS,
        ..Settings::default()
    })
    .await
}

fn faults() -> [Value; 7] {
    let too_slow = json!({"slow": {"ms": TIMEOUT_MS + 300}});
    [
        json!("429"),
        json!("500"),
        json!("500_after"),
        json!("timeout_before"),
        json!("timeout_after"),
        json!("reset_after"),
        too_slow,
    ]
}

#[tokio::test]
async fn a_provider_that_fails_and_then_succeeds_captures_once() {
    let world = world().await;
    let mut buyers = Vec::new();
    for on in ["create", "confirm"] {
        for fault in faults() {
            let wish = Wish::of(DIVING_A, 1);
            let of = json!({"receipt_email": wish.email()});
            world.provider.plan_for(&of, on, &fault, 1).await;
            buyers.push((wish, format!("{fault} on {on}")));
        }
    }
    let count = i32::try_from(buyers.len()).expect("few");
    join_all(buyers.iter().map(async |(wish, trouble)| {
        let (placed, ended) = world.shop.buy(wish).await;
        assert_eq!(ended.status(), "confirmed", "{trouble}: {}", ended.order);
        let once = Balance {
            captures: 1,
            captured_minor: DIVING_A.amount_minor,
            refunded_minor: 0,
        };
        assert_eq!(world.provider.balance(placed.id.0).await, once, "{trouble}");
    }))
    .await;
    assert_eq!(world.provider.plans_left().await, 0, "every fault has hit");
    assert_eq!(world.judge.taken(DIVING_A).await, count);
    assert_eq!(
        world.judge.numbers(DIVING).await,
        (1..=count).collect::<Vec<_>>()
    );
    world.close().await;
}

#[tokio::test]
async fn a_declined_payment_whose_answers_are_lost_stays_declined() {
    let world = world().await;
    join_all(["confirm", "cancel"].map(async |on| {
        join_all(faults().map(async |fault| {
            let wish = Wish::of(DIVING_A, 1).paid_with("pm_card_visa_chargeDeclined");
            let of = json!({"receipt_email": wish.email()});
            world.provider.plan_for(&of, on, &fault, 1).await;
            let (placed, ended) = world.shop.buy(&wish).await;
            let end = (ended.status(), ended.reason());
            assert_eq!(end, ("cancelled", "card_declined"), "{fault} on {on}");
            assert_eq!(
                world.provider.balance(placed.id.0).await,
                Balance::default()
            );
            let entries = world.provider.entries(placed.id.0).await;
            let last = entries.last().map(|entry| entry.kind.as_str());
            assert_eq!(last, Some("canceled"), "{fault} on {on}");
        }))
        .await;
    }))
    .await;
    assert_eq!(world.judge.taken(DIVING_A).await, 0);
    assert_eq!(world.judge.quotas().await, 0);
    world.close().await;
}

#[tokio::test]
async fn a_refund_that_fails_for_a_while_is_made_once() {
    let world = world().await;
    let slow = json!({"slow": {"ms": 300}});
    let mut buyers = Vec::new();
    for fault in faults() {
        let wish = Wish::of(SWIMMING_A, 2);
        let of = json!({"receipt_email": wish.email()});
        world.provider.plan_for(&of, "confirm", &slow, 1).await;
        world.provider.plan_for(&of, "refund", &fault, 1).await;
        buyers.push((world.shop.place(&wish).await, fault));
    }
    for (placed, _) in &buyers {
        until("the payment is under way", async || {
            let pay = world.judge.effect(placed.id, &StepName::PAY).await?;
            (pay.stands != Stands::Claimed || pay.outside_id.is_some()).then_some(())
        })
        .await;
    }
    world
        .judge
        .execute("UPDATE events SET status = 'cancelled'")
        .await;
    let mut refunds = 0;
    for (placed, fault) in &buyers {
        let ended = world.shop.ended(placed).await;
        let balance = world.provider.balance(placed.id.0).await;
        assert_eq!(balance.captures, 1, "{fault}");
        // One that was quicker than the cancelling was sold.
        if ended.status() == "cancelled" {
            assert_eq!(ended.reason(), "event_cancelled");
            assert_eq!(balance.refunded_minor, balance.captured_minor, "{fault}");
            let entries = world.provider.entries(placed.id.0).await;
            let made = entries.iter().filter(|entry| entry.kind == "refunded");
            assert_eq!(made.count(), 1, "{fault}");
            refunds += 1;
        }
    }
    assert!(refunds > 0, "none was cancelled in time");
    world.close().await;
}
