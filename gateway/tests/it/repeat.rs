//! Whoever repeats an order that was taken gets that order, though no orders are taken at the moment.

use crate::harness::{Gateway, eventually, json, problem};
use ::http::{Response, StatusCode};
use bytes::Bytes;
use diesel_async::SimpleAsyncConnection;
use futures_util::{StreamExt, stream::FuturesUnordered};
use serde_json::Value;
use std::future::poll_fn;

const KEY: &str = "the-key-of-an-order-that-was-taken";

fn new_key() -> String {
    uuid::Uuid::new_v4().to_string()
}

impl Gateway {
    async fn taken(&self, order: &Value) -> Response<Bytes> {
        let taken = self.place_json(order, KEY).await;
        assert_eq!(taken.status(), StatusCode::ACCEPTED);
        taken
    }

    /// New orders are refused with this code; the one that was taken is answered as before, and its key
    /// stands for no other.
    async fn takes_only_repeats_of(&self, order: &Value, taken: &Response<Bytes>, code: &str) {
        let refused = eventually(async || {
            let answer = self.place_json(order, &new_key()).await;
            (answer.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(answer)
        })
        .await;
        assert_eq!(problem(&refused)["code"], code);
        let before = self.counts().await;
        let again = self.place_json(order, KEY).await;
        assert_eq!(again.status(), StatusCode::ACCEPTED, "{:?}", again.body());
        assert_eq!(again.body(), taken.body());
        assert_eq!(again.headers()["location"], taken.headers()["location"]);
        let mut other = order.clone();
        other["name"] = "Somebody Else".into();
        let reused = self.place_json(&other, KEY).await;
        assert_eq!(problem(&reused)["code"], "idempotency_key_reused");
        assert_eq!(self.counts().await, before, "nothing is written");
    }
}

#[tokio::test]
async fn a_repeat_is_answered_while_too_much_is_in_flight() {
    let gateway = Gateway::start().await;
    gateway
        .execute("UPDATE shards SET owner = 'x', lease_until = 'infinity', live = 10000000")
        .await;
    let order = gateway.order().await;
    let taken = gateway.taken(&order).await;
    gateway
        .takes_only_repeats_of(&order, &taken, "overloaded")
        .await;
}

#[tokio::test]
async fn a_repeat_is_answered_while_the_payment_provider_is_away() {
    let gateway = Gateway::start().await;
    let order = gateway.order().await;
    let taken = gateway.taken(&order).await;
    gateway
        .execute(
            "UPDATE shards SET owner = 'x', lease_until = 'infinity', away_since = '-infinity',
                    away_step = (SELECT number FROM steps WHERE name = 'pay')",
        )
        .await;
    gateway
        .takes_only_repeats_of(&order, &taken, "payment_unavailable")
        .await;
}

#[tokio::test]
async fn a_repeat_is_answered_once_the_definition_is_withdrawn() {
    let gateway = Gateway::start().await;
    let order = gateway.order().await;
    let taken = gateway.taken(&order).await;
    gateway
        .execute(
            "INSERT INTO withdrawals (definition, withdrawn_by, reason, audit)
             VALUES (1, 'ada', 'a test', 1)",
        )
        .await;
    gateway
        .takes_only_repeats_of(&order, &taken, "unavailable")
        .await;
}

/// The one commit under way cannot end, so whoever comes waits, until no more may.
#[tokio::test]
async fn a_repeat_is_answered_while_too_many_wait_for_a_commit() {
    let gateway = Gateway::start().await;
    let order = gateway.order().await;
    let taken = gateway.taken(&order).await;
    let mut lock = gateway.database.connection().await;
    lock.batch_execute("BEGIN; LOCK TABLE orders IN SHARE MODE")
        .await
        .unwrap();
    let mut waiting = FuturesUnordered::new();
    let refused = loop {
        let key = new_key();
        waiting.push({
            let (gateway, order) = (&gateway, &order);
            async move { gateway.place_json(order, &key).await }
        });
        // Who has his answer, with nobody's turn coming, was refused.
        let answered = poll_fn(|context| match waiting.poll_next_unpin(context) {
            std::task::Poll::Ready(answer) => std::task::Poll::Ready(answer),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        });
        if let Some(answer) = answered.await {
            break answer;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(problem(&refused)["code"], "overloaded");
    let again = gateway.place_json(&order, KEY).await;
    assert_eq!(again.status(), StatusCode::ACCEPTED, "{:?}", again.body());
    assert_eq!(json(&again)["id"], json(&taken)["id"]);
    lock.batch_execute("COMMIT").await.unwrap();
    while let Some(answer) = waiting.next().await {
        assert!(matches!(
            answer.status(),
            StatusCode::ACCEPTED | StatusCode::SERVICE_UNAVAILABLE
        ));
    }
}
