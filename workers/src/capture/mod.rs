//! The step `capture`: takes the money that `pay` authorised, once.
//!
//! The intent is `pay`'s: its id stands in that step's row of the ledger. `do` writes the id into its
//! own row too, so that an undo finds that something may be outside, and only then captures. The
//! provider is the fence: an intent is captured at most once, one that is cancelled never. So no answer
//! to a capture has to be believed; where there is none, the intent is read.
//!
//! The races, with `do`, `undo` and a kill at work on one order:
//!
//! - **Killed before or after the capture, the answer lost, the command twice.** The next `do` captures
//!   again, is told that this is not the intent's state, and finds it captured.
//! - **The authorisation has ended** (cancelled at the provider, or expired). Such an intent can never be
//!   captured: the step is `rejected`, the tickets are revoked and nobody paid.
//! - **`undo` before the id is stored.** The ledger turns `undone`; storing the id fails; the `do`
//!   captures nothing.
//! - **`undo` while a stopped twin of the `do` is about to capture.** The undo comes only when the step
//!   ended unknown or exhausted. It reads the intent: captured, and it gives the money back; not
//!   captured, and it is done, though the twin may capture a moment later. That moment ends with the undo
//!   of `pay`, which follows in any case and cancels the intent: before the twin, whose capture then
//!   fails for ever; or after it, and then the cancel is refused, and that undo gives back what was
//!   captured. Either way the customer has paid nothing. He sees a refund only where the twin was
//!   quicker, and that was not to be had otherwise: only the cancel is definite, and as long as a capture
//!   may have gone through it would be wrong to make it here, before the tickets are revoked.
//! - **A read that shows what was a moment ago.** Not captured yet is never a refusal: a `do` tries
//!   again, a probe cannot tell, and what an undo overlooks the undo of `pay` finds.

pub mod flow;

use crate::{
    Error,
    kit::{Claim, OutsideStep, Verdict, orders},
    ledger::Ledger,
    pay::{Config, SetupError, stripe::Client},
};
use contract::{OrderId, SagaId, StepName};
use database::Connection;
use flow::{Flow, Payment};
use std::collections::HashMap;

/// The step.
#[derive(Debug)]
pub struct Capture {
    client: Client,
}

impl Capture {
    /// Makes the step; the provider is not spoken to yet. It uses the section `pay`.
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn new(config: &Config) -> Result<Self, SetupError> {
        Ok(Self {
            client: config.client()?,
        })
    }

    fn flow<'a>(&'a self, claim: &'a Claim, payment: &'a Payment) -> Flow<'a, Client> {
        Flow {
            provider: &self.client,
            claim,
            payment,
        }
    }
}

impl OutsideStep for Capture {
    type Input = Payment;

    fn name(&self) -> StepName {
        StepName::CAPTURE
    }

    async fn load(
        &self,
        connection: &mut Connection,
        claims: &[Claim],
    ) -> Result<HashMap<SagaId, Payment>, Error> {
        let ids: Vec<OrderId> = claims.iter().map(Claim::order_id).collect();
        let views = orders(connection, &ids).await?;
        let sagas = claims.iter().map(Claim::saga_id);
        let mut intents = crate::ledger::outside_ids(connection, &StepName::PAY, sagas).await?;
        let payments = views.into_iter().map(|(id, view)| {
            let payment = Payment {
                intent: intents.remove(&id.into()),
                total: view.total,
            };
            (id.into(), payment)
        });
        Ok(payments.collect())
    }

    async fn act(&self, claim: &Claim, paid: &Payment, ledger: &Ledger) -> Result<Verdict, Error> {
        self.flow(claim, paid).act(ledger).await
    }

    async fn undo(&self, claim: &Claim, paid: &Payment, _: &Ledger) -> Result<Verdict, Error> {
        self.flow(claim, paid).undo().await
    }

    async fn probe(&self, claim: &Claim, paid: &Payment, _: &Ledger) -> Result<Verdict, Error> {
        self.flow(claim, paid).probe().await
    }
}
