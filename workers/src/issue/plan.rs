//! Which tickets an order gets and how they are numbered, as pure functions.

use crate::kit::{ItemView, OrderView};
use contract::{EventId, OfferId, OrderId, Refusal};
use std::collections::{BTreeMap, HashMap};

/// What has to be known of an offer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OfferFacts {
    /// A place of it comes with a companion's ticket.
    pub companion: bool,
    /// Its event will not take place.
    pub cancelled: bool,
}

/// A ticket that is to be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// Whose.
    pub order_id: OrderId,
    /// For what.
    pub event_id: EventId,
    /// Of which offer.
    pub offer_id: OfferId,
    /// The order's line.
    pub line: i16,
    /// The place within the line, from 1.
    pub position: i16,
    /// The free ticket of the one who comes along, not the place's own.
    pub companion: bool,
    /// The name on it.
    pub holder_name: String,
}

/// The tickets of an order: one per place, and a second one for a place with a companion.
///
/// A ticket bears the name of the attendee that the buyer gave for the place, else the buyer's. The
/// companion's bears the same name as the place's: the ticket lets in whoever accompanies that
/// person, who need not be known when it is bought.
///
/// # Errors
/// [`Refusal::EventCancelled`] if one of its events is; [`Refusal::NotOnSale`] if an offer is gone.
pub fn places(
    order: &OrderView,
    offers: &HashMap<OfferId, OfferFacts>,
) -> Result<Vec<Place>, Refusal> {
    let facts = |item: &ItemView| offers.get(&item.offer_id).ok_or(Refusal::NotOnSale);
    let mut places = Vec::new();
    for item in &order.items {
        let facts = facts(item)?;
        if facts.cancelled {
            return Err(Refusal::EventCancelled);
        }
        for position in 1..=i16::try_from(item.quantity).unwrap_or(i16::MAX) {
            for companion in [false, true] {
                if companion && !facts.companion {
                    continue;
                }
                places.push(Place {
                    order_id: order.id,
                    event_id: item.event_id,
                    offer_id: item.offer_id,
                    line: item.line,
                    position,
                    companion,
                    holder_name: holder(order, item, position),
                });
            }
        }
    }
    Ok(places)
}

fn holder(order: &OrderView, item: &ItemView, position: i16) -> String {
    let attendee = usize::try_from(position - 1)
        .ok()
        .and_then(|place| item.attendees.get(place))
        .filter(|name| !name.trim().is_empty());
    attendee.unwrap_or(&order.name).clone()
}

/// How many numbers each event needs, in the order of the events.
#[must_use]
pub fn count(places: &[Place]) -> BTreeMap<EventId, i32> {
    let mut counts = BTreeMap::new();
    for place in places {
        *counts.entry(place.event_id).or_default() += 1;
    }
    counts
}

/// The numbers of places in their order, given the last number of each event once all are counted.
#[must_use]
pub fn numbers(places: &[Place], last: &BTreeMap<EventId, i32>) -> Vec<i32> {
    let mut next: BTreeMap<EventId, i32> = count(places)
        .into_iter()
        .map(|(event, count)| (event, last.get(&event).copied().unwrap_or(count) - count))
        .collect();
    let numbers = places.iter().map(|place| {
        let number = next.entry(place.event_id).or_default();
        *number += 1;
        *number
    });
    numbers.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::{Currency, Money};
    use proptest::prelude::*;
    use uuid::Uuid;

    fn offer(n: u128) -> OfferId {
        OfferId(Uuid::from_u128(n))
    }

    fn order(items: Vec<ItemView>) -> OrderView {
        OrderView {
            id: OrderId::new(),
            account_id: None,
            total: Money {
                amount_minor: 1,
                currency: Currency::EUR,
            },
            email: "a@example.org".to_owned(),
            name: "Ada Buyer".to_owned(),
            locale: "en".to_owned(),
            payment_method: "pm_card_visa".to_owned(),
            client_addr: None,
            items,
        }
    }

    fn item(line: i16, offer_number: u128, quantity: i32, attendees: &[&str]) -> ItemView {
        ItemView {
            line,
            offer_id: offer(offer_number),
            event_id: EventId(Uuid::from_u128(100 + offer_number)),
            quantity,
            unit_amount_minor: 1,
            attendees: attendees.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    fn facts(companion: bool, cancelled: bool) -> OfferFacts {
        OfferFacts {
            companion,
            cancelled,
        }
    }

    #[test]
    fn tickets_bear_names_and_companions_come_along() {
        let offers = HashMap::from([
            (offer(1), facts(false, false)),
            (offer(2), facts(true, false)),
        ]);
        let order = order(vec![
            item(1, 1, 3, &["Bo", " "]),
            item(2, 2, 2, &["Cy", "Di"]),
        ]);
        let places = places(&order, &offers).expect("all on sale");
        let brief: Vec<_> = places
            .iter()
            .map(|place| {
                (
                    place.line,
                    place.position,
                    place.companion,
                    &*place.holder_name,
                )
            })
            .collect();
        let expected = [
            (1, 1, false, "Bo"),
            (1, 2, false, "Ada Buyer"),
            (1, 3, false, "Ada Buyer"),
            (2, 1, false, "Cy"),
            (2, 1, true, "Cy"),
            (2, 2, false, "Di"),
            (2, 2, true, "Di"),
        ];
        assert_eq!(brief, expected);
    }

    #[test]
    fn a_cancelled_event_refuses_the_whole_order() {
        let offers = HashMap::from([
            (offer(1), facts(false, false)),
            (offer(2), facts(false, true)),
        ]);
        let both = order(vec![item(1, 1, 1, &[]), item(2, 2, 1, &[])]);
        assert_eq!(places(&both, &offers), Err(Refusal::EventCancelled));
        let gone = order(vec![item(1, 9, 1, &[])]);
        assert_eq!(places(&gone, &offers), Err(Refusal::NotOnSale));
    }

    proptest! {
        /// Batch after batch, an event's numbers are 1, 2, 3 … in order of arrival.
        #[test]
        fn numbers_are_unbroken(batches in prop::collection::vec(
            prop::collection::vec((0..3_u128, 1..5_i32), 0..10), 1..10)) {
            let offers: HashMap<_, _> =
                (0..3).map(|n| (offer(n), facts(n == 2, false))).collect();
            let mut last: BTreeMap<EventId, i32> = BTreeMap::new();
            let mut given: BTreeMap<EventId, Vec<i32>> = BTreeMap::new();
            for batch in batches {
                let orders = batch.iter().map(|(n, quantity)| order(vec![item(1, *n, *quantity, &[])]));
                let all: Vec<Place> = orders
                    .flat_map(|order| places(&order, &offers).expect("on sale"))
                    .collect();
                for (event, count) in count(&all) {
                    *last.entry(event).or_default() += count;
                }
                for (place, number) in all.iter().zip(numbers(&all, &last)) {
                    given.entry(place.event_id).or_default().push(number);
                }
            }
            for numbers in given.values() {
                prop_assert!(numbers.iter().copied().eq(1..=i32::try_from(numbers.len()).expect("few")));
            }
        }
    }
}
