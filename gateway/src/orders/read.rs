//! Reading an order and its saga.

use super::{
    Orders,
    show::{Entry, Item, NextAction, Order, Priced, Reason, Ticket, created_at},
    store::{ReadOrder, ReadTickets},
};
use crate::{http::ApiError, openapi::Money};
use contract::{OrderId, Outcome, ProblemCode, Refusal, StepKind};
use database::{Connection, Pool};
use diesel_async::RunQueryDsl;
use engine::view::{Moment, SagaView};
use uuid::Uuid;

impl Orders {
    /// What an order buys, by its stored rows.
    ///
    /// # Errors
    /// The database fails, or the order is gone.
    pub(super) async fn priced(&self, pool: &Pool, id: OrderId) -> Result<Priced, ApiError> {
        let mut connection = pool.get().await.map_err(database::Error::from)?;
        lines(&mut connection, id)
            .await?
            .ok_or_else(ApiError::not_found)
    }

    /// The order as it is now.
    ///
    /// # Errors
    /// The database fails, or there is no such order.
    pub(super) async fn show(&self, pool: &Pool, id: OrderId) -> Result<Order, ApiError> {
        let mut connection = pool.get().await.map_err(database::Error::from)?;
        let Priced { items, total } = lines(&mut connection, id)
            .await?
            .ok_or_else(ApiError::not_found)?;
        let saga = self.saga(&mut connection, id).await?;
        let tickets = match saga.instance.pivot_done() {
            true => tickets(&mut connection, id).await?,
            false => Vec::new(),
        };
        Ok(Order {
            id: id.0,
            status: saga.status.name(),
            created_at: created_at(id),
            items,
            total,
            reason: reason(&saga),
            next_action: next_action(&saga),
            tickets,
            timeline: saga.timeline.iter().map(entry).collect(),
        })
    }

    /// The saga of an order.
    ///
    /// # Errors
    /// The database fails, or there is no such saga.
    pub(super) async fn saga(
        &self,
        connection: &mut Connection,
        id: OrderId,
    ) -> Result<SagaView, ApiError> {
        let saga = engine::view::read(connection, &self.definitions, id.into()).await;
        saga.map_err(failed)?.ok_or_else(ApiError::not_found)
    }
}

fn failed(error: engine::Error) -> ApiError {
    match error {
        engine::Error::Database(error) => error.into(),
        other => ApiError::new(
            ProblemCode::Internal,
            "This is a defect of ours; it is logged.",
        )
        .because(other),
    }
}

async fn lines(connection: &mut Connection, id: OrderId) -> Result<Option<Priced>, ApiError> {
    let rows: Vec<(Uuid, i64, String, Uuid, Uuid, i32, i64)> =
        ReadOrder { id: id.0 }.load(connection).await?;
    let total = rows
        .iter()
        .map(|row| Money {
            amount: row.1,
            currency: row.2.clone(),
        })
        .next();
    let items = rows
        .into_iter()
        .map(
            |(_, _, currency, offer_id, event_id, quantity, amount)| Item {
                offer_id,
                event_id,
                quantity,
                unit_price: Money { amount, currency },
            },
        )
        .collect();
    Ok(total.map(|total| Priced { items, total }))
}

async fn tickets(connection: &mut Connection, id: OrderId) -> Result<Vec<Ticket>, ApiError> {
    let rows: Vec<(Uuid, Uuid, Uuid, i32, String, bool, bool)> =
        ReadTickets { id: id.0 }.load(connection).await?;
    Ok(rows
        .into_iter()
        .map(
            |(id, event_id, offer_id, number, holder_name, companion, revoked)| Ticket {
                id,
                event_id,
                offer_id,
                number,
                holder_name,
                companion,
                status: if revoked { "revoked" } else { "valid" },
            },
        )
        .collect())
}

fn reason(saga: &SagaView) -> Option<Reason> {
    let cancels = matches!(
        saga.status,
        saga::Status::Cancelling | saga::Status::Cancelled
    );
    let code = saga.instance.reason.clone().filter(|_| cancels)?;
    // A code of a worker that is newer than this gateway has no sentence of its own here.
    let known = Refusal::from_code(&code).unwrap_or(Refusal::StepFailed);
    Some(Reason {
        message: known.message().to_owned(),
        code,
    })
}

fn next_action(saga: &SagaView) -> Option<NextAction> {
    if saga.status != saga::Status::ActionRequired {
        return None;
    }
    let waiting = |moment: &&Moment| moment.outcome == Some(Outcome::Waiting);
    let detail = saga.timeline.iter().rev().find(waiting)?.detail.as_ref()?;
    let url = detail.pointer("/output/redirect_url")?.as_str()?;
    Some(NextAction {
        redirect_url: url.to_owned(),
    })
}

/// What the customer sees of a moment: no text of a worker's, which may name what is inside.
pub(super) fn entry(moment: &Moment) -> Entry {
    Entry {
        rev: moment.rev,
        at: moment.at,
        status: moment.status,
        step: moment.step.as_ref().map(ToString::to_string),
        kind: moment.kind.map(StepKind::name),
        outcome: moment.outcome.map(Outcome::name),
        code: moment
            .code
            .clone()
            .filter(|_| moment.outcome != Some(Outcome::Done)),
    }
}
