//! `effects-once`: however often things were sent, said and asked, each has come about once.

use super::{ABANDONED, Found, people};
use crate::{Evidence, books::Saga, journal::What};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn effects_once(evidence: &Evidence, found: &mut Found<'_>) {
    same_key_same_answer(evidence, found);
    tickets(evidence, found);
    mails(evidence, found);
    quotas(evidence, found);
}

/// Only a 202 binds a key; from then on it is answered the same, byte for byte.
fn same_key_same_answer(evidence: &Evidence, found: &mut Found<'_>) {
    let mut answers: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut keys: BTreeMap<_, BTreeSet<&str>> = BTreeMap::new();
    for entry in &evidence.journal {
        if let What::Answered {
            key,
            status: 202,
            body,
            order,
        } = &entry.what
        {
            answers.entry(key).or_default().insert(body);
            keys.entry(*order).or_default().insert(key);
        }
    }
    for (key, answers) in answers.iter().filter(|(_, answers)| answers.len() > 1) {
        found.that(
            format!("key {key}"),
            format!("accepted with {} different answers", answers.len()),
        );
    }
    for (order, keys) in keys.iter().filter(|(_, keys)| keys.len() > 1) {
        found.that(
            format!("order {order:?}"),
            format!("accepted for {} keys", keys.len()),
        );
    }
}

fn tickets(evidence: &Evidence, found: &mut Found<'_>) {
    let books = &evidence.books;
    let mut numbers: BTreeMap<_, Vec<i32>> = BTreeMap::new();
    let mut valid: BTreeMap<_, i64> = BTreeMap::new();
    for ticket in &books.tickets {
        numbers
            .entry(ticket.event_id)
            .or_default()
            .push(ticket.number);
        if !ticket.revoked && !ticket.companion {
            *valid.entry((ticket.order_id, ticket.line)).or_default() += 1;
        }
    }
    for (event, mut numbers) in numbers {
        numbers.sort_unstable();
        let right = numbers
            .iter()
            .zip(1..)
            .all(|(number, place)| *number == place);
        if !right {
            found.that(
                format!("event {event}"),
                "its tickets are not numbered 1, 2, 3 …",
            );
        }
    }
    for item in &books.items {
        let valid = valid
            .get(&(item.order_id, item.line))
            .copied()
            .unwrap_or_default();
        if valid != 0 && valid != item.quantity {
            let detail = format!(
                "line {}: {} ordered, {valid} valid tickets",
                item.line, item.quantity
            );
            found.that(format!("order {}", item.order_id), detail);
        }
    }
}

/// Each buyer has an address of his own and orders once. Somebody may have corrected it, or have told him
/// otherwise.
fn mails(evidence: &Evidence, found: &mut Found<'_>) {
    let mut ids: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for mail in &evidence.mails {
        ids.entry(&mail.to).or_default().insert(&mail.message_id);
    }
    let state: BTreeMap<_, _> = evidence
        .books
        .sagas
        .iter()
        .map(|saga| (saga.id, saga.state))
        .collect();
    let mut corrected: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    for entry in &evidence.journal {
        if let What::Corrected { order, email } = &entry.what {
            corrected.entry(*order).or_default().push(email);
        }
    }
    for order in &evidence.books.orders {
        let subject = format!("order {}", order.id);
        let mut addresses = vec![order.email.as_str()];
        if people::corrected(&evidence.books, order.id, "notify") {
            addresses.extend(corrected.remove(&order.id).unwrap_or_default());
        }
        let ids = addresses.iter().filter_map(|address| ids.get(address));
        let ids = ids.flatten().collect::<BTreeSet<_>>().len();
        let told = people::resolved(&evidence.books, order.id).contains("notify");
        match state.get(&order.id) {
            Some(4) if ids == 0 && told => {}
            Some(4) if ids == 0 => found.that(subject, "completed, and no mail came"),
            Some(5) if ids > 0 => found.that(subject, "compensated, and tickets were mailed"),
            _ if ids > 1 => found.that(subject, format!("mails with {ids} Message-IDs")),
            _ => {}
        }
    }
}

fn quotas(evidence: &Evidence, found: &mut Found<'_>) {
    let books = &evidence.books;
    let mut held: BTreeMap<&str, i64> = BTreeMap::new();
    for take in &books.takes {
        *held.entry(&take.counter).or_default() += take.quantity;
    }
    for quota in &books.quotas {
        let held = held.remove(quota.counter.as_str()).unwrap_or_default();
        if quota.taken != held {
            let detail = format!("{} taken, {held} by orders", quota.taken);
            found.that(format!("limit {}", quota.counter), detail);
        }
    }
    for (counter, held) in held {
        found.that(
            format!("limit {counter}"),
            format!("0 taken, {held} by orders"),
        );
    }
    // Each step gives back what it took; one that somebody took over does not.
    let undone = |saga: &&Saga| saga.state == 5 || saga.state == ABANDONED;
    let undone: BTreeMap<_, _> = books
        .sagas
        .iter()
        .filter(undone)
        .map(|saga| (saga.id, people::taken_over(books, saga)))
        .collect();
    for take in &books.takes {
        let taken_over = undone.get(&take.order_id);
        if taken_over.is_some_and(|steps| !steps.contains(take.step.as_str())) {
            let detail = format!(
                "undone, and {} of a limit are not given back by {}",
                take.quantity, take.step
            );
            found.that(format!("order {}", take.order_id), detail);
        }
    }
}
