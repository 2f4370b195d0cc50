//! What an operator sees of the roles' processes from outside.

use contract::{OrderId, StepName};
use serde_json::Value;
use tests::world::{Processes, Wish, catalogue::DIVING_A, processes::Name, until};
use uuid::Uuid;

/// The lines of a role that name an order.
fn lines(world: &Processes, role: Name, order: OrderId) -> Vec<Value> {
    let mut lines = world.log(role);
    lines.retain(|line| line["saga_id"] == order.to_string());
    lines
}

/// Waits for a line about an order; it is written a moment after what it tells of.
async fn line(world: &Processes, role: Name, order: OrderId, message: &str) -> Value {
    until(&format!("{role:?} says: {message}"), async || {
        let lines = lines(world, role, order);
        lines.into_iter().find(|line| line["message"] == message)
    })
    .await
}

#[tokio::test]
async fn each_order_is_found_in_the_logs_by_its_id_and_the_callers_trace() {
    // The kit says at the level `debug` what it answered; of the rest of the worker only warnings pass.
    let filter = "warn,workers::kit::metrics=debug".to_owned();
    let special = [(Name::Worker, "GUICHET_LOG_FILTER", filter)];
    let world = Processes::start_with(&special).await;
    for (method, state, reason) in [
        ("pm_card_visa", "completed", None),
        (
            "pm_card_chargeDeclined",
            "compensated",
            Some("card_declined"),
        ),
    ] {
        let trace = Uuid::now_v7().simple().to_string();
        let wish = Wish::of(DIVING_A, 1)
            .paid_with(method)
            .traced(format!("00-{trace}-00f067aa0ba902b7-01"));
        let placed = world.shop.place(&wish).await;
        let accepted = line(&world, Name::Gateway, placed.id, "answered").await;
        assert_eq!(accepted["trace_id"], trace, "{accepted}");
        assert_eq!(accepted["route"], "/v1/orders", "{accepted}");
        assert_eq!(accepted["status"], 202, "{accepted}");

        world.judge.at_rest(placed.id).await;
        let ended = line(&world, Name::Orchestrator, placed.id, "a saga has ended").await;
        assert_eq!(ended["trace_id"], trace, "{ended}");
        assert_eq!(ended["level"], "INFO", "{ended}");
        assert_eq!(ended["state"], state, "{ended}");
        assert_eq!(ended["reason"].as_str(), reason, "{ended}");
        let all = lines(&world, Name::Orchestrator, placed.id);
        assert_eq!(all.len(), 1, "one line a saga: {all:?}");

        let answers = lines(&world, Name::Worker, placed.id);
        assert!(
            answers.iter().all(|line| line["trace_id"] == trace),
            "{answers:?}"
        );
        for step in [StepName::RESERVE, StepName::FRAUD_CHECK, StepName::PAY] {
            let of_step = answers.iter().find(|line| line["step"] == step.as_str());
            assert!(of_step.is_some(), "{step}: {answers:?}");
        }
    }
    world.close().await;
}

#[tokio::test]
async fn a_workers_warning_names_the_order_and_its_trace_whatever_the_filter() {
    let special = [(Name::Worker, "GUICHET_LOG_FILTER", "warn".to_owned())];
    let world = Processes::start_with(&special).await;
    let mail = world.ground.path("mail");
    std::fs::remove_dir(&mail).expect("it is empty");
    let trace = Uuid::now_v7().simple().to_string();
    let wish = Wish::of(DIVING_A, 1).traced(format!("00-{trace}-00f067aa0ba902b7-00"));
    let (placed, _) = world.shop.buy(&wish).await;
    let waits = line(&world, Name::Worker, placed.id, "a mail waits").await;
    assert_eq!(waits["trace_id"], trace, "{waits}");
    assert_eq!(waits["step"], "notify", "{waits}");
    std::fs::create_dir(&mail).expect("it is gone");
    world.close().await;
}
