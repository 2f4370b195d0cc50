//! What the customers did and were told, in their own words: written by whoever plays them.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One thing that a customer did or heard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When, by the customer's clock, in milliseconds since 1970.
    pub at_ms: i64,
    /// What.
    pub what: What,
}

/// What it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "what")]
pub enum What {
    /// An order was sent.
    Asked {
        /// Its idempotency key.
        key: String,
        /// Its body.
        body: String,
    },
    /// It was answered.
    Answered {
        /// The order's idempotency key.
        key: String,
        /// The HTTP status.
        status: u16,
        /// The answer's body, byte for byte.
        body: String,
        /// The order's id, if it was accepted.
        order: Option<Uuid>,
    },
    /// Nobody answered, or only in part.
    Unheard {
        /// The order's idempotency key.
        key: String,
    },
    /// A stream said something.
    Told {
        /// The order.
        order: Uuid,
        /// The event's id.
        rev: i64,
        /// The order's status.
        status: String,
    },
    /// The customer decides on his bank's page.
    Authenticated {
        /// The order.
        order: Uuid,
        /// Whether he approves of the payment; else he refuses.
        approves: bool,
    },
    /// Somebody who followed an order has gone, and was not told an end.
    Left {
        /// The order.
        order: Uuid,
    },
    /// An operator has heard from a customer where his mail is to go.
    Corrected {
        /// The order.
        order: Uuid,
        /// The address.
        email: String,
    },
    /// The customer asked for the end of an order.
    Cancelled {
        /// The order.
        order: Uuid,
        /// The HTTP status, if there was an answer.
        status: Option<u16>,
    },
}
