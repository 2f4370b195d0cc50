//! `kill -9` of the worker at the boundaries of `capture`.

use contract::StepName;
use serde_json::{Value, json};
use tests::world::{
    Placed, Processes, Stands, Wish,
    catalogue::{DIVING, DIVING_A},
    processes::Name,
    until,
};

/// An order of the second version whose capture meets a fault, and the worker dead once it has.
async fn dies_at_the_capture(fault: &Value) -> (Processes, Placed) {
    let mut world = Processes::start_selling(2).await;
    let wish = Wish::of(DIVING_A, 2);
    let of = json!({ "receipt_email": wish.email() });
    world.provider.plan_for(&of, "capture", fault, 1).await;
    let placed = world.shop.place(&wish).await;
    until("the capture is at the provider", async || {
        (world.provider.plans_left().await == 0).then_some(())
    })
    .await;
    world.kill(Name::Worker);
    let capture = world.judge.effect(placed.id, &StepName::CAPTURE).await;
    let capture = capture.expect("it is claimed before the call");
    assert_eq!(capture.stands, Stands::Claimed);
    assert!(capture.outside_id.is_some(), "and says what it is about");
    let order = world.shop.look(&placed).await.expect("it is there");
    assert_eq!(order["status"], "pending");
    (world, placed)
}

async fn assert_sold_once(mut world: Processes, placed: &Placed) {
    world.restart(Name::Worker).await;
    let ended = world.shop.ended(placed).await;
    assert_eq!(ended.told, ["pending", "confirmed"]);
    world.judge.at_rest(placed.id).await;
    let entries = world.provider.entries(placed.id.0).await;
    let kinds: Vec<_> = entries.iter().map(|entry| entry.kind.as_str()).collect();
    assert_eq!(kinds, ["authorised", "captured"]);
    assert_eq!(world.judge.numbers(DIVING).await, [1, 2]);
    assert_eq!(world.mails().len(), 1);
    world.close().await;
}

#[tokio::test]
async fn a_worker_dies_with_the_capture_sent_and_not_made() {
    let (world, placed) = dies_at_the_capture(&json!("timeout_before")).await;
    assert_eq!(world.provider.balance(placed.id.0).await.captures, 0);
    assert_sold_once(world, &placed).await;
}

#[tokio::test]
async fn a_worker_dies_with_the_capture_made_and_not_recorded() {
    let (world, placed) = dies_at_the_capture(&json!("timeout_after")).await;
    until("it is captured", async || {
        (world.provider.balance(placed.id.0).await.captures == 1).then_some(())
    })
    .await;
    assert_sold_once(world, &placed).await;
}
