//! Giving back what was captured, for every step that may find a payment captured that should not be.

use super::{
    decide::{Back, back},
    flow::Provider,
    say::{refund_failed, refund_pending, retry},
    stripe::{Classified, Intent},
};
use crate::kit::{Claim, Verdict};
use contract::{Command, ReplyError};

/// Gives back what a captured intent captured, as far as it is not given back yet, and says done only
/// when it has arrived. The intent is the one that was seen captured: another look might show an older
/// state, with nothing to give back. `told` is the last refusal that was recorded of the undo.
pub(crate) async fn give_back<P: Provider>(
    provider: &P,
    key: &str,
    intent: &Intent,
    told: Option<&ReplyError>,
) -> Verdict {
    let id = &intent.id;
    let refunds = match provider.refunds(id).await {
        Ok(refunds) => refunds,
        Err(error) => return retry(&error),
    };
    let amount_minor = match back(intent, &refunds, told.map(|error| &*error.message)) {
        Back::Done => return Verdict::done(),
        Back::OnItsWay => return refund_pending(),
        Back::Failed(refund) => return refund_failed(&refund),
        Back::Refund(minor) => minor,
    };
    match provider.refund(key, id, amount_minor).await {
        Ok(refund) => match &*refund.status {
            "succeeded" => Verdict::done(),
            "pending" | "requires_action" => refund_pending(),
            _ => refund_failed(&refund.id),
        },
        // By somebody else, or by an attempt whose answer was lost, and not said whether it arrived.
        Err(Classified::AlreadyRefunded) => refund_pending(),
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

/// The last refusal that was recorded of the undo of a claim.
pub(crate) fn told(claim: &Claim) -> Option<&ReplyError> {
    claim.row.as_ref()?.undo_refusal.as_ref()
}
