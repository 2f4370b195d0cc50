//! The orders of a batch, read with one statement. Orders and items are the only tables that steps
//! share.

use chrono::Utc;
use contract::{Currency, EventId, Money, OfferId, OrderId};
use database::Connection;
use diesel::sql_types::{
    Array, BigInt, Inet, Integer, Jsonb, Nullable, SmallInt, Text, Uuid as SqlUuid,
};
use diesel_async::RunQueryDsl;
use serde::Deserialize;
use serde_json::Value;
use std::{collections::HashMap, net::IpAddr};
use uuid::Uuid;

use crate::Error;

/// What a customer asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct OrderView {
    /// The order, and its saga.
    pub id: OrderId,
    /// The buyer's account, if he has one.
    pub account_id: Option<Uuid>,
    /// What he pays.
    pub total: Money,
    /// His address as he wrote it.
    pub email: String,
    /// His name.
    pub name: String,
    /// His language, as `fr` or `en-GB`.
    pub locale: String,
    /// What he pays with, as the provider calls it.
    pub payment_method: String,
    /// Where the order came from.
    pub client_addr: Option<IpAddr>,
    /// The lines, by number.
    pub items: Vec<ItemView>,
}

/// One line of an order.
#[derive(Clone, Debug, PartialEq)]
pub struct ItemView {
    /// Its number.
    pub line: i16,
    /// Of what.
    pub offer_id: OfferId,
    /// The offer's event.
    pub event_id: EventId,
    /// How many.
    pub quantity: i32,
    /// The price of one, in minor units of the order's currency.
    pub unit_amount_minor: i64,
    /// Who will come, if the buyer said so; else the tickets bear his own name.
    pub attendees: Vec<String>,
}

impl OrderView {
    /// When the order was made, as its id tells.
    #[must_use]
    pub fn created_at(&self) -> chrono::DateTime<Utc> {
        chrono::DateTime::from_timestamp_millis(self.id.created_at_ms()).unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct Attendee {
    name: String,
}

type Row = (
    (
        Uuid,
        Option<Uuid>,
        i64,
        String,
        String,
        String,
        String,
        String,
        Option<ipnet::IpNet>,
    ),
    (i16, Uuid, Uuid, i64, i32, Option<Value>),
);

database::statement! {
    /// Orders with their items.
    struct OrdersWithItems {
        ids: Vec<Uuid> => Array<SqlUuid>,
    } -> (
        (SqlUuid, Nullable<SqlUuid>, BigInt, Text, Text, Text, Text, Text, Nullable<Inet>),
        (SmallInt, SqlUuid, SqlUuid, BigInt, Integer, Nullable<Jsonb>),
    ) =
    "SELECT o.id, o.account_id, o.total_minor, o.currency, o.email, o.name, o.locale, \
            o.payment_method, o.client_addr, \
            i.line, i.offer_id, i.event_id, i.unit_amount_minor, i.quantity, i.attendees \
     FROM orders o JOIN order_items i ON i.order_id = o.id \
     WHERE o.id = ANY({ids}) ORDER BY o.id, i.line"
}

/// Reads orders with their items; those that do not exist are missing from the map.
///
/// # Errors
/// The database cannot be asked, or holds a currency that is none or attendees that are no names.
pub async fn orders(
    connection: &mut Connection,
    ids: &[OrderId],
) -> Result<HashMap<OrderId, OrderView>, Error> {
    let ids = ids.iter().map(|id| id.0).collect();
    let rows: Vec<Row> = OrdersWithItems { ids }.load(connection).await?;
    let mut views: HashMap<OrderId, OrderView> = HashMap::new();
    for (order, item) in rows {
        let item = ItemView {
            line: item.0,
            offer_id: OfferId(item.1),
            event_id: EventId(item.2),
            unit_amount_minor: item.3,
            quantity: item.4,
            attendees: attendees(order.0, item.5)?,
        };
        let id = OrderId(order.0);
        if let Some(view) = views.get_mut(&id) {
            view.items.push(item);
            continue;
        }
        let currency: Currency = order
            .3
            .parse()
            .map_err(|_| Error::BadRow(format!("order {id} has no known currency")))?;
        let view = OrderView {
            id,
            account_id: order.1,
            total: Money {
                amount_minor: order.2,
                currency,
            },
            email: order.4,
            name: order.5,
            locale: order.6,
            payment_method: order.7,
            client_addr: order.8.map(|net| net.addr()),
            items: vec![item],
        };
        views.insert(id, view);
    }
    Ok(views)
}

/// An empty list where none were named. What cannot be read is not taken for none: the tickets would
/// bear the wrong names.
fn attendees(order: Uuid, value: Option<Value>) -> Result<Vec<String>, Error> {
    let Some(value) = value else {
        return Ok(Vec::new());
    };
    let attendees: Vec<Attendee> = serde_json::from_value(value)
        .map_err(|_| Error::BadRow(format!("order {order} has unreadable attendees")))?;
    Ok(attendees
        .into_iter()
        .map(|attendee| attendee.name)
        .collect())
}
