//! The catalogue as the API shows it.

use super::snapshot::{EventView, OfferView, SportView, VenueView, View};
use chrono::{DateTime, Utc};
use contract::{EventId, Money, OfferId};
use serde::Serialize;
use utoipa::ToSchema;

/// A sport or a ceremony.
#[derive(Debug, Serialize, ToSchema)]
pub struct Sport {
    /// Its code, three letters or digits.
    #[schema(example = "ATH")]
    code: String,
    /// English name.
    name: String,
    /// French name.
    name_fr: String,
    /// `sport` or `ceremony`.
    #[schema(example = "sport")]
    kind: String,
}

/// Where events take place.
#[derive(Debug, Serialize, ToSchema)]
pub struct Venue {
    /// Its code, three letters or digits.
    #[schema(example = "STA")]
    code: String,
    /// English name.
    name: String,
    /// French name.
    name_fr: String,
    /// Town.
    city: String,
    /// IANA name; times are given in UTC.
    #[schema(example = "Europe/Paris")]
    time_zone: String,
    /// Degrees north.
    latitude: f64,
    /// Degrees east.
    longitude: f64,
    /// Places of one event; 0 where none are sold.
    capacity: i32,
}

/// A sport in an event.
#[derive(Debug, Serialize, ToSchema)]
pub struct SportRef {
    /// Its code.
    #[schema(example = "ATH")]
    code: String,
    /// English name.
    name: String,
    /// French name.
    name_fr: String,
}

/// A venue in an event.
#[derive(Debug, Serialize, ToSchema)]
pub struct VenueRef {
    /// Its code.
    #[schema(example = "STA")]
    code: String,
    /// English name.
    name: String,
    /// French name.
    name_fr: String,
    /// Town.
    city: String,
    /// IANA name.
    time_zone: String,
}

/// An event: a session of the Games.
#[derive(Debug, Serialize, ToSchema)]
pub struct Event {
    /// UUIDv7, the same for ever.
    #[schema(value_type = uuid::Uuid)]
    id: EventId,
    /// The session's code.
    #[schema(example = "ATH20")]
    code: String,
    /// Sport and what is contested.
    name: String,
    sport: SportRef,
    venue: VenueRef,
    /// When it takes place.
    starts_at: DateTime<Utc>,
    /// When it ends.
    ends_at: DateTime<Utc>,
    /// When the published schedule says it started: the Games of the data are over, and all times are
    /// moved by whole multiples of 364 days.
    published_starts_at: DateTime<Utc>,
    /// Medals decided in it.
    medal_events: i16,
    /// `on_sale`, `not_on_sale` or `cancelled`.
    #[schema(example = "on_sale")]
    status: &'static str,
    /// `standard`, `most_wanted` or `ceremony`: decides how many tickets one may have.
    #[schema(example = "standard")]
    tier: &'static str,
    /// Whether something can be bought at the moment.
    available: bool,
    /// Units left in all offers, a hint of a second or two ago.
    remaining: u64,
    /// The lowest price of an offer, sold out or not; null without offers.
    #[schema(value_type = Option<crate::openapi::Money>, required)]
    price_from: Option<Money>,
}

/// A price category of an event.
#[derive(Debug, Serialize, ToSchema)]
pub struct Offer {
    /// UUIDv7, the same for ever; what an order names.
    #[schema(value_type = uuid::Uuid)]
    id: OfferId,
    /// `First`, `A`, `B`, `C` or `D`, dearest first.
    #[schema(example = "A")]
    category: &'static str,
    /// Of one unit.
    #[schema(value_type = crate::openapi::Money)]
    price: Money,
    /// Units left, a hint of a second or two ago; the reservation decides.
    remaining: u32,
    /// For wheelchair users.
    accessible: bool,
    /// A companion's ticket is part of each unit.
    companion: bool,
}

/// An event with its offers.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventWithOffers {
    #[serde(flatten)]
    event: Event,
    /// Dearest first, the accessible one last.
    offers: Vec<Offer>,
}

impl Event {
    pub(super) fn of(view: &View, event: &EventView, now: DateTime<Utc>) -> Self {
        let (sport, venue) = (&event.sport, &event.venue);
        Self {
            id: event.id,
            code: event.code.clone(),
            name: event.name.clone(),
            sport: SportRef {
                code: sport.code.clone(),
                name: sport.name.clone(),
                name_fr: sport.name_fr.clone(),
            },
            venue: VenueRef {
                code: venue.code.clone(),
                name: venue.name.clone(),
                name_fr: venue.name_fr.clone(),
                city: venue.city.clone(),
                time_zone: venue.time_zone.clone(),
            },
            starts_at: event.starts_at,
            ends_at: event.ends_at,
            published_starts_at: event.published_starts_at,
            medal_events: event.medal_events,
            status: event.status.name(),
            tier: event.tier.name(),
            available: event.offers.clone().any(|index| view.buyable(index, now)),
            remaining: view.remaining_of(event),
            price_from: event.price_from,
        }
    }
}

impl EventWithOffers {
    pub(super) fn of(view: &View, event: &EventView, now: DateTime<Utc>) -> Self {
        let offer = |index: usize| {
            let offer: &OfferView = &view.snapshot.offers[index];
            Offer {
                id: offer.id,
                category: offer.category.name(),
                price: offer.price,
                remaining: view.remaining[index],
                accessible: offer.accessible,
                companion: offer.companion,
            }
        };
        Self {
            event: Event::of(view, event, now),
            offers: event.offers.clone().map(offer).collect(),
        }
    }
}

impl Venue {
    pub(super) fn of(venue: &VenueView) -> Self {
        let VenueView {
            code,
            name,
            name_fr,
            city,
            time_zone,
            latitude,
            longitude,
            capacity,
        } = venue.clone();
        Self {
            code,
            name,
            name_fr,
            city,
            time_zone,
            latitude,
            longitude,
            capacity,
        }
    }
}

impl Sport {
    pub(super) fn of(sport: &SportView) -> Self {
        let SportView {
            code,
            name,
            name_fr,
            kind,
        } = sport.clone();
        Self {
            code,
            name,
            name_fr,
            kind,
        }
    }
}
