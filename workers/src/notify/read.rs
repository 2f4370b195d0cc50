//! What a mail tells, read with one statement per batch: the order, its valid tickets, and what the
//! catalogue says of them now. Written by others; here it is only read.

use super::render::{Confirmation, Name, Ticket};
use crate::{
    Error,
    issue::code::{Content, KeyId},
};
use chrono::{DateTime, Utc};
use contract::{EventId, Money, OrderId, SagaId, TicketId};
use database::Connection;
use diesel::sql_types::{Array, BigInt, Binary, Bool, Integer, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use std::collections::HashMap;
use uuid::Uuid;

type OrderRow = (Uuid, String, String, String, i64, String);
type EventRow = (
    String,
    DateTime<Utc>,
    String,
    String,
    String,
    String,
    String,
    String,
);
type TicketRow = (
    String,
    bool,
    bool,
    String,
    Uuid,
    Uuid,
    i32,
    Vec<u8>,
    Vec<u8>,
);

database::statement! {
    /// The valid tickets of orders, each with its order and its event. The address is the one that a
    /// person has corrected last, if anybody has: on an index, once for each ticket.
    struct TicketsOfOrders {
        orders: Vec<Uuid> => Array<SqlUuid>,
    } -> (
        (SqlUuid, Text, Text, Text, BigInt, Text),
        (Text, Timestamptz, Text, Text, Text, Text, Text, Text),
        (Text, Bool, Bool, Text, SqlUuid, SqlUuid, Integer, Binary, Binary),
    ) =
    "SELECT o.id, \
            coalesce((SELECT c.fields->>'email' FROM corrections c \
                      WHERE c.saga_id = o.id AND c.step = 'notify' AND c.kind = 1 \
                      ORDER BY c.audit DESC LIMIT 1), o.email), \
            o.name, o.locale, o.total_minor, o.currency, \
            e.name, e.starts_at, s.name, s.name_fr, v.name, v.name_fr, v.city, v.time_zone, \
            f.category, f.accessible, t.companion, t.holder_name, t.id, t.event_id, t.number, \
            t.key_id, t.signature \
     FROM orders o JOIN tickets t ON t.order_id = o.id \
     JOIN events e ON e.id = t.event_id JOIN sports s ON s.code = e.sport \
     JOIN venues v ON v.code = e.venue JOIN offers f ON f.id = t.offer_id \
     WHERE o.id = ANY({orders}) AND t.revoked_at IS NULL \
     ORDER BY o.id, t.line, t.position, t.companion"
}

/// The confirmations of orders; those without a valid ticket are missing.
///
/// # Errors
/// The database cannot be asked, or holds a currency, a time zone or a signature that is none.
pub(super) async fn confirmations(
    connection: &mut Connection,
    orders: impl Iterator<Item = OrderId>,
) -> Result<HashMap<SagaId, Confirmation>, Error> {
    let orders = orders.map(|order| order.0).collect();
    let rows: Vec<(OrderRow, EventRow, TicketRow)> =
        TicketsOfOrders { orders }.load(connection).await?;
    let mut found: HashMap<SagaId, Confirmation> = HashMap::new();
    for (order, event, ticket) in rows {
        let id = SagaId(order.0);
        let ticket = self::ticket(event, ticket)?;
        match found.get_mut(&id) {
            Some(confirmation) => confirmation.tickets.push(ticket),
            None => {
                found.insert(id, confirmation(order, ticket)?);
            }
        }
    }
    Ok(found)
}

fn confirmation(row: OrderRow, first: Ticket) -> Result<Confirmation, Error> {
    let (id, email, name, locale, amount_minor, currency) = row;
    let currency = currency
        .parse()
        .map_err(|_| Error::BadRow(format!("order {id} has no known currency")))?;
    Ok(Confirmation {
        order_id: OrderId(id),
        email,
        name,
        locale,
        total: Money {
            amount_minor,
            currency,
        },
        tickets: vec![first],
    })
}

fn ticket(event: EventRow, row: TicketRow) -> Result<Ticket, Error> {
    let (event, starts_at, sport, sport_fr, venue, venue_fr, city, time_zone) = event;
    let (category, accessible, companion, holder, id, event_id, number, key_id, signature) = row;
    let bad = |what: &str| Error::BadRow(format!("ticket {id} has no known {what}"));
    let content = Content {
        ticket_id: TicketId(id),
        event_id: EventId(event_id),
        number: u32::try_from(number).map_err(|_| bad("number"))?,
    };
    let key_id = KeyId(key_id.try_into().map_err(|_| bad("key"))?);
    let signature = signature.try_into().map_err(|_| bad("signature"))?;
    Ok(Ticket {
        event,
        sport: Name {
            en: sport,
            fr: sport_fr,
        },
        starts_at,
        venue: Name {
            en: venue,
            fr: venue_fr,
        },
        city,
        time_zone: time_zone.parse().map_err(|_| bad("time zone"))?,
        category,
        accessible,
        companion,
        holder,
        number: content.number,
        code: content.code(key_id, &signature),
    })
}
