//! `no-oversell`: of no offer is more taken than there is, and what is taken is what was sold.

use super::{ABANDONED, Found, people};
use crate::Evidence;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn no_oversell(evidence: &Evidence, found: &mut Found<'_>) {
    let books = &evidence.books;
    // Those of a saga that has not ended may be held or not; of one that was given up if that was left.
    let open: BTreeSet<_> = books
        .sagas
        .iter()
        .filter(|saga| {
            !saga.ended()
                || saga.state == ABANDONED && people::taken_over(books, saga).contains("reserve")
        })
        .map(|saga| saga.id)
        .collect();
    let (mut sold, mut held) = (BTreeMap::new(), BTreeMap::new());
    let places = books
        .tickets
        .iter()
        .filter(|one| !one.revoked && !one.companion);
    for ticket in places.filter(|ticket| !open.contains(&ticket.order_id)) {
        *sold.entry(ticket.offer_id).or_insert(0_i64) += 1;
    }
    for item in books
        .items
        .iter()
        .filter(|item| open.contains(&item.order_id))
    {
        *held.entry(item.offer_id).or_insert(0_i64) += item.quantity;
    }
    for stock in &books.stock {
        let offer = stock.offer_id;
        if stock.taken < 0 || stock.taken > stock.capacity {
            let detail = format!("{} taken of {}", stock.taken, stock.capacity);
            found.that(format!("offer {offer}"), detail);
        }
        let sold = sold.remove(&offer).unwrap_or_default();
        let most = sold + held.get(&offer).copied().unwrap_or_default();
        if !(sold..=most).contains(&stock.taken) {
            let detail = format!(
                "{} taken, {sold} sold, {} may be held",
                stock.taken,
                most - sold
            );
            found.that(format!("offer {offer}"), detail);
        }
    }
    for (offer, sold) in sold {
        found.that(format!("offer {offer}"), format!("0 taken, {sold} sold"));
    }
}
