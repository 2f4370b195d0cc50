//! Who gets what, as a pure function: first come, first served, and an order whole or not at all.

use contract::{OfferId, Refusal};
use std::collections::BTreeMap;

/// Whether an offer may be sold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sale {
    /// Yes.
    Open,
    /// Not now: not on sale, or its event has begun.
    Closed,
    /// Never more: its event is cancelled.
    Cancelled,
}

/// What is left of an offer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shelf {
    /// Places not taken; 0 or more.
    pub free: i64,
    /// Whether they may be sold.
    pub sale: Sale,
}

/// How many of which offers an order asks for; each offer once, each quantity at least 1.
pub type Request = BTreeMap<OfferId, i64>;

/// What became of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Allocation {
    /// One decision per request, in their order.
    pub decisions: Vec<Result<(), Refusal>>,
    /// How much of each offer was given out, in the order of the offers; none of 0.
    pub taken: BTreeMap<OfferId, i64>,
}

/// Decides requests in order of arrival. A request that is refused takes nothing, so a smaller one
/// behind it may still be served.
#[must_use]
pub fn allocate<'a>(
    shelves: &BTreeMap<OfferId, Shelf>,
    requests: impl IntoIterator<Item = &'a Request>,
) -> Allocation {
    let mut taken: BTreeMap<OfferId, i64> = BTreeMap::new();
    let mut decisions = Vec::new();
    for request in requests {
        let decision = judge(shelves, &taken, request);
        if decision.is_ok() {
            for (&offer, &quantity) in request {
                *taken.entry(offer).or_default() += quantity;
            }
        }
        decisions.push(decision);
    }
    Allocation { decisions, taken }
}

fn judge(
    shelves: &BTreeMap<OfferId, Shelf>,
    taken: &BTreeMap<OfferId, i64>,
    request: &Request,
) -> Result<(), Refusal> {
    let shelf = |offer: &OfferId| shelves.get(offer).copied();
    let sale = |offer: &OfferId| shelf(offer).map_or(Sale::Closed, |shelf| shelf.sale);
    // The gravest reason is the one told: a cancelled event will not come back.
    if request.keys().any(|offer| sale(offer) == Sale::Cancelled) {
        return Err(Refusal::EventCancelled);
    }
    if request.is_empty() || request.keys().any(|offer| sale(offer) == Sale::Closed) {
        return Err(Refusal::NotOnSale);
    }
    let fits = |(offer, &quantity): (&OfferId, &i64)| {
        let free = shelf(offer).map_or(0, |shelf| shelf.free);
        let gone = taken.get(offer).copied().unwrap_or_default();
        quantity > 0 && quantity <= free - gone
    };
    if request.iter().all(fits) {
        Ok(())
    } else {
        Err(Refusal::SoldOut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn offer(n: u128) -> OfferId {
        OfferId(Uuid::from_u128(n))
    }

    fn open(free: i64) -> Shelf {
        let sale = Sale::Open;
        Shelf { free, sale }
    }

    #[test]
    fn a_refused_order_takes_nothing_and_a_smaller_one_is_served() {
        let shelves = BTreeMap::from([(offer(1), open(3)), (offer(2), open(1))]);
        let requests = [
            Request::from([(offer(1), 2)]),
            Request::from([(offer(1), 1), (offer(2), 2)]),
            Request::from([(offer(1), 1), (offer(2), 1)]),
            Request::from([(offer(1), 1)]),
        ];
        let allocation = allocate(&shelves, &requests);
        let sold_out = Err(Refusal::SoldOut);
        assert_eq!(allocation.decisions, [Ok(()), sold_out, Ok(()), sold_out]);
        assert_eq!(
            allocation.taken,
            Request::from([(offer(1), 3), (offer(2), 1)])
        );
    }

    #[test]
    fn only_what_is_on_sale_is_sold() {
        let shelf = |sale| Shelf { free: 9, sale };
        let shelves = BTreeMap::from([
            (offer(1), shelf(Sale::Open)),
            (offer(2), shelf(Sale::Closed)),
            (offer(3), shelf(Sale::Cancelled)),
        ]);
        let ask = |offers: &[u128]| -> Request { offers.iter().map(|n| (offer(*n), 1)).collect() };
        let requests = [
            ask(&[1]),
            ask(&[1, 2]),
            ask(&[1, 2, 3]),
            ask(&[4]),
            ask(&[]),
        ];
        let allocation = allocate(&shelves, &requests);
        let (closed, cancelled) = (Err(Refusal::NotOnSale), Err(Refusal::EventCancelled));
        assert_eq!(
            allocation.decisions,
            [Ok(()), closed, cancelled, closed, closed]
        );
        assert_eq!(allocation.taken, ask(&[1]));
    }

    prop_compose! {
        fn batches()(
            free in prop::collection::vec(0..20_i64, 1..5),
            requests in prop::collection::vec(
                prop::collection::btree_map((0..5_u128).prop_map(offer), 1..8_i64, 1..4), 0..60),
        ) -> (BTreeMap<OfferId, Shelf>, Vec<Request>) {
            let shelves = (0..).map(offer).zip(free.into_iter().map(open)).collect();
            (shelves, requests)
        }
    }

    proptest! {
        #[test]
        fn never_oversold_and_the_sum_is_kept((shelves, requests) in batches()) {
            let allocation = allocate(&shelves, &requests);
            let mut sum = Request::new();
            for (request, decision) in requests.iter().zip(&allocation.decisions) {
                if decision.is_ok() {
                    for (offer, quantity) in request {
                        *sum.entry(*offer).or_default() += quantity;
                    }
                }
            }
            prop_assert_eq!(&sum, &allocation.taken);
            for (offer, taken) in &allocation.taken {
                prop_assert!(*taken > 0 && *taken <= shelves[offer].free);
            }
        }

        /// Who comes later changes nothing for those before, and nobody is refused who would fit.
        #[test]
        fn first_come_first_served((shelves, requests) in batches(), cut in 0..60_usize) {
            let all = allocate(&shelves, &requests);
            let cut = cut.min(requests.len());
            let some = allocate(&shelves, &requests[..cut]);
            prop_assert_eq!(&all.decisions[..cut], &some.decisions[..]);
            if let Some(request) = requests.get(cut) {
                let fits = request.iter().all(|(offer, quantity)| {
                    let free = shelves.get(offer).map_or(0, |shelf| shelf.free);
                    free - some.taken.get(offer).copied().unwrap_or_default() >= *quantity
                });
                prop_assert_eq!(all.decisions[cut].is_ok(), fits);
            }
        }
    }
}
