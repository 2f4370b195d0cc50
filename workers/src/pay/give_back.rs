//! Giving back what was captured, for every step that may find a payment captured that should not be.

use super::{
    decide::to_refund_minor,
    flow::Provider,
    say::{not_yet, retry},
    stripe::{Classified, Intent},
};
use crate::kit::Verdict;
use contract::Command;

/// Gives back what a captured intent captured, as far as it is not given back yet. The intent is the
/// one that was seen captured: another look might show an older state, with nothing to give back.
pub(crate) async fn give_back<P: Provider>(provider: &P, key: &str, intent: &Intent) -> Verdict {
    let (id, amount_minor) = (&intent.id, to_refund_minor(intent));
    if intent.refunded_minor().is_none() {
        return not_yet(); // without the charge it is not known what was given back
    }
    if amount_minor == 0 {
        return Verdict::done();
    }
    match provider.refund(key, id, amount_minor).await {
        Ok(refund) if matches!(&*refund.status, "succeeded" | "pending") => Verdict::done(),
        Ok(refund) if refund.status == "requires_action" => not_yet(),
        Ok(_) => Verdict::rejected(
            "refund_failed",
            "The provider could not give the money back.",
        ),
        Err(Classified::AlreadyRefunded) => Verdict::done(),
        Err(Classified::NotRefundable(code)) => {
            Verdict::rejected(code, "The provider refuses to give the money back.")
        }
        Err(Classified::Invalid { code, .. }) => {
            tracing::error!(payment_intent = %id, %code, "a refund is refused");
            Verdict::rejected(
                "refund_refused",
                "The provider refuses to give the money back.",
            )
        }
        Err(other) => retry(&other),
    }
}

/// The key of what may be refused today and accepted tomorrow (a cancel while the bank thinks, a
/// refund during a dispute): each attempt has its own, or the provider would repeat the refusal
/// that it stored with the key. What keeps these from being done twice is the state of the intent.
pub(crate) fn attempt_key(command: &Command) -> String {
    format!("{}/{}", command.effect_key, command.id)
}
