//! What the step does, over whatever provider, ledger and limits it is given. The worker gives it the
//! real ones; the simulation gives it such as lie, stall and die in between.

use super::{
    decide::{Next, next},
    give_back::{attempt_key, give_back, told},
    say::{self, INTENT_MISSING, Known, capture_method, known, missing, not_yet, overtaken, retry},
    stripe::{Classified, Intent, IntentId, NewIntent, Refund, Status},
};
use crate::{
    Error,
    fraud_check::fingerprint::Answer,
    kit::{Claim, OrderView, Verdict},
};
use contract::{
    OrderId, Refusal,
    crash::{self, Point, Request},
    planted::{Bug, planted},
};

/// How often one command looks at the intent again and goes on. Each round either changes the
/// intent's state or ends; no path has more than four.
const ROUNDS_MAX: u32 = 6;

/// The payment provider, as far as the step needs it. Errors say what an answer, or its absence,
/// tells.
pub trait Provider {
    /// Makes an intent, and does not confirm it: nothing is charged.
    fn create(
        &self,
        key: &str,
        new: &NewIntent<'_>,
    ) -> impl Future<Output = Result<Intent, Classified>> + Send;

    /// Charges an intent.
    fn confirm(
        &self,
        key: &str,
        id: &IntentId,
        return_url: &str,
    ) -> impl Future<Output = Result<Intent, Classified>> + Send;

    /// Takes what an intent authorised.
    fn capture(
        &self,
        key: &str,
        id: &IntentId,
        amount_minor: i64,
    ) -> impl Future<Output = Result<Intent, Classified>> + Send;

    /// Ends an intent without a charge.
    fn cancel(
        &self,
        key: &str,
        id: &IntentId,
    ) -> impl Future<Output = Result<Intent, Classified>> + Send;

    /// Reads an intent.
    fn retrieve(&self, id: &IntentId) -> impl Future<Output = Result<Intent, Classified>> + Send;

    /// Gives back a part of what an intent captured.
    fn refund(
        &self,
        key: &str,
        id: &IntentId,
        amount_minor: i64,
    ) -> impl Future<Output = Result<Refund, Classified>> + Send;

    /// The refunds of an intent, newest first.
    fn refunds(
        &self,
        id: &IntentId,
    ) -> impl Future<Output = Result<Vec<Refund>, Classified>> + Send;
}

/// The limits per card.
pub trait Limits {
    /// Takes for an order, or says why not.
    fn take(
        &self,
        order: OrderId,
        fingerprint: &str,
        tickets: i32,
    ) -> impl Future<Output = Result<Answer, Error>> + Send;

    /// Gives back what an order took, and forbids it to take later. Says why it was refused, if it was.
    fn give_back(
        &self,
        order: OrderId,
    ) -> impl Future<Output = Result<Option<Refusal>, Error>> + Send;
}

/// The ledger while an effect is under way.
pub trait OutsideIds {
    /// Stores what the provider calls the effect, on condition that it is still claimed and has no
    /// other id; `false`: nothing more may be done.
    fn store(
        &self,
        claim: &Claim,
        outside_id: &str,
    ) -> impl Future<Output = Result<bool, Error>> + Send;
}

/// One command on its way.
#[derive(Debug)]
pub struct Flow<'a, P, L> {
    /// The provider.
    pub provider: &'a P,
    /// The limits per card.
    pub limits: &'a L,
    /// The command and the ledger's row.
    pub claim: &'a Claim,
    /// The order.
    pub order: &'a OrderView,
    /// Where the provider sends the customer back to.
    pub return_url: &'a str,
    /// What the provider calls the payment, as a person has found out; only an undo asks.
    pub corrected: Option<&'a IntentId>,
}

/// The bank said yes.
fn went_through(status: Status) -> bool {
    matches!(status, Status::Succeeded | Status::RequiresCapture)
}

/// How a `do` goes on.
enum Step {
    /// Look at the intent as it is now.
    Look(Box<Intent>),
    /// There is a verdict.
    End(Verdict),
}

impl<P: Provider + Sync, L: Limits + Sync> Flow<'_, P, L> {
    /// Brings the payment about, or goes on from the intent that the ledger knows.
    ///
    /// # Errors
    /// The ledger or the limits cannot be written.
    pub async fn act(&self, ids: &impl OutsideIds) -> Result<Verdict, Error> {
        let step = match known(self.claim)? {
            Known::Nothing => self.create(ids).await?,
            Known::Refused(refusal) => Step::End(Verdict::refused(refusal)),
            Known::Intent(id) => match self.provider.retrieve(&id).await {
                Ok(intent) => Step::Look(Box::new(intent)),
                Err(Classified::Missing) => Step::End(missing(self.order.id, &id)),
                // Nothing was asked for in this attempt.
                Err(other) => Step::End(retry(&other)),
            },
        };
        match step {
            Step::Look(intent) => self.advance(*intent).await,
            Step::End(verdict) => Ok(verdict),
        }
    }

    /// Cancels the payment, or gives it back.
    ///
    /// # Errors
    /// As [`Self::act`].
    pub async fn undo(&self) -> Result<Verdict, Error> {
        let mut verdict = match (known(self.claim)?, self.corrected) {
            (Known::Intent(id), _) => self.take_back(&id).await,
            (_, None) => return Ok(Verdict::done()), // nothing was charged, and nothing was taken either
            (_, Some(_)) => Verdict::done(),
        };
        if let Some(id) = self.corrected
            && (matches!(verdict, Verdict::Done(_)) || verdict.code() == Some(INTENT_MISSING))
        {
            verdict = self.take_back_corrected(id).await;
        }
        if matches!(verdict, Verdict::Done(_)) {
            self.limits.give_back(self.order.id).await?;
        }
        Ok(verdict)
    }

    /// A person says that the provider knows the payment by this id. Whatever the provider knows by the
    /// ledger's was taken back before; and this one has to be the order's, or a slip of the pen would give
    /// back what somebody else has paid.
    async fn take_back_corrected(&self, id: &IntentId) -> Verdict {
        let intent = match self.provider.retrieve(id).await {
            Ok(intent) => intent,
            Err(Classified::Missing) => return missing(self.order.id, id),
            Err(other) => return retry(&other),
        };
        if intent.metadata.order_id != Some(self.order.id.to_string()) {
            return Verdict::rejected(
                "payment_of_another_order",
                "The payment was not made for this order.",
            );
        }
        self.take_back(id).await
    }

    async fn take_back(&self, id: &IntentId) -> Verdict {
        match self.provider.cancel(&self.attempt_key(), id).await {
            Ok(intent) if intent.status == Status::Canceled => Verdict::done(),
            Err(Classified::OtherState(Some(intent))) if intent.status == Status::Canceled => {
                Verdict::done()
            }
            Err(Classified::OtherState(_)) if planted(Bug::RefusedCancelBelieved) => {
                Verdict::done()
            }
            // It has succeeded, or is about to: what it captured says the intent itself.
            Ok(_) | Err(Classified::OtherState(_)) => self.after_cancel(id).await,
            Err(Classified::Missing) => missing(self.order.id, id),
            Err(other) => retry(&other),
        }
    }

    /// Asks how the payment stands.
    ///
    /// # Errors
    /// As [`Self::act`].
    pub async fn probe(&self) -> Result<Verdict, Error> {
        let id = match known(self.claim)? {
            Known::Intent(id) => id,
            Known::Refused(refusal) => return Ok(Verdict::refused(refusal)),
            Known::Nothing => return Ok(Verdict::unknown("not_found", "No payment is known.")),
        };
        let intent = match self.provider.retrieve(&id).await {
            Ok(intent) => intent,
            Err(Classified::Missing) => return Ok(missing(self.order.id, &id)),
            Err(other) => return Ok(retry(&other)),
        };
        Ok(match self.next(&intent)? {
            Next::Done(output) => Verdict::Done(Some(output)),
            Next::Wait(output) => Verdict::Waiting(output),
            // Cancelled at the provider: it can never come into force.
            Next::Refuse(refusal) => {
                let limit = self.limits.give_back(self.order.id).await?;
                Verdict::refused(limit.unwrap_or(refusal))
            }
            // It failed, but a twin could still confirm it: no is said once that is impossible.
            Next::Cancel(refusal) => match self.refuse(&id, Verdict::refused(refusal)).await? {
                Step::End(verdict) => verdict,
                Step::Look(seen) => match self.next(&seen)? {
                    Next::Done(output) => Verdict::Done(Some(output)),
                    _ => not_yet(),
                },
            },
            Next::Confirm => {
                Verdict::unknown("payment_not_confirmed", "The payment is not confirmed.")
            }
            Next::NotYet => not_yet(),
            Next::Strange(code) => Verdict::unknown(code, "The payment is in an unexpected state."),
        })
    }

    /// Goes on from an intent as it stands until there is a verdict.
    async fn advance(&self, first: Intent) -> Result<Verdict, Error> {
        let mut intent = first;
        for _ in 0..ROUNDS_MAX {
            let step = match self.next(&intent)? {
                Next::Done(output) => return Ok(Verdict::Done(Some(output))),
                Next::Wait(output) => return Ok(Verdict::Waiting(output)),
                Next::NotYet => return Ok(not_yet()),
                Next::Strange(code) => {
                    tracing::error!(order_id = %self.order.id, payment_intent = %intent.id, code,
                        "a payment is in a state that this step never brings about");
                    return Ok(Verdict::unknown(
                        code,
                        "The payment is in an unexpected state.",
                    ));
                }
                Next::Refuse(refusal) => {
                    // A limit may have been why, in an attempt that did not live to tell.
                    let limit = self.limits.give_back(self.order.id).await?;
                    return Ok(Verdict::refused(limit.unwrap_or(refusal)));
                }
                Next::Cancel(refusal) => self.refuse(&intent.id, Verdict::refused(refusal)).await?,
                Next::Confirm => match self.within_limits(&intent).await? {
                    Err((refusal, message)) => {
                        let verdict = Verdict::rejected(refusal.code(), &message);
                        self.refuse(&intent.id, verdict).await?
                    }
                    Ok(()) => self.confirm(&intent.id).await?,
                },
            };
            match step {
                Step::Look(seen) => intent = *seen,
                Step::End(verdict) => return Ok(verdict),
            }
        }
        Ok(not_yet())
    }

    async fn within_limits(&self, intent: &Intent) -> Result<Answer, Error> {
        let Some(fingerprint) = intent.fingerprint() else {
            return Ok(Ok(())); // not a card: there is nothing to count by
        };
        let tickets = self.order.items.iter().map(|item| item.quantity).sum();
        self.limits.take(self.order.id, fingerprint, tickets).await
    }

    async fn create(&self, ids: &impl OutsideIds) -> Result<Step, Error> {
        let order_id = self.order.id.to_string();
        let new = NewIntent {
            order_id: &order_id,
            total: self.order.total,
            payment_method: &self.order.payment_method,
            receipt_email: &self.order.email,
            capture_method: capture_method(&self.claim.command)?,
        };
        let effect_key = &self.claim.command.effect_key;
        let made = match self.provider.create(effect_key, &new).await {
            // Its keys give nothing but failures of an outage that may be over: without another one the order
            // would never be paid, and be taken for a sign that the provider is still away.
            Err(Classified::Spent) => self.provider.create(&self.attempt_key(), &new).await,
            made => made,
        };
        let intent = match made {
            Ok(intent) => intent,
            Err(Classified::Declined(refusal)) => {
                return self.refuse_without_intent(refusal, ids).await;
            }
            Err(Classified::Invalid { refusal, code }) => {
                tracing::warn!(%order_id, %code, "the provider refuses to make a payment");
                return self.refuse_without_intent(refusal, ids).await;
            }
            // Whatever was made is unconfirmed and charges nothing.
            Err(other) => return Ok(Step::End(retry(&other))),
        };
        if planted(Bug::CallBeforeClaim) || ids.store(self.claim, intent.id.as_str()).await? {
            crash::at(Point::Provider("create", Request::Stored));
            return Ok(Step::Look(Box::new(intent)));
        }
        // An undo came first, or a twin has an intent of its own in the ledger.
        if let Err(error) = self.provider.cancel(&self.attempt_key(), &intent.id).await {
            tracing::info!(%order_id, payment_intent = %intent.id, %error,
                "an intent that nobody will confirm is left behind");
        }
        Ok(Step::End(overtaken()))
    }

    /// Refuses where there is no intent to cancel: takes the intent's place in the ledger, so that no
    /// twin can go on with an intent of its own.
    async fn refuse_without_intent(
        &self,
        refusal: Refusal,
        ids: &impl OutsideIds,
    ) -> Result<Step, Error> {
        let place = say::no_intent(refusal);
        let taken = ids.store(self.claim, &place).await?;
        Ok(Step::End(if taken {
            Verdict::refused(refusal)
        } else {
            overtaken()
        }))
    }

    async fn confirm(&self, id: &IntentId) -> Result<Step, Error> {
        let (provider, back) = (self.provider, self.return_url);
        let effect_key = &self.claim.command.effect_key;
        let told = match provider.confirm(effect_key, id, back).await {
            // As in `create`.
            Err(Classified::Spent) => provider.confirm(&self.attempt_key(), id, back).await,
            told => told,
        };
        Ok(match told {
            Ok(intent) => Step::Look(Box::new(intent)),
            Err(Classified::Declined(refusal) | Classified::Invalid { refusal, .. }) => {
                self.refuse(id, Verdict::refused(refusal)).await?
            }
            Err(Classified::OtherState(Some(intent)))
                if intent.status != Status::RequiresConfirmation =>
            {
                Step::Look(intent)
            }
            // Not what happened, but what is: read it.
            Err(Classified::OtherState(_) | Classified::Ambiguous) => {
                self.look_again(id, &Classified::Ambiguous).await
            }
            Err(Classified::Spent) => self.look_again(id, &Classified::Spent).await,
            Err(Classified::Missing) => Step::End(missing(self.order.id, id)),
            Err(other) => Step::End(retry(&other)),
        })
    }

    /// After a confirmation that told nothing, for this reason.
    async fn look_again(&self, id: &IntentId, why: &Classified) -> Step {
        match self.provider.retrieve(id).await {
            // Not confirmed, or not yet: the next attempt confirms the same intent.
            Ok(intent) if intent.status == Status::RequiresConfirmation => Step::End(retry(why)),
            Ok(intent) => Step::Look(Box::new(intent)),
            // Not `unknown`, after which only a probe may follow: a provider that is down for a
            // moment would cost every order it was about to charge. The next attempt begins by
            // reading the intent, so it asks as well as a probe does, and can go on.
            Err(_) => Step::End(retry(&Classified::Ambiguous)),
        }
    }

    /// Cancels the intent, then refuses; if it has succeeded meanwhile, looks at it again.
    async fn refuse(&self, id: &IntentId, verdict: Verdict) -> Result<Step, Error> {
        let ended = match self.provider.cancel(&self.attempt_key(), id).await {
            Ok(intent) => Ok(Box::new(intent)),
            Err(Classified::OtherState(Some(intent))) => Ok(intent),
            Err(Classified::OtherState(None)) => self.provider.retrieve(id).await.map(Box::new),
            Err(other) => Err(other),
        };
        match ended {
            Ok(intent) if intent.status == Status::Canceled => {
                self.limits.give_back(self.order.id).await?;
                Ok(Step::End(verdict))
            }
            Ok(intent) if went_through(intent.status) => Ok(Step::Look(intent)),
            Ok(_) => Ok(Step::End(not_yet())),
            Err(error) => Ok(Step::End(retry(&error))),
        }
    }

    /// An intent that could not be cancelled: refunds it if it has succeeded.
    async fn after_cancel(&self, id: &IntentId) -> Verdict {
        match self.provider.retrieve(id).await {
            Ok(intent) => match intent.status {
                Status::Canceled => Verdict::done(),
                Status::Succeeded => {
                    let told = told(self.claim);
                    give_back(self.provider, &self.attempt_key(), &intent, told).await
                }
                _ => not_yet(),
            },
            Err(error) => retry(&error),
        }
    }

    fn attempt_key(&self) -> String {
        attempt_key(&self.claim.command)
    }

    fn next(&self, intent: &Intent) -> Result<Next, Error> {
        let capture = capture_method(&self.claim.command)?;
        Ok(next(intent, self.order.total, capture))
    }
}

#[cfg(test)]
#[path = "flow_tests.rs"]
mod tests;
