//! `POST /v1/orders/{id}/cancel`, and the customer's return from the provider.
//!
//! The race is between the customer and his own order. What he asks for is a signal, which the order's
//! owner applies: before the pivot it undoes everything; while the pivot's command is out it waits for
//! the outcome; after the pivot it changes nothing. So the answer says that it was asked for, and the
//! order says what came of it.

use super::Orders;
use crate::http::ApiError;
use contract::{OrderId, ProblemCode, Refusal, StepName};
use database::Pool;
use engine::{Cause, NewSignal, What};
use runtime::metrics::{self, IntCounter};
use saga::Status;
use serde::Serialize;
use std::sync::LazyLock;
use utoipa::ToSchema;
use uuid::Uuid;

/// How often an order's payment is looked at because somebody said so. Each look is a request to the
/// provider, which nobody may cause as often as he can reload a page; when it has been told so often the
/// order waits for the provider's event, or its time to end.
const LOOKS_MAX: usize = 20;

static LOOKED_ENOUGH: LazyLock<IntCounter> = LazyLock::new(|| {
    metrics::counter(
        "guichet_orders_returns_ignored_total",
        "Returns of customers whose order's payment had been looked at often enough",
    )
});

/// The answer to a cancellation.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Cancellation {
    /// The order's id.
    pub(super) id: Uuid,
    /// Its status when the cancellation was taken; follow the order for what comes of it.
    #[schema(example = "pending")]
    pub(super) status: &'static str,
}

impl Orders {
    /// Asks for the end of an order that is not confirmed. Asking twice is asking once.
    ///
    /// # Errors
    /// It is confirmed, or the database cannot be reached.
    pub(super) async fn cancel(&self, pool: &Pool, id: OrderId) -> Result<Cancellation, ApiError> {
        let mut connection = pool.get().await.map_err(database::Error::from)?;
        let saga = self.saga(&mut connection, id).await?;
        drop(connection);
        match saga.status {
            Status::Confirmed => {
                return Err(ApiError::new(
                    ProblemCode::OrderConfirmed,
                    "The order is confirmed; it can no longer be cancelled here.",
                ));
            }
            Status::Cancelling | Status::Cancelled => {}
            Status::Pending | Status::ActionRequired | Status::InReview => {
                let end = NewSignal {
                    id: Uuid::new_v5(&id.0, b"customer/cancel"),
                    saga: id.into(),
                    what: What::End(Refusal::CustomerCancelled.code(), None),
                };
                self.signals.tell(end).await?;
            }
        }
        Ok(Cancellation {
            id: id.0,
            status: saga.status.name(),
        })
    }

    /// The customer is back from the provider's page: its order has the payment looked at, once for
    /// each time that it waited, [`LOOKS_MAX`] times in all. What he says of it is not believed, and that
    /// he cannot be heard now is no reason not to show him his order.
    pub(super) async fn returned(&self, pool: &Pool, id: OrderId) {
        if let Err(error) = self.look_at_payment(pool, id).await {
            error.log();
        }
    }

    async fn look_at_payment(&self, pool: &Pool, id: OrderId) -> Result<(), ApiError> {
        let mut connection = pool.get().await.map_err(database::Error::from)?;
        let saga = self.saga(&mut connection, id).await?;
        drop(connection);
        if saga.instance.waiting_since.is_none() {
            return Ok(());
        }
        let told = |moment: &&engine::view::Moment| moment.input == "signal";
        if saga.timeline.iter().filter(told).count() >= LOOKS_MAX {
            LOOKED_ENOUGH.inc();
            return Ok(());
        }
        let wait = format!("customer/return/{}", saga.instance.seq);
        let back = NewSignal {
            id: Uuid::new_v5(&id.0, wait.as_bytes()),
            saga: id.into(),
            what: What::Nudge(StepName::PAY, Cause::Outside),
        };
        self.signals.tell(back).await?;
        Ok(())
    }
}
