//! The step `pay` against the payment simulator over HTTP, with its faults, and a real database.
//!
//! The judge is the simulator's own ledger: at most one capture per order, and after an undo as much
//! given back as was captured.

mod authentication;
mod authorised;
mod capture;
mod corrected;
mod desk;
mod refunds;

use contract::{Outcome, StepKind};
use desk::{Desk, FAULTS, Fault};
use futures_util::future::join_all;
use serde_json::json;
use tests::{eventually::eventually, orders::Order, provider::Balance};
use workers::pay;

const CAPTURED: Balance = Balance {
    captures: 1,
    captured_minor: 12_500,
    refunded_minor: 0,
};

const GIVEN_BACK: Balance = Balance {
    captures: 1,
    captured_minor: 12_500,
    refunded_minor: 12_500,
};

const NOTHING: Balance = Balance {
    captures: 0,
    captured_minor: 0,
    refunded_minor: 0,
};

#[tokio::test]
async fn a_payment_is_captured_once_however_often_it_is_commanded() {
    let desk = Desk::open().await;
    let order = desk.order("pm_card_visa").await;
    let first = desk.ask(&order, StepKind::Do).await;
    assert_eq!(first.outcome, Outcome::Done, "{first:?}");
    let output = first.output.expect("an output");
    assert_eq!(output["captured_minor"], 12_500);
    assert_eq!(output["currency"], "EUR");
    assert!(output["fingerprint"].is_string());
    let others = desk.ask_often(&order, StepKind::Do, 8).await;
    assert_eq!(others.len(), 8);
    for other in others {
        assert_eq!(other.output.as_ref(), Some(&output));
    }
    let probe = desk.ask(&order, StepKind::Probe).await;
    assert_eq!(probe.outcome, Outcome::Done);
    assert_eq!(desk.balance(&order).await, CAPTURED);
}

#[tokio::test]
async fn two_workers_at_once_capture_once() {
    let desk = Desk::open().await;
    let twin = desk.another_worker();
    let orders = join_all((0..16).map(|_| desk.order("pm_card_visa"))).await;
    join_all(orders.iter().map(async |order| {
        let (one, other) = tokio::join!(desk.until_definite(order), twin.until_definite(order));
        assert_eq!((one.outcome, other.outcome), (Outcome::Done, Outcome::Done));
        assert_eq!(desk.balance(order).await, CAPTURED);
    }))
    .await;
}

/// A provider stores its failures with their keys, and there are only so many of an effect. What it failed is paid once
/// it is well again, and is not taken for a provider that still fails.
#[tokio::test]
async fn a_provider_that_failed_more_often_than_an_effect_has_keys_is_paid_once_it_is_well() {
    let desk = Desk::open().await;
    for operation in ["create", "confirm"] {
        let order = desk.order("pm_card_visa").await;
        let failures = pay::stripe::GENERATIONS_MAX + 3;
        desk.provider
            .plan_for(&json!({}), operation, &json!("500"), failures)
            .await;
        for _ in 0..failures {
            let reply = desk.ask(&order, StepKind::Do).await;
            assert_eq!(reply.outcome, Outcome::Retry, "{operation}: {reply:?}");
            let code = reply.error.expect("a reason").code;
            assert_eq!(code, "provider_failed", "{operation}: it does fail");
        }
        assert_eq!(desk.provider.plans_left().await, 0, "{operation}");
        let reply = desk.ask(&order, StepKind::Do).await;
        assert_eq!(reply.outcome, Outcome::Done, "{operation}: {reply:?}");
        assert_eq!(desk.balance(&order).await, CAPTURED);
    }
}

#[tokio::test]
async fn a_refusal_has_the_customers_reason_and_stands_at_the_provider() {
    let desk = Desk::open().await;
    let cards = [
        ("pm_card_visa_chargeDeclined", "card_declined"),
        ("pm_card_visa_chargeDeclinedStolenCard", "card_declined"),
        (
            "pm_card_visa_chargeDeclinedInsufficientFunds",
            "insufficient_funds",
        ),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card"),
        ("pm_card_that_nobody_has", "payment_method_invalid"),
    ];
    join_all(cards.map(async |(method, code)| {
        let order = desk.order(method).await;
        let reply = desk.ask(&order, StepKind::Do).await;
        assert_eq!(reply.outcome, Outcome::Rejected, "{method}: {reply:?}");
        assert_eq!(reply.error.expect("a reason").code, code, "{method}");
        assert_eq!(desk.balance(&order).await, NOTHING);
        // What is refused is refused again, and undoing it is nothing.
        let again = desk.ask(&order, StepKind::Do).await;
        assert_eq!(again.error.expect("a reason").code, code);
        assert_eq!(
            desk.ask(&order, StepKind::Undo).await.outcome,
            Outcome::Done
        );
        // Nobody can confirm it any more, not even with a good card.
        let outside_id = desk.outside_id(&order).await.expect("a row");
        if let Some(intent) = Some(outside_id).filter(|id| id.starts_with("pi_")) {
            let path = format!("payment_intents/{intent}/confirm");
            let (status, body) = desk
                .provider
                .api(&path, &[("payment_method", "pm_card_visa")])
                .await;
            assert_eq!(status, 400, "{body}");
        }
        assert_eq!(desk.balance(&order).await, NOTHING);
    }))
    .await;
    assert_eq!(desk.taken().await, 0, "a refusal gives back");
}

/// Every operation with every fault.
fn cases<const N: usize>(operations: [&'static str; N]) -> Vec<(&'static str, Fault)> {
    let of = |on| FAULTS.map(|fault| (on, fault));
    operations.into_iter().flat_map(of).collect()
}

#[tokio::test]
async fn every_fault_of_a_do_ends_in_one_capture() {
    let desk = Desk::open().await;
    for times in [1, 2] {
        let cases = cases(["create", "confirm", "retrieve"]);
        join_all(cases.into_iter().map(async |(on, fault)| {
            let order = desk.order("pm_card_visa").await;
            desk.provider
                .plan(order.id.0, on, &fault.json(), times)
                .await;
            if on == "retrieve" {
                // Only then is there a reason to read.
                desk.provider
                    .plan(order.id.0, "confirm", &json!("reset_after"), 1)
                    .await;
            }
            let reply = desk.until_definite(&order).await;
            assert_eq!(
                reply.outcome,
                Outcome::Done,
                "{on} {fault:?} x{times}: {reply:?}"
            );
            assert_eq!(
                desk.balance(&order).await,
                CAPTURED,
                "{on} {fault:?} x{times}"
            );
        }))
        .await;
        if times == 1 {
            assert_eq!(desk.provider.plans_left().await, 0, "every fault was met");
        }
    }
}

#[tokio::test]
async fn every_fault_of_a_declined_do_ends_in_a_cancelled_intent() {
    let desk = Desk::open().await;
    let cases = cases(["confirm", "cancel"]);
    join_all(cases.into_iter().map(async |(on, fault)| {
        let order = desk
            .order("pm_card_visa_chargeDeclinedInsufficientFunds")
            .await;
        desk.provider.plan(order.id.0, on, &fault.json(), 1).await;
        let reply = desk.until_definite(&order).await;
        let code = reply.error.map(|error| error.code);
        assert_eq!(
            code.as_deref(),
            Some("insufficient_funds"),
            "{on} {fault:?}"
        );
        let entries = desk.provider.entries(order.id.0).await;
        let last = entries.last().map(|entry| entry.kind.as_str());
        assert_eq!(last, Some("canceled"), "{on} {fault:?}: {entries:?}");
    }))
    .await;
    assert_eq!(desk.provider.plans_left().await, 0, "every fault was met");
}

#[tokio::test]
async fn every_fault_of_an_undo_ends_with_everything_given_back() {
    let desk = Desk::open().await;
    for times in [1, 2] {
        let cases = cases(["cancel", "refund", "retrieve"]);
        join_all(cases.into_iter().map(async |(on, fault)| {
            let order = desk.order("pm_card_visa").await;
            assert_eq!(desk.ask(&order, StepKind::Do).await.outcome, Outcome::Done);
            desk.provider
                .plan(order.id.0, on, &fault.json(), times)
                .await;
            let reply = desk.undo(&order).await;
            assert_eq!(reply.outcome, Outcome::Done, "{on} {fault:?}: {reply:?}");
            assert_eq!(
                desk.balance(&order).await,
                GIVEN_BACK,
                "{on} {fault:?} x{times}"
            );
            desk.assert_fenced(&order).await;
        }))
        .await;
        if times == 1 {
            assert_eq!(desk.provider.plans_left().await, 0, "every fault was met");
        }
    }
    assert_eq!(desk.taken().await, 0);
}

#[tokio::test]
async fn an_undo_that_comes_first_forbids_the_payment() {
    let desk = Desk::open().await;
    let order = desk.order("pm_card_visa").await;
    assert_eq!(
        desk.ask(&order, StepKind::Undo).await.outcome,
        Outcome::Done
    );
    desk.assert_fenced(&order).await;
    assert_eq!(desk.balance(&order).await, NOTHING);
}

/// The undo arrives while the provider is at work on the `do`'s create or on its confirm, and the
/// `do` then gets its answer, late, or never hears of it.
#[tokio::test]
async fn an_undo_in_the_middle_of_a_do_leaves_nothing_captured() {
    let desk = Desk::open().await;
    let (patient, other) = (desk.patient_worker(), desk.another_worker());
    let slow = json!({ "slow": { "ms": 600 } });
    let cases = ["create", "confirm"].into_iter().flat_map(|on| {
        [
            (on, &patient, slow.clone()),
            (on, &desk, slow.clone()),
            (on, &desk, json!("timeout_after")),
            (on, &desk, json!("timeout_before")),
        ]
    });
    for (on, worker, fault) in cases {
        let order = desk.order("pm_card_visa").await;
        desk.provider.plan(order.id.0, on, &fault, 1).await;
        let met = async || desk.provider.plans_left().await == 0;
        let (paying, undone) = tokio::join!(worker.ask(&order, StepKind::Do), async {
            eventually("the do is at the provider", met).await;
            other.undo(&order).await
        });
        assert_ne!(paying.outcome, Outcome::Done, "{on} {fault}");
        assert_eq!(undone.outcome, Outcome::Done, "{on} {fault}");
        desk.assert_fenced(&order).await;
        // Also when the provider is through with what it was sent.
        desk.settle_down(&order).await;
        let balance = desk.balance(&order).await;
        assert_eq!(
            balance.captured_minor, balance.refunded_minor,
            "{on} {fault}: {balance:?}"
        );
        assert_eq!(desk.taken().await, 0, "{on} {fault}");
    }
}

/// A refusal to make an intent is none while a twin has one: that could still be charged.
#[tokio::test]
async fn a_refused_create_does_not_refuse_what_a_twin_may_charge() {
    let desk = Desk::open().await;
    let order = desk.order("pm_card_that_nobody_has").await;
    desk.provider
        .plan(order.id.0, "create", &json!({ "slow": { "ms": 500 } }), 1)
        .await;
    let worker = desk.patient_worker();
    let met = async || desk.provider.plans_left().await == 0;
    let (reply, ()) = tokio::join!(worker.ask(&order, StepKind::Do), async {
        eventually("the do is at the provider", met).await;
        desk.twin_stores(&order, "pi_of_a_twin").await;
    });
    assert_eq!(reply.outcome, Outcome::Retry, "{reply:?}");
    assert_eq!(reply.error.expect("a reason").code, "overtaken");
}

#[tokio::test]
async fn a_disputed_payment_cannot_be_undone_and_says_so() {
    let desk = Desk::open().await;
    let order = desk.order("pm_card_createDispute").await;
    assert_eq!(desk.ask(&order, StepKind::Do).await.outcome, Outcome::Done);
    for _ in 0..2 {
        let reply = desk.ask(&order, StepKind::Undo).await;
        assert_eq!(reply.outcome, Outcome::Rejected);
        assert_eq!(reply.error.expect("a reason").code, "charge_disputed");
    }
    let again = desk.ask(&order, StepKind::Do).await;
    assert_eq!(again.outcome, Outcome::Done, "it is still in force");
    assert_eq!(desk.balance(&order).await, CAPTURED);
}

#[tokio::test]
async fn what_was_given_back_by_hand_is_not_given_back_twice() {
    let desk = Desk::open().await;
    let order = desk.order("pm_card_visa").await;
    desk.ask(&order, StepKind::Do).await;
    let intent = desk.outside_id(&order).await.expect("an intent");
    let form = [("payment_intent", intent.as_str()), ("amount", "500")];
    assert_eq!(desk.provider.api("refunds", &form).await.0, 200);
    assert_eq!(desk.undo(&order).await.outcome, Outcome::Done);
    assert_eq!(desk.balance(&order).await, GIVEN_BACK);
}

#[tokio::test]
async fn fifty_orders_with_one_card_take_no_more_than_its_limit() {
    let desk = Desk::open().await;
    let card = desk.provider.card("4242424242424242").await;
    let orders = join_all((0..50).map(|_| desk.order(&card))).await;
    let replies = join_all(orders.iter().map(|order| desk.until_definite(order))).await;
    let (paid, refused): (Vec<_>, Vec<_>) = orders
        .iter()
        .zip(&replies)
        .partition(|(_, reply)| reply.outcome == Outcome::Done);
    assert_eq!((paid.len(), refused.len()), (30, 20));
    for (order, reply) in refused {
        let error = reply.error.as_ref().expect("a reason");
        assert_eq!(error.code, "limit_exceeded");
        assert_eq!(desk.balance(order).await, NOTHING);
    }
    assert_eq!(desk.taken().await, 30);
    let late = desk.order(&card).await;
    assert_eq!(desk.until_definite(&late).await.outcome, Outcome::Rejected);
    assert_eq!(desk.undo(paid[0].0).await.outcome, Outcome::Done);
    let next = desk.order(&card).await;
    assert_eq!(desk.until_definite(&next).await.outcome, Outcome::Done);
    assert_eq!(desk.taken().await, 30);
}

#[tokio::test]
async fn a_limit_is_still_the_reason_when_the_answer_to_the_cancel_is_lost() {
    let desk = Desk::open().await;
    let card = desk.provider.card("4242424242424242").await;
    for _ in 0..30 {
        let order = desk.order(&card).await;
        assert_eq!(desk.until_definite(&order).await.outcome, Outcome::Done);
    }
    let over = desk.order(&card).await;
    desk.provider
        .plan(over.id.0, "cancel", &json!("reset_after"), 1)
        .await;
    assert_eq!(
        desk.ask(&over, StepKind::Do).await.outcome,
        Outcome::Retry,
        "cancelled, and nobody was told"
    );
    let reply = desk.until_definite(&over).await;
    assert_eq!(reply.outcome, Outcome::Rejected, "{reply:?}");
    assert_eq!(reply.error.expect("a reason").code, "limit_exceeded");
    assert_eq!(desk.taken().await, 30);
}

#[tokio::test]
async fn a_provider_that_is_away_or_refuses_our_key_is_no_refusal() {
    let desk = Desk::open().await;
    for (url, key, code) in [
        (
            "http://127.0.0.1:1",
            "sk_test_guichet",
            "provider_unreachable",
        ),
        (
            desk.provider.url(),
            "sk_test_another",
            "provider_refuses_key",
        ),
    ] {
        let worker = desk.worker_with(url, key);
        let order = desk.order("pm_card_visa").await;
        let reply = worker.ask(&order, StepKind::Do).await;
        assert_eq!(reply.outcome, Outcome::Retry, "{reply:?}");
        assert_eq!(reply.error.expect("a reason").code, code);
        assert_eq!(desk.until_definite(&order).await.outcome, Outcome::Done);
    }
}

#[tokio::test]
async fn an_intent_that_the_provider_does_not_know_is_unknown_never_undone() {
    let (desk, elsewhere) = (Desk::open().await, Desk::open().await);
    let order = desk.order("pm_card_visa").await;
    desk.ask(&order, StepKind::Do).await;
    let lost = desk.worker_with(elsewhere.provider.url(), "sk_test_guichet");
    let reply = lost.ask(&order, StepKind::Undo).await;
    assert_eq!(reply.outcome, Outcome::Unknown, "{reply:?}");
    assert_eq!(
        reply.error.expect("a reason").code,
        "payment_intent_missing"
    );
    assert_eq!(desk.balance(&order).await, CAPTURED);
}

#[tokio::test]
async fn a_confirmation_of_which_nothing_is_heard_is_read_before_anything_else() {
    let desk = Desk::open().await;
    for fault in ["reset_after", "timeout_before"] {
        let order = desk.order("pm_card_visa").await;
        let id = order.id.0;
        desk.provider.plan(id, "confirm", &json!(fault), 1).await;
        desk.provider.plan(id, "retrieve", &json!("500"), 1).await;
        let reply = desk.ask(&order, StepKind::Do).await;
        assert_eq!(reply.outcome, Outcome::Retry, "{fault}: {reply:?}");
        // Whether it was captured is asked; what was not, is still charged, once.
        let again = desk.until_definite(&order).await;
        assert_eq!(again.outcome, Outcome::Done, "{fault}: {again:?}");
        assert_eq!(desk.balance(&order).await, CAPTURED, "{fault}");
    }
}

/// Two workers, dos and undos in any order, and a third of all requests meeting a fault.
#[tokio::test]
async fn whatever_happens_in_between_the_books_balance() {
    let desk = Desk::open_faulty(0.3).await;
    let other = desk.another_worker();
    join_all((0..60_usize).map(async |n| {
        let methods = [
            "pm_card_visa",
            "pm_card_chargeDeclined",
            "pm_card_threeDSecure2Required",
        ];
        let order: Order = desk.order(methods[n % 7 % 3]).await;
        if n % 3 == 0 {
            let (paid, twin) =
                tokio::join!(desk.until_definite(&order), other.until_definite(&order));
            assert_eq!(paid.outcome, twin.outcome, "{paid:?} {twin:?}");
            let balance = desk.balance(&order).await;
            let captures = usize::from(paid.outcome == Outcome::Done);
            assert_eq!((balance.captures, balance.refunded_minor), (captures, 0));
        } else {
            tokio::join!(desk.until_definite(&order), async {
                for _ in 0..n % 5 {
                    tokio::task::yield_now().await;
                }
                assert_eq!(other.undo(&order).await.outcome, Outcome::Done);
            });
            desk.settle_down(&order).await;
            let balance = desk.balance(&order).await;
            assert!(balance.captures <= 1, "{balance:?}");
            assert_eq!(
                balance.captured_minor, balance.refunded_minor,
                "{balance:?}"
            );
            desk.assert_fenced(&order).await;
        }
    }))
    .await;
}
