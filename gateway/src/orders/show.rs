//! Orders as JSON.

use crate::openapi::Money;
use chrono::{DateTime, Utc};
use contract::OrderId;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// The answer to a placed order: only what never changes, so that a repetition is answered the same.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PlacedOrder {
    /// Its id.
    pub(super) id: Uuid,
    /// `pending`: it was accepted; what became of it is at `Location`.
    #[schema(example = "pending")]
    pub(super) status: &'static str,
    /// Opens the order to whoever placed it: as `Authorization: Bearer …` or `?token=…`.
    pub(super) access_token: String,
    /// When it was placed.
    pub(super) created_at: DateTime<Utc>,
    /// Its lines, priced.
    pub(super) items: Vec<Item>,
    /// What it costs.
    pub(super) total: Money,
}

/// What is bought and what it costs.
#[derive(Debug)]
pub(super) struct Priced {
    pub(super) items: Vec<Item>,
    pub(super) total: Money,
}

impl PlacedOrder {
    /// The answer, the same for the same order whenever it is made.
    pub(super) fn of(id: OrderId, access_token: String, priced: Priced) -> Self {
        let Priced { items, total } = priced;
        Self {
            id: id.0,
            status: "pending",
            access_token,
            created_at: created_at(id),
            items,
            total,
        }
    }
}

/// A line of an order.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Item {
    /// The offer.
    pub(super) offer_id: Uuid,
    /// The offer's event.
    pub(super) event_id: Uuid,
    /// How many.
    pub(super) quantity: i32,
    /// Price of one.
    pub(super) unit_price: Money,
}

/// An order as it is now.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Order {
    /// Its id.
    pub(super) id: Uuid,
    /// `pending`, `action_required`, `in_review`, `confirmed`, `cancelling` or `cancelled`.
    #[schema(example = "confirmed")]
    pub(super) status: &'static str,
    /// When it was placed.
    pub(super) created_at: DateTime<Utc>,
    /// Its lines, priced.
    pub(super) items: Vec<Item>,
    /// What it costs.
    pub(super) total: Money,
    /// Why it is being cancelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<Reason>,
    /// What the customer has to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_action: Option<NextAction>,
    /// Once it is confirmed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tickets: Vec<Ticket>,
    /// What happened, oldest first; of a long history the newest 1,000 entries.
    pub(super) timeline: Vec<Entry>,
}

/// Why an order is not sold.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Reason {
    /// Stable code.
    #[schema(example = "sold_out")]
    pub(super) code: String,
    /// One sentence.
    pub(super) message: String,
}

/// What the customer has to do.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NextAction {
    /// The page of the payment provider to send the customer to.
    pub(super) redirect_url: String,
}

/// A ticket of an order.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Ticket {
    /// Its id.
    pub(super) id: Uuid,
    /// The event it is for.
    pub(super) event_id: Uuid,
    /// The offer it was sold by.
    pub(super) offer_id: Uuid,
    /// Its number, unbroken per event.
    pub(super) number: i32,
    /// The name on it.
    pub(super) holder_name: String,
    /// Whether it is the free ticket of someone's companion.
    pub(super) companion: bool,
    /// `valid` or `revoked`.
    pub(super) status: &'static str,
}

/// Something that happened to an order.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Entry {
    /// Counts what happened; the id of the event in the stream.
    pub(super) rev: i32,
    /// When.
    pub(super) at: DateTime<Utc>,
    /// The order's status after it.
    pub(super) status: &'static str,
    /// The step it was about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) step: Option<String>,
    /// `do`, `undo` or `probe`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<&'static str>,
    /// `done`, `rejected`, `retry`, `unknown` or `waiting`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) outcome: Option<&'static str>,
    /// Stable code, where it is not done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<String>,
}

/// When an order was placed: its id says it.
pub(super) fn created_at(order: OrderId) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(order.created_at_ms()).unwrap_or_default()
}
