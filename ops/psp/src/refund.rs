//! The life of a refund: two total functions, without clock, chance or I/O.
//!
//! A refund to a card mostly succeeds at once. It may also be pending for a while, and end either way; or it
//! looks like a success until the payer's bank sends the money back. A card or a plan says which. What is
//! pending counts as refunded in the charge, as at Stripe, or it could be asked for twice; the ledger has it
//! only once the money has moved, and has a line more when it comes back.

use serde::{Deserialize, Serialize};

use crate::cards::Behaviour;
use crate::error::StripeError;
use crate::intent::{ChargeState, Intent, Metadata, Refund, RefundStatus, Settles};
use crate::step::{MovementKind, Transition, too_small};

/// How long a refund to one of the test cards for refunds takes, in milliseconds.
const TEST_CARD_MS: u64 = 500;

/// How a refund that does not simply succeed goes on, after so many milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Course {
    /// Pending, then succeeded.
    Pending { ms: u64 },
    /// Pending, then failed.
    Fails { ms: u64 },
    /// Succeeded, then failed after all.
    FailsLater { ms: u64 },
}

/// How the refunds of a test card go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CardRefunds {
    /// `pm_card_pendingRefund`
    Pend,
    /// `pm_card_refundFail`
    FailLater,
}

/// The parameters of a refund.
#[derive(Debug, Clone)]
pub(crate) struct NewRefund {
    pub(crate) id: Box<str>,
    pub(crate) amount: Option<i64>,
    pub(crate) reason: Option<Box<str>>,
    pub(crate) metadata: Metadata,
    /// How it goes on, if not as its card says.
    pub(crate) course: Option<Course>,
    /// In milliseconds since 1970.
    pub(crate) now_ms: i64,
}

/// Gives back a part of what `intent` captured, or all that is left of it.
pub(crate) fn refunded(intent: &Intent, new: NewRefund) -> Result<Transition, StripeError> {
    let charge = intent
        .charge
        .as_ref()
        .filter(|charge| charge.state == ChargeState::Captured);
    let (Some(charge), Some(charge_id)) = (charge, intent.charge_id()) else {
        return Err(StripeError::unexpected_state(format!(
            "This PaymentIntent ({}) does not have a successful charge to refund.",
            intent.id
        )));
    };
    if charge.disputed {
        return Err(StripeError::invalid(format!(
            "Charge {charge_id} has been charged back; cannot issue a refund."
        ))
        .code("charge_disputed"));
    }
    let left = charge.captured - charge.refunded;
    if left == 0 {
        return Err(
            StripeError::invalid(format!("Charge {charge_id} has already been refunded."))
                .code("charge_already_refunded"),
        );
    }
    let amount = new.amount.unwrap_or(left);
    if amount < 1 {
        return Err(too_small("amount"));
    }
    if amount > left {
        return Err(StripeError::invalid(format!(
            "Refund amount ({amount}) is greater than unrefunded amount on charge ({left})"
        ))
        .param("amount"));
    }
    let course = new.course.or(match charge.method.card.0.behaviour {
        Behaviour::Refunds(CardRefunds::Pend) => Some(Course::Pending { ms: TEST_CARD_MS }),
        Behaviour::Refunds(CardRefunds::FailLater) => Some(Course::FailsLater { ms: TEST_CARD_MS }),
        _ => None,
    });
    let (status, end) = match course {
        None => (RefundStatus::Succeeded, None),
        Some(Course::Pending { ms }) => {
            (RefundStatus::Pending, Some((ms, RefundStatus::Succeeded)))
        }
        Some(Course::Fails { ms }) => (RefundStatus::Pending, Some((ms, RefundStatus::Failed))),
        Some(Course::FailsLater { ms }) => {
            (RefundStatus::Succeeded, Some((ms, RefundStatus::Failed)))
        }
    };
    let refund = Refund {
        id: new.id,
        intent: intent.id.clone(),
        charge: charge_id.into(),
        created: new.now_ms / 1000,
        amount,
        currency: intent.currency.clone(),
        metadata: new.metadata,
        reason: new.reason,
        status,
        settles: end.map(|(ms, status)| Settles {
            at_ms: new
                .now_ms
                .saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)),
            status,
        }),
    };
    let mut next = intent.clone();
    if let Some(charge) = &mut next.charge {
        charge.refunded += amount;
    }
    let mut transition = Transition::of(next);
    transition.refund = Some(refund);
    if status == RefundStatus::Succeeded {
        transition.moved(MovementKind::Refunded, amount);
    }
    transition
        .events
        .extend(["refund.created", "charge.refunded"]);
    Ok(transition)
}

/// The refund's time has come: what becomes of it. `None` if nothing was to become of it.
pub(crate) fn settled(intent: &Intent, refund: &Refund) -> Option<Transition> {
    let end = refund.settles?.status;
    let mut next = intent.clone();
    if let Some(charge) = next.charge.as_mut().filter(|_| end == RefundStatus::Failed) {
        charge.refunded -= refund.amount;
    }
    let mut transition = Transition::of(next);
    match (refund.status, end) {
        (RefundStatus::Pending, RefundStatus::Succeeded) => {
            transition.moved(MovementKind::Refunded, refund.amount);
        }
        (RefundStatus::Succeeded, RefundStatus::Failed) => {
            transition.moved(MovementKind::RefundFailed, refund.amount);
        }
        _ => {}
    }
    transition
        .events
        .extend(["refund.updated", "charge.refund.updated"]);
    if end == RefundStatus::Failed {
        transition.events.push("refund.failed");
    }
    transition.refund = Some(Refund {
        status: end,
        settles: None,
        ..refund.clone()
    });
    Some(transition)
}
