//! What a step is to the kit.

use crate::{
    Error,
    ledger::{Ledger, LedgerRow},
};
use chrono::{DateTime, Utc};
use contract::{Command, OrderId, SagaId, StepName};
use database::Connection;
use serde_json::Value;
use std::{collections::HashMap, future::Future};

/// A command whose effect the ledger allows the step to work on.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The command.
    pub command: Command,
    /// The ledger's row as it was found; none if this very command claimed the effect.
    pub row: Option<LedgerRow>,
}

impl Claim {
    /// Whose effect it is.
    #[must_use]
    pub fn saga_id(&self) -> SagaId {
        self.command.saga_id
    }

    /// The order, in a saga of the definition `order`.
    #[must_use]
    pub fn order_id(&self) -> OrderId {
        self.command.saga_id.into()
    }

    /// What the outside calls the effect, if an earlier attempt came so far.
    #[must_use]
    pub fn outside_id(&self) -> Option<&str> {
        self.row.as_ref()?.outside_id.as_deref()
    }

    /// What the ledger keeps as the effect's output: of an undo, what is to be taken back; of a
    /// `do` that returned [`crate::kit::Verdict::Waiting`] before, what it waits for.
    #[must_use]
    pub fn output(&self) -> Option<&Value> {
        self.row.as_ref()?.output.as_ref()
    }
}

/// A step whose effect is in our own database: claim, effect and outcome are one transaction per
/// batch, so there is nothing to probe; the kit answers probes from the ledger.
///
/// Both functions get claims of different sagas, in order of arrival, inside an open transaction
/// that holds the ledger's rows, and return one verdict per claim, in the same order. They lock
/// what they touch in the order of its key. A claim whose verdict is not `Done` or `Waiting` must
/// have written nothing. An error rolls the whole batch back; a batch that keeps failing while the
/// database answers is halved until the culprit stands alone.
pub trait LocalStep: Send + Sync + 'static {
    /// The step's name.
    fn name(&self) -> StepName;

    /// Brings effects about. A claim may have a row: then an earlier attempt failed, or waits
    /// ([`Claim::output`] says for what).
    fn act(
        &self,
        connection: &mut Connection,
        claims: &[Claim],
        now: DateTime<Utc>,
    ) -> impl Future<Output = Result<Vec<crate::kit::Verdict>, Error>> + Send;

    /// Takes effects back, those that are done and those that wait. `Rejected` is a refusal for
    /// good; it is recorded beside the effect, and may be tried again.
    fn undo(
        &self,
        connection: &mut Connection,
        claims: &[Claim],
        now: DateTime<Utc>,
    ) -> impl Future<Output = Result<Vec<crate::kit::Verdict>, Error>> + Send;
}

/// A step whose effect is outside. The batch is claimed in one transaction; then each effect runs
/// for itself, as many at a time as there are permits, and the kit records its verdict.
///
/// An error of `act`, `undo` or `probe` is answered `retry`: the next attempt finds in the ledger
/// how far this one came.
pub trait OutsideStep: Send + Sync + 'static {
    /// What an effect needs from the database.
    type Input: Send + Sync + 'static;

    /// The step's name.
    fn name(&self) -> StepName;

    /// Effects that are worth having under way at once, whatever `worker.permits` allows: where the outside
    /// takes few at a time, the others would only use up their time in waiting.
    fn at_once_max(&self) -> usize {
        usize::MAX
    }

    /// Reads the inputs of a batch, in one statement. An effect without one is answered `retry`
    /// with the code `order_missing`.
    fn load(
        &self,
        connection: &mut Connection,
        claims: &[Claim],
    ) -> impl Future<Output = Result<HashMap<SagaId, Self::Input>, Error>> + Send;

    /// Brings the effect about, or goes on from [`Claim::outside_id`]. As soon as there is
    /// something outside, its id goes into the ledger ([`Ledger::store_outside_id`]) before the
    /// next call; if that says no, an undo came first and nothing more may be done.
    fn act(
        &self,
        claim: &Claim,
        input: &Self::Input,
        ledger: &Ledger,
    ) -> impl Future<Output = Result<crate::kit::Verdict, Error>> + Send;

    /// Makes the effect definite and takes it back. It may still be in the making by an `act`
    /// elsewhere: the fence against that stands outside.
    fn undo(
        &self,
        claim: &Claim,
        input: &Self::Input,
        ledger: &Ledger,
    ) -> impl Future<Output = Result<crate::kit::Verdict, Error>> + Send;

    /// Asks the outside how an effect stands that has an id there. Only a read: `Unknown` when it
    /// finds nothing, `Rejected` only for what can never come into force any more.
    fn probe(
        &self,
        claim: &Claim,
        input: &Self::Input,
        ledger: &Ledger,
    ) -> impl Future<Output = Result<crate::kit::Verdict, Error>> + Send;
}
