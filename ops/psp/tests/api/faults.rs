//! Each planned fault: what the client sees, and what happened in truth.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Answer, Sim, eventually, path_of, send};

const PAID: [&str; 2] = ["authorised 12500", "captured 12500"];
const NOTHING: [&str; 0] = [];

/// A simulator in which the confirmation of order `o-1` meets `fault` once, and the path to confirm it.
async fn with_fault(fault: Value) -> (Sim, String) {
    let sim = Sim::start().await;
    let intent = sim.api.create("o-1", "pm_card_visa", &[]).await;
    let plan = json!({"match": {"order_id": "o-1"}, "on": "confirm", "fault": fault});
    sim.api.plan(plan).await;
    (sim, format!("{}/confirm", path_of(&intent)))
}

/// Confirms with a client that waits only so long.
async fn hurried(sim: &Sim, path: &str, ms: u64) -> Result<(), reqwest::Error> {
    let request = sim.api.posting(path, &[], Some("k"));
    let response = request.timeout(Duration::from_millis(ms)).send().await?;
    response.bytes().await.map(drop)
}

async fn again(sim: &Sim, path: &str) -> Answer {
    sim.api.post_once(path, &[], "k").await
}

#[tokio::test]
async fn a_rate_limit_has_no_effect_and_is_not_stored() {
    let (sim, path) = with_fault(json!("429")).await;
    let error = again(&sim, &path).await.error(429);
    assert_eq!(error["code"], "rate_limit");
    assert_eq!(sim.api.ledger("o-1").await, NOTHING);
    let second = again(&sim, &path).await;
    assert!(!second.is_replay());
    second.ok();
    assert_eq!(sim.api.ledger("o-1").await, PAID);
}

#[tokio::test]
async fn a_server_error_is_stored() {
    let (sim, path) = with_fault(json!("500")).await;
    assert_eq!(again(&sim, &path).await.error(500)["type"], "api_error");
    let second = again(&sim, &path).await;
    assert!(second.is_replay());
    second.error(500);
    assert_eq!(sim.api.ledger("o-1").await, NOTHING);
    sim.api.post_once(&path, &[], "another").await.ok();
    assert_eq!(sim.api.ledger("o-1").await, PAID);
}

#[tokio::test]
async fn a_server_error_can_hide_a_success() {
    let (sim, path) = with_fault(json!("500_after")).await;
    again(&sim, &path).await.error(500);
    assert_eq!(sim.api.ledger("o-1").await, PAID);
    let second = again(&sim, &path).await;
    assert!(second.is_replay());
    second.error(500);
}

#[tokio::test]
async fn a_time_out_before_the_effect_leaves_nothing() {
    let (sim, path) = with_fault(json!("timeout_before")).await;
    let error = hurried(&sim, &path, 200).await.expect_err("no answer");
    assert!(error.is_timeout(), "{error:?}");
    assert_eq!(sim.api.ledger("o-1").await, NOTHING);
    let second = again(&sim, &path).await;
    assert!(!second.is_replay());
    second.ok();
}

#[tokio::test]
async fn a_time_out_after_the_effect_leaves_the_money_taken() {
    let (sim, path) = with_fault(json!("timeout_after")).await;
    let error = hurried(&sim, &path, 200).await.expect_err("no answer");
    assert!(error.is_timeout(), "{error:?}");
    assert_eq!(sim.api.ledger("o-1").await, PAID);
    let second = again(&sim, &path).await;
    assert!(second.is_replay());
    assert_eq!(second.ok()["status"], "succeeded");
}

#[tokio::test]
async fn a_lost_reply_leaves_the_money_taken() {
    let (sim, path) = with_fault(json!("reset_after")).await;
    let error = hurried(&sim, &path, 10_000).await.expect_err("no answer");
    assert!(!error.is_timeout() && error.status().is_none(), "{error:?}");
    assert_eq!(sim.api.ledger("o-1").await, PAID);
    assert!(again(&sim, &path).await.is_replay());
}

#[tokio::test]
async fn a_held_connection_breaks_in_the_end() {
    let sim = Sim::start().await;
    let intent = sim.api.create("o-1", "pm_card_visa", &[]).await;
    let plan = json!({"on": "retrieve", "fault": "timeout_before", "hold_ms": 50});
    sim.api.plan(plan).await;
    let request = sim.api.request(Method::GET, &path_of(&intent));
    let error = request.send().await.expect_err("no answer");
    assert!(!error.is_timeout(), "{error:?}");
    sim.api.get(&path_of(&intent)).await.ok();
}

#[tokio::test]
async fn a_slow_request_takes_effect_after_its_client_left() {
    let (sim, path) = with_fault(json!({"slow": {"ms": 1500}})).await;
    let error = hurried(&sim, &path, 100).await.expect_err("too slow");
    assert!(error.is_timeout(), "{error:?}");
    again(&sim, &path).await.error(409);
    assert_eq!(sim.api.ledger("o-1").await, NOTHING);
    eventually("the effect", async || {
        (sim.api.ledger("o-1").await == PAID).then_some(())
    })
    .await;
    assert!(again(&sim, &path).await.is_replay());
}

#[tokio::test]
async fn latency_delays_everything() {
    let sim = Sim::with(|config| config.latency_ms = 150).await;
    let begun = std::time::Instant::now();
    let intent = sim.api.create("o-1", "pm_card_visa", &[]).await;
    sim.api.confirm(&intent).await.ok();
    assert!(begun.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn plans_are_listed_used_up_and_deleted() {
    let sim = Sim::start().await;
    let plan = json!({"match": {"receipt_email": "a@example.com"}, "on": "create", "fault": "429", "times": 2});
    let made = sim.api.plan(plan).await;
    let form = [
        ("amount", "500"),
        ("currency", "eur"),
        ("receipt_email", "a@example.com"),
    ];
    sim.api.post("/v1/payment_intents", &form).await.error(429);
    let list = sim.api.get("/_sim/faults").await.ok();
    assert_eq!(list["data"][0]["id"], made["id"]);
    assert_eq!(list["data"][0]["remaining"], 1);
    assert_eq!(
        list["data"][0]["match"],
        json!({"receipt_email": "a@example.com"})
    );
    let one = format!("/_sim/faults/{}", crate::support::text(&made["id"]));
    let delete = || send(sim.api.request(Method::DELETE, &one));
    assert_eq!(delete().await.status, 204);
    assert_eq!(delete().await.status, 404);
    sim.api.post("/v1/payment_intents", &form).await.ok();
    sim.api.plan(json!({"on": "create", "fault": "500"})).await;
    let all = send(sim.api.request(Method::DELETE, "/_sim/faults")).await;
    assert_eq!(all.status, 204);
    sim.api.post("/v1/payment_intents", &form).await.ok();
    for wrong in [
        json!({"on": "create"}),
        json!({"on": "create", "fault": "418"}),
        json!({"on": "create", "fault": "429", "times": 0}),
        json!({"on": "create", "fault": "429", "match": {"email": "x"}}),
        json!({"on": "create", "fault": "429", "surprise": 1}),
    ] {
        let request = sim.api.request(Method::POST, "/_sim/faults").json(&wrong);
        let error = send(request).await.error(400);
        assert_eq!(error["type"], "invalid_request_error", "{wrong}");
    }
}

#[tokio::test]
async fn a_plan_by_method_finds_the_confirmation_of_an_intent() {
    let sim = Sim::start().await;
    let plan =
        json!({"match": {"payment_method": "pm_card_mastercard"}, "on": "confirm", "fault": "500"});
    sim.api.plan(plan).await;
    let visa = sim.api.create("o-1", "pm_card_visa", &[]).await;
    sim.api.confirm(&visa).await.ok();
    let mastercard = sim.api.create("o-2", "pm_card_mastercard", &[]).await;
    sim.api.confirm(&mastercard).await.error(500);
    sim.api.confirm(&mastercard).await.ok();
}

/// Two simulators with one seed fail the same requests in the same way, whatever the order they come in.
#[tokio::test]
async fn a_seed_is_repeatable() {
    let run = async |seed| {
        let sim = Sim::with(|config| {
            config.fault_seed = seed;
            config.fault_rate = 0.5;
            config.fault_hold_ms = 0;
        })
        .await;
        let create = async |number: u32| {
            let form = [("amount", "500"), ("currency", "eur")];
            let key = format!("key-{number}");
            let request = sim.api.posting("/v1/payment_intents", &form, Some(&key));
            request
                .send()
                .await
                .ok()
                .map(|answer| answer.status().as_u16())
        };
        join_all((0..60).map(create)).await
    };
    let first = run(7).await;
    assert_eq!(first, run(7).await);
    assert_ne!(first, run(8).await);
    for kind in [None, Some(200), Some(429), Some(500)] {
        assert!(first.contains(&kind), "{kind:?} is missing in {first:?}");
    }
}

/// A provider that lies: for some reads a payment stands as it stood before its last change.
#[tokio::test]
async fn a_stale_read_shows_what_was() {
    let sim = Sim::start().await;
    let intent = sim.api.create("o-1", "pm_card_visa", &[]).await;
    sim.api.confirm(&intent).await.ok();
    let plan =
        json!({"match": {"order_id": "o-1"}, "on": "retrieve", "fault": "stale", "times": 2});
    sim.api.plan(plan).await;
    for expected in [
        "requires_confirmation",
        "requires_confirmation",
        "succeeded",
    ] {
        let seen = sim.api.get(&path_of(&intent)).await.ok();
        assert_eq!(seen["status"], expected);
    }
    assert_eq!(sim.api.ledger("o-1").await, PAID);
}

/// Each way a refund can go on: what it says at first, in the end, and what the books say in the end.
#[tokio::test]
async fn a_refund_may_be_pending_and_may_fail() {
    let sim = Sim::start().await;
    let cases = [
        (
            "refund_pending",
            "pending",
            "succeeded",
            vec!["refunded 12500"],
        ),
        ("refund_fails", "pending", "failed", vec![]),
        (
            "refund_fails_later",
            "succeeded",
            "failed",
            vec!["refunded 12500", "refund_failed 12500"],
        ),
    ];
    join_all(cases.map(async |(fault, first, last, moved)| {
        let intent = sim.api.create(fault, "pm_card_visa", &[]).await;
        sim.api.confirm(&intent).await.ok();
        let plan =
            json!({"match": {"order_id": fault}, "on": "refund", "fault": {fault: {"ms": 400}}});
        sim.api.plan(plan).await;
        let form = [("payment_intent", crate::support::text(&intent["id"]))];
        let refund = sim.api.post("/v1/refunds", &form).await.ok();
        assert_eq!(refund["status"], first, "{fault}");
        let path = format!("/v1/refunds/{}", crate::support::text(&refund["id"]));
        let ended = eventually("the refund's end", async || {
            let seen = sim.api.get(&path).await.ok();
            (seen["status"] == last).then_some(seen)
        });
        let ended = ended.await;
        assert_eq!(ended["failure_reason"].is_string(), last == "failed");
        let ledger = sim.api.ledger(fault).await;
        assert_eq!(ledger[2..], moved, "{fault}");
        // What failed can be given back once more.
        let again = sim.api.post("/v1/refunds", &form).await;
        assert_eq!(again.status == StatusCode::OK, last == "failed", "{fault}");
    }))
    .await;
}
