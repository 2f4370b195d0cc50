//! `money-iff-ticket`: what the provider kept is the price of the tickets that are valid.

use super::{Found, people};
use crate::{
    Evidence,
    books::{Books, Saga},
};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

#[derive(Default)]
struct Paid {
    captures: u32,
    kept_minor: i64,
    /// Payments that were authorised, and neither captured nor cancelled.
    open: BTreeSet<String>,
}

/// The steps that take money.
const PAYS: &[&str] = &["pay", "capture"];

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
            // Another promise says what to think of its having no end. What may be in force is written in its
            // row; whatever is not, is not.
            _ => {
                let saga = sagas.get(&order.id).copied();
                if paid.kept_minor != 0 && !saga.is_some_and(|saga| in_force(books, saga, PAYS)) {
                    let detail =
                        format!("kept {}, and by its row nothing was paid", paid.kept_minor);
                    found.that(&subject, detail);
                }
                if valid.is_some() && !saga.is_some_and(|saga| in_force(books, saga, &["issue"])) {
                    found.that(&subject, "valid tickets, and by its row none was issued");
                }
                if paid.kept_minor < 0 || paid.kept_minor > order.total_minor {
                    let detail = format!("kept {} of {}", paid.kept_minor, order.total_minor);
                    found.that(&subject, detail);
                }
                continue;
            }
        };
        let valid = valid.unwrap_or_default();
        // Who said that the payment was dealt with elsewhere answers for all of it, and for no part.
        let elsewhere = people::resolved(books, order.id);
        let elsewhere = due == 0 && PAYS.iter().any(|step| elsewhere.contains(step));
        if elsewhere && valid == 0 && paid.kept_minor == order.total_minor {
            continue;
        }
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

/// Whether an effect of one of these steps is or may be in force, by the saga's row.
fn in_force(books: &Books, saga: &Saga, names: &[&str]) -> bool {
    let definition = books
        .definitions
        .iter()
        .find(|one| one.id == saga.definition);
    let steps = definition.and_then(|definition| definition.body["steps"].as_array());
    steps.into_iter().flatten().any(|step| {
        let bit = step["number"].as_u64().map_or(0, |number| 1_i64 << number);
        let is_it = step["name"]
            .as_str()
            .is_some_and(|name| names.contains(&name));
        is_it && (saga.maybe_in_force | saga.done) & bit != 0
    })
}
