//! What to do with an intent as it stands. Pure.

use super::stripe::{CaptureMethod, Intent, Refund, Status, refusal_of};
use contract::{
    Money, Refusal,
    planted::{Bug, planted},
};
use serde_json::{Value, json};

/// The next thing a `do` does.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Next {
    /// Confirm it: nothing is charged yet.
    Confirm,
    /// It is captured, or authorised where that is all that is asked; the step is done, with this
    /// output.
    Done(Value),
    /// The customer has to act; the output says where.
    Wait(Value),
    /// It failed, but could still be confirmed: cancel it, then refuse.
    Cancel(Refusal),
    /// It is cancelled, and can never be charged: refuse.
    Refuse(Refusal),
    /// The provider has not decided.
    NotYet,
    /// It is in a state that this step never brings about; the code says which.
    Strange(&'static str),
}

/// What a `do` does with an intent that should capture `total`, or authorise it for the step `capture`.
pub(super) fn next(intent: &Intent, total: Money, capture: CaptureMethod) -> Next {
    match intent.status {
        Status::RequiresConfirmation => Next::Confirm,
        Status::RequiresPaymentMethod => Next::Cancel(declined(intent)),
        Status::RequiresAction => match &intent.next_action {
            Some(action) => Next::Wait(waiting(
                intent,
                action.redirect_to_url.as_ref().map(|to| &*to.url),
            )),
            None => Next::NotYet,
        },
        Status::Processing => Next::NotYet,
        Status::Succeeded if captured_exactly(intent, total) => Next::Done(output(intent)),
        Status::Succeeded => Next::Strange("captured_amount_differs"),
        Status::Canceled => Next::Refuse(if intent.last_payment_error.is_some() {
            declined(intent)
        } else {
            Refusal::PaymentUnavailable
        }),
        Status::RequiresCapture if capture == CaptureMethod::Automatic => {
            Next::Strange("capture_is_manual")
        }
        Status::RequiresCapture if authorised_exactly(intent, total) => Next::Done(output(intent)),
        Status::RequiresCapture => Next::Strange("authorised_amount_differs"),
        Status::Other => Next::Strange("status_not_known"),
    }
}

/// Why an intent has no payment method any more.
fn declined(intent: &Intent) -> Refusal {
    intent
        .last_payment_error
        .as_ref()
        .map_or(Refusal::PaymentMethodInvalid, refusal_of)
}

/// Whether what was captured is this.
pub(crate) fn captured_exactly(intent: &Intent, total: Money) -> bool {
    intent.amount_received == total.amount_minor && in_currency(intent, total)
}

fn authorised_exactly(intent: &Intent, total: Money) -> bool {
    intent.amount_capturable == total.amount_minor && in_currency(intent, total)
}

fn in_currency(intent: &Intent, total: Money) -> bool {
    intent.currency.eq_ignore_ascii_case(total.currency.code())
}

fn output(intent: &Intent) -> Value {
    json!({
        "payment_intent": intent.id.as_str(),
        "amount_minor": intent.amount,
        "captured_minor": intent.amount_received,
        "currency": intent.currency.to_ascii_uppercase(),
        "fingerprint": intent.fingerprint(),
    })
}

fn waiting(intent: &Intent, redirect_url: Option<&str>) -> Value {
    json!({
        "payment_intent": intent.id.as_str(),
        "redirect_url": redirect_url,
    })
}

/// What an undo does with an intent that has captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Back {
    /// Everything is back with the customer.
    Done,
    /// A refund is on its way: it may arrive, or fail.
    OnItsWay,
    /// This refund (its id) failed, and nobody was told of it yet.
    Failed(String),
    /// So much is to be given back, in minor units.
    Refund(i64),
}

/// What to do about a captured intent with these refunds, newest first. `told` is the last refusal that was
/// recorded of the undo: a refund that failed is told once, and when somebody has it tried again there is a
/// new one.
pub(super) fn back(intent: &Intent, refunds: &[Refund], told: Option<&str>) -> Back {
    let sum = |statuses: &[&str]| -> i64 {
        let these = refunds
            .iter()
            .filter(|refund| statuses.contains(&&*refund.status));
        these.map(|refund| refund.amount).sum()
    };
    let on_its_way = sum(&["pending", "requires_action"]);
    let left = match planted(Bug::GivenBackAgain) {
        true => intent.amount_received,
        false => intent.amount_received - sum(&["succeeded"]) - on_its_way,
    };
    if left <= 0 {
        return if on_its_way > 0 {
            Back::OnItsWay
        } else {
            Back::Done
        };
    }
    let newest_failed = refunds
        .iter()
        .find(|refund| matches!(&*refund.status, "failed" | "canceled"))
        .filter(|refund| !told.is_some_and(|told| told.contains(&refund.id)));
    match newest_failed {
        Some(refund) => Back::Failed(refund.id.clone()),
        None => Back::Refund(left),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::Currency;

    fn euros(amount_minor: i64) -> Money {
        Money {
            amount_minor,
            currency: Currency::EUR,
        }
    }

    fn intent(status: &str, more: &Value) -> Intent {
        let mut body = json!({
            "id": "pi_1", "status": status, "amount": 500, "currency": "eur",
            "payment_method": {"id": "pm_1", "card": {"fingerprint": "fp"}},
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        serde_json::from_value(body).expect("reads")
    }

    #[test]
    fn the_table() {
        let declined =
            json!({"last_payment_error": {"type": "card_error", "code": "expired_card"}});
        let action = json!({"next_action": {"redirect_to_url": {"url": "https://bank.example/1"}}});
        let captured = json!({"amount_received": 500});
        let table = [
            (intent("requires_confirmation", &json!({})), Next::Confirm),
            // After a decline that the last attempt did not live to tell.
            (
                intent("requires_payment_method", &declined),
                Next::Cancel(Refusal::ExpiredCard),
            ),
            (
                intent("requires_payment_method", &json!({})),
                Next::Cancel(Refusal::PaymentMethodInvalid),
            ),
            (
                intent("canceled", &declined),
                Next::Refuse(Refusal::ExpiredCard),
            ),
            (
                intent("canceled", &json!({})),
                Next::Refuse(Refusal::PaymentUnavailable),
            ),
            (intent("processing", &json!({})), Next::NotYet),
            (intent("requires_action", &json!({})), Next::NotYet),
            (
                intent("requires_action", &action),
                Next::Wait(
                    json!({"payment_intent": "pi_1", "redirect_url": "https://bank.example/1"}),
                ),
            ),
            (
                intent("succeeded", &captured),
                Next::Done(json!({
                    "payment_intent": "pi_1", "amount_minor": 500, "captured_minor": 500,
                    "currency": "EUR", "fingerprint": "fp",
                })),
            ),
            (
                intent("requires_capture", &json!({})),
                Next::Strange("capture_is_manual"),
            ),
            (
                intent("a_new_one", &json!({})),
                Next::Strange("status_not_known"),
            ),
        ];
        for (intent, expected) in table {
            let next = next(&intent, euros(500), CaptureMethod::Automatic);
            assert_eq!(next, expected, "{:?}", intent.status);
        }
    }

    #[test]
    fn where_only_an_authorisation_is_asked_it_is_enough() {
        let of = |intent: &Intent, total| next(intent, euros(total), CaptureMethod::Manual);
        let output = |captured: i64| {
            Next::Done(json!({
                "payment_intent": "pi_1", "amount_minor": 500, "captured_minor": captured,
                "currency": "EUR", "fingerprint": "fp",
            }))
        };
        let authorised = intent("requires_capture", &json!({"amount_capturable": 500}));
        assert_eq!(of(&authorised, 500), output(0));
        assert_eq!(
            of(&authorised, 501),
            Next::Strange("authorised_amount_differs")
        );
        // The step `capture` was quicker than a twin of the `do`.
        let captured = intent("succeeded", &json!({"amount_received": 500}));
        assert_eq!(of(&captured, 500), output(500));
        assert_eq!(
            of(&intent("requires_confirmation", &json!({})), 500),
            Next::Confirm
        );
    }

    #[test]
    fn another_amount_or_currency_is_never_done() {
        let captured = |minor: i64| intent("succeeded", &json!({"amount_received": minor}));
        let yen = Money {
            currency: "JPY".parse().expect("a currency"),
            ..euros(500)
        };
        for (intent, total) in [
            (captured(499), euros(500)),
            (captured(501), euros(500)),
            (captured(500), yen),
        ] {
            let next = next(&intent, total, CaptureMethod::Automatic);
            assert!(matches!(next, Next::Strange(_)), "{next:?}");
        }
    }

    #[test]
    fn what_is_given_back_is_what_arrived() {
        let captured = intent("succeeded", &json!({"amount_received": 500}));
        let of = |refunds: &[(&str, &str, i64)], told: Option<&str>| {
            let refunds: Vec<Refund> = refunds
                .iter()
                .map(|(id, status, amount)| Refund {
                    id: (*id).to_owned(),
                    status: (*status).to_owned(),
                    amount: *amount,
                })
                .collect();
            back(&captured, &refunds, told)
        };
        let failed = |id: &str| Back::Failed(id.to_owned());
        assert_eq!(of(&[], None), Back::Refund(500));
        assert_eq!(of(&[("re_1", "succeeded", 200)], None), Back::Refund(300));
        assert_eq!(of(&[("re_1", "succeeded", 500)], None), Back::Done);
        assert_eq!(of(&[("re_1", "pending", 500)], None), Back::OnItsWay);
        assert_eq!(
            of(&[("re_1", "requires_action", 500)], None),
            Back::OnItsWay
        );
        let half = [("re_2", "pending", 300), ("re_1", "succeeded", 200)];
        assert_eq!(of(&half, None), Back::OnItsWay);
        // A failure is told once; whoever has it tried again gets a new refund, and its own failure.
        let one = [("re_1", "failed", 500)];
        assert_eq!(of(&one, None), failed("re_1"));
        assert_eq!(of(&one, Some("The refund re_1 failed.")), Back::Refund(500));
        let two = [("re_2", "failed", 500), ("re_1", "failed", 500)];
        assert_eq!(of(&two, Some("The refund re_1 failed.")), failed("re_2"));
        let better = [("re_2", "succeeded", 500), ("re_1", "failed", 500)];
        assert_eq!(of(&better, None), Back::Done);
    }
}
