//! What an operator sees of the roles' processes from outside.

use contract::{OrderId, StepName};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tests::world::{
    PATIENCE, Processes, Shop, Wish,
    catalogue::DIVING_A,
    processes::Name,
    tcp::{Line, TcpProxy},
    until,
};
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

/// One of a role's checks at `/readyz`, and whether the whole is ready.
async fn check(world: &Processes, role: Name, check: &str) -> Option<(bool, bool)> {
    let (status, report) = world.readyz(role).await?;
    assert_eq!(report["ready"], status == 200, "{role:?}: {report}");
    Some((status == 200, report["checks"][check]["ready"].as_bool()?))
}

/// Counts a series of a role, `0` as long as it does not exist.
async fn counted(world: &Processes, role: Name, series: &str) -> f64 {
    let metrics = world.metrics(role).await;
    metrics.get(series).copied().unwrap_or_default()
}

#[tokio::test]
async fn a_role_without_its_database_is_not_ready_until_it_is_back() {
    let server = std::env::var("GUICHET_DATABASE_URL").expect("GUICHET_DATABASE_URL is set");
    let lines = [
        (Name::Gateway, TcpProxy::to(&server).await),
        (Name::Worker, TcpProxy::to(&server).await),
        (Name::Orchestrator, TcpProxy::to(&server).await),
    ];
    let world =
        Processes::start_behind(&lines.each_ref().map(|(role, line)| (*role, line)), &[]).await;
    let (_, report) = world.readyz(Name::Gateway).await.expect("it answers");
    for check in ["bus", "catalogue", "database", "http"] {
        assert_eq!(report["checks"][check]["ready"], true, "{report}");
    }
    for (role, line) in &lines {
        line.set(Line::Down);
        until(&format!("{role:?} misses its database"), async || {
            let seen = check(&world, *role, "database").await?;
            (seen == (false, false)).then_some(())
        })
        .await;
        line.set(Line::Up);
        until(&format!("{role:?} has its database again"), async || {
            let seen = check(&world, *role, "database").await?;
            (seen == (true, true)).then_some(())
        })
        .await;
    }
    // A server that hangs closes nothing: only a question finds out, and that is asked now and then.
    let (role, line) = &lines[1];
    line.set(Line::Held);
    let deadline = Instant::now() + PATIENCE * 2;
    while check(&world, *role, "database").await != Some((false, false)) {
        assert!(Instant::now() < deadline, "nobody notices that it hangs");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    line.set(Line::Up);
    let (_, ended) = world.shop.buy(&Wish::of(DIVING_A, 1)).await;
    assert_eq!(ended.status(), "confirmed");
    world.close().await;
}

#[tokio::test]
async fn what_is_tried_again_for_want_of_a_database_is_counted() {
    let server = std::env::var("GUICHET_DATABASE_URL").expect("GUICHET_DATABASE_URL is set");
    let gateway = TcpProxy::to(&server).await;
    let worker = TcpProxy::to(&server).await;
    let orchestrator = TcpProxy::to(&server).await;
    let lines = [
        (Name::Gateway, &gateway),
        (Name::Worker, &worker),
        (Name::Orchestrator, &orchestrator),
    ];
    let world = Processes::start_behind(&lines, &[]).await;
    let again = async |role: Name, series: &str| {
        until(&format!("{role:?} counts {series}"), async || {
            (counted(&world, role, series).await > 0.0).then_some(())
        })
        .await;
    };

    gateway.set(Line::Down);
    let wish = Wish::of(DIVING_A, 1);
    let refused = world.shop.try_place(&wish).await.expect("it answers");
    assert_eq!(refused.status, 503);
    again(Name::Gateway, "guichet_order_batches_retried_total").await;
    gateway.set(Line::Up);

    worker.set(Line::Down);
    let placed = until("the order is accepted", async || {
        let answer = world.shop.try_place(&wish).await?;
        (answer.status == 202).then(|| Shop::accepted(&answer))
    })
    .await;
    let commands = r#"guichet_worker_batches_retried_total{of="commands",step="reserve"}"#;
    again(Name::Worker, commands).await;
    worker.set(Line::Up);
    assert_eq!(world.shop.ended(&placed).await.status(), "confirmed");

    let slow = Wish::of(DIVING_A, 1);
    let of = json!({ "receipt_email": slow.email() });
    let fault = json!({"slow": {"ms": 1_000}});
    world.provider.plan_for(&of, "confirm", &fault, 1).await;
    let placed = world.shop.place(&slow).await;
    until("the confirmation is under way", async || {
        (world.provider.plans_left().await == 0).then_some(())
    })
    .await;
    worker.set(Line::Down);
    let ledger = r#"guichet_worker_batches_retried_total{of="ledger",step="pay"}"#;
    again(Name::Worker, ledger).await;
    worker.set(Line::Up);
    assert_eq!(world.shop.ended(&placed).await.status(), "confirmed");

    orchestrator.set(Line::Down);
    let placed = world.shop.place(&Wish::of(DIVING_A, 1)).await;
    again(Name::Orchestrator, "guichet_saga_batches_retried_total").await;
    orchestrator.set(Line::Up);
    assert_eq!(world.shop.ended(&placed).await.status(), "confirmed");
    world.close().await;
}

/// Rates, batch sizes, latencies and retries of each role: what one sold and one declined order move.
const SERIES: [(Name, &[&str]); 4] = [
    (
        Name::Gateway,
        &[
            r#"guichet_http_requests_total{method="POST",route="/v1/orders",status="202"}"#,
            r#"guichet_http_request_seconds_count{method="POST",route="/v1/orders"}"#,
            r#"guichet_batch_size_items_count{batch="orders"}"#,
            r#"guichet_batch_run_seconds_count{batch="orders"}"#,
            r#"guichet_gateway_catalogue_looks_total{result="all"}"#,
        ],
    ),
    (
        Name::Orchestrator,
        &[
            r#"guichet_saga_inputs_total{input="reply",settled="applied"}"#,
            r#"guichet_saga_batch_size_inputs_count{of="inputs"}"#,
            "guichet_saga_batch_seconds_count",
            r#"guichet_saga_step_seconds_count{kind="do",outcome="done",step="reserve"}"#,
            r#"guichet_saga_step_seconds_count{kind="do",outcome="done",step="fraud-check"}"#,
            r#"guichet_saga_step_seconds_count{kind="do",outcome="done",step="pay"}"#,
            r#"guichet_saga_step_seconds_count{kind="do",outcome="done",step="issue"}"#,
            r#"guichet_saga_step_seconds_count{kind="do",outcome="done",step="notify"}"#,
            r#"guichet_saga_step_seconds_count{kind="do",outcome="rejected",step="pay"}"#,
            r#"guichet_saga_step_seconds_count{kind="undo",outcome="done",step="fraud-check"}"#,
            r#"guichet_saga_step_seconds_count{kind="undo",outcome="done",step="reserve"}"#,
            r#"guichet_sagas_ended_total{state="completed"}"#,
            r#"guichet_sagas_ended_total{state="compensated"}"#,
            "guichet_saga_shards_owned",
        ],
    ),
    (
        Name::Worker,
        &[
            r#"guichet_worker_batch_items_count{lane="do",step="reserve"}"#,
            r#"guichet_worker_batch_items_count{lane="undo",step="reserve"}"#,
            r#"guichet_worker_batch_seconds_count{lane="do",step="issue"}"#,
            r#"guichet_worker_batch_seconds_count{lane="undo",step="fraud-check"}"#,
            r#"guichet_worker_effect_seconds_count{kind="do",step="pay"}"#,
            r#"guichet_worker_effect_seconds_count{kind="do",step="notify"}"#,
            r#"guichet_worker_outcomes_total{code="",kind="do",outcome="done",step="notify"}"#,
            r#"guichet_worker_outcomes_total{code="card_declined",kind="do",outcome="rejected",step="pay"}"#,
            r#"guichet_worker_outcomes_total{code="",kind="undo",outcome="done",step="reserve"}"#,
        ],
    ),
    (
        Name::Psp,
        &[
            r#"guichet_psp_requests_total{status="200"}"#,
            r#"guichet_psp_requests_total{status="402"}"#,
            r#"guichet_psp_request_seconds_count{operation="create"}"#,
            r#"guichet_psp_request_seconds_count{operation="confirm"}"#,
            r#"guichet_psp_request_seconds_count{operation="cancel"}"#,
        ],
    ),
];

/// What is in flight, which is nothing when all is at rest.
const IN_FLIGHT: [(Name, &str); 3] = [
    (Name::Orchestrator, "guichet_sagas_live"),
    (
        Name::Worker,
        r#"guichet_worker_in_flight_items{lane="do",step="pay"}"#,
    ),
    (Name::Psp, "guichet_psp_requests_in_flight"),
];

#[tokio::test]
async fn each_role_counts_measures_and_shows_what_is_in_flight() {
    let world = Processes::start().await;
    let sold = Wish::of(DIVING_A, 1);
    let of = json!({ "receipt_email": sold.email() });
    let fault = json!({"slow": {"ms": 2_000}});
    world.provider.plan_for(&of, "confirm", &fault, 1).await;
    let placed = world.shop.place(&sold).await;
    for (role, series) in IN_FLIGHT {
        until(&format!("{series} is one"), async || {
            (counted(&world, role, series).await == 1.0).then_some(())
        })
        .await;
    }
    assert_eq!(world.shop.ended(&placed).await.status(), "confirmed");
    let declined = Wish::of(DIVING_A, 1).paid_with("pm_card_chargeDeclined");
    let (declined, ended) = world.shop.buy(&declined).await;
    assert_eq!(ended.status(), "cancelled");
    for order in [placed.id, declined.id] {
        world.judge.at_rest(order).await;
    }
    for (role, series) in IN_FLIGHT {
        until(&format!("{series} is none"), async || {
            (counted(&world, role, series).await == 0.0).then_some(())
        })
        .await;
    }
    let gateway = world.metrics(Name::Gateway).await;
    assert_eq!(gateway.get("guichet_http_requests_in_flight"), Some(&0.0));
    for (role, all) in SERIES {
        let metrics = world.metrics(role).await;
        for series in all {
            let value = metrics.get(*series).copied().unwrap_or_default();
            assert!(value > 0.0, "{role:?} has no {series}: {metrics:#?}");
        }
        let commands = metrics
            .keys()
            .any(|series| series.starts_with("guichet_bus_"));
        assert_eq!(commands, role != Name::Psp, "{role:?}: {metrics:#?}");
    }
    world.close().await;
}

/// How many ask for a person, as the orchestrator's metrics tell, and for how long at the longest.
async fn asking(world: &Processes, taken: &str, age: &str) -> (f64, f64) {
    let metrics = world.metrics(Name::Orchestrator).await;
    let series = format!("guichet_sagas_asking{{age=\"{age}\",taken=\"{taken}\"}}");
    let oldest = "guichet_sagas_oldest_untaken_seconds";
    (
        metrics.get(&series).copied().unwrap_or(-1.0),
        metrics.get(oldest).copied().unwrap_or(-1.0),
    )
}

#[tokio::test]
async fn who_asks_for_a_person_is_counted_by_its_age_and_whether_somebody_has_it() {
    let world = Processes::start().await;
    let waits = Wish::of(DIVING_A, 1).paid_with("pm_card_authenticationRequired");
    let placed = world.shop.place(&waits).await;
    world.shop.until_status(&placed, "action_required").await;
    until("nobody asks", async || {
        (asking(&world, "no", "4h").await == (0.0, 0.0)).then_some(())
    })
    .await;
    // It has asked for two hours, by the row.
    world
        .judge
        .execute(&format!(
            "UPDATE sagas SET flags = flags | 4, flagged_at = now() - interval '2 hours'
             WHERE id = '{}'",
            placed.id
        ))
        .await;
    let (_, oldest) = until("one asks", async || {
        let asking = asking(&world, "no", "4h").await;
        (asking.0 > 0.0).then_some(asking)
    })
    .await;
    assert!((7_200.0..7_300.0).contains(&oldest), "{oldest}");
    let mut connection = world.ground.database.connection().await;
    let taken = engine::attention::take(&mut connection, placed.id.into(), "ann", "case 12").await;
    assert!(taken.expect("written"));
    until("it is taken", async || {
        let (untaken, oldest) = asking(&world, "no", "4h").await;
        let (taken, _) = asking(&world, "yes", "4h").await;
        ((untaken, taken, oldest) == (0.0, 1.0, 0.0)).then_some(())
    })
    .await;
}
