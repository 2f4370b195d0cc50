//! The same key twice.

use futures_util::future::join;
use serde_json::json;

use crate::support::{Form, Sim, path_of, send};

const FORM: Form<'static> = &[
    ("amount", "12500"),
    ("currency", "eur"),
    ("payment_method", "pm_card_visa"),
    ("metadata[order_id]", "o-1"),
    ("confirm", "true"),
];

#[tokio::test]
async fn the_same_request_gets_the_same_answer_byte_for_byte() {
    let sim = Sim::start().await;
    let first = sim.api.post_once("/v1/payment_intents", FORM, "k").await;
    assert!(!first.is_replay());
    assert_eq!(first.headers["idempotency-key"], "k");
    // In between the object changes; the answer does not.
    let refund = [("payment_intent", first.json["id"].as_str().expect("an id"))];
    sim.api.post("/v1/refunds", &refund).await.ok();
    let second = sim.api.post_once("/v1/payment_intents", FORM, "k").await;
    assert!(second.is_replay());
    assert_eq!(second.text, first.text);
    assert_eq!(
        second.headers["original-request"],
        first.headers["request-id"]
    );
    assert_ne!(second.headers["request-id"], first.headers["request-id"]);
    let ledger = sim.api.ledger("o-1").await;
    assert_eq!(
        ledger,
        ["authorised 12500", "captured 12500", "refunded 12500"]
    );
}

#[tokio::test]
async fn a_decline_is_repeated_too() {
    let sim = Sim::start().await;
    let intent = sim.api.create("o-1", "pm_card_chargeDeclined", &[]).await;
    let path = format!("{}/confirm", path_of(&intent));
    let first = sim.api.post_once(&path, &[], "k").await;
    let second = sim.api.post_once(&path, &[], "k").await;
    assert_eq!(
        (first.status, second.status),
        (402.try_into().expect("a status"), first.status)
    );
    assert!(second.is_replay());
    assert_eq!(first.text, second.text);
    assert_eq!(sim.api.ledger("o-1").await, ["declined 12500"]);
}

#[tokio::test]
async fn another_request_with_the_key_is_refused() {
    let sim = Sim::start().await;
    sim.api
        .post_once("/v1/payment_intents", FORM, "k")
        .await
        .ok();
    let other = [("amount", "12501"), ("currency", "eur")];
    let error = sim
        .api
        .post_once("/v1/payment_intents", &other, "k")
        .await
        .error(400);
    assert_eq!(error["type"], "idempotency_error");
    let elsewhere = sim
        .api
        .post_once("/v1/refunds", &[("charge", "ch_1")], "k")
        .await;
    assert_eq!(elsewhere.error(400)["type"], "idempotency_error");
}

#[tokio::test]
async fn a_request_that_never_began_leaves_its_key_free() {
    let sim = Sim::start().await;
    let wrong = [("amount", "none"), ("currency", "eur")];
    sim.api
        .post_once("/v1/payment_intents", &wrong, "k")
        .await
        .error(400);
    let right = sim.api.post_once("/v1/payment_intents", FORM, "k").await;
    assert!(!right.is_replay());
    right.ok();
    let long = "k".repeat(256);
    sim.api
        .post_once("/v1/payment_intents", FORM, &long)
        .await
        .error(400);
}

#[tokio::test]
async fn the_second_of_two_at_once_is_told_to_wait() {
    let sim = Sim::start().await;
    let slow = json!({"on": "create", "fault": {"slow": {"ms": 1000}}});
    sim.api.plan(slow).await;
    let post = || send(sim.api.posting("/v1/payment_intents", FORM, Some("k")));
    let (one, two) = join(post(), post()).await;
    let (done, refused) = if one.status == 200 {
        (one, two)
    } else {
        (two, one)
    };
    let retry = refused.headers.get("stripe-should-retry").cloned();
    let error = refused.error(409);
    assert_eq!(error["type"], "idempotency_error");
    assert_eq!(error["code"], "idempotency_key_in_use");
    assert_eq!(retry.expect("a hint"), "true");
    let later = post().await;
    assert!(later.is_replay());
    assert_eq!(later.ok(), done.ok());
    assert_eq!(
        sim.api.ledger("o-1").await,
        ["authorised 12500", "captured 12500"]
    );
}
