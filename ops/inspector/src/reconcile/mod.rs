//! Reconciliation: what the payment provider has against what we have. The provider is read by whoever
//! calls; here is the join, which is pure, and our side of it.

mod join;
#[cfg(test)]
mod tests;

pub use join::{Remedy, SETTLED_AFTER_S, join, remedy};

use crate::Error;
use database::Connection;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use serde::Serialize;
use uuid::Uuid;

/// Orders that are read together.
pub const ORDERS_AT_A_TIME: i64 = 1_000;

/// How a payment stands at the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// Not confirmed, or declined: nobody can be charged with it but by us.
    Open,
    /// With the customer or the bank, who may still complete it.
    Waiting,
    /// Authorised, not captured.
    Authorised,
    /// Captured.
    Captured,
    /// Ended without a charge.
    Canceled,
}

/// A payment as the provider has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// The provider's id.
    pub id: String,
    /// The order that it says it is for.
    pub order: Option<Uuid>,
    /// How it stands.
    pub stand: Stand,
    /// What was asked for, in minor units.
    pub amount_minor: i64,
    /// What was captured.
    pub captured_minor: i64,
    /// What was given back, or is on its way.
    pub refunded_minor: i64,
    /// Of ISO 4217.
    pub currency: String,
    /// Since when it is so, as far as it is known, in seconds since 1970.
    pub since_s: i64,
}

impl Payment {
    /// What was captured and not given back.
    #[must_use]
    pub fn net_minor(&self) -> i64 {
        self.captured_minor - self.refunded_minor
    }

    fn differs(&self, kind: Kind, amount_minor: i64) -> Difference {
        Difference {
            kind,
            order: self.order,
            payment_intent: Some(self.id.clone()),
            amount_minor,
            currency: self.currency.to_ascii_uppercase(),
        }
    }
}

/// An order as we have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its id.
    pub id: Uuid,
    /// Its total, in minor units.
    pub total_minor: i64,
    /// Of ISO 4217.
    pub currency: String,
    /// Its saga has not ended.
    pub live: bool,
    /// People gave its payment up, or dealt with it elsewhere.
    pub with_people: bool,
    /// The payment that the effect ledger knows.
    pub intent: Option<String>,
    /// Its valid tickets.
    pub valid_tickets: i64,
}

/// What differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Captured, and no order of ours.
    CapturedWithoutOrder,
    /// Captured, and its order has ended without tickets.
    CapturedButCancelled,
    /// One order, captured more than once.
    CapturedTwice,
    /// Another amount or currency than the order's.
    AmountDiffers,
    /// Tickets are valid that nobody paid.
    TicketedWithoutCapture,
    /// Given back, and its tickets are valid.
    RefundedButTicketed,
    /// Authorised, and no live saga will capture it.
    AuthorisedAndForgotten,
    /// The customer or the bank may still complete it, and no live saga waits for it.
    WaitingAndForgotten,
    /// The effect ledger has a payment that the provider does not know.
    UnknownToProvider,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::CapturedWithoutOrder,
        Self::CapturedButCancelled,
        Self::CapturedTwice,
        Self::AmountDiffers,
        Self::TicketedWithoutCapture,
        Self::RefundedButTicketed,
        Self::AuthorisedAndForgotten,
        Self::WaitingAndForgotten,
        Self::UnknownToProvider,
    ];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CapturedWithoutOrder => "captured-without-order",
            Self::CapturedButCancelled => "captured-but-cancelled",
            Self::CapturedTwice => "captured-twice",
            Self::AmountDiffers => "amount-differs",
            Self::TicketedWithoutCapture => "ticketed-without-capture",
            Self::RefundedButTicketed => "refunded-but-ticketed",
            Self::AuthorisedAndForgotten => "authorised-and-forgotten",
            Self::WaitingAndForgotten => "waiting-and-forgotten",
            Self::UnknownToProvider => "unknown-to-provider",
        }
    }
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What differs.
    pub kind: Kind,
    /// The order, if the payment names one.
    pub order: Option<Uuid>,
    /// The payment.
    pub payment_intent: Option<String>,
    /// What it is about, in minor units.
    pub amount_minor: i64,
    /// Of ISO 4217.
    pub currency: String,
}

type Row = (Uuid, i64, String, bool, bool, Option<String>, i64);

// An intent that was never made is `none:…`. Of a compensated saga people may have said that its payment was
// dealt with elsewhere; an abandoned one they have given up.
macro_rules! orders {
    ($which:literal) => {
        concat!(
            "SELECT o.id, o.total_minor, o.currency, coalesce(NOT s.ended, false),
                    coalesce(s.state = 6, false) OR EXISTS (
                      SELECT FROM history h WHERE h.saga_id = o.id AND h.input = 6
                        AND h.code = 'resolve' AND h.detail->>'step' = 'pay'),
                    e.outside_id,
                    (SELECT count(*) FROM tickets t
                     WHERE t.order_id = o.id AND t.revoked_at IS NULL)
             FROM orders o LEFT JOIN sagas s ON s.id = o.id
             LEFT JOIN effects e ON e.saga_id = o.id AND e.step = 'pay' AND e.outside_id LIKE 'pi\\_%' ",
            $which
        )
    };
}

database::statement! {
    /// Some orders.
    struct Named {
        ids: Vec<Uuid> => Array<SqlUuid>,
    } -> (SqlUuid, BigInt, Text, Bool, Bool, Nullable<Text>, BigInt) =
    orders!("WHERE o.id = ANY({ids})")
}

database::statement! {
    /// The orders since a time that have come as far as a payment, a page at a time.
    struct Since {
        after: Uuid => SqlUuid,
        limit: i64 => BigInt,
    } -> (SqlUuid, BigInt, Text, Bool, Bool, Nullable<Text>, BigInt) =
    // The effects have the orders' ids; said once more, only the partitions behind it are looked into.
    orders!("AND e.saga_id > {after} WHERE o.id > {after} AND (e.outside_id IS NOT NULL
               OR EXISTS (SELECT FROM tickets t WHERE t.order_id = o.id))
             ORDER BY o.id LIMIT {limit}")
}

database::statement! {
    /// The database's time, in seconds since 1970.
    struct Now {} -> BigInt = "SELECT extract(epoch FROM clock_timestamp())::bigint"
}

/// The database's time, in seconds since 1970.
///
/// # Errors
/// As [`orders`].
pub async fn now_s(connection: &mut Connection) -> Result<i64, Error> {
    Ok(Now {}.get_result(connection).await?)
}

/// These orders, as far as they are ours.
///
/// # Errors
/// The database cannot be asked.
pub async fn orders(connection: &mut Connection, ids: Vec<Uuid>) -> Result<Vec<Order>, Error> {
    let rows: Vec<Row> = Named { ids }.load(connection).await?;
    Ok(rows.into_iter().map(order).collect())
}

/// The orders behind this id that have come as far as a payment, at most [`ORDERS_AT_A_TIME`], by their
/// ids, which begin with their time.
///
/// # Errors
/// As [`orders`].
pub async fn orders_behind(connection: &mut Connection, after: Uuid) -> Result<Vec<Order>, Error> {
    let limit = ORDERS_AT_A_TIME;
    let rows: Vec<Row> = Since { after, limit }.load(connection).await?;
    Ok(rows.into_iter().map(order).collect())
}

fn order(row: Row) -> Order {
    let (id, total_minor, currency, live, with_people, intent, valid_tickets) = row;
    Order {
        id,
        total_minor,
        currency,
        live,
        with_people,
        intent,
        valid_tickets,
    }
}
