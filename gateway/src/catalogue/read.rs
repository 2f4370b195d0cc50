//! The statements that fill a snapshot.
//!
//! They run one after the other, not in one transaction: the version is read first, so a change in
//! between makes the next look find another version and read again. Until then an offer whose event
//! was not read yet is left out.

use super::{
    pricing::Category,
    snapshot::{EventStatus, EventView, OfferView, Snapshot, SportView, VenueView, money},
};
use chrono::{DateTime, Utc};
use contract::{EventId, OfferId, Tier};
use database::Connection;
use diesel::sql_types::{
    BigInt, Bool, Double, Integer, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::RunQueryDsl;
use std::{collections::HashMap, sync::Arc};
use uuid::Uuid;

/// Events and offers that are held in memory at most: about 200 MB.
const EVENTS_MAX: i64 = 100_000;
const OFFERS_MAX: i64 = 600_000;

database::statement! {
    struct Version {} -> BigInt = "SELECT version FROM catalogue_state"
}

database::statement! {
    struct Venues {} -> (Text, Text, Text, Text, Text, Double, Double, Integer) =
    "SELECT code, name, name_fr, city, time_zone, latitude, longitude, capacity
     FROM venues ORDER BY code COLLATE \"C\""
}

database::statement! {
    struct Sports {} -> (Text, Text, Text, Text) =
    "SELECT code, name, name_fr, kind FROM sports ORDER BY code COLLATE \"C\""
}

database::statement! {
    struct Events { limit: i64 => BigInt } -> (
        SqlUuid, Text, Text, Text, Text, Timestamptz, Timestamptz, Timestamptz, SmallInt, Text, Text,
    ) =
    "SELECT id, code, name, sport, venue, starts_at, ends_at, published_starts_at, medal_events,
            status, tier
     FROM events ORDER BY starts_at LIMIT {limit}"
}

database::statement! {
    struct Offers { limit: i64 => BigInt } -> (
        SqlUuid, SqlUuid, Text, BigInt, Text, Bool, Bool,
    ) =
    "SELECT id, event_id, category, amount_minor, currency, accessible, companion
     FROM offers LIMIT {limit}"
}

database::statement! {
    struct Remaining { limit: i64 => BigInt } -> (SqlUuid, Integer) =
    "SELECT offer_id, capacity - taken FROM stock LIMIT {limit}"
}

type EventRow = (
    Uuid,
    String,
    String,
    String,
    String,
    DateTime<Utc>,
    DateTime<Utc>,
    DateTime<Utc>,
    i16,
    String,
    String,
);
type OfferRow = (Uuid, Uuid, String, i64, String, bool, bool);

/// Which version the database has.
pub(super) async fn version(connection: &mut Connection) -> diesel::QueryResult<i64> {
    Version {}.get_result(connection).await
}

/// Everything but what remains.
pub(super) async fn snapshot(
    connection: &mut Connection,
    version: i64,
) -> diesel::QueryResult<Snapshot> {
    let venues = Venues {}.load(&mut *connection).await?;
    let venues: Vec<Arc<VenueView>> = venues.into_iter().map(venue).collect();
    let sports = Sports {}.load(&mut *connection).await?;
    let sports: Vec<Arc<SportView>> = sports.into_iter().map(sport).collect();
    let rows: Vec<EventRow> = Events { limit: EVENTS_MAX }.load(&mut *connection).await?;
    warn_at_bound("events", rows.len(), EVENTS_MAX);
    let of_venue: HashMap<&str, &Arc<VenueView>> = venues
        .iter()
        .map(|venue| (venue.code.as_str(), venue))
        .collect();
    let of_sport: HashMap<&str, &Arc<SportView>> = sports
        .iter()
        .map(|sport| (sport.code.as_str(), sport))
        .collect();
    let events: Vec<EventView> = rows
        .into_iter()
        .filter_map(|row| {
            let sport = Arc::clone(of_sport.get(row.3.as_str())?);
            let venue = Arc::clone(of_venue.get(row.4.as_str())?);
            event(row, sport, venue)
        })
        .collect();
    let rows: Vec<OfferRow> = Offers { limit: OFFERS_MAX }.load(connection).await?;
    warn_at_bound("offers", rows.len(), OFFERS_MAX);
    let by_id: HashMap<EventId, &EventView> = events.iter().map(|e| (e.id, e)).collect();
    let offers = rows
        .into_iter()
        .filter_map(|row| offer(&row, by_id.get(&EventId(row.1))?))
        .collect();
    Ok(Snapshot::new(version, venues, sports, events, offers))
}

/// What remains of each offer of a snapshot, by its index. One without stock has nothing left.
pub(super) async fn remaining(
    connection: &mut Connection,
    snapshot: &Snapshot,
) -> diesel::QueryResult<Vec<u32>> {
    let rows: Vec<(Uuid, i32)> = Remaining { limit: OFFERS_MAX }.load(connection).await?;
    let mut remaining = vec![0; snapshot.offers.len()];
    for (id, units) in rows {
        if let Some(index) = snapshot.offer_index(OfferId(id)) {
            remaining[index] = u32::try_from(units).unwrap_or(0);
        }
    }
    Ok(remaining)
}

fn warn_at_bound(what: &str, rows: usize, max: i64) {
    if i64::try_from(rows).is_ok_and(|rows| rows == max) {
        tracing::error!(
            what,
            max,
            "the catalogue is larger than a gateway holds; some is not shown"
        );
    }
}

type VenueRow = (String, String, String, String, String, f64, f64, i32);

fn venue(row: VenueRow) -> Arc<VenueView> {
    let (code, name, name_fr, city, time_zone, latitude, longitude, capacity) = row;
    Arc::new(VenueView {
        code,
        name,
        name_fr,
        city,
        time_zone,
        latitude,
        longitude,
        capacity,
    })
}

fn sport(row: (String, String, String, String)) -> Arc<SportView> {
    let (code, name, name_fr, kind) = row;
    Arc::new(SportView {
        code,
        name,
        name_fr,
        kind,
    })
}

fn event(row: EventRow, sport: Arc<SportView>, venue: Arc<VenueView>) -> Option<EventView> {
    let (id, code, name, _, _, starts_at, ends_at, published, medal_events, status, tier) = row;
    Some(EventView {
        id: EventId(id),
        code,
        name,
        sport,
        venue,
        starts_at,
        ends_at,
        published_starts_at: published,
        medal_events,
        status: EventStatus::from_name(&status)?,
        tier: Tier::from_name(&tier)?,
        offers: 0..0,
        price_from: None,
        haystack: String::new(),
    })
}

fn offer(row: &OfferRow, event: &EventView) -> Option<OfferView> {
    let (id, _, category, amount_minor, currency, accessible, companion) = row;
    Some(OfferView {
        id: OfferId(*id),
        event_id: event.id,
        category: Category::ALL
            .into_iter()
            .find(|known| known.name() == category)?,
        price: money(*amount_minor, currency)?,
        accessible: *accessible,
        companion: *companion,
        status: event.status,
        starts_at: event.starts_at,
        tier: event.tier,
    })
}
