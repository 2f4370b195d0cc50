//! The step `pay`: charges the customer at the payment provider, once.
//!
//! A payment is a PaymentIntent. `do` makes the intent with the payment method attached, stores its
//! id in the ledger, takes from the card's limits, and only then confirms it: the confirmation is
//! the charge. `undo` cancels the intent, or gives back what it captured. The provider is the fence:
//! an intent that is cancelled can never be confirmed, and one intent captures at most once.
//!
//! Where the command's input asks for no more (`capture_method: manual`, in `order@2`), the confirmation
//! only authorises: the step is done when the intent can be captured, which the step `capture` does. Then
//! undo is a cancel, and costs the customer nothing, unless a capture was quicker.
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
//! - **A refund is pending.** It may still fail, so nothing is said to be given back until it has
//!   succeeded: the undo is tried again within its (long) budget, and each attempt asks for the refunds
//!   that there are. One that failed is a failed undo, and a person is asked; when he has it tried again
//!   there is a new refund. A refund that *succeeded* and fails after all, days later, finds no saga any
//!   more; `guichet reconcile` finds the money.
//! - **The answer to a cancel or a refund is lost.** The intent is read by the next attempt, and what
//!   is still missing is done: a refund is for what is not refunded yet, and the provider refuses more
//!   than was captured.
//!
//! - **The ledger's id is not the provider's.** The undo cannot tell, and in the end a person is asked. He
//!   finds the payment and names it (`guichet saga retry --step pay`). What the provider knows by the
//!   ledger's id is taken back first, then what he named, if it was made for this order: so a wrong id
//!   neither hides a charge nor gives back somebody else's.
//!
//! Idempotency keys only spare work here; see [`stripe`].

mod config;
pub(crate) mod decide;
pub mod flow;
pub(crate) mod give_back;
mod limit;
pub(crate) mod say;
pub mod stripe;

pub use config::Config;

use crate::{
    Error, fraud_check,
    kit::{Claim, OrderView, OutsideStep, Pools, Verdict, orders},
    ledger::{Ledger, corrections},
};
use contract::{Correctable, OrderId, SagaId, StepKind, StepName, correction::Field};
use database::{Clock, Connection};
use flow::{Flow, OutsideIds};
use limit::Limiter;
use std::collections::HashMap;
use stripe::{Client, IntentId};

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

/// What a person may correct: what the provider calls the payment that is to be given back. It has to have
/// been made for the order.
pub const CORRECTABLE: Correctable = Correctable {
    step: StepName::PAY,
    kind: StepKind::Undo,
    fields: &[Field {
        name: "payment_intent",
        expects: "the provider's id of a payment",
        is_good: is_intent,
    }],
};

fn is_intent(text: &str) -> bool {
    IntentId::new(text).is_some()
}

/// What an effect needs from the database.
#[derive(Debug)]
pub struct Input {
    order: OrderView,
    /// Of an undo: what a person says that the provider calls the payment.
    corrected: Option<IntentId>,
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
        pools: Pools,
        clock: Clock,
    ) -> Result<Self, SetupError> {
        Ok(Self {
            client: config.client()?,
            limiter: Limiter::start(fraud, pools, clock),
            config,
        })
    }

    fn flow<'a>(
        &'a self,
        claim: &'a Claim,
        input: &'a Input,
        return_url: &'a str,
    ) -> Flow<'a, Client, Limiter> {
        Flow {
            provider: &self.client,
            limits: &self.limiter,
            claim,
            order: &input.order,
            return_url,
            corrected: input.corrected.as_ref(),
        }
    }
}

impl OutsideStep for Pay {
    type Input = Input;

    fn name(&self) -> StepName {
        StepName::PAY
    }

    async fn load(
        &self,
        connection: &mut Connection,
        claims: &[Claim],
    ) -> Result<HashMap<SagaId, Input>, Error> {
        let ids: Vec<OrderId> = claims.iter().map(Claim::order_id).collect();
        let views = orders(connection, &ids).await?;
        let undone = claims
            .iter()
            .filter(|claim| claim.command.kind == StepKind::Undo)
            .map(Claim::saga_id);
        let newest = corrections::newest(connection, &StepName::PAY, StepKind::Undo, undone);
        let mut newest = newest.await?;
        let inputs = views.into_iter().map(|(id, order)| {
            let saga: SagaId = id.into();
            let corrected = newest.remove(&saga).and_then(|(_, fields)| {
                IntentId::new(fields["payment_intent"].as_str().unwrap_or_default())
            });
            (saga, Input { order, corrected })
        });
        Ok(inputs.collect())
    }

    async fn act(&self, claim: &Claim, input: &Input, ledger: &Ledger) -> Result<Verdict, Error> {
        let return_url = self.config.return_url_of(input.order.id);
        self.flow(claim, input, &return_url).act(ledger).await
    }

    async fn undo(&self, claim: &Claim, input: &Input, _: &Ledger) -> Result<Verdict, Error> {
        self.flow(claim, input, "").undo().await
    }

    async fn probe(&self, claim: &Claim, input: &Input, _: &Ledger) -> Result<Verdict, Error> {
        self.flow(claim, input, "").probe().await
    }
}

impl OutsideIds for Ledger {
    async fn store(&self, claim: &Claim, outside_id: &str) -> Result<bool, Error> {
        self.store_outside_id(claim, outside_id).await
    }
}
