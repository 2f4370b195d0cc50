//! What the step says, and what the ledger told it: the small words around [`super::Pay`].

use super::stripe::{CaptureMethod, Classified, IntentId};
use crate::{
    Error,
    kit::{Claim, Verdict},
};
use contract::{Command, OrderId, Refusal};

/// The code for an intent that the ledger knows and the provider does not.
pub(super) const INTENT_MISSING: &str = "payment_intent_missing";

/// Stands in the ledger, before the code of the refusal, where the provider refused to make an
/// intent at all.
const NO_INTENT: &str = "none:";

/// What the ledger knows of an effect that is claimed.
pub(super) enum Known {
    /// Nothing: no intent has been stored.
    Nothing,
    /// The one intent of the order.
    Intent(IntentId),
    /// That there is none and will be none.
    Refused(Refusal),
}

pub(super) fn known(claim: &Claim) -> Result<Known, Error> {
    let Some(text) = claim.outside_id() else {
        return Ok(Known::Nothing);
    };
    if let Some(code) = text.strip_prefix(NO_INTENT) {
        let refusal = Refusal::from_code(code).unwrap_or(Refusal::StepFailed);
        return Ok(Known::Refused(refusal));
    }
    let id = IntentId::new(text);
    let bad = || Error::BadRow(format!("{} has no payment's id", claim.command.effect_key));
    id.map(Known::Intent).ok_or_else(bad)
}

/// Whether a command asks for the money or for an authorisation. Without an input it is the money, as
/// in `order@1`.
pub(super) fn capture_method(command: &Command) -> Result<CaptureMethod, Error> {
    let Some(input) = &command.input else {
        return Ok(CaptureMethod::Automatic);
    };
    match input["capture_method"].as_str() {
        Some("automatic") => Ok(CaptureMethod::Automatic),
        Some("manual") => Ok(CaptureMethod::Manual),
        // Of a later version of this program; whoever knows it takes the command when it comes again.
        _ => Err(Error::BadInput(command.step.clone())),
    }
}

/// What takes an intent's place in the ledger when there will be none.
pub(super) fn no_intent(refusal: Refusal) -> String {
    format!("{NO_INTENT}{}", refusal.code())
}

pub(crate) fn overtaken() -> Verdict {
    Verdict::retry("overtaken", "The payment is being handled elsewhere.")
}

pub(crate) fn not_yet() -> Verdict {
    Verdict::retry(
        "payment_in_progress",
        "The payment provider has not decided yet.",
    )
}

/// The money is on its way back, or may be: whether it arrives is not known yet.
pub(super) fn refund_pending() -> Verdict {
    Verdict::retry("refund_pending", "The money is on its way back.")
}

/// The money did not arrive: work for a person. The text names the refund, so that the next undo knows
/// that he was told of it.
pub(super) fn refund_failed(refund: &str) -> Verdict {
    Verdict::rejected(
        "refund_failed",
        &format!("The money could not be given back: the refund {refund} failed."),
    )
}

/// Nothing is said about the effect: the next attempt looks at the intent first.
pub(crate) fn retry(error: &Classified) -> Verdict {
    let (code, message) = match error {
        Classified::Credentials => {
            tracing::error!("the payment provider does not accept pay.secret_key");
            (
                "provider_refuses_key",
                "The payment provider does not let us in.",
            )
        }
        Classified::Busy { .. } => ("provider_busy", "The payment provider asks to wait."),
        Classified::InProgress => ("payment_in_progress", "The same request is still running."),
        Classified::NotSent => (
            "provider_unreachable",
            "The payment provider cannot be reached.",
        ),
        // Of this payment alone: it says nothing about the provider, which may be well again.
        Classified::Spent => (
            "payment_stuck",
            "The payment provider repeats an old failure of this payment.",
        ),
        _ => ("provider_failed", "The payment provider failed."),
    };
    match error {
        Classified::Busy {
            retry_after_ms: Some(ms),
        } => Verdict::retry_after_ms(code, message, *ms),
        _ => Verdict::retry(code, message),
    }
}

/// The ledger has an id that the provider does not know: another account, or lost data. Nobody can
/// say what became of the money.
pub(crate) fn missing(order: OrderId, id: &IntentId) -> Verdict {
    tracing::error!(order_id = %order, payment_intent = %id, "the provider does not know a payment");
    Verdict::unknown(
        INTENT_MISSING,
        "The payment provider does not know this payment.",
    )
}
