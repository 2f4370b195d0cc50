//! The step `pay`: charges the customer at the payment provider, once.
//!
//! A payment is a PaymentIntent. `do` makes the intent with the payment method attached, stores its
//! id in the ledger, takes from the card's limits, and only then confirms it: the confirmation is
//! the charge. `undo` cancels the intent, or gives back what it captured. The provider is the fence:
//! an intent that is cancelled can never be confirmed, and one intent captures at most once.
//!
//! The races, with two of `do`, `undo` and a kill at work on one order:
//!
//! - **Killed between create and storing the id.** The intent stays behind at the provider, unconfirmed
//!   and known to nobody. An unconfirmed intent charges nothing, nobody has its id to confirm it, and
//!   the provider drops it. The next `do` repeats the same idempotency key and mostly gets the very
//!   same intent; if not (the key is forgotten after a day, or bears a stored 500), another.
//! - **Two `do` at once.** Storing the id is conditional: the ledger keeps one id, and a `do` whose
//!   intent is another one cancels it and steps back. Both confirm the same intent; the provider
//!   takes one confirmation.
//! - **The provider refuses to make an intent** (an unknown payment method), while a twin, a moment
//!   earlier or later, is given one. The refusal takes the intent's place in the ledger before it is
//!   recorded; whichever of the two comes second steps back.
//! - **`undo` before the id is stored.** The ledger turns `undone`; storing the id fails; the `do`
//!   cancels its intent and never confirms.
//! - **`undo` while the `do` confirms.** The undo has the id. If its cancel comes first, the
//!   confirmation fails at the provider. If the confirmation comes first, the cancel is told so, and
//!   the undo gives the money back. While the provider is at work on it, it says so, and the undo is
//!   tried again.
//! - **Declined.** A declined intent could still be confirmed with another card by a stopped twin, so
//!   it is cancelled at the provider *before* `rejected` is recorded. If that cancel is told that the
//!   intent has succeeded meanwhile, the step is done, not rejected.
//! - **The customer fails to authenticate.** The saga sleeps, and hears of it by a nudge or when its
//!   patience ends; either way it sends a probe, which finds the intent declined. A probe that could
//!   only say that a twin might still confirm it would be asked again and again, until the order is
//!   undone for no reason that its customer can understand. So it cancels the intent as the `do` does,
//!   and may refuse then.
//! - **The answer to a confirmation is lost.** Nothing is assumed: the intent is read. Captured is
//!   done; unconfirmed is tried again (the same intent, so it charges once even if the lost request
//!   is still on its way); if it cannot be read either, the next attempt reads it first. An attempt
//!   that never comes is the saga's `unknown`.
//! - **The answer to a cancel or a refund is lost.** The intent is read by the next attempt, and what
//!   is still missing is done: a refund is for what is not refunded yet, and the provider refuses more
//!   than was captured.
//!
//! Idempotency keys only spare work here; see [`stripe`].

mod config;
mod decide;
mod limit;
mod say;
pub mod stripe;

pub use config::Config;

use crate::fraud_check::fingerprint::Answer;
use crate::{
    Error, fraud_check,
    kit::{Claim, OrderView, OutsideStep, Verdict, orders},
    ledger::Ledger,
};
use contract::{OrderId, Refusal, SagaId, StepName};
use database::{Clock, Connection, Pool};
use decide::{Next, next, to_refund_minor};
use limit::Limiter;
use say::{Known, known, missing, not_yet, overtaken, retry};
use std::collections::HashMap;
use stripe::{Classified, Client, Intent, IntentId, NewIntent, Status};

/// How often one command looks at the intent again and goes on. Each round either changes the
/// intent's state or ends; no path has more than four.
const ROUNDS_MAX: u32 = 6;

/// Why the step cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The address is none.
    #[error("pay.provider_url is not an address")]
    Url(#[from] url::ParseError),
    /// The client cannot be made.
    #[error(transparent)]
    Client(#[from] stripe::SetupError),
}

/// The step.
#[derive(Debug)]
pub struct Pay {
    client: Client,
    limiter: Limiter,
    config: Config,
}

impl Pay {
    /// Makes the step; the provider is not spoken to yet. The section `fraud` has the limits per
    /// card.
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn new(
        config: Config,
        fraud: fraud_check::Config,
        pool: Pool,
        clock: Clock,
    ) -> Result<Self, SetupError> {
        let client = Client::new(&config.settings()?, config.secret_key.expose())?;
        Ok(Self {
            client,
            limiter: Limiter::start(fraud, pool, clock),
            config,
        })
    }

    /// Goes on from an intent as it stands until there is a verdict.
    async fn advance(
        &self,
        claim: &Claim,
        order: &OrderView,
        first: Intent,
    ) -> Result<Verdict, Error> {
        let mut intent = first;
        for _ in 0..ROUNDS_MAX {
            let step = match next(&intent, order.total) {
                Next::Done(output) => return Ok(Verdict::Done(Some(output))),
                Next::Wait(output) => return Ok(Verdict::Waiting(output)),
                Next::NotYet => return Ok(not_yet()),
                Next::Strange(code) => {
                    tracing::error!(order_id = %order.id, payment_intent = %intent.id, code,
                        "a payment is in a state that this step never brings about");
                    return Ok(Verdict::unknown(
                        code,
                        "The payment is in an unexpected state.",
                    ));
                }
                Next::Refuse(refusal) => {
                    // A limit may have been why, in an attempt that did not live to tell.
                    let limit = self.limiter.give_back(order.id).await?;
                    return Ok(Verdict::refused(limit.unwrap_or(refusal)));
                }
                Next::Cancel(refusal) => {
                    self.refuse(claim, order, &intent.id, Verdict::refused(refusal))
                        .await?
                }
                Next::Confirm => match self.within_limits(order, &intent).await? {
                    Err((refusal, message)) => {
                        let verdict = Verdict::rejected(refusal.code(), &message);
                        self.refuse(claim, order, &intent.id, verdict).await?
                    }
                    Ok(()) => self.confirm(claim, order, &intent.id).await?,
                },
            };
            match step {
                Step::Look(seen) => intent = *seen,
                Step::End(verdict) => return Ok(verdict),
            }
        }
        Ok(not_yet())
    }

    async fn within_limits(&self, order: &OrderView, intent: &Intent) -> Result<Answer, Error> {
        let Some(fingerprint) = intent.fingerprint() else {
            return Ok(Ok(())); // not a card: there is nothing to count by
        };
        let tickets = order.items.iter().map(|item| item.quantity).sum();
        self.limiter.take(order.id, fingerprint, tickets).await
    }

    async fn create(
        &self,
        claim: &Claim,
        order: &OrderView,
        ledger: &Ledger,
    ) -> Result<Step, Error> {
        let order_id = order.id.to_string();
        let new = NewIntent {
            order_id: &order_id,
            total: order.total,
            payment_method: &order.payment_method,
            receipt_email: &order.email,
        };
        let intent = match self.client.create(&claim.command.effect_key, &new).await {
            Ok(intent) => intent,
            Err(Classified::Declined(refusal)) => {
                return self.refuse_without_intent(claim, refusal, ledger).await;
            }
            Err(Classified::Invalid { refusal, code }) => {
                tracing::warn!(%order_id, %code, "the provider refuses to make a payment");
                return self.refuse_without_intent(claim, refusal, ledger).await;
            }
            // Whatever was made is unconfirmed and charges nothing.
            Err(other) => return Ok(Step::End(retry(&other))),
        };
        if ledger.store_outside_id(claim, intent.id.as_str()).await? {
            return Ok(Step::Look(Box::new(intent)));
        }
        // An undo came first, or a twin has an intent of its own in the ledger.
        if let Err(error) = self.client.cancel(&attempt_key(claim), &intent.id).await {
            tracing::info!(%order_id, payment_intent = %intent.id, %error,
                "an intent that nobody will confirm is left behind");
        }
        Ok(Step::End(overtaken()))
    }

    /// Refuses where there is no intent to cancel: takes the intent's place in the ledger, so that no
    /// twin can go on with an intent of its own.
    async fn refuse_without_intent(
        &self,
        claim: &Claim,
        refusal: Refusal,
        ledger: &Ledger,
    ) -> Result<Step, Error> {
        let place = say::no_intent(refusal);
        let taken = ledger.store_outside_id(claim, &place).await?;
        Ok(Step::End(if taken {
            Verdict::refused(refusal)
        } else {
            overtaken()
        }))
    }

    async fn confirm(
        &self,
        claim: &Claim,
        order: &OrderView,
        id: &IntentId,
    ) -> Result<Step, Error> {
        let return_url = self.config.return_url_of(order.id);
        let confirming = self
            .client
            .confirm(&claim.command.effect_key, id, &return_url);
        Ok(match confirming.await {
            Ok(intent) => Step::Look(Box::new(intent)),
            Err(Classified::Declined(refusal) | Classified::Invalid { refusal, .. }) => {
                self.refuse(claim, order, id, Verdict::refused(refusal))
                    .await?
            }
            Err(Classified::OtherState(Some(intent)))
                if intent.status != Status::RequiresConfirmation =>
            {
                Step::Look(intent)
            }
            // Not what happened, but what is: read it.
            Err(Classified::OtherState(_) | Classified::Ambiguous) => self.look_again(id).await,
            Err(Classified::Missing) => Step::End(missing(order.id, id)),
            Err(other) => Step::End(retry(&other)),
        })
    }

    /// After a confirmation whose answer was lost.
    async fn look_again(&self, id: &IntentId) -> Step {
        match self.client.retrieve(id).await {
            // Not confirmed, or not yet: the next attempt confirms the same intent.
            Ok(intent) if intent.status == Status::RequiresConfirmation => {
                Step::End(retry(&Classified::Ambiguous))
            }
            Ok(intent) => Step::Look(Box::new(intent)),
            // Not `unknown`, after which only a probe may follow: a provider that is down for a
            // moment would cost every order it was about to charge. The next attempt begins by
            // reading the intent, so it asks as well as a probe does, and can go on.
            Err(_) => Step::End(retry(&Classified::Ambiguous)),
        }
    }

    /// Cancels the intent, then refuses; if it has succeeded meanwhile, looks at it again.
    async fn refuse(
        &self,
        claim: &Claim,
        order: &OrderView,
        id: &IntentId,
        verdict: Verdict,
    ) -> Result<Step, Error> {
        let ended = match self.client.cancel(&attempt_key(claim), id).await {
            Ok(intent) => Ok(Box::new(intent)),
            Err(Classified::OtherState(Some(intent))) => Ok(intent),
            Err(Classified::OtherState(None)) => self.client.retrieve(id).await.map(Box::new),
            Err(other) => Err(other),
        };
        match ended {
            Ok(intent) if intent.status == Status::Canceled => {
                self.limiter.give_back(order.id).await?;
                Ok(Step::End(verdict))
            }
            Ok(intent) if intent.status == Status::Succeeded => Ok(Step::Look(intent)),
            Ok(_) => Ok(Step::End(not_yet())),
            Err(error) => Ok(Step::End(retry(&error))),
        }
    }

    /// Gives back what an intent captured, as far as it is not given back yet.
    async fn refund(&self, claim: &Claim, id: &IntentId) -> Verdict {
        let intent = match self.client.retrieve(id).await {
            Ok(intent) => intent,
            Err(error) => return retry(&error),
        };
        let amount_minor = to_refund_minor(&intent);
        if intent.status == Status::Succeeded && intent.refunded_minor().is_none() {
            return not_yet(); // without the charge it is not known what was given back
        }
        if amount_minor == 0 {
            return Verdict::done();
        }
        match self
            .client
            .refund(&attempt_key(claim), id, amount_minor)
            .await
        {
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
}

/// How a `do` goes on.
enum Step {
    /// Look at the intent as it is now.
    Look(Box<Intent>),
    /// There is a verdict.
    End(Verdict),
}

impl OutsideStep for Pay {
    type Input = OrderView;

    fn name(&self) -> StepName {
        StepName::PAY
    }

    async fn load(
        &self,
        connection: &mut Connection,
        claims: &[Claim],
    ) -> Result<HashMap<SagaId, OrderView>, Error> {
        let ids: Vec<OrderId> = claims.iter().map(Claim::order_id).collect();
        let views = orders(connection, &ids).await?;
        Ok(views
            .into_iter()
            .map(|(id, view)| (id.into(), view))
            .collect())
    }

    async fn act(
        &self,
        claim: &Claim,
        order: &OrderView,
        ledger: &Ledger,
    ) -> Result<Verdict, Error> {
        let step = match known(claim)? {
            Known::Nothing => self.create(claim, order, ledger).await?,
            Known::Refused(refusal) => Step::End(Verdict::refused(refusal)),
            Known::Intent(id) => match self.client.retrieve(&id).await {
                Ok(intent) => Step::Look(Box::new(intent)),
                Err(Classified::Missing) => Step::End(missing(order.id, &id)),
                // Nothing was asked for in this attempt.
                Err(other) => Step::End(retry(&other)),
            },
        };
        match step {
            Step::Look(intent) => self.advance(claim, order, *intent).await,
            Step::End(verdict) => Ok(verdict),
        }
    }

    async fn undo(&self, claim: &Claim, order: &OrderView, _: &Ledger) -> Result<Verdict, Error> {
        let Known::Intent(id) = known(claim)? else {
            return Ok(Verdict::done()); // nothing was charged, and nothing was taken either
        };
        let verdict = match self.client.cancel(&attempt_key(claim), &id).await {
            Ok(intent) if intent.status == Status::Canceled => Verdict::done(),
            Err(Classified::OtherState(Some(intent))) if intent.status == Status::Canceled => {
                Verdict::done()
            }
            // It has succeeded, or is about to: what it captured says the intent itself.
            Ok(_) | Err(Classified::OtherState(_)) => self.after_cancel(claim, &id).await,
            Err(Classified::Missing) => missing(order.id, &id),
            Err(other) => retry(&other),
        };
        if matches!(verdict, Verdict::Done(_)) {
            self.limiter.give_back(order.id).await?;
        }
        Ok(verdict)
    }

    async fn probe(&self, claim: &Claim, order: &OrderView, _: &Ledger) -> Result<Verdict, Error> {
        let id = match known(claim)? {
            Known::Intent(id) => id,
            Known::Refused(refusal) => return Ok(Verdict::refused(refusal)),
            Known::Nothing => return Ok(Verdict::unknown("not_found", "No payment is known.")),
        };
        let intent = match self.client.retrieve(&id).await {
            Ok(intent) => intent,
            Err(Classified::Missing) => return Ok(missing(order.id, &id)),
            Err(other) => return Ok(retry(&other)),
        };
        Ok(match next(&intent, order.total) {
            Next::Done(output) => Verdict::Done(Some(output)),
            Next::Wait(output) => Verdict::Waiting(output),
            // Cancelled at the provider: it can never come into force.
            Next::Refuse(refusal) => {
                let limit = self.limiter.give_back(order.id).await?;
                Verdict::refused(limit.unwrap_or(refusal))
            }
            // It failed, but a twin could still confirm it: no is said once that is impossible.
            Next::Cancel(refusal) => {
                let verdict = Verdict::refused(refusal);
                match self.refuse(claim, order, &id, verdict).await? {
                    Step::End(verdict) => verdict,
                    Step::Look(seen) => match next(&seen, order.total) {
                        Next::Done(output) => Verdict::Done(Some(output)),
                        _ => not_yet(),
                    },
                }
            }
            Next::Confirm => {
                Verdict::unknown("payment_not_confirmed", "The payment is not confirmed.")
            }
            Next::NotYet => not_yet(),
            Next::Strange(code) => Verdict::unknown(code, "The payment is in an unexpected state."),
        })
    }
}

impl Pay {
    /// An intent that could not be cancelled: refunds it if it has succeeded.
    async fn after_cancel(&self, claim: &Claim, id: &IntentId) -> Verdict {
        match self.client.retrieve(id).await {
            Ok(intent) => match intent.status {
                Status::Canceled => Verdict::done(),
                Status::Succeeded => self.refund(claim, id).await,
                _ => not_yet(),
            },
            Err(error) => retry(&error),
        }
    }
}

/// The key of what may be refused today and accepted tomorrow (a cancel while the bank thinks, a
/// refund during a dispute): each attempt has its own, or the provider would repeat the refusal that
/// it stored with the key. What keeps these from being done twice is the state of the intent.
fn attempt_key(claim: &Claim) -> String {
    format!("{}/{}", claim.command.effect_key, claim.command.id)
}
