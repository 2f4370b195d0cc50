//! The ledger's id of a payment is not the provider's, and a person names it.

use crate::{CAPTURED, desk::Desk};
use contract::{Outcome, Reply, StepKind};
use tests::orders::{Order, correct};

fn said(reply: &Reply) -> (Outcome, &str) {
    let code = reply.error.as_ref().map_or("", |error| &error.code);
    (reply.outcome, code)
}

async fn paid(desk: &Desk) -> (Order, String) {
    let order = desk.order("pm_card_visa").await;
    assert_eq!(desk.until_definite(&order).await.outcome, Outcome::Done);
    let intent = desk.outside_id(&order).await.expect("an intent");
    (order, intent)
}

#[tokio::test]
async fn a_payment_that_a_person_names_is_given_back_if_it_is_the_orders() {
    let desk = Desk::open().await;
    let ((order, intent), (other, others)) = (paid(&desk).await, paid(&desk).await);
    desk.knows(&order, "pi_of_another_account").await;
    let missing = (Outcome::Unknown, "payment_intent_missing");
    assert_eq!(said(&desk.ask(&order, StepKind::Undo).await), missing);
    let name = async |audit, intent: &str| {
        let field = ("payment_intent", intent);
        correct(&desk.pool, order.id.0, ("pay", 2), (audit, 1), field).await;
    };
    name(40, "pi_of_nobody").await;
    assert_eq!(said(&desk.ask(&order, StepKind::Undo).await), missing);
    name(41, &others).await;
    let refused = (Outcome::Rejected, "payment_of_another_order");
    assert_eq!(said(&desk.ask(&order, StepKind::Undo).await), refused);
    for order in [&order, &other] {
        assert_eq!(desk.balance(order).await, CAPTURED, "nothing is given back");
    }
    name(42, &intent).await;
    assert_eq!(desk.undo(&order).await.outcome, Outcome::Done);
    let left = desk.balance(&order).await;
    assert_eq!(left.captured_minor, left.refunded_minor);
    assert_eq!(desk.balance(&other).await, CAPTURED);
    desk.assert_fenced(&order).await;
}

/// Whatever the ledger's own payment has taken goes back first, whichever other one is named.
#[tokio::test]
async fn a_wrong_name_does_not_hide_what_the_ledger_knows() {
    let desk = Desk::open().await;
    let (order, _) = paid(&desk).await;
    let field = ("payment_intent", "pi_of_nobody");
    correct(&desk.pool, order.id.0, ("pay", 2), (40, 1), field).await;
    let missing = (Outcome::Unknown, "payment_intent_missing");
    assert_eq!(said(&desk.ask(&order, StepKind::Undo).await), missing);
    let left = desk.balance(&order).await;
    assert_eq!(left.captured_minor, left.refunded_minor);
}
