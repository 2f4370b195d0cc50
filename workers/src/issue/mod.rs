//! The step `issue`: makes the tickets; the pivot of an order.
//!
//! The scenario it is made for: many workers issue for one event at once, some of their orders are
//! refused, a worker is killed half-way, and still the event's numbers are 1, 2, 3 … without a gap.
//! So the effects are claimed first (a repeated command never reaches the counter), the winners are
//! decided without the counter, and only they are counted: one statement locks the counters in the
//! order of their key and adds, and the same transaction inserts the tickets. If it rolls back, so
//! does the counter. The price is that the tickets of one event are issued by one transaction at a
//! time, which batches make cheap.
//!
//! A ticket that is revoked keeps its number. The event's status is read without a lock: an order
//! that slips through while its event is being cancelled is refunded like those before it.

pub mod code;
mod config;
pub mod plan;
mod sql;
#[cfg(test)]
mod tests;

pub use config::Config;

use crate::{
    Error,
    kit::{Claim, LocalStep, Verdict, orders},
};
use chrono::{DateTime, Utc};
use code::Signatory;
use contract::StepName;
use database::Connection;
use plan::Place;
use serde_json::json;

/// The step.
#[derive(Clone, Debug)]
pub struct Issue {
    signatory: Signatory,
}

impl Issue {
    /// Issues tickets signed by `signatory`.
    #[must_use]
    pub fn new(signatory: Signatory) -> Self {
        Self { signatory }
    }
}

impl LocalStep for Issue {
    fn name(&self) -> StepName {
        StepName::ISSUE
    }

    /// Output: `{"tickets": n}`.
    async fn act(
        &self,
        connection: &mut Connection,
        claims: &[Claim],
        now: DateTime<Utc>,
    ) -> Result<Vec<Verdict>, Error> {
        let ids: Vec<_> = claims.iter().map(Claim::order_id).collect();
        let orders = orders(connection, &ids).await?;
        let items = orders.values().flat_map(|order| &order.items);
        let offers = sql::offers(connection, items.map(|item| item.offer_id).collect()).await?;
        let mut all: Vec<Place> = Vec::new();
        let mut verdicts = Vec::with_capacity(claims.len());
        for id in &ids {
            let Some(order) = orders.get(id) else {
                verdicts.push(Verdict::retry("order_missing", "The order is not there."));
                continue;
            };
            verdicts.push(match plan::places(order, &offers) {
                Ok(places) => {
                    let output = json!({ "tickets": places.len() });
                    all.extend(places);
                    Verdict::Done(Some(output))
                }
                Err(refusal) => Verdict::refused(refusal),
            });
        }
        let last = sql::count(connection, &plan::count(&all)).await?;
        let numbers = plan::numbers(&all, &last);
        sql::insert(connection, &self.signatory, all, numbers, now).await?;
        Ok(verdicts)
    }

    async fn undo(
        &self,
        connection: &mut Connection,
        claims: &[Claim],
        now: DateTime<Utc>,
    ) -> Result<Vec<Verdict>, Error> {
        sql::revoke(connection, claims.iter().map(Claim::order_id), now).await?;
        Ok(claims.iter().map(|_| Verdict::done()).collect())
    }
}
