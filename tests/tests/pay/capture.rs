//! The provider's client where a payment is authorised first and captured by a request of its own.

use contract::{Currency, Money};
use serde_json::json;
use std::time::Duration;
use tests::provider::{Provider, SECRET_KEY};
use uuid::Uuid;
use workers::pay::stripe::{
    CaptureMethod, Classified, Client, Intent, NewIntent, Settings, Status,
};

fn client(provider: &Provider) -> Client {
    let settings = Settings {
        url: provider.url().parse().expect("a URL"),
        connect_timeout: Duration::from_secs(2),
        timeout: Duration::from_secs(5),
        idle_connections_max: 4,
    };
    Client::new(&settings, SECRET_KEY).expect("sound settings")
}

/// A payment of 125 € that the bank has authorised.
async fn authorised(client: &Client, order: Uuid) -> Intent {
    let key = order.to_string();
    let new = NewIntent {
        order_id: &key,
        total: Money {
            amount_minor: 12_500,
            currency: Currency::EUR,
        },
        payment_method: "pm_card_visa",
        receipt_email: "ada@example.org",
        capture_method: CaptureMethod::Manual,
    };
    let made = client.create(&key, &new).await.expect("made");
    let intent = client.confirm(&key, &made.id, "https://shop.example").await;
    let intent = intent.expect("confirmed");
    assert_eq!(intent.status, Status::RequiresCapture);
    assert_eq!(
        (intent.amount_capturable, intent.amount_received),
        (12_500, 0)
    );
    intent
}

#[tokio::test]
async fn what_is_authorised_is_captured_once_by_a_request_of_its_own() {
    let provider = Provider::start(0.0).await;
    let client = client(&provider);
    let order = Uuid::now_v7();
    let intent = authorised(&client, order).await;
    assert_eq!(provider.balance(order).await.captures, 0);
    let taken = client.capture("k/1", &intent.id, 12_500).await;
    let taken = taken.expect("captured");
    assert_eq!(taken.status, Status::Succeeded);
    assert_eq!(
        (taken.amount_capturable, taken.amount_received),
        (0, 12_500)
    );
    // The same key: the same answer. Another one is told that there is nothing left to capture.
    assert_eq!(client.capture("k/1", &intent.id, 12_500).await, Ok(taken));
    let Err(Classified::OtherState(Some(seen))) = client.capture("k/2", &intent.id, 12_500).await
    else {
        panic!("a second capture is refused, and the intent is shown");
    };
    assert_eq!(seen.status, Status::Succeeded);
    let balance = provider.balance(order).await;
    assert_eq!((balance.captures, balance.captured_minor), (1, 12_500));
}

#[tokio::test]
async fn an_authorisation_that_is_cancelled_costs_nothing_and_cannot_be_captured() {
    let provider = Provider::start(0.0).await;
    let client = client(&provider);
    let order = Uuid::now_v7();
    let intent = authorised(&client, order).await;
    let over = client.capture("k", &intent.id, 12_501).await;
    assert!(matches!(over, Err(Classified::Invalid { .. })), "{over:?}");
    let ended = client.cancel("k", &intent.id).await.expect("cancelled");
    assert_eq!(ended.status, Status::Canceled);
    let late = client.capture("late", &intent.id, 12_500).await;
    let Err(Classified::OtherState(Some(seen))) = late else {
        panic!("{late:?}");
    };
    assert_eq!(seen.status, Status::Canceled);
    assert_eq!(provider.balance(order).await.captures, 0);
}

/// The answer to a capture is lost: what happened shows when the intent is read.
#[tokio::test]
async fn a_capture_whose_answer_is_lost_is_found_by_reading() {
    let provider = Provider::start(0.0).await;
    let client = client(&provider);
    let order = Uuid::now_v7();
    let intent = authorised(&client, order).await;
    provider
        .plan(order, "capture", &json!("reset_after"), 1)
        .await;
    let lost = client.capture("k", &intent.id, 12_500).await;
    assert_eq!(lost, Err(Classified::Ambiguous));
    let found = client.retrieve(&intent.id).await.expect("read");
    assert_eq!(found.amount_received, 12_500);
    let again = client.capture("k", &intent.id, 12_500).await;
    assert_eq!(again.expect("replayed").status, Status::Succeeded);
    assert_eq!(provider.balance(order).await.captures, 1);
}
