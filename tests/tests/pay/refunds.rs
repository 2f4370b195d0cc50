//! A refund is what arrived, not what was asked for.

use super::{CAPTURED, GIVEN_BACK};
use crate::desk::Desk;
use contract::{Outcome, StepKind};
use serde_json::json;

#[tokio::test]
async fn a_refund_that_is_pending_is_not_given_back_until_it_has_arrived() {
    let desk = Desk::open().await;
    let order = desk.order("pm_card_visa").await;
    assert_eq!(desk.ask(&order, StepKind::Do).await.outcome, Outcome::Done);
    let slow = json!({"refund_pending": {"ms": 1_000}});
    desk.provider.plan(order.id.0, "refund", &slow, 1).await;
    for _ in 0..2 {
        let reply = desk.ask(&order, StepKind::Undo).await;
        assert_eq!(reply.outcome, Outcome::Retry, "{reply:?}");
        assert_eq!(reply.error.expect("a reason").code, "refund_pending");
        assert_eq!(desk.balance(&order).await, CAPTURED);
    }
    assert_eq!(desk.undo(&order).await.outcome, Outcome::Done);
    assert_eq!(desk.balance(&order).await, GIVEN_BACK);
    desk.assert_fenced(&order).await;
}

/// The bank sends the money back: a person is asked, and when he has it tried again there is a new refund.
#[tokio::test]
async fn a_refund_that_fails_is_a_failed_undo_and_can_be_tried_again() {
    let desk = Desk::open().await;
    let order = desk.order("pm_card_visa").await;
    assert_eq!(desk.ask(&order, StepKind::Do).await.outcome, Outcome::Done);
    let fails = json!({"refund_fails": {"ms": 200}});
    desk.provider.plan(order.id.0, "refund", &fails, 2).await;
    let mut told = Vec::new();
    for _ in 0..2 {
        let reply = desk.undo(&order).await;
        assert_eq!(reply.outcome, Outcome::Rejected, "{reply:?}");
        let error = reply.error.expect("a reason");
        assert_eq!(error.code, "refund_failed");
        told.push(error.message);
        assert_eq!(desk.balance(&order).await, CAPTURED);
    }
    assert_ne!(told[0], told[1], "each names its own refund");
    assert_eq!(desk.undo(&order).await.outcome, Outcome::Done);
    assert_eq!(desk.balance(&order).await, GIVEN_BACK);
}
