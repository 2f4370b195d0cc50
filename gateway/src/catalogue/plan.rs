//! From a source to the rows of the catalogue, without a database: ids, names, times, tiers, offers.

use super::{
    pricing::{self, Facts, Priced},
    shift,
    source::{Session, Source, SportKind},
    tier,
};
use chrono::{DateTime, TimeDelta, Timelike, Utc};
use contract::{Currency, EventId, OfferId, Tier};
use std::collections::HashMap;
use uuid::Uuid;

/// Namespace of the hashes that ids are made of.
const NAMESPACE: Uuid = Uuid::from_u128(0x6775_6963_6865_5420_a001_7061_7269_7332);
/// The time that all ids of a catalogue carry: 24 July 2024, 00:00 UTC. Any constant does; an id may
/// not depend on when it was loaded.
const ID_TIME_MS: u64 = 1_721_779_200_000;

/// An event to be written, with its offers.
#[derive(Clone, PartialEq, Debug)]
pub struct PlannedEvent {
    /// Made of the code.
    pub id: EventId,
    /// The session's code.
    pub code: String,
    /// Code of the sport.
    pub sport: String,
    /// Code of the venue.
    pub venue: String,
    /// Sport and what is contested.
    pub name: String,
    /// When it takes place.
    pub starts_at: DateTime<Utc>,
    /// When it ends.
    pub ends_at: DateTime<Utc>,
    /// When the source says that it starts.
    pub published_starts_at: DateTime<Utc>,
    /// Medals decided.
    pub medal_events: u16,
    /// Decides the purchase limit.
    pub tier: Tier,
    /// Of all its prices.
    pub currency: Currency,
    /// None if the session sells no places; then it is not on sale.
    pub offers: Vec<PlannedOffer>,
}

/// An offer to be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlannedOffer {
    /// Made of the event's code, the category, and whether it is accessible.
    pub id: OfferId,
    /// What the rule says.
    pub priced: Priced,
}

/// The events of a source, in its order, `shift_days` later than published.
#[must_use]
pub fn events(source: &Source, shift_days: i32) -> Vec<PlannedEvent> {
    let capacities: HashMap<&str, u32> = source
        .venues
        .iter()
        .map(|v| (v.code.as_str(), v.capacity.unwrap_or(0)))
        .collect();
    let sports: HashMap<&str, (&str, SportKind)> = source
        .sports
        .iter()
        .map(|s| (s.code.as_str(), (s.name_en.as_str(), s.kind)))
        .collect();
    let facts: Vec<Facts<'_>> = source
        .sessions
        .iter()
        .map(|session| Facts {
            code: &session.code,
            sport: &session.sport,
            ceremony: sports[session.sport.as_str()].1 == SportKind::Ceremony,
            capacity: capacities[session.venue.as_str()],
            medal_events: session.medal_events,
            local_hour: session.start.hour(),
        })
        .collect();
    let tiers = tier::tiers(&facts);
    let shift = TimeDelta::days(shift_days.into());
    source
        .sessions
        .iter()
        .zip(facts.iter().zip(tiers))
        .map(|(session, (facts, tier))| {
            event(
                session,
                sports[session.sport.as_str()].0,
                facts,
                tier,
                shift,
            )
        })
        .collect()
}

/// The shift for a source, see [`shift::shift_days`].
#[must_use]
pub fn shift_days(source: &Source, stored: Option<i32>, now: DateTime<Utc>) -> i32 {
    let first = source.sessions.iter().map(|session| session.start).min();
    let last = source.sessions.iter().map(|session| session.end).max();
    match (first, last) {
        (Some(first), Some(last)) => shift::shift_days(first.to_utc(), last.to_utc(), stored, now),
        _ => 0,
    }
}

fn event(
    session: &Session,
    sport_name: &str,
    facts: &Facts<'_>,
    tier: Tier,
    shift: TimeDelta,
) -> PlannedEvent {
    let code = &session.code;
    let offers = pricing::offers(facts, tier)
        .into_iter()
        .map(|priced| {
            let kind = if priced.accessible {
                "accessible"
            } else {
                "open"
            };
            let key = format!("offer/{code}/{}/{kind}", priced.category.name());
            PlannedOffer {
                id: OfferId(stable_id(&key)),
                priced,
            }
        })
        .collect();
    PlannedEvent {
        id: EventId(stable_id(&format!("event/{code}"))),
        code: code.clone(),
        sport: session.sport.clone(),
        venue: session.venue.clone(),
        name: format!("{sport_name}: {}", session.contests.trim()),
        starts_at: session.start.to_utc() + shift,
        ends_at: session.end.to_utc() + shift,
        published_starts_at: session.start.to_utc(),
        medal_events: session.medal_events,
        tier,
        currency: Currency::EUR,
        offers,
    }
}

/// A UUIDv7 as the contract wants it, but the same for the same key: its random part is a hash.
fn stable_id(key: &str) -> Uuid {
    let hash = Uuid::new_v5(&NAMESPACE, key.as_bytes());
    let hash = hash.as_bytes();
    // Bytes 6 and 8 of a UUIDv5 hold version and variant; the others are hash.
    let mut random = [0; 10];
    random[..6].copy_from_slice(&hash[..6]);
    random[6..].copy_from_slice(&hash[12..]);
    uuid::Builder::from_unix_timestamp_millis(ID_TIME_MS, &random).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, HashSet};

    fn paris() -> (Source, Vec<PlannedEvent>) {
        let source = Source::embedded().expect("valid");
        let events = events(&source, 0);
        (source, events)
    }

    #[test]
    fn paris_2024_has_722_sessions_and_12_million_places() {
        let (source, events) = paris();
        let capacities: BTreeMap<&str, u32> = source
            .venues
            .iter()
            .map(|v| (v.code.as_str(), v.capacity.expect("known")))
            .collect();
        assert_eq!(events.len(), 722);
        let mut places = 0_u64;
        for event in &events {
            let sum: u32 = event.offers.iter().map(|offer| offer.priced.capacity).sum();
            assert_eq!(sum, capacities[event.venue.as_str()], "{}", event.code);
            places += u64::from(sum);
        }
        assert_eq!(places, 12_023_054);
        let accessible: u64 = events
            .iter()
            .flat_map(|event| &event.offers)
            .filter(|offer| offer.priced.accessible)
            .map(|offer| u64::from(offer.priced.capacity))
            .sum();
        assert!(
            (places / 110..places / 90).contains(&accessible),
            "{accessible}"
        );
        let without: Vec<&str> = events
            .iter()
            .filter(|e| e.offers.is_empty())
            .map(|e| e.sport.as_str())
            .collect();
        assert_eq!(without, ["SRF"; 9], "only Tahiti sells no places");
    }

    #[test]
    fn the_prices_meet_what_was_announced() {
        let (_, events) = paris();
        let mut cheap = 0_u64;
        let mut lowest: BTreeMap<&str, i64> = BTreeMap::new();
        let mut highest: BTreeMap<&str, i64> = BTreeMap::new();
        for event in &events {
            for offer in &event.offers {
                let amount = offer.priced.amount_minor;
                if amount <= 5_000 {
                    cheap += u64::from(offer.priced.capacity);
                }
                let low = lowest.entry(&event.sport).or_insert(amount);
                *low = amount.min(*low);
                let high = highest.entry(&event.sport).or_insert(amount);
                *high = amount.max(*high);
            }
        }
        assert!(cheap >= 4_000_000, "{cheap} places at 50 € or less");
        assert!(
            lowest.values().all(|&amount| amount == 2_400),
            "24 € in every sport: {lowest:?}"
        );
        assert_eq!((highest["ATH"], highest["SWM"]), (98_000, 98_000));
        assert!(
            highest.values().all(|&amount| amount <= 98_000),
            "{highest:?}"
        );
    }

    #[test]
    fn sixty_sessions_are_most_wanted() {
        let (_, events) = paris();
        let wanted: Vec<&PlannedEvent> = events
            .iter()
            .filter(|event| event.tier == Tier::MostWanted)
            .collect();
        assert_eq!(wanted.len(), 60);
        assert!(
            wanted
                .iter()
                .all(|event| event.medal_events > 0 && !event.offers.is_empty())
        );
        assert!(events.iter().all(|event| event.tier != Tier::Ceremony));
    }

    #[test]
    fn ids_are_stable_unique_and_of_version_7() {
        let (source, events) = paris();
        let again = super::events(&source, 364);
        let mut ids = HashSet::new();
        for (event, later) in events.iter().zip(&again) {
            assert_eq!(event.id, later.id);
            assert_eq!(event.offers, later.offers);
            assert_eq!(later.starts_at - event.starts_at, TimeDelta::days(364));
            assert_eq!(later.published_starts_at, event.starts_at);
            assert!(ids.insert(event.id.0));
            for offer in &event.offers {
                assert!(ids.insert(offer.id.0));
                assert_eq!(offer.id.0.get_version_num(), 7);
            }
        }
        // What is sold is known by it: this may never change.
        assert_eq!(events[0].code, "ARC01");
        assert_eq!(
            events[0].id.to_string(),
            "0190e209-a000-7a5f-893c-1e5c53a7dc16"
        );
    }

    #[test]
    fn a_ceremony_is_priced_and_limited_as_one() {
        let source = Source::parse(
            "code,games,name_fr,name_en,city,time_zone,lat,lon,capacity\n\
             STA,olympic,Stade de France,Stade de France,Saint-Denis,Europe/Paris,48.9,2.3,77083\n",
            "code,name,name_fr,kind\nOCC,Closing Ceremony,Cérémonie de clôture,ceremony\n",
            "session,discipline_code,venue_code,start,end,medal_events,events\n\
             OCC01,OCC,STA,2024-08-11T21:00:00+02:00,2024-08-11T23:59:00+02:00,0,Closing Ceremony\n",
        )
        .expect("valid");
        let events = events(&source, 0);
        assert_eq!(events[0].tier, Tier::Ceremony);
        assert_eq!(events[0].offers[0].priced.amount_minor, 270_000);
    }
}
