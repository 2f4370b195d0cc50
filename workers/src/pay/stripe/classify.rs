//! What an answer of the provider, or its absence, tells us. Pure, so that the whole table can be
//! read and tested at once.
//!
//! The line that matters runs between *nothing happened* and *cannot tell*. An answer with a 5xx
//! is on the far side: the provider may have done the work and stumbled afterwards.

use super::model::{ApiError, Intent};
use contract::Refusal;

/// What was asked of the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Make an intent, without confirming it.
    Create,
    /// Charge it, or authorise it.
    Confirm,
    /// Take what was authorised.
    Capture,
    /// End it without a charge.
    Cancel,
    /// Read it.
    Retrieve,
    /// Give back what was captured.
    Refund,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Create,
        Self::Confirm,
        Self::Capture,
        Self::Cancel,
        Self::Retrieve,
        Self::Refund,
    ];

    /// The name in metrics and idempotency keys.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Confirm => "confirm",
            Self::Capture => "capture",
            Self::Cancel => "cancel",
            Self::Retrieve => "retrieve",
            Self::Refund => "refund",
        }
    }
}

/// What came back instead of the object that was asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The request never left: no connection could be made.
    NotSent,
    /// It left and no readable answer came: a time-out, a connection that broke, a body that is
    /// cut off, too long or not JSON.
    Lost,
    /// An answer that is an error.
    Error {
        /// The HTTP status.
        status: u16,
        /// The body's `error`, when there is one.
        error: ApiError,
        /// `Retry-After`, in milliseconds.
        retry_after_ms: Option<u32>,
    },
}

/// What it tells us.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Classified {
    /// The bank said no.
    #[error("declined ({})", .0.code())]
    Declined(Refusal),
    /// The request can never be accepted as it is; nothing was done.
    #[error("the request was refused ({code})")]
    Invalid {
        /// The refusal it means for the customer.
        refusal: Refusal,
        /// The provider's code.
        code: String,
    },
    /// The object is in a state that does not allow it; the answer may show it.
    #[error("the payment is in another state")]
    OtherState(Option<Box<Intent>>),
    /// There is no such object.
    #[error("the provider knows no such payment")]
    Missing,
    /// The capture cannot be given back, whenever one asks.
    #[error("the refund was refused for good ({0})")]
    NotRefundable(&'static str),
    /// Already given back.
    #[error("already refunded")]
    AlreadyRefunded,
    /// Too many requests, or another request holds the object; nothing was done.
    #[error("the provider asks to wait")]
    Busy {
        /// Not before so many milliseconds.
        retry_after_ms: Option<u32>,
    },
    /// An earlier request with the same key is still running.
    #[error("the same request is still running")]
    InProgress,
    /// The provider does not accept our key, which only an operator can mend; nothing was done.
    #[error("the provider does not accept our secret key")]
    Credentials,
    /// The provider was not reached; nothing was done.
    #[error("the provider cannot be reached")]
    NotSent,
    /// Every key that was tried gives nothing but an old failure any more. The provider may be well: this is about
    /// one request, and another key is needed.
    #[error("the provider repeats what it stored with the key")]
    Spent,
    /// It may have been done, or may still be.
    #[error("it is not known whether the provider did it")]
    Ambiguous,
}

impl Classified {
    /// The name in metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Declined(_) => "declined",
            Self::Invalid { .. } => "invalid",
            Self::OtherState(_) => "other_state",
            Self::Missing => "missing",
            Self::NotRefundable(_) => "not_refundable",
            Self::AlreadyRefunded => "already_refunded",
            Self::Busy { .. } => "busy",
            Self::InProgress => "in_progress",
            Self::Credentials => "credentials",
            Self::NotSent => "not_sent",
            Self::Spent => "spent",
            Self::Ambiguous => "ambiguous",
        }
    }
}

/// Sorts an answer.
#[must_use]
pub fn classify(operation: Operation, answer: Answer) -> Classified {
    let (status, error, retry_after_ms) = match answer {
        Answer::NotSent => return Classified::NotSent,
        Answer::Lost => return Classified::Ambiguous,
        Answer::Error {
            status,
            error,
            retry_after_ms,
        } => (status, error, retry_after_ms),
    };
    // `lock_timeout` comes with 429 too: another request is at work on the object.
    if status == 429 {
        return Classified::Busy { retry_after_ms };
    }
    match status {
        401 | 403 => Classified::Credentials,
        409 => Classified::InProgress,
        // Not this request was refused but its key, which says nothing about the effect.
        400 if error.kind == "idempotency_error" => Classified::Ambiguous,
        402 => Classified::Declined(refusal_of(&error)),
        500.. => Classified::Ambiguous,
        400..=499 => invalid_request(operation, error),
        // Neither success nor error: a redirect, or something between us and the provider.
        _ => Classified::Ambiguous,
    }
}

fn invalid_request(operation: Operation, mut error: ApiError) -> Classified {
    let code = error.code.take().unwrap_or_default();
    let code = code.as_str();
    match (operation, code) {
        (Operation::Refund, "charge_already_refunded") => Classified::AlreadyRefunded,
        (Operation::Refund, "charge_disputed") => Classified::NotRefundable("charge_disputed"),
        (Operation::Refund, "charge_expired_for_capture" | "refund_disputed_payment") => {
            Classified::NotRefundable("refund_refused")
        }
        // The bank has let go of it, which ends the intent: it shows when it is read.
        (Operation::Capture, "charge_expired_for_capture") => Classified::OtherState(None),
        (_, "payment_intent_unexpected_state") => {
            Classified::OtherState(error.payment_intent.take())
        }
        (_, "payment_intent_authentication_failure") => {
            Classified::Declined(Refusal::AuthenticationFailed)
        }
        // On `create` and `confirm` what is missing is the payment method, not the intent, when the
        // provider says so.
        (_, "resource_missing") if names_payment_method(&error) => Classified::Invalid {
            refusal: Refusal::PaymentMethodInvalid,
            code: code.to_owned(),
        },
        (_, "resource_missing") if operation != Operation::Create => Classified::Missing,
        _ => Classified::Invalid {
            refusal: if names_payment_method(&error) || code.starts_with("payment_method_") {
                Refusal::PaymentMethodInvalid
            } else {
                Refusal::StepFailed
            },
            code: if code.is_empty() { "none" } else { code }.to_owned(),
        },
    }
}

fn names_payment_method(error: &ApiError) -> bool {
    error
        .param
        .as_deref()
        .is_some_and(|param| param == "payment_method" || param.starts_with("payment_method["))
}

/// The refusal that a card error means for the customer. What would tell a thief how far he got
/// (lost, stolen, fraudulent) is one word with any other decline.
#[must_use]
pub fn refusal_of(error: &ApiError) -> Refusal {
    let code = error.code.as_deref().unwrap_or_default();
    let decline = error.decline_code.as_deref().unwrap_or_default();
    match (code, decline) {
        (_, "insufficient_funds") | ("insufficient_funds", _) => Refusal::InsufficientFunds,
        ("expired_card", _) | (_, "expired_card") => Refusal::ExpiredCard,
        (
            "authentication_required"
            | "payment_intent_authentication_failure"
            | "authentication_not_handled",
            _,
        )
        | (_, "authentication_required") => Refusal::AuthenticationFailed,
        ("incorrect_number" | "invalid_number" | "payment_method_invalid_parameter", _)
        | (_, "incorrect_number" | "invalid_number" | "card_not_supported") => {
            Refusal::PaymentMethodInvalid
        }
        _ => Refusal::CardDeclined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: &str, code: &str, decline: &str, param: &str) -> ApiError {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        ApiError {
            kind: kind.to_owned(),
            code: some(code),
            decline_code: some(decline),
            param: some(param),
            payment_intent: None,
        }
    }

    fn answer(status: u16, code: &str, decline: &str, param: &str) -> Answer {
        Answer::Error {
            status,
            error: error("", code, decline, param),
            retry_after_ms: Some(1_500),
        }
    }

    #[test]
    fn the_table() {
        use Classified as C;
        use Operation as O;
        let busy = C::Busy {
            retry_after_ms: Some(1_500),
        };
        let invalid = |refusal, code: &str| C::Invalid {
            refusal,
            code: code.to_owned(),
        };
        let table = [
            // declines
            (
                O::Confirm,
                answer(402, "card_declined", "generic_decline", ""),
                C::Declined(Refusal::CardDeclined),
            ),
            (
                O::Confirm,
                answer(402, "card_declined", "stolen_card", ""),
                C::Declined(Refusal::CardDeclined),
            ),
            (
                O::Confirm,
                answer(402, "card_declined", "insufficient_funds", ""),
                C::Declined(Refusal::InsufficientFunds),
            ),
            (
                O::Confirm,
                answer(402, "expired_card", "", ""),
                C::Declined(Refusal::ExpiredCard),
            ),
            (
                O::Confirm,
                answer(402, "incorrect_number", "", "number"),
                C::Declined(Refusal::PaymentMethodInvalid),
            ),
            (
                O::Confirm,
                answer(402, "authentication_required", "", ""),
                C::Declined(Refusal::AuthenticationFailed),
            ),
            (
                O::Confirm,
                answer(402, "", "", ""),
                C::Declined(Refusal::CardDeclined),
            ),
            (
                O::Confirm,
                answer(400, "payment_intent_authentication_failure", "", ""),
                C::Declined(Refusal::AuthenticationFailed),
            ),
            // requests that can never be accepted
            (
                O::Create,
                answer(400, "resource_missing", "", "payment_method"),
                invalid(Refusal::PaymentMethodInvalid, "resource_missing"),
            ),
            (
                O::Create,
                answer(404, "resource_missing", "", "payment_method"),
                invalid(Refusal::PaymentMethodInvalid, "resource_missing"),
            ),
            (
                O::Create,
                answer(400, "amount_too_small", "", "amount"),
                invalid(Refusal::StepFailed, "amount_too_small"),
            ),
            (
                O::Create,
                answer(400, "", "", ""),
                invalid(Refusal::StepFailed, "none"),
            ),
            (
                O::Confirm,
                answer(400, "payment_method_unactivated", "", ""),
                invalid(Refusal::PaymentMethodInvalid, "payment_method_unactivated"),
            ),
            // the intent itself
            (
                O::Retrieve,
                answer(404, "resource_missing", "", "intent"),
                C::Missing,
            ),
            (
                O::Cancel,
                answer(404, "resource_missing", "", "intent"),
                C::Missing,
            ),
            (
                O::Confirm,
                answer(400, "payment_intent_unexpected_state", "", ""),
                C::OtherState(None),
            ),
            (
                O::Cancel,
                answer(400, "payment_intent_unexpected_state", "", ""),
                C::OtherState(None),
            ),
            (
                O::Capture,
                answer(400, "charge_expired_for_capture", "", ""),
                C::OtherState(None),
            ),
            // refunds
            (
                O::Refund,
                answer(400, "charge_already_refunded", "", ""),
                C::AlreadyRefunded,
            ),
            (
                O::Refund,
                answer(400, "charge_disputed", "", ""),
                C::NotRefundable("charge_disputed"),
            ),
            // nothing was done
            (O::Create, answer(429, "rate_limit", "", ""), busy.clone()),
            (O::Confirm, answer(429, "lock_timeout", "", ""), busy),
            (
                O::Create,
                answer(409, "idempotency_key_in_use", "", ""),
                C::InProgress,
            ),
            (O::Confirm, answer(401, "", "", ""), C::Credentials),
            (O::Refund, answer(403, "", "", ""), C::Credentials),
            (O::Confirm, Answer::NotSent, C::NotSent),
            // cannot tell
            (O::Confirm, answer(500, "", "", ""), C::Ambiguous),
            (O::Create, answer(503, "", "", ""), C::Ambiguous),
            (O::Refund, answer(302, "", "", ""), C::Ambiguous),
            (O::Confirm, Answer::Lost, C::Ambiguous),
        ];
        for (operation, answer, expected) in table {
            let shown = format!("{operation:?} {answer:?}");
            assert_eq!(classify(operation, answer), expected, "{shown}");
        }
    }

    #[test]
    fn a_refused_key_says_nothing_about_the_effect() {
        for operation in Operation::ALL {
            let answer = Answer::Error {
                status: 400,
                error: error("idempotency_error", "", "", ""),
                retry_after_ms: None,
            };
            assert_eq!(classify(operation, answer), Classified::Ambiguous);
        }
    }

    #[test]
    fn no_5xx_and_no_silence_is_ever_taken_for_nothing_happened() {
        for operation in Operation::ALL {
            for status in 500..=599 {
                for code in ["", "card_declined", "resource_missing", "rate_limit"] {
                    let got = classify(operation, answer(status, code, "", ""));
                    assert_eq!(got, Classified::Ambiguous, "{operation:?} {status} {code}");
                }
            }
            assert_eq!(classify(operation, Answer::Lost), Classified::Ambiguous);
        }
    }
}
