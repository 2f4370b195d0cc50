//! The SQL of orders.

use super::request::{Line, ValidOrder};
use contract::OrderId;
use database::Connection;
use diesel::sql_types::{
    Array, BigInt, Binary, Inet, Integer, Jsonb, Nullable, SmallInt, Text, Uuid as SqlUuid,
};
use diesel_async::RunQueryDsl;
use ipnet::IpNet;
use serde_json::{Value, json};
use std::{collections::HashMap, net::IpAddr};
use uuid::Uuid;

/// A caller's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) scope: &'static str,
    pub(crate) hash: [u8; 32],
}

/// What a key stands for.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    pub(super) order: OrderId,
    pub(super) request_hash: Vec<u8>,
}

/// An order on its way into the database.
#[derive(Clone, Debug)]
pub(crate) struct NewOrder {
    pub(crate) id: OrderId,
    pub(crate) key: Key,
    pub(crate) request_hash: [u8; 32],
    pub(crate) order: ValidOrder,
    pub(crate) client: IpAddr,
    pub(crate) trace_id: u128,
}

database::statement! {
    /// Binds keys that are free and inserts their orders with their lines; returns those orders.
    pub(super) struct InsertOrders {
        scopes: Vec<String> => Array<Text>,
        keys: Vec<Vec<u8>> => Array<Binary>,
        requests: Vec<Vec<u8>> => Array<Binary>,
        ids: Vec<Uuid> => Array<SqlUuid>,
        totals: Vec<i64> => Array<BigInt>,
        currencies: Vec<String> => Array<Text>,
        emails: Vec<String> => Array<Text>,
        names: Vec<String> => Array<Text>,
        locales: Vec<String> => Array<Text>,
        methods: Vec<String> => Array<Text>,
        clients: Vec<IpNet> => Array<Inet>,
        item_orders: Vec<Uuid> => Array<SqlUuid>,
        lines: Vec<i16> => Array<SmallInt>,
        offers: Vec<Uuid> => Array<SqlUuid>,
        events: Vec<Uuid> => Array<SqlUuid>,
        quantities: Vec<i32> => Array<Integer>,
        units: Vec<i64> => Array<BigInt>,
        attendees: Vec<Option<Value>> => Array<Nullable<Jsonb>>,
    } -> SqlUuid =
    "WITH given AS (
       SELECT * FROM unnest({scopes}, {keys}, {requests}, {ids}, {totals}, {currencies}, {emails},
                            {names}, {locales}, {methods}, {clients})
         AS g(scope, key_hash, request_hash, id, total, currency, email, name, locale,
              method, client)
     ), bound AS (
       INSERT INTO idempotency_keys (scope, key_hash, request_hash, order_id)
       SELECT scope, key_hash, request_hash, id FROM given ON CONFLICT DO NOTHING
       RETURNING order_id
     ), placed AS (
       INSERT INTO orders (id, total_minor, currency, email, name, locale,
                           payment_method, client_addr)
       SELECT g.id, g.total, g.currency, g.email, g.name, g.locale, g.method, g.client
       FROM given g WHERE g.id = ANY (ARRAY(SELECT order_id FROM bound))
     ), lined AS (
       INSERT INTO order_items (order_id, line, offer_id, event_id, quantity, unit_amount_minor,
                                attendees)
       SELECT i.order_id, i.line, i.offer_id, i.event_id, i.quantity, i.unit, i.attendees
       FROM unnest({item_orders}, {lines}, {offers}, {events}, {quantities}, {units}, {attendees})
         AS i(order_id, line, offer_id, event_id, quantity, unit, attendees)
       WHERE i.order_id = ANY (ARRAY(SELECT order_id FROM bound))
     )
     SELECT order_id FROM bound"
}

database::statement! {
    /// What keys stand for: scope, key, request, order.
    struct ReadKeys {
        scopes: Vec<String> => Array<Text>,
        keys: Vec<Vec<u8>> => Array<Binary>,
    } -> (Text, Binary, Binary, SqlUuid) =
    "SELECT k.scope, k.key_hash, k.request_hash, k.order_id
     FROM unnest({scopes}, {keys}) AS g(scope, key_hash)
     JOIN idempotency_keys k ON k.scope = g.scope AND k.key_hash = g.key_hash"
}

/// What keys stand for, of those that are bound.
///
/// # Errors
/// The database fails.
pub(super) async fn read_keys(
    connection: &mut Connection,
    keys: &[Key],
) -> Result<HashMap<Key, Bound>, engine::Error> {
    let rows: Vec<(String, Vec<u8>, Vec<u8>, Uuid)> = ReadKeys {
        scopes: keys.iter().map(|key| key.scope.to_owned()).collect(),
        keys: keys.iter().map(|key| key.hash.to_vec()).collect(),
    }
    .load(connection)
    .await?;
    let stored: HashMap<(&str, &[u8]), Bound> = rows
        .iter()
        .map(|(scope, hash, request, order)| {
            let bound = Bound {
                order: OrderId(*order),
                request_hash: request.clone(),
            };
            ((scope.as_str(), hash.as_slice()), bound)
        })
        .collect();
    let bound = keys.iter().filter_map(|key| {
        let bound = stored.get(&(key.scope, key.hash.as_slice()))?;
        Some((*key, bound.clone()))
    });
    Ok(bound.collect())
}

database::statement! {
    /// An order with its lines: id, total, currency, offer, quantity, unit price.
    pub(super) struct ReadOrder {
        id: Uuid => SqlUuid,
    } -> (SqlUuid, BigInt, Text, SqlUuid, SqlUuid, Integer, BigInt) =
    "SELECT o.id, o.total_minor, o.currency, i.offer_id, i.event_id, i.quantity, i.unit_amount_minor
     FROM orders o JOIN order_items i ON i.order_id = o.id WHERE o.id = {id} ORDER BY i.line"
}

database::statement! {
    /// An order's tickets: id, event, offer, number, holder, whether it is a companion's, whether it
    /// is revoked.
    pub(super) struct ReadTickets {
        id: Uuid => SqlUuid,
    } -> (SqlUuid, SqlUuid, SqlUuid, Integer, Text, diesel::sql_types::Bool, diesel::sql_types::Bool) =
    "SELECT id, event_id, offer_id, number, holder_name, companion, revoked_at IS NOT NULL
     FROM tickets WHERE order_id = {id} ORDER BY line, position, companion"
}

impl InsertOrders {
    /// The statement for some orders, which are sorted by their keys: two gateways that write the same
    /// keys wait for each other in the same order.
    pub(super) fn of(orders: &[NewOrder]) -> Self {
        let mut sorted: Vec<&NewOrder> = orders.iter().collect();
        sorted.sort_by_key(|new| (new.key, new.id));
        let text = |field: fn(&NewOrder) -> &str| -> Vec<String> {
            sorted.iter().map(|new| field(new).to_owned()).collect()
        };
        let lines: Vec<(OrderId, i16, &Line)> = sorted
            .iter()
            .flat_map(|new| {
                (1_i16..)
                    .zip(&new.order.lines)
                    .map(|(n, line)| (new.id, n, line))
            })
            .collect();
        let attendees = |line: &Line| {
            line.attendees
                .as_ref()
                .map(|names| names.iter().map(|name| json!({ "name": name })).collect())
        };
        Self {
            scopes: text(|new| new.key.scope),
            keys: sorted.iter().map(|new| new.key.hash.to_vec()).collect(),
            requests: sorted.iter().map(|new| new.request_hash.to_vec()).collect(),
            ids: sorted.iter().map(|new| new.id.0).collect(),
            totals: sorted
                .iter()
                .map(|new| new.order.total.amount_minor)
                .collect(),
            currencies: text(|new| new.order.total.currency.code()),
            emails: text(|new| &new.order.email),
            names: text(|new| &new.order.name),
            locales: text(|new| &new.order.locale),
            methods: text(|new| &new.order.payment_method),
            clients: sorted.iter().map(|new| IpNet::from(new.client)).collect(),
            item_orders: lines.iter().map(|(order, ..)| order.0).collect(),
            lines: lines.iter().map(|(_, n, _)| *n).collect(),
            offers: lines.iter().map(|(.., line)| line.offer_id.0).collect(),
            events: lines.iter().map(|(.., line)| line.event_id.0).collect(),
            quantities: lines.iter().map(|(.., line)| line.quantity).collect(),
            units: lines
                .iter()
                .map(|(.., line)| line.unit_amount_minor)
                .collect(),
            attendees: lines.iter().map(|(.., line)| attendees(line)).collect(),
        }
    }
}
