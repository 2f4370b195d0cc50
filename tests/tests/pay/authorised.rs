//! The step `capture` behind a `pay` that only authorises, at the simulator: captured once, or given
//! back, or never taken.

use crate::{
    CAPTURED, NOTHING,
    desk::{Desk, FAULTS},
};
use contract::{Outcome, Reply, StepKind};
use futures_util::future::join_all;
use tests::{eventually::eventually, orders::Order, provider::Balance};

async fn authorised(desk: &Desk) -> Order {
    let order = desk.order("pm_card_visa").await;
    let reply = desk.ask_to_authorise(&order, StepKind::Do).await;
    assert_eq!(reply.outcome, Outcome::Done, "{reply:?}");
    assert_eq!(reply.output.expect("an output")["captured_minor"], 0);
    assert_eq!(kinds(desk, &order).await, ["authorised"]);
    order
}

/// What the simulator's books say of an order.
async fn kinds(desk: &Desk, order: &Order) -> Vec<String> {
    let entries = desk.provider.entries(order.id.0).await;
    entries.into_iter().map(|entry| entry.kind).collect()
}

/// As the saga does.
async fn until_captured(desk: &Desk, order: &Order) -> Reply {
    let last = std::sync::Mutex::new(None);
    eventually("the capture is definite", async || {
        let reply = desk.ask_to_capture(order, StepKind::Do).await;
        let definite = matches!(reply.outcome, Outcome::Done | Outcome::Rejected);
        *last.lock().expect("nobody panics") = Some(reply);
        definite
    })
    .await;
    let last = last.into_inner().expect("nobody panics");
    last.expect("it was asked")
}

#[tokio::test]
async fn an_authorisation_is_captured_once_however_often_it_is_commanded() {
    let desk = Desk::open().await;
    let twin = desk.another_worker();
    let order = authorised(&desk).await;
    let (one, other) = tokio::join!(until_captured(&desk, &order), until_captured(&twin, &order));
    for reply in [
        one,
        other,
        desk.ask_to_capture(&order, StepKind::Probe).await,
    ] {
        assert_eq!(reply.outcome, Outcome::Done, "{reply:?}");
        assert_eq!(reply.output.expect("an output")["captured_minor"], 12_500);
    }
    assert_eq!(desk.balance(&order).await, CAPTURED);
}

#[tokio::test]
async fn an_undo_before_the_capture_is_a_cancel_and_nobody_sees_a_refund() {
    let desk = Desk::open().await;
    let order = authorised(&desk).await;
    let undone = desk.ask_to_authorise(&order, StepKind::Undo).await;
    assert_eq!(undone.outcome, Outcome::Done, "{undone:?}");
    assert_eq!(kinds(&desk, &order).await, ["authorised", "canceled"]);
    // It can never be captured any more, and says so.
    let late = desk.ask_to_capture(&order, StepKind::Do).await;
    assert_eq!(late.outcome, Outcome::Rejected, "{late:?}");
    assert_eq!(desk.balance(&order).await, NOTHING);
}

/// The answer to the capture is lost, or it was never made: nothing is guessed.
#[tokio::test]
async fn every_fault_of_a_capture_ends_in_one_capture() {
    let desk = Desk::open().await;
    join_all(FAULTS.map(async |fault| {
        let order = authorised(&desk).await;
        desk.provider
            .plan(order.id.0, "capture", &fault.json(), 1)
            .await;
        let reply = until_captured(&desk, &order).await;
        assert_eq!(reply.outcome, Outcome::Done, "{fault:?}: {reply:?}");
        assert_eq!(desk.balance(&order).await, CAPTURED, "{fault:?}");
    }))
    .await;
}

/// A capture that was made is given back by the undo of `capture`; the undo of `pay` has nothing to add.
#[tokio::test]
async fn a_capture_that_was_made_is_given_back_once() {
    let desk = Desk::open().await;
    let order = authorised(&desk).await;
    until_captured(&desk, &order).await;
    let undone = desk.ask_to_capture(&order, StepKind::Undo).await;
    assert_eq!(undone.outcome, Outcome::Done, "{undone:?}");
    let undone = desk.ask_to_authorise(&order, StepKind::Undo).await;
    assert_eq!(undone.outcome, Outcome::Done, "{undone:?}");
    let given_back = Balance {
        refunded_minor: 12_500,
        ..CAPTURED
    };
    assert_eq!(desk.balance(&order).await, given_back);
}

/// A worker is stopped with its capture on the way. The undo of `capture` finds nothing captured; then
/// the capture arrives after all; the undo of `pay`, whose cancel comes too late, gives it back.
#[tokio::test]
async fn a_capture_that_arrives_between_the_undos_ends_in_a_refund() {
    let desk = Desk::open().await;
    let order = authorised(&desk).await;
    desk.provider
        .plan(
            order.id.0,
            "capture",
            &serde_json::json!("timeout_before"),
            1,
        )
        .await;
    let lost = desk.ask_to_capture(&order, StepKind::Do).await;
    assert_eq!(lost.outcome, Outcome::Retry, "{lost:?}");
    let undone = desk.ask_to_capture(&order, StepKind::Undo).await;
    assert_eq!(undone.outcome, Outcome::Done, "{undone:?}");
    assert_eq!(kinds(&desk, &order).await, ["authorised"]);

    let intent = desk.outside_id(&order).await.expect("it is stored");
    let (status, body) = desk
        .provider
        .api(&format!("payment_intents/{intent}/capture"), &[])
        .await;
    assert_eq!(status, 200, "{body}");
    let undone = desk.ask_to_authorise(&order, StepKind::Undo).await;
    assert_eq!(undone.outcome, Outcome::Done, "{undone:?}");
    let given_back = Balance {
        refunded_minor: 12_500,
        ..CAPTURED
    };
    assert_eq!(desk.balance(&order).await, given_back);
    // And the ledger lets nobody capture again.
    let late = desk.ask_to_capture(&order, StepKind::Do).await;
    assert_eq!(late.outcome, Outcome::Rejected, "{late:?}");
}

/// Authorised, then cancelled at the provider, or expired: it can never be captured, and is refused.
#[tokio::test]
async fn an_authorisation_that_has_ended_is_refused_with_its_reason() {
    let desk = Desk::open().await;
    let order = authorised(&desk).await;
    let intent = desk.outside_id(&order).await.expect("it is stored");
    let (status, body) = desk
        .provider
        .api(&format!("payment_intents/{intent}/cancel"), &[])
        .await;
    assert_eq!(status, 200, "{body}");
    let refused = desk.ask_to_capture(&order, StepKind::Do).await;
    assert_eq!(refused.outcome, Outcome::Rejected, "{refused:?}");
    assert_eq!(refused.error.expect("a reason").code, "payment_unavailable");
    assert_eq!(kinds(&desk, &order).await, ["authorised", "canceled"]);
}
