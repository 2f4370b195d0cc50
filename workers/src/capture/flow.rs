//! What the step does, over whatever provider and ledger it is given. The worker gives it the real
//! ones; the simulation gives it such as lie, stall and die in between.

use crate::{
    Error,
    kit::{Claim, Verdict},
    pay::{
        decide::captured_exactly,
        flow::{OutsideIds, Provider},
        give_back::{attempt_key, give_back, told},
        say::{missing, not_yet, overtaken, retry},
        stripe::{Classified, Intent, IntentId, Status},
    },
};
use contract::{
    Money, Refusal,
    planted::{Bug, planted},
};
use serde_json::{Value, json};

/// What was authorised for an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// What the provider calls it, as `pay` wrote it into the ledger.
    pub intent: Option<String>,
    /// What is to be captured.
    pub total: Money,
}

/// One command on its way.
#[derive(Debug)]
pub struct Flow<'a, P> {
    /// The provider.
    pub provider: &'a P,
    /// The command and the ledger's row.
    pub claim: &'a Claim,
    /// What was authorised.
    pub payment: &'a Payment,
}

/// How an intent stands, for whoever wants it captured.
enum Stand {
    /// It is; with the step's output.
    Captured(Value),
    /// It can be.
    Authorised,
    /// It never can be.
    Ended,
    /// The provider has not decided.
    NotYet,
    /// Nothing that an intent of an order may be; the code says what.
    Strange(&'static str),
}

impl<P: Provider + Sync> Flow<'_, P> {
    /// Captures what was authorised, or finds that it is captured.
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub async fn act(&self, ids: &impl OutsideIds) -> Result<Verdict, Error> {
        let Some(id) = self.intent()? else {
            return Ok(no_payment());
        };
        if self.claim.outside_id().is_none() && !ids.store(self.claim, id.as_str()).await? {
            return Ok(overtaken());
        }
        let key = attempt_key(&self.claim.command);
        let minor = self.payment.total.amount_minor;
        let asked = self.provider.capture(&key, &id, minor).await;
        // A command that comes once more may hear what was stored with its key; the next has another.
        let why = match asked {
            Err(Classified::Spent) => Classified::Spent,
            _ => Classified::Ambiguous,
        };
        let seen = match asked {
            Ok(intent) => intent,
            Err(Classified::Ambiguous) if planted(Bug::LostCaptureBelieved) => {
                return Ok(Verdict::done());
            }
            Err(Classified::OtherState(Some(intent))) => *intent,
            // Not what happened, but what is: read it.
            Err(
                Classified::OtherState(None)
                | Classified::Ambiguous
                | Classified::Spent
                | Classified::Declined(_)
                | Classified::Invalid { .. },
            ) => match self.provider.retrieve(&id).await {
                Ok(intent) => intent,
                Err(_) => return Ok(retry(&Classified::Ambiguous)),
            },
            Err(Classified::Missing) => return Ok(missing(self.claim.order_id(), &id)),
            Err(other) => return Ok(retry(&other)),
        };
        Ok(match self.stand(&seen) {
            Stand::Captured(output) => Verdict::Done(Some(output)),
            // Not captured, or not yet: the next attempt captures the same intent.
            Stand::Authorised => retry(&why),
            Stand::Ended => Verdict::refused(Refusal::PaymentUnavailable),
            Stand::NotYet => not_yet(),
            Stand::Strange(code) => self.strange(&id, code),
        })
    }

    /// Gives back what was captured. What was not, is for the undo of `pay`; see [`super`].
    ///
    /// # Errors
    /// As [`Self::act`].
    pub async fn undo(&self) -> Result<Verdict, Error> {
        let Some(id) = self.intent()? else {
            return Ok(Verdict::done()); // without an intent nothing was captured
        };
        if planted(Bug::CaptureUndoBlind) {
            return Ok(Verdict::done());
        }
        Ok(match self.provider.retrieve(&id).await {
            Ok(intent) => match intent.status {
                Status::Succeeded => {
                    let key = attempt_key(&self.claim.command);
                    give_back(self.provider, &key, &intent, told(self.claim)).await
                }
                Status::Processing => not_yet(),
                _ => Verdict::done(),
            },
            Err(Classified::Missing) => missing(self.claim.order_id(), &id),
            Err(error) => retry(&error),
        })
    }

    /// Asks whether it is captured. Only a read.
    ///
    /// # Errors
    /// As [`Self::act`].
    pub async fn probe(&self) -> Result<Verdict, Error> {
        let Some(id) = self.intent()? else {
            return Ok(no_payment());
        };
        let seen = match self.provider.retrieve(&id).await {
            Ok(intent) => intent,
            Err(Classified::Missing) => return Ok(missing(self.claim.order_id(), &id)),
            Err(error) => return Ok(retry(&error)),
        };
        Ok(match self.stand(&seen) {
            Stand::Captured(output) => Verdict::Done(Some(output)),
            // A twin may be about to.
            Stand::Authorised => {
                Verdict::unknown("payment_not_captured", "The payment is not captured.")
            }
            Stand::Ended => Verdict::refused(Refusal::PaymentUnavailable),
            Stand::NotYet => not_yet(),
            Stand::Strange(code) => self.strange(&id, code),
        })
    }

    fn stand(&self, intent: &Intent) -> Stand {
        match intent.status {
            Status::Succeeded if captured_exactly(intent, self.payment.total) => {
                Stand::Captured(json!({
                    "payment_intent": intent.id.as_str(),
                    "captured_minor": intent.amount_received,
                    "currency": intent.currency.to_ascii_uppercase(),
                }))
            }
            Status::Succeeded => Stand::Strange("captured_amount_differs"),
            Status::RequiresCapture => Stand::Authorised,
            Status::Canceled => Stand::Ended,
            Status::Processing => Stand::NotYet,
            Status::RequiresPaymentMethod
            | Status::RequiresConfirmation
            | Status::RequiresAction
            | Status::Other => Stand::Strange("payment_not_authorised"),
        }
    }

    /// The intent: the one that this step began with, or that `pay` left.
    fn intent(&self) -> Result<Option<IntentId>, Error> {
        let Some(text) = self.claim.outside_id().or(self.payment.intent.as_deref()) else {
            return Ok(None);
        };
        let key = &self.claim.command.effect_key;
        let bad = || Error::BadRow(format!("{key} has no payment's id"));
        IntentId::new(text).map(Some).ok_or_else(bad)
    }

    fn strange(&self, id: &IntentId, code: &'static str) -> Verdict {
        tracing::error!(order_id = %self.claim.order_id(), payment_intent = %id, code,
            "an authorised payment is in an unexpected state");
        Verdict::unknown(code, "The payment is in an unexpected state.")
    }
}

/// The ledger does not say what `pay` authorised. Nobody can say what became of the money.
fn no_payment() -> Verdict {
    Verdict::unknown("payment_not_found", "No authorised payment is known.")
}

#[cfg(test)]
#[path = "flow_tests.rs"]
mod tests;
