//! `money-iff-ticket`: what the provider kept is the price of the tickets that are valid.

use super::Found;
use crate::{Evidence, books::Saga};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

#[derive(Default)]
struct Paid {
    captures: u32,
    kept_minor: i64,
    /// Payments that were authorised, and neither captured nor cancelled.
    open: BTreeSet<String>,
}

pub(super) fn money_iff_ticket(evidence: &Evidence, found: &mut Found<'_>) {
    let books = &evidence.books;
    let mut paid: BTreeMap<Uuid, Paid> = BTreeMap::new();
    for entry in &evidence.ledger {
        let order = entry.reference.as_deref().and_then(|id| id.parse().ok());
        let Some(order) = order else {
            found.that(&entry.payment_intent, "it was paid for no order");
            continue;
        };
        let paid = paid.entry(order).or_default();
        match entry.kind.as_str() {
            "authorised" => drop(paid.open.insert(entry.payment_intent.clone())),
            "captured" => {
                paid.open.remove(&entry.payment_intent);
                paid.captures += 1;
                paid.kept_minor += entry.amount;
            }
            "canceled" => drop(paid.open.remove(&entry.payment_intent)),
            "refunded" => paid.kept_minor -= entry.amount,
            _ => {}
        }
    }
    let price: BTreeMap<_, _> = books
        .items
        .iter()
        .map(|item| ((item.order_id, item.line), item.unit_amount_minor))
        .collect();
    let mut tickets: BTreeMap<Uuid, i64> = BTreeMap::new();
    for ticket in books
        .tickets
        .iter()
        .filter(|one| !one.revoked && !one.companion)
    {
        let line = (ticket.order_id, ticket.line);
        *tickets.entry(ticket.order_id).or_default() +=
            price.get(&line).copied().unwrap_or_default();
    }
    let sagas: BTreeMap<Uuid, &Saga> = books.sagas.iter().map(|saga| (saga.id, saga)).collect();
    for order in &books.orders {
        let (paid, valid) = (
            paid.remove(&order.id).unwrap_or_default(),
            tickets.remove(&order.id),
        );
        let subject = format!("order {}", order.id);
        if paid.captures > 1 {
            found.that(&subject, format!("captured {} times", paid.captures));
        }
        let due = match sagas.get(&order.id).map(|saga| saga.state) {
            Some(4) => order.total_minor,
            Some(5) => 0,
            // Another promise says what to think of it.
            _ => continue,
        };
        let valid = valid.unwrap_or_default();
        if paid.kept_minor != due || valid != due {
            let detail = format!("kept {}, valid tickets {valid}, due {due}", paid.kept_minor);
            found.that(&subject, detail);
        }
        if !paid.open.is_empty() {
            found.that(&subject, format!("authorised and left so: {:?}", paid.open));
        }
    }
    for (order, paid) in paid.into_iter().filter(|(_, paid)| paid.kept_minor != 0) {
        found.that(
            format!("order {order}"),
            format!("unknown, and {} kept", paid.kept_minor),
        );
    }
}
