//! The catalogue in memory: immutable, built once per version, with the orders that lists are read in.
//!
//! It is small (a few megabytes for the Games) and changes rarely, so every gateway keeps all of it,
//! and reading a page costs no statement. What changes with every sale, the places that remain, is kept
//! beside it in a [`View`] and replaced as a whole.

use super::{pricing::Category, search};
use chrono::{DateTime, Utc};
use contract::{Currency, EventId, Money, OfferId, Tier};
use std::{collections::HashMap, ops::Range, sync::Arc};

/// Whether tickets for an event can be bought, as far as its organiser says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum EventStatus {
    /// They can, until it starts.
    OnSale,
    /// No places are sold, or not yet.
    NotOnSale,
    /// It will not take place.
    Cancelled,
}

impl EventStatus {
    /// As stored and published.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OnSale => "on_sale",
            Self::NotOnSale => "not_on_sale",
            Self::Cancelled => "cancelled",
        }
    }

    /// From its stored name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::OnSale, Self::NotOnSale, Self::Cancelled]
            .into_iter()
            .find(|s| s.name() == name)
    }
}

/// A venue.
#[derive(Clone, PartialEq, Debug)]
pub struct VenueView {
    /// Its code.
    pub code: String,
    /// English name.
    pub name: String,
    /// French name.
    pub name_fr: String,
    /// Town.
    pub city: String,
    /// IANA time zone.
    pub time_zone: String,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// Places of one session.
    pub capacity: i32,
}

/// A sport.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SportView {
    /// Its code.
    pub code: String,
    /// English name.
    pub name: String,
    /// French name.
    pub name_fr: String,
    /// `sport` or `ceremony`.
    pub kind: String,
}

/// An event.
#[derive(Clone, PartialEq, Debug)]
pub struct EventView {
    /// Its id.
    pub id: EventId,
    /// The session's code.
    pub code: String,
    /// Sport and what is contested.
    pub name: String,
    /// Its sport.
    pub sport: Arc<SportView>,
    /// Its venue.
    pub venue: Arc<VenueView>,
    /// When it takes place.
    pub starts_at: DateTime<Utc>,
    /// When it ends.
    pub ends_at: DateTime<Utc>,
    /// When the published schedule says it starts.
    pub published_starts_at: DateTime<Utc>,
    /// Medals decided.
    pub medal_events: i16,
    /// Whether it is sold.
    pub status: EventStatus,
    /// Decides the purchase limit.
    pub tier: Tier,
    /// Its offers, an index range into [`Snapshot::offers`].
    pub offers: Range<usize>,
    /// The lowest price of an offer.
    pub price_from: Option<Money>,
    pub(super) haystack: String,
}

/// An offer, with what selling it needs of its event.
#[derive(Clone, PartialEq, Debug)]
pub struct OfferView {
    /// Its id.
    pub id: OfferId,
    /// The event that it is for.
    pub event_id: EventId,
    /// Price category.
    pub category: Category,
    /// Price of one unit.
    pub price: Money,
    /// For wheelchair users.
    pub accessible: bool,
    /// The companion's ticket is part of a unit.
    pub companion: bool,
    /// The event's status.
    pub status: EventStatus,
    /// The event's start: nothing is sold from then on.
    pub starts_at: DateTime<Utc>,
    /// The event's tier.
    pub tier: Tier,
}

/// The orders that events are listed in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// By start.
    StartsAt,
    /// By the lowest price; without one, last.
    Price,
    /// By name.
    Name,
}

impl Order {
    const ALL: [Self; 3] = [Self::StartsAt, Self::Price, Self::Name];
}

/// One version of the catalogue.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Grows with every change.
    pub version: i64,
    /// By code.
    pub venues: Vec<Arc<VenueView>>,
    /// By code.
    pub sports: Vec<Arc<SportView>>,
    /// By start.
    pub events: Vec<EventView>,
    /// In the order of their events, dearest first, the accessible one last.
    pub offers: Vec<OfferView>,
    by_event: HashMap<EventId, usize>,
    by_offer: HashMap<OfferId, usize>,
    /// For each [`Order`], the events' indexes.
    orders: [Vec<usize>; 3],
    /// For each [`Order`], the events' places in it.
    ranks: [Vec<usize>; 3],
}

impl Snapshot {
    /// Puts the parts together. Ranges of offers and orders are made here; offers without an event
    /// are left out.
    #[must_use]
    pub fn new(
        version: i64,
        venues: Vec<Arc<VenueView>>,
        sports: Vec<Arc<SportView>>,
        mut events: Vec<EventView>,
        mut offers: Vec<OfferView>,
    ) -> Self {
        events.sort_by(|a, b| (a.starts_at, &a.code).cmp(&(b.starts_at, &b.code)));
        let by_event: HashMap<EventId, usize> = events
            .iter()
            .enumerate()
            .map(|(index, event)| (event.id, index))
            .collect();
        offers.retain(|offer| by_event.contains_key(&offer.event_id));
        offers.sort_by_key(|o| (by_event[&o.event_id], o.accessible, o.category));
        let mut from = 0;
        for (index, event) in events.iter_mut().enumerate() {
            let length = offers[from..].partition_point(|o| by_event[&o.event_id] == index);
            event.offers = from..from + length;
            let own = &offers[event.offers.clone()];
            event.price_from = own
                .iter()
                .map(|o| o.price)
                .min_by_key(|price| price.amount_minor);
            event.haystack = haystack(event);
            from += length;
        }
        let by_offer = offers
            .iter()
            .enumerate()
            .map(|(index, offer)| (offer.id, index))
            .collect();
        let orders = Order::ALL.map(|order| sorted(&events, order));
        let ranks = orders.each_ref().map(|order| {
            let mut ranks = vec![0; order.len()];
            for (rank, &event) in order.iter().enumerate() {
                ranks[event] = rank;
            }
            ranks
        });
        Self {
            version,
            venues,
            sports,
            events,
            offers,
            by_event,
            by_offer,
            orders,
            ranks,
        }
    }

    /// An event by its id.
    #[must_use]
    pub fn event(&self, id: EventId) -> Option<&EventView> {
        self.by_event.get(&id).map(|&index| &self.events[index])
    }

    /// An offer by its id.
    #[must_use]
    pub fn offer(&self, id: OfferId) -> Option<&OfferView> {
        self.by_offer.get(&id).map(|&index| &self.offers[index])
    }

    pub(super) fn offer_index(&self, id: OfferId) -> Option<usize> {
        self.by_offer.get(&id).copied()
    }

    /// The events' indexes in an order.
    pub(super) fn order(&self, order: Order) -> &[usize] {
        &self.orders[order as usize]
    }

    /// An event's place in an order.
    pub(super) fn rank(&self, order: Order, id: EventId) -> Option<usize> {
        self.by_event
            .get(&id)
            .map(|&index| self.ranks[order as usize][index])
    }
}

/// A snapshot and what remained of each offer at some moment.
#[derive(Debug)]
pub struct View {
    /// What is sold.
    pub snapshot: Arc<Snapshot>,
    /// Units left, by the offers' indexes.
    pub remaining: Vec<u32>,
}

impl View {
    /// Whether an offer can be bought at `now`, as far as is known.
    #[must_use]
    pub fn buyable(&self, offer: usize, now: DateTime<Utc>) -> bool {
        let view = &self.snapshot.offers[offer];
        view.status == EventStatus::OnSale && view.starts_at > now && self.remaining[offer] > 0
    }

    /// Units left of an event.
    #[must_use]
    pub fn remaining_of(&self, event: &EventView) -> u64 {
        self.remaining[event.offers.clone()]
            .iter()
            .map(|&units| u64::from(units))
            .sum()
    }
}

fn haystack(event: &EventView) -> String {
    let (sport, venue) = (&event.sport, &event.venue);
    search::fold(&format!(
        "{} {} {} {} {} {} {}",
        event.name, sport.name, sport.name_fr, venue.name, venue.name_fr, venue.city, event.code
    ))
}

fn sorted(events: &[EventView], order: Order) -> Vec<usize> {
    let mut indexes: Vec<usize> = (0..events.len()).collect();
    match order {
        Order::StartsAt => {} // as they are
        Order::Price => indexes.sort_by_key(|&index| {
            let price = events[index].price_from;
            (
                price.is_none(),
                price.map(|p| (p.currency.code(), p.amount_minor)),
                index,
            )
        }),
        Order::Name => {
            indexes.sort_by_cached_key(|&index| (search::fold(&events[index].name), index))
        }
    }
    indexes
}

/// The currency of a stored code; one that is no currency cannot be sold in.
pub(super) fn money(amount_minor: i64, currency: &str) -> Option<Money> {
    let currency: Currency = currency.parse().ok()?;
    Some(Money {
        amount_minor,
        currency,
    })
}
