//! The statements of `reserve`. Stock rows are locked in the order of their key.

use super::allocate::{Sale, Shelf};
use crate::Error;
use chrono::{DateTime, Utc};
use contract::OfferId;
use database::Connection;
use diesel::sql_types::{Array, Integer, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use std::collections::BTreeMap;
use uuid::Uuid;

database::statement! {
    /// Reads and locks stock, with the state of its sale.
    struct LockStock {
        ids: Vec<Uuid> => Array<SqlUuid>,
    } -> (SqlUuid, Integer, Integer, Text, Timestamptz) =
    "SELECT s.offer_id, s.capacity, s.taken, e.status, e.starts_at \
     FROM stock s JOIN offers o ON o.id = s.offer_id JOIN events e ON e.id = o.event_id \
     WHERE s.offer_id = ANY({ids}) ORDER BY s.offer_id FOR UPDATE OF s"
}

database::statement! {
    /// Adds to what is taken; the CHECK `no_oversell` refuses what must not be.
    struct AddToTaken {
        ids: Vec<Uuid> => Array<SqlUuid>,
        changes: Vec<i32> => Array<Integer>,
    } -> SqlUuid =
    "UPDATE stock SET taken = stock.taken + t.change \
     FROM unnest({ids}, {changes}) AS t(offer_id, change) WHERE stock.offer_id = t.offer_id \
     RETURNING stock.offer_id"
}

/// Reads and locks what is left of offers; those that do not exist are missing.
pub(super) async fn lock(
    connection: &mut Connection,
    offers: impl Iterator<Item = OfferId>,
    now: DateTime<Utc>,
) -> Result<BTreeMap<OfferId, Shelf>, Error> {
    let mut ids: Vec<Uuid> = offers.map(|offer| offer.0).collect();
    ids.sort_unstable();
    ids.dedup();
    let rows: Vec<(Uuid, i32, i32, String, DateTime<Utc>)> =
        LockStock { ids }.load(connection).await?;
    let shelf = |(offer, capacity, taken, status, starts_at): (Uuid, i32, i32, String, _)| {
        let sale = match status.as_str() {
            "cancelled" => Sale::Cancelled,
            "on_sale" if starts_at > now => Sale::Open,
            _ => Sale::Closed,
        };
        let free = i64::from(capacity) - i64::from(taken);
        (OfferId(offer), Shelf { free, sale })
    };
    Ok(rows.into_iter().map(shelf).collect())
}

/// Changes what is taken, each row once.
pub(super) async fn add_to_taken(
    connection: &mut Connection,
    changes: &BTreeMap<OfferId, i64>,
) -> Result<(), Error> {
    if changes.is_empty() {
        return Ok(());
    }
    let narrow = |change: &i64| {
        i32::try_from(*change).map_err(|_| Error::BadRow(format!("{change} places at once")))
    };
    let statement = AddToTaken {
        ids: changes.keys().map(|offer| offer.0).collect(),
        changes: changes.values().map(narrow).collect::<Result<_, _>>()?,
    };
    let changed: Vec<Uuid> = statement.load(connection).await?;
    if changed.len() != changes.len() {
        return Err(Error::BadRow("the stock of an offer is gone".to_owned()));
    }
    Ok(())
}
