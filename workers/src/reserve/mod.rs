//! The step `reserve`: takes stock for as long as the saga lives.
//!
//! The scenario it is made for: a final goes on sale and thousands of orders want the same row of
//! `stock`. Each batch locks the rows it needs once, in the order of their key, so two workers
//! never wait for each other in a circle; decides in memory, in order of arrival, with the pure
//! [`mod@allocate`]; and writes each row once, whatever the number of orders. The CHECK `no_oversell`
//! stands behind it.
//!
//! What an order took is the output in its ledger row, and exactly that is given back by the undo:
//! the order's lines are not asked again.

pub mod allocate;
mod sql;
#[cfg(test)]
mod tests;

use crate::{
    Error,
    kit::{Claim, LocalStep, OrderView, Verdict, orders},
};
use allocate::{Request, allocate};
use chrono::{DateTime, Utc};
use contract::{OfferId, Refusal, StepName};
use database::Connection;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Different offers of one order at most, so that what was taken always fits into the ledger.
pub const OFFERS_MAX: usize = 50;

/// The step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reserve;

/// What an order took: the step's output.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Taken {
    /// How many of which offers.
    pub taken: BTreeMap<OfferId, i64>,
}

impl LocalStep for Reserve {
    fn name(&self) -> StepName {
        StepName::RESERVE
    }

    async fn act(
        &self,
        connection: &mut Connection,
        claims: &[Claim],
        now: DateTime<Utc>,
    ) -> Result<Vec<Verdict>, Error> {
        let ids: Vec<_> = claims.iter().map(Claim::order_id).collect();
        let orders = orders(connection, &ids).await?;
        let requests: Vec<Option<Request>> =
            ids.iter().map(|id| orders.get(id).map(request)).collect();
        let fitting = |request: &&Request| request.len() <= OFFERS_MAX;
        let wanted = || requests.iter().flatten().filter(fitting);
        let offers = wanted().flat_map(|request| request.keys().copied());
        let shelves = sql::lock(connection, offers, now).await?;
        let allocation = allocate(&shelves, wanted());
        sql::add_to_taken(connection, &allocation.taken).await?;

        let mut decisions = allocation.decisions.into_iter();
        let verdicts = requests.into_iter().map(|request| {
            let Some(request) = request else {
                return Verdict::retry("order_missing", "The order is not there.");
            };
            if request.len() > OFFERS_MAX {
                return Verdict::refused(Refusal::LimitExceeded);
            }
            match decisions.next().unwrap_or(Err(Refusal::StepFailed)) {
                Ok(()) => Verdict::Done(serde_json::to_value(Taken { taken: request }).ok()),
                Err(refusal) => Verdict::refused(refusal),
            }
        });
        Ok(verdicts.collect())
    }

    async fn undo(
        &self,
        connection: &mut Connection,
        claims: &[Claim],
        now: DateTime<Utc>,
    ) -> Result<Vec<Verdict>, Error> {
        let taken: Vec<Option<Taken>> = claims.iter().map(taken).collect();
        let mut back: BTreeMap<OfferId, i64> = BTreeMap::new();
        for (&offer, &quantity) in taken.iter().flatten().flat_map(|taken| &taken.taken) {
            *back.entry(offer).or_default() -= quantity;
        }
        sql::lock(connection, back.keys().copied(), now).await?;
        sql::add_to_taken(connection, &back).await?;
        let verdicts = taken.into_iter().map(|taken| match taken {
            Some(_) => Verdict::done(),
            None => Verdict::retry("bad_output", "The ledger does not say what was taken."),
        });
        Ok(verdicts.collect())
    }
}

fn request(order: &OrderView) -> Request {
    let mut request = Request::new();
    for item in &order.items {
        *request.entry(item.offer_id).or_default() += i64::from(item.quantity);
    }
    request
}

fn taken(claim: &Claim) -> Option<Taken> {
    serde_json::from_value(claim.output()?.clone()).ok()
}
