//! Loading a catalogue: everything is checked first, then written in one transaction, all or
//! nothing. Loading the same again changes nothing; loading a newer one moves the rows to it.
//!
//! Places are being sold while it runs. The race is with a reservation that takes places from an
//! offer whose capacity is about to shrink: the stock rows are locked before they are judged, and the
//! table's own CHECK stands behind that.

use super::{
    plan::{self, PlannedEvent},
    source::{Source, SourceError},
};
use chrono::{DateTime, TimeDelta, Utc};
use database::Connection;
use diesel::sql_types::{
    Array, BigInt, Bool, Double, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::{AsyncConnection, RunQueryDsl};
use uuid::Uuid;

/// Offers that a refusal names at most.
const EXAMPLES_MAX: usize = 20;

/// How to load.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LoadOptions {
    /// Leave the times as published, even if they are past. Default: move them by whole multiples
    /// of 364 days until the first session is 60 days ahead; a catalogue loaded before keeps its
    /// shift until its last session is over.
    pub as_published: bool,
}

/// What is in the database after loading.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoadReport {
    /// Venues of the source.
    pub venues: usize,
    /// Sports of the source.
    pub sports: usize,
    /// Events of the source.
    pub events: usize,
    /// Their offers.
    pub offers: usize,
    /// The sum of the offers' capacities.
    pub places: u64,
    /// By how many days times differ from the published ones.
    pub shift_days: i32,
    /// When the first event starts.
    pub first_starts_at: DateTime<Utc>,
    /// Events in the database that the source does not have; they are left alone.
    pub others: usize,
}

/// Why nothing was loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The source is not valid.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// An offer would have fewer places than are taken.
    #[error("capacity below what is taken already: {}", .0.join(", "))]
    BelowTaken(
        /// Event code and category of the offers concerned, 20 at most.
        Vec<String>,
    ),
    /// Offers that exist are not in the source any more: their orders would hang in the air.
    #[error("the source lacks offers that exist: {}; withdraw them first", .0.join(", "))]
    OfferGone(
        /// Event code and category of the offers concerned, 20 at most.
        Vec<String>,
    ),
    /// PostgreSQL refused or could not be asked.
    #[error("the catalogue could not be written")]
    Database(#[from] diesel::result::Error),
}

database::statement! {
    /// One load at a time; the row is locked until the end.
    struct LockState {} -> (Nullable<Integer>, Timestamptz) =
    "SELECT shift_days, clock_timestamp() FROM catalogue_state FOR UPDATE"
}

database::statement! {
    struct WriteVenues {
        codes: Vec<String> => Array<Text>,
        names: Vec<String> => Array<Text>,
        names_fr: Vec<String> => Array<Text>,
        cities: Vec<String> => Array<Text>,
        time_zones: Vec<String> => Array<Text>,
        latitudes: Vec<f64> => Array<Double>,
        longitudes: Vec<f64> => Array<Double>,
        capacities: Vec<i32> => Array<Integer>,
    } -> () =
    "INSERT INTO venues (code, name, name_fr, city, time_zone, latitude, longitude, capacity)
     SELECT * FROM unnest({codes}, {names}, {names_fr}, {cities}, {time_zones}, {latitudes},
                          {longitudes}, {capacities})
     ON CONFLICT (code) DO UPDATE SET
       name = excluded.name, name_fr = excluded.name_fr, city = excluded.city,
       time_zone = excluded.time_zone, latitude = excluded.latitude,
       longitude = excluded.longitude, capacity = excluded.capacity"
}

database::statement! {
    struct WriteSports {
        codes: Vec<String> => Array<Text>,
        names: Vec<String> => Array<Text>,
        names_fr: Vec<String> => Array<Text>,
        kinds: Vec<String> => Array<Text>,
    } -> () =
    "INSERT INTO sports (code, name, name_fr, kind)
     SELECT * FROM unnest({codes}, {names}, {names_fr}, {kinds})
     ON CONFLICT (code) DO UPDATE SET
       name = excluded.name, name_fr = excluded.name_fr, kind = excluded.kind"
}

database::statement! {
    /// A cancelled event stays cancelled.
    struct WriteEvents {
        ids: Vec<Uuid> => Array<SqlUuid>,
        codes: Vec<String> => Array<Text>,
        sports: Vec<String> => Array<Text>,
        venues: Vec<String> => Array<Text>,
        names: Vec<String> => Array<Text>,
        starts: Vec<DateTime<Utc>> => Array<Timestamptz>,
        ends: Vec<DateTime<Utc>> => Array<Timestamptz>,
        published: Vec<DateTime<Utc>> => Array<Timestamptz>,
        medals: Vec<i16> => Array<SmallInt>,
        statuses: Vec<String> => Array<Text>,
        tiers: Vec<String> => Array<Text>,
        currencies: Vec<String> => Array<Text>,
    } -> () =
    "INSERT INTO events (id, code, sport, venue, name, starts_at, ends_at, published_starts_at,
                         medal_events, status, tier, currency)
     SELECT * FROM unnest({ids}, {codes}, {sports}, {venues}, {names}, {starts}, {ends},
                          {published}, {medals}, {statuses}, {tiers}, {currencies})
     ON CONFLICT (id) DO UPDATE SET
       sport = excluded.sport, venue = excluded.venue, name = excluded.name,
       starts_at = excluded.starts_at, ends_at = excluded.ends_at,
       published_starts_at = excluded.published_starts_at,
       medal_events = excluded.medal_events, tier = excluded.tier, currency = excluded.currency,
       status = CASE events.status WHEN 'cancelled' THEN events.status ELSE excluded.status END"
}

database::statement! {
    struct WriteOffers {
        ids: Vec<Uuid> => Array<SqlUuid>,
        events: Vec<Uuid> => Array<SqlUuid>,
        categories: Vec<String> => Array<Text>,
        amounts: Vec<i64> => Array<BigInt>,
        currencies: Vec<String> => Array<Text>,
        accessible: Vec<bool> => Array<Bool>,
    } -> () =
    "INSERT INTO offers (id, event_id, category, amount_minor, currency, accessible, companion)
     SELECT id, event_id, category, amount_minor, currency, accessible, accessible
     FROM unnest({ids}, {events}, {categories}, {amounts}, {currencies}, {accessible})
       AS planned(id, event_id, category, amount_minor, currency, accessible)
     ON CONFLICT (id) DO UPDATE SET
       amount_minor = excluded.amount_minor, currency = excluded.currency"
}

database::statement! {
    /// Offers of the planned events that the plan does not have.
    struct OffersGone {
        ids: Vec<Uuid> => Array<SqlUuid>,
        events: Vec<Uuid> => Array<SqlUuid>,
        most: i64 => BigInt,
    } -> Text =
    "SELECT events.code || ' ' || category FROM offers JOIN events ON events.id = event_id
     WHERE event_id = ANY({events}) AND offers.id <> ALL({ids}) ORDER BY 1 LIMIT {most}"
}

database::statement! {
    /// Locks the stock that would change, in key order and at once like everyone who locks it, and returns
    /// what of it would shrink.
    struct LockChanging {
        ids: Vec<Uuid> => Array<SqlUuid>,
        capacities: Vec<i32> => Array<Integer>,
    } -> (SqlUuid, Integer, Integer) =
    "WITH changing AS MATERIALIZED (
       SELECT offer_id, taken, stock.capacity AS stored, planned.capacity
       FROM stock JOIN unnest({ids}, {capacities}) AS planned(id, capacity) ON id = offer_id
       WHERE stock.capacity <> planned.capacity ORDER BY offer_id FOR UPDATE OF stock)
     SELECT offer_id, taken, capacity FROM changing WHERE stored > capacity ORDER BY offer_id"
}

database::statement! {
    struct WriteStock {
        ids: Vec<Uuid> => Array<SqlUuid>,
        capacities: Vec<i32> => Array<Integer>,
    } -> () =
    "INSERT INTO stock (offer_id, capacity)
     SELECT id, capacity FROM unnest({ids}, {capacities}) AS planned(id, capacity) ORDER BY id
     ON CONFLICT (offer_id) DO UPDATE SET capacity = excluded.capacity
       WHERE stock.capacity <> excluded.capacity"
}

database::statement! {
    /// Returns how many events the source does not have.
    struct WriteState {
        shift_days: i32 => Integer,
        events: Vec<Uuid> => Array<SqlUuid>,
    } -> BigInt =
    "UPDATE catalogue_state
     SET shift_days = {shift_days}, loaded_at = now(), version = version + 1
     RETURNING (SELECT count(*) FROM events WHERE id <> ALL({events}))"
}

/// Writes the source into the catalogue.
///
/// Do not drop the future half-way: its transaction would stay open.
///
/// # Errors
/// See [`LoadError`]; then nothing is changed.
pub async fn load(
    connection: &mut Connection,
    source: &Source,
    options: LoadOptions,
) -> Result<LoadReport, LoadError> {
    connection
        .transaction(async |connection| {
            let (stored, now) = LockState {}
                .get_result::<(Option<i32>, DateTime<Utc>)>(&mut *connection)
                .await?;
            let shift_days = match options.as_published {
                true => 0,
                false => plan::shift_days(source, stored, now),
            };
            let events = plan::events(source, shift_days);
            write_places(connection, source).await?;
            write_events(connection, &events).await?;
            let offers = write_offers(connection, &events).await?;
            let ids = events.iter().map(|event| event.id.0).collect();
            let others: i64 = WriteState {
                shift_days,
                events: ids,
            }
            .get_result(connection)
            .await?;
            let first = source
                .sessions
                .iter()
                .map(|session| session.start.to_utc())
                .min();
            Ok(LoadReport {
                venues: source.venues.len(),
                sports: source.sports.len(),
                events: events.len(),
                offers,
                places: events
                    .iter()
                    .flat_map(|event| &event.offers)
                    .map(|offer| u64::from(offer.priced.capacity))
                    .sum(),
                shift_days,
                first_starts_at: first.unwrap_or(now) + TimeDelta::days(shift_days.into()),
                others: usize::try_from(others).unwrap_or(usize::MAX),
            })
        })
        .await
}

async fn write_places(connection: &mut Connection, source: &Source) -> Result<(), LoadError> {
    let venues = &source.venues;
    WriteVenues {
        codes: venues.iter().map(|v| v.code.clone()).collect(),
        names: venues.iter().map(|v| v.name_en.clone()).collect(),
        names_fr: venues.iter().map(|v| v.name_fr.clone()).collect(),
        cities: venues.iter().map(|v| v.city.clone()).collect(),
        time_zones: venues.iter().map(|v| v.time_zone.clone()).collect(),
        latitudes: venues.iter().map(|v| v.latitude).collect(),
        longitudes: venues.iter().map(|v| v.longitude).collect(),
        capacities: venues
            .iter()
            .map(|v| units(v.capacity.unwrap_or(0)))
            .collect(),
    }
    .execute(&mut *connection)
    .await?;
    let sports = &source.sports;
    WriteSports {
        codes: sports.iter().map(|s| s.code.clone()).collect(),
        names: sports.iter().map(|s| s.name_en.clone()).collect(),
        names_fr: sports.iter().map(|s| s.name_fr.clone()).collect(),
        kinds: sports.iter().map(|s| s.kind.name().to_owned()).collect(),
    }
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_events(
    connection: &mut Connection,
    events: &[PlannedEvent],
) -> Result<(), LoadError> {
    let status = |event: &PlannedEvent| match event.offers.is_empty() {
        true => "not_on_sale",
        false => "on_sale",
    };
    WriteEvents {
        ids: events.iter().map(|e| e.id.0).collect(),
        codes: events.iter().map(|e| e.code.clone()).collect(),
        sports: events.iter().map(|e| e.sport.clone()).collect(),
        venues: events.iter().map(|e| e.venue.clone()).collect(),
        names: events.iter().map(|e| e.name.clone()).collect(),
        starts: events.iter().map(|e| e.starts_at).collect(),
        ends: events.iter().map(|e| e.ends_at).collect(),
        published: events.iter().map(|e| e.published_starts_at).collect(),
        medals: events
            .iter()
            .map(|e| i16::try_from(e.medal_events).unwrap_or(i16::MAX))
            .collect(),
        statuses: events.iter().map(|e| status(e).to_owned()).collect(),
        tiers: events.iter().map(|e| e.tier.name().to_owned()).collect(),
        currencies: events
            .iter()
            .map(|e| e.currency.code().to_owned())
            .collect(),
    }
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_offers(
    connection: &mut Connection,
    events: &[PlannedEvent],
) -> Result<usize, LoadError> {
    let offers: Vec<_> = events
        .iter()
        .flat_map(|event| event.offers.iter().map(move |o| (event, o)))
        .collect();
    let ids: Vec<Uuid> = offers.iter().map(|(_, offer)| offer.id.0).collect();
    let capacities: Vec<i32> = offers
        .iter()
        .map(|(_, offer)| units(offer.priced.capacity))
        .collect();

    let gone: Vec<String> = OffersGone {
        ids: ids.clone(),
        events: events.iter().map(|e| e.id.0).collect(),
        most: EXAMPLES_MAX as i64,
    }
    .load(&mut *connection)
    .await?;
    if !gone.is_empty() {
        return Err(LoadError::OfferGone(gone));
    }
    let shrinking: Vec<(Uuid, i32, i32)> = LockChanging {
        ids: ids.clone(),
        capacities: capacities.clone(),
    }
    .load(&mut *connection)
    .await?;
    let below: Vec<String> = shrinking
        .iter()
        .filter(|(_, taken, capacity)| capacity < taken)
        .filter_map(|(id, taken, capacity)| {
            let (event, offer) = offers.iter().find(|(_, offer)| offer.id.0 == *id)?;
            let category = offer.priced.category.name();
            Some(format!(
                "{} {category}: {capacity} places, {taken} taken",
                event.code
            ))
        })
        .take(EXAMPLES_MAX)
        .collect();
    if !below.is_empty() {
        return Err(LoadError::BelowTaken(below));
    }

    WriteOffers {
        ids: ids.clone(),
        events: offers.iter().map(|(event, _)| event.id.0).collect(),
        categories: offers
            .iter()
            .map(|(_, o)| o.priced.category.name().to_owned())
            .collect(),
        amounts: offers.iter().map(|(_, o)| o.priced.amount_minor).collect(),
        currencies: offers
            .iter()
            .map(|(event, _)| event.currency.code().to_owned())
            .collect(),
        accessible: offers.iter().map(|(_, o)| o.priced.accessible).collect(),
    }
    .execute(&mut *connection)
    .await?;
    WriteStock { ids, capacities }.execute(connection).await?;
    Ok(offers.len())
}

/// Capacities are at most 1,000,000 in a checked source.
fn units(capacity: u32) -> i32 {
    i32::try_from(capacity).unwrap_or(i32::MAX)
}
