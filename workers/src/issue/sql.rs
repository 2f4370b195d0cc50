//! The statements of `issue`.

use super::{
    code::{Content, Signatory},
    plan::{OfferFacts, Place},
};
use crate::Error;
use chrono::{DateTime, Utc};
use contract::{EventId, OfferId, OrderId, TicketId};
use database::Connection;
use diesel::sql_types::{
    Array, Binary, Bool, Integer, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::RunQueryDsl;
use std::collections::{BTreeMap, HashMap};
use uuid::Uuid;

database::statement! {
    /// What has to be known of offers.
    struct OfferFactsOf {
        ids: Vec<Uuid> => Array<SqlUuid>,
    } -> (SqlUuid, Bool, Text) =
    "SELECT o.id, o.companion, e.status FROM offers o JOIN events e ON e.id = o.event_id \
     WHERE o.id = ANY({ids})"
}

database::statement! {
    /// Counts tickets; locks each counter until the transaction ends. The ids are sorted, so
    /// counters are locked in that order.
    struct CountTickets {
        ids: Vec<Uuid> => Array<SqlUuid>,
        counts: Vec<i32> => Array<Integer>,
    } -> (SqlUuid, Integer) =
    "INSERT INTO ticket_counters (event_id, last) \
     SELECT event_id, count FROM unnest({ids}, {counts}) AS t(event_id, count) \
     ON CONFLICT (event_id) DO UPDATE SET last = ticket_counters.last + excluded.last \
     RETURNING event_id, last"
}

database::statement! {
    /// Writes tickets.
    struct InsertTickets {
        ids: Vec<Uuid> => Array<SqlUuid>,
        orders: Vec<Uuid> => Array<SqlUuid>,
        events: Vec<Uuid> => Array<SqlUuid>,
        offers: Vec<Uuid> => Array<SqlUuid>,
        numbers: Vec<i32> => Array<Integer>,
        lines: Vec<i16> => Array<SmallInt>,
        positions: Vec<i16> => Array<SmallInt>,
        companions: Vec<bool> => Array<Bool>,
        holders: Vec<String> => Array<Text>,
        signatures: Vec<Vec<u8>> => Array<Binary>,
        key_id: Vec<u8> => Binary,
        now: DateTime<Utc> => Timestamptz,
    } -> Integer =
    "INSERT INTO tickets (id, order_id, event_id, offer_id, number, line, position, companion, \
                          holder_name, signature, key_id, issued_at) \
     SELECT t.*, {key_id}, {now} FROM unnest({ids}, {orders}, {events}, {offers}, {numbers}, \
       {lines}, {positions}, {companions}, {holders}, {signatures}) AS t"
}

database::statement! {
    /// Revokes the tickets of orders; they keep their numbers.
    struct RevokeTickets {
        orders: Vec<Uuid> => Array<SqlUuid>,
        now: DateTime<Utc> => Timestamptz,
    } -> Integer =
    "UPDATE tickets SET revoked_at = {now} WHERE order_id = ANY({orders}) AND revoked_at IS NULL"
}

pub(super) async fn offers(
    connection: &mut Connection,
    mut ids: Vec<OfferId>,
) -> Result<HashMap<OfferId, OfferFacts>, Error> {
    ids.sort_unstable();
    ids.dedup();
    let ids = ids.into_iter().map(|id| id.0).collect();
    let rows: Vec<(Uuid, bool, String)> = OfferFactsOf { ids }.load(connection).await?;
    let facts = rows.into_iter().map(|(id, companion, status)| {
        let cancelled = status == "cancelled";
        let facts = OfferFacts {
            companion,
            cancelled,
        };
        (OfferId(id), facts)
    });
    Ok(facts.collect())
}

/// Counts tickets; returns the last number of each event.
pub(super) async fn count(
    connection: &mut Connection,
    counts: &BTreeMap<EventId, i32>,
) -> Result<BTreeMap<EventId, i32>, Error> {
    if counts.is_empty() {
        return Ok(BTreeMap::new());
    }
    let statement = CountTickets {
        ids: counts.keys().map(|event| event.0).collect(),
        counts: counts.values().copied().collect(),
    };
    let rows: Vec<(Uuid, i32)> = statement.load(connection).await?;
    Ok(rows
        .into_iter()
        .map(|(id, last)| (EventId(id), last))
        .collect())
}

/// Signs and writes tickets.
pub(super) async fn insert(
    connection: &mut Connection,
    signatory: &Signatory,
    places: Vec<Place>,
    numbers: Vec<i32>,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    if places.is_empty() {
        return Ok(());
    }
    let mut rows = InsertTickets {
        ids: Vec::with_capacity(places.len()),
        orders: Vec::with_capacity(places.len()),
        events: Vec::with_capacity(places.len()),
        offers: Vec::with_capacity(places.len()),
        numbers,
        lines: Vec::with_capacity(places.len()),
        positions: Vec::with_capacity(places.len()),
        companions: Vec::with_capacity(places.len()),
        holders: Vec::with_capacity(places.len()),
        signatures: Vec::with_capacity(places.len()),
        key_id: signatory.key_id().0.to_vec(),
        now,
    };
    for (place, &number) in places.into_iter().zip(&rows.numbers) {
        let content = Content {
            ticket_id: TicketId::new(),
            event_id: place.event_id,
            number: u32::try_from(number)
                .map_err(|_| Error::BadRow(format!("{number} is no number of a ticket")))?,
        };
        rows.ids.push(content.ticket_id.0);
        rows.orders.push(place.order_id.0);
        rows.events.push(place.event_id.0);
        rows.offers.push(place.offer_id.0);
        rows.lines.push(place.line);
        rows.positions.push(place.position);
        rows.companions.push(place.companion);
        rows.holders.push(place.holder_name);
        rows.signatures.push(signatory.sign(content).to_vec());
    }
    rows.execute(connection).await?;
    Ok(())
}

pub(super) async fn revoke(
    connection: &mut Connection,
    orders: impl Iterator<Item = OrderId>,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let orders = orders.map(|order| order.0).collect();
    RevokeTickets { orders, now }.execute(connection).await?;
    Ok(())
}
