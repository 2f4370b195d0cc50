//! `guichet reconcile`: each difference really there, told by its name, and what may be settled settled.

use serde_json::Value;
use std::{collections::BTreeMap, process::Output};
use tests::world::{Placed, Wish, World, catalogue::DIVING_A, processes::binary};
use tokio::process::Command;

async fn reconcile(world: &World, more: &[&str]) -> Output {
    let output = Command::new(binary())
        .args(["-o", "jsonl", "reconcile"])
        .args(more)
        .env("GUICHET_DATABASE_URL", world.ground.database.url())
        .env("GUICHET_PAY_PROVIDER_URL", world.provider.url())
        .output();
    output.await.expect("it runs")
}

/// What it tells: the difference of each payment, and what was done about it.
async fn told(world: &World, more: &[&str]) -> BTreeMap<(String, String), String> {
    let output = reconcile(world, more).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rows = text.lines().map(|line| {
        let row: Value = serde_json::from_str(line).expect("JSON");
        let of = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
        ((of("payment_intent"), of("kind")), of("outcome"))
    });
    let rows: BTreeMap<_, _> = rows.collect();
    let open = rows
        .values()
        .filter(|it| !matches!(&***it, "refunded" | "cancelled"));
    let expected = i32::from(open.count() > 0);
    assert_eq!(output.status.code(), Some(expected), "{output:?}");
    rows
}

/// A payment for an order, made by somebody who is not us.
async fn stranger(world: &World, order: &str, method: &str, more: &[(&str, &str)]) -> String {
    let mut form = vec![
        ("amount", "12500"),
        ("currency", "eur"),
        ("confirm", "true"),
        ("payment_method", method),
        ("metadata[order_id]", order),
        ("return_url", "https://shop.example"),
    ];
    form.extend_from_slice(more);
    let (status, intent) = world.provider.api("payment_intents", &form).await;
    assert_eq!(status, 200, "{intent}");
    intent["id"].as_str().expect("an id").to_owned()
}

async fn intent_of(world: &World, placed: &Placed) -> String {
    let pay = world
        .judge
        .effect(placed.id, &contract::StepName::PAY)
        .await;
    pay.and_then(|pay| pay.outside_id).expect("it was paid")
}

async fn sold(world: &World) -> (Placed, String) {
    let placed = world.shop.place(&Wish::of(DIVING_A, 1)).await;
    assert_eq!(world.shop.ended(&placed).await.status(), "confirmed");
    let intent = intent_of(world, &placed).await;
    (placed, intent)
}

#[tokio::test]
async fn where_orders_ended_well_nothing_differs() {
    let mut world = World::start().await;
    sold(&world).await;
    // By the second version it is authorised first, and captured when the tickets are made.
    let second = world.sell_by(2).await;
    let (_, ended) = second.buy(&Wish::of(DIVING_A, 1)).await;
    assert_eq!(ended.status(), "confirmed");
    let declined = Wish::of(DIVING_A, 1).paid_with("pm_card_visa_chargeDeclined");
    let declined = world.shop.place(&declined).await;
    assert_eq!(world.shop.ended(&declined).await.status(), "cancelled");
    // One is in flight: it waits for its customer.
    let waits = Wish::of(DIVING_A, 1).paid_with("pm_card_authenticationRequired");
    let waits = world.shop.place(&waits).await;
    world.shop.until_status(&waits, "action_required").await;
    assert_eq!(told(&world, &[]).await, BTreeMap::new());
}

#[tokio::test]
async fn every_difference_is_told_by_its_name_and_what_may_be_settled_is_settled() {
    let world = World::start().await;
    let mut expected = BTreeMap::new();
    let mut expect = |intent: &str, kind: &str, outcome: &str| {
        expected.insert((intent.to_owned(), kind.to_owned()), outcome.to_owned());
    };
    // Of no order of ours: captured, authorised, with the customer.
    let nobody = uuid::Uuid::now_v7().to_string();
    let intent = stranger(&world, &nobody, "pm_card_visa", &[]).await;
    expect(&intent, "captured-without-order", "refunded");
    let manual = [("capture_method", "manual")];
    let intent = stranger(&world, "no order at all", "pm_card_visa", &manual).await;
    // It names no order: somebody else's, and left to a person.
    expect(&intent, "authorised-and-forgotten", "left");
    let intent = stranger(&world, &nobody, "pm_card_visa", &manual).await;
    expect(&intent, "authorised-and-forgotten", "cancelled");
    let intent = stranger(&world, &nobody, "pm_card_authenticationRequired", &[]).await;
    expect(&intent, "waiting-and-forgotten", "cancelled");
    // Captured once more, beside its own payment: its tickets are valid, so a person has to look.
    let (placed, _) = sold(&world).await;
    let intent = stranger(&world, &placed.id.to_string(), "pm_card_visa", &[]).await;
    expect(&intent, "captured-twice", "left");
    // Given back by hand, and its tickets are valid.
    let (_, intent) = sold(&world).await;
    let form = [("payment_intent", &*intent), ("amount", "500")];
    assert_eq!(world.provider.api("refunds", &form).await.0, 200);
    expect(&intent, "refunded-but-ticketed", "left");
    // Ended without tickets, and captured.
    let declined = Wish::of(DIVING_A, 1).paid_with("pm_card_visa_chargeDeclined");
    let declined = world.shop.place(&declined).await;
    assert_eq!(world.shop.ended(&declined).await.status(), "cancelled");
    let intent = stranger(&world, &declined.id.to_string(), "pm_card_visa", &[]).await;
    expect(&intent, "captured-but-cancelled", "refunded");
    // Another amount than the order's, another payment than the ledger's, and none at all: our side changed.
    let (placed, intent) = sold(&world).await;
    let sql = format!(
        "UPDATE orders SET total_minor = 12400 WHERE id = '{}'",
        placed.id
    );
    world.judge.execute(&sql).await;
    expect(&intent, "amount-differs", "left");
    let (placed, intent) = sold(&world).await;
    let unknown = "pi_that_nobody_has";
    let sql = format!(
        "UPDATE effects SET outside_id = '{unknown}' WHERE saga_id = '{}' AND step = 'pay'",
        placed.id
    );
    world.judge.execute(&sql).await;
    expect(unknown, "unknown-to-provider", "left");
    let form = [("metadata[order_id]", "")];
    let path = format!("payment_intents/{intent}");
    assert_eq!(world.provider.api(&path, &form).await.0, 200);
    expect(unknown, "ticketed-without-capture", "left");
    expect(&intent, "captured-without-order", "left");

    let named: Vec<_> = expected.keys().cloned().collect();
    let only_told = told(&world, &[]).await;
    assert_eq!(only_told.into_keys().collect::<Vec<_>>(), named);
    // What is young is left alone.
    let by = ["--apply", "--reason", "case 7", "--as", "ann"];
    let young = told(&world, &by).await;
    assert!(young.values().all(|outcome| outcome == "left"), "{young:?}");
    let now = [&by[..], &["--older-than", "0s"]].concat();
    assert_eq!(told(&world, &now).await, expected);
    // It is settled once: what is left is for people.
    let left = told(&world, &now).await;
    expected.retain(|_, outcome| outcome == "left");
    assert_eq!(left, expected);
    let mut connection = world.ground.database.connection().await;
    let filter = inspector::audit::Filter {
        actor: Some("ann".to_owned()),
        limit: 100,
        ..inspector::audit::Filter::default()
    };
    let acts = inspector::audit::list(&mut connection, filter).await;
    let acts = acts.expect("readable");
    let of = |action: &str| acts.iter().filter(|act| act.action == action).count();
    assert_eq!((of("reconcile.refund"), of("reconcile.cancel")), (2, 2));
}

/// The wrong database, or an empty one: everything that the provider lists would be given back.
#[tokio::test]
async fn nothing_is_settled_by_a_database_that_knows_none_of_the_orders() {
    let world = World::start().await;
    let nobody = uuid::Uuid::now_v7().to_string();
    let intent = stranger(&world, &nobody, "pm_card_visa", &[]).await;
    let by = ["--apply", "--older-than", "0s"];
    let by = [&by[..], &["--reason", "case 8", "--as", "ann"]].concat();
    let output = reconcile(&world, &by).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("knows none of the orders"),
        "{said}"
    );
    let key = (intent, "captured-without-order".to_owned());
    assert!(
        told(&world, &[]).await.contains_key(&key),
        "it was given back"
    );
}
