//! Identifiers. All are UUIDv7 (RFC 9562), so they sort by the time of their making and tell it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new identifier, carrying the present time. Shells call it; pure code gets ids.
            #[must_use]
            #[allow(clippy::new_without_default, reason = "a fresh id is not a default value")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// Milliseconds since the Unix epoch at which the id was made; 0 if it is no UUIDv7.
            #[must_use]
            pub fn created_at_ms(self) -> i64 {
                self.0
                    .get_timestamp()
                    .and_then(|at| {
                        let (seconds, nanos) = at.to_unix();
                        let ms = seconds.checked_mul(1000)?.checked_add(u64::from(nanos / 1_000_000))?;
                        i64::try_from(ms).ok()
                    })
                    .unwrap_or(0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }
    )+};
}

ids! {
    /// A saga: one durable workflow. An order's saga has the order's id.
    SagaId;
    /// What a customer asked for: several lines, all or nothing.
    OrderId;
    /// What is sold: a sport session of the Games.
    EventId;
    /// A price category of an event.
    OfferId;
    /// One place for one person at one event.
    TicketId;
    /// One envelope on the bus.
    MessageId;
}

impl From<OrderId> for SagaId {
    fn from(order: OrderId) -> Self {
        Self(order.0)
    }
}

impl From<SagaId> for OrderId {
    fn from(saga: SagaId) -> Self {
        Self(saga.0)
    }
}

/// Which life of the database a message belongs to: a number drawn when that life began. After a restore
/// from backup it differs, and older messages are recognised and dropped.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Incarnation({self})")
    }
}

impl FromStr for Incarnation {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

impl Serialize for Incarnation {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Incarnation {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Incarnation {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Incarnation".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^[0-9a-f]{16}$",
            "description": "Which life of the database the message belongs to; another one is dropped."
        })
    }
}
