//! Payments for which the customer has to authenticate at his bank, and does, or does not.

use crate::{NOTHING, desk::Desk};
use contract::{Outcome, StepKind};
use futures_util::future::join_all;
use serde_json::json;
use tests::{eventually::eventually, orders::Order};

/// An order whose payment waits for its customer, and the page where he authenticates.
async fn waiting(desk: &Desk) -> (Order, String) {
    let order = desk.order("pm_card_threeDSecure2Required").await;
    let reply = desk.ask(&order, StepKind::Do).await;
    assert_eq!(reply.outcome, Outcome::Waiting, "{reply:?}");
    let url = reply.output.expect("an output")["redirect_url"].clone();
    (order, url.as_str().expect("a page").to_owned())
}

/// What the provider answers to whoever confirms the order's intent with another card.
async fn confirmed_by_a_twin(desk: &Desk, order: &Order) -> u16 {
    let intent = desk.outside_id(order).await.expect("an intent");
    let path = format!("payment_intents/{intent}/confirm");
    let form = [("payment_method", "pm_card_visa")];
    desk.provider.api(&path, &form).await.0
}

#[tokio::test]
async fn a_customer_who_has_to_authenticate_is_waited_for() {
    let desk = Desk::open().await;
    for (decision, outcome) in [("approve", Outcome::Done), ("refuse", Outcome::Rejected)] {
        let (order, page) = waiting(&desk).await;
        for kind in [StepKind::Probe, StepKind::Do] {
            assert_eq!(desk.ask(&order, kind).await.outcome, Outcome::Waiting);
        }
        assert_eq!(desk.balance(&order).await, NOTHING);
        desk.provider.authenticate(&page, decision).await;
        let probe = desk.ask(&order, StepKind::Probe).await;
        assert_eq!(probe.outcome, outcome, "{decision}: {probe:?}");
        let undo = desk.undo(&order).await;
        assert_eq!(undo.outcome, Outcome::Done);
        let balance = desk.balance(&order).await;
        assert_eq!(balance.captured_minor, balance.refunded_minor);
    }
}

#[tokio::test]
async fn a_customer_who_fails_to_authenticate_is_refused_by_whatever_looks_next() {
    let desk = Desk::open().await;
    join_all([StepKind::Probe, StepKind::Do].map(async |first| {
        let (order, page) = waiting(&desk).await;
        desk.provider.authenticate(&page, "refuse").await;
        for kind in [first, StepKind::Do, StepKind::Probe] {
            let reply = desk.ask(&order, kind).await;
            assert_eq!(reply.outcome, Outcome::Rejected, "{first:?}: {reply:?}");
            assert_eq!(reply.error.expect("a reason").code, "authentication_failed");
        }
        let status = confirmed_by_a_twin(&desk, &order).await;
        assert_eq!(status, 400, "what is refused can never be confirmed");
        assert_eq!(desk.balance(&order).await, NOTHING);
    }))
    .await;
    assert_eq!(desk.taken().await, 0, "a refusal gives back");
}

#[tokio::test]
async fn a_probe_whose_cancel_comes_too_late_does_not_refuse() {
    let desk = Desk::open().await;
    let patient = desk.patient_worker();
    let (order, page) = waiting(&desk).await;
    desk.provider.authenticate(&page, "refuse").await;
    let slow = json!({"slow": {"ms": 1_000}});
    desk.provider.plan(order.id.0, "cancel", &slow, 1).await;
    let (probe, status) = tokio::join!(patient.ask(&order, StepKind::Probe), async {
        let met = async || desk.provider.plans_left().await == 0;
        eventually("the cancel is under way", met).await;
        confirmed_by_a_twin(&desk, &order).await
    });
    assert_eq!(status, 200);
    assert_eq!(probe.outcome, Outcome::Done, "{probe:?}");
    assert_eq!(desk.balance(&order).await.captures, 1);
}

#[tokio::test]
async fn a_probe_that_does_not_hear_of_its_cancel_says_nothing_yet() {
    let desk = Desk::open().await;
    let (order, page) = waiting(&desk).await;
    desk.provider.authenticate(&page, "refuse").await;
    let lost = json!("reset_after");
    desk.provider.plan(order.id.0, "cancel", &lost, 1).await;
    let probe = desk.ask(&order, StepKind::Probe).await;
    assert_eq!(probe.outcome, Outcome::Retry, "{probe:?}");
    let again = desk.ask(&order, StepKind::Probe).await;
    assert_eq!(again.outcome, Outcome::Rejected, "{again:?}");
    assert_eq!(again.error.expect("a reason").code, "authentication_failed");
    desk.assert_fenced(&order).await;
}
