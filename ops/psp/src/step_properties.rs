//! Whatever is asked, in whatever order: these must hold.

use proptest::prelude::*;

use crate::cards::Card;
use crate::intent::{
    CaptureMethod, ChargeState, Intent, MethodChoice, Refund, RefundStatus, Status,
};
use crate::refund::{Course, NewRefund, settled};
use crate::step::{Command, Confirm, Movement, MovementKind, NewIntent, Transition, open, step};

const CARDS: [&str; 8] = [
    "pm_card_visa",
    "pm_card_mastercard",
    "pm_card_chargeDeclined",
    "pm_card_chargeDeclinedInsufficientFunds",
    "pm_card_threeDSecure2Required",
    "pm_card_threeDSecureRequiredChargeDeclined",
    "pm_card_createDispute",
    "pm_card_chargeCustomerFail",
];

fn choice() -> impl Strategy<Value = Option<MethodChoice>> {
    prop::option::of(
        prop::sample::select(&CARDS[..]).prop_map(|id| {
            MethodChoice::Test(Card::of_test_id(id).expect("a documented test method"))
        }),
    )
}

fn new_intent() -> impl Strategy<Value = NewIntent> {
    (50_i64..10_000, any::<bool>(), choice()).prop_map(|(amount, manual, method)| NewIntent {
        id: "pi_3abc00".into(),
        client_secret: "pi_3abc00_secret_x".into(),
        amount,
        currency: "eur".into(),
        capture_method: if manual {
            CaptureMethod::Manual
        } else {
            CaptureMethod::Automatic
        },
        metadata: vec![("order_id".into(), "o-1".into())],
        receipt_email: Some("a@example.com".into()),
        description: None,
        method,
    })
}

fn command() -> impl Strategy<Value = Command> {
    let amount = prop::option::of(-5_i64..12_000);
    prop_oneof![
        3 => (choice(), any::<bool>()).prop_map(|(method, unattended)| Command::Confirm(Confirm {
            method,
            unattended,
            ..Confirm::default()
        })),
        2 => any::<bool>().prop_map(|approved| Command::Authenticate { approved }),
        2 => amount.clone().prop_map(|amount| Command::Capture { amount }),
        1 => Just(Command::Cancel { reason: None }),
        2 => (amount, course()).prop_map(|(amount, course)| Command::Refund(NewRefund {
            id: "re_3abc00".into(),
            amount,
            reason: None,
            metadata: Vec::new(),
            course,
            now_ms: 5_000,
        })),
    ]
}

fn course() -> impl Strategy<Value = Option<Course>> {
    prop_oneof![
        Just(None),
        Just(Some(Course::Pending { ms: 1 })),
        Just(Some(Course::Fails { ms: 1 })),
        Just(Some(Course::FailsLater { ms: 1 })),
    ]
}

fn total(movements: &[Movement], kind: MovementKind) -> i64 {
    let of_kind = movements.iter().filter(|movement| movement.kind == kind);
    of_kind.map(|movement| movement.amount).sum()
}

fn count(movements: &[Movement], kind: MovementKind) -> usize {
    movements
        .iter()
        .filter(|movement| movement.kind == kind)
        .count()
}

/// The ledger so far and the intent say the same, and neither says too much.
fn check(intent: &Intent, refunds: &[Refund], movements: &[Movement]) -> Result<(), TestCaseError> {
    use MovementKind::{Authorised, Canceled, Captured, RefundFailed, Refunded};
    let captured = total(movements, Captured);
    let refunded = total(movements, Refunded) - total(movements, RefundFailed);
    let of = |status| {
        let these = refunds.iter().filter(|refund| refund.status == status);
        these.map(|refund| refund.amount).sum::<i64>()
    };
    prop_assert_eq!(refunded, of(RefundStatus::Succeeded));
    prop_assert!(count(movements, Captured) <= 1, "captured at most once");
    prop_assert!(count(movements, Authorised) <= 1, "authorised at most once");
    prop_assert!(count(movements, Canceled) <= 1, "cancelled at most once");
    prop_assert!(captured <= intent.amount, "never more than was asked");
    prop_assert!(
        0 <= refunded && refunded <= captured,
        "refunded <= captured"
    );
    prop_assert_eq!(intent.amount_received(), captured);
    let in_charge = intent.charge.as_ref().map_or(0, |charge| charge.refunded);
    prop_assert_eq!(in_charge, refunded + of(RefundStatus::Pending));
    prop_assert!(
        in_charge <= captured,
        "what is pending is not asked for twice"
    );
    prop_assert_eq!(intent.status == Status::Succeeded, captured > 0);
    prop_assert_eq!(
        intent.status == Status::Canceled,
        count(movements, Canceled) == 1
    );
    prop_assert!(
        captured == 0 || count(movements, Canceled) == 0,
        "captured or cancelled"
    );
    prop_assert_eq!(
        intent.amount_capturable() > 0,
        intent.status == Status::RequiresCapture
    );
    prop_assert_eq!(
        intent.status == Status::Canceled,
        intent.canceled_at.is_some()
    );
    if matches!(
        intent.status,
        Status::RequiresAction | Status::RequiresConfirmation
    ) {
        prop_assert!(intent.method.is_some());
    }
    if let Some(charge) = &intent.charge {
        let open = matches!(charge.state, ChargeState::Authorised);
        prop_assert_eq!(open, intent.status == Status::RequiresCapture);
    }
    Ok(())
}

/// What one command may do to what was settled before.
fn check_step(before: &Intent, after: &Transition) -> Result<(), TestCaseError> {
    let declined = count(&after.movements, MovementKind::Declined);
    prop_assert_eq!(
        declined == 1,
        after.refusal.is_some(),
        "a refusal is in the ledger"
    );
    prop_assert_ne!(before.status, Status::Canceled, "cancelled is the end");
    if before.status == Status::Succeeded {
        prop_assert_eq!(
            after.intent.status,
            Status::Succeeded,
            "only refunds follow a capture"
        );
        prop_assert!(after.refund.is_some());
    }
    prop_assert_eq!(after.intent.amount, before.amount);
    prop_assert!(!after.events.is_empty(), "every change is told");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_order_of_commands_keeps_the_books(
        new in new_intent(),
        commands in prop::collection::vec((command(), any::<bool>()), 0..14),
    ) {
        let opened = open(new, 1);
        let mut intent = opened.intent;
        let mut movements = opened.movements;
        let mut refunds: Vec<Refund> = Vec::new();
        check(&intent, &refunds, &movements)?;
        for (now, (command, settles)) in (2..).zip(commands) {
            if settles && let Some(refund) = refunds.iter_mut().find(|it| it.settles.is_some()) {
                let transition = settled(&intent, refund).expect("it was to be settled");
                *refund = transition.refund.expect("it is about a refund");
                movements.extend(&transition.movements);
                intent = transition.intent;
                check(&intent, &refunds, &movements)?;
            }
            let Ok(transition) = step(&intent, command, now) else {
                continue;
            };
            check_step(&intent, &transition)?;
            movements.extend(&transition.movements);
            refunds.extend(transition.refund);
            intent = transition.intent;
            check(&intent, &refunds, &movements)?;
        }
    }

    #[test]
    fn a_cancelled_intent_refuses_everything(new in new_intent(), next in command()) {
        let cancel = Command::Cancel { reason: None };
        if let Ok(cancelled) = step(&open(new, 1).intent, cancel, 2) {
            let refused = step(&cancelled.intent, next, 3);
            prop_assert!(refused.is_err());
        }
    }

    #[test]
    fn a_stored_intent_is_read_back_whole(
        new in new_intent(),
        commands in prop::collection::vec(command(), 0..6),
    ) {
        let mut intent = open(new, 1).intent;
        for command in commands {
            if let Ok(transition) = step(&intent, command, 2) {
                intent = transition.intent;
            }
        }
        let line = serde_json::to_string(&intent).expect("an intent is JSON");
        let read: Intent = serde_json::from_str(&line).expect("its own JSON");
        prop_assert_eq!(read, intent);
    }
}

#[test]
fn a_payer_is_a_card_and_an_address() {
    use crate::intent::{fingerprint_of_number, fingerprint_of_payer};
    let visa = Card::of_test_id("pm_card_visa").expect("documented");
    let mastercard = Card::of_test_id("pm_card_mastercard").expect("documented");
    let of = |card, email| fingerprint_of_payer(card, Some(email));
    assert_eq!(of(visa, "a@example.com"), of(visa, " A@Example.com "));
    assert_ne!(of(visa, "a@example.com"), of(visa, "b@example.com"));
    assert_ne!(of(visa, "a@example.com"), of(mastercard, "a@example.com"));
    assert_ne!(of(visa, "a@example.com"), fingerprint_of_number(visa));
}
