//! `nothing-accepted-is-lost` and `honest-end`: each order that was accepted has exactly one end, the
//! customer hears that one, and it says the truth.

use super::{ABANDONED, Found, people};
use crate::{Evidence, books::Saga, journal::What};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Whoever follows an order hears its end at most so long after it, or after the last fault: a connection that says
/// nothing is given up after 20 s, and a request after 8 s.
const TOLD_WITHIN_MS: i64 = 60_000;

pub(super) fn nothing_accepted_is_lost(evidence: &Evidence, found: &mut Found<'_>) {
    let books = &evidence.books;
    let orders: BTreeSet<Uuid> = books.orders.iter().map(|order| order.id).collect();
    let sagas: BTreeMap<Uuid, &Saga> = books.sagas.iter().map(|saga| (saga.id, saga)).collect();
    for order in orders.iter().filter(|order| !sagas.contains_key(order)) {
        found.that(format!("order {order}"), "it has no saga");
    }
    for (id, saga) in &sagas {
        let subject = format!("order {id}");
        if !orders.contains(id) {
            found.that(&subject, "a saga without an order");
        }
        if saga.state == ABANDONED && people::left(books, *id).is_none() {
            found.that(&subject, "given up, and not by two people who said why");
        }
        if saga.before_a_person() {
            let detail = format!(
                "still before a person: state {}, {}, failed undos {:#b}, reason {:?}",
                saga.state,
                if saga.is_held() { "held" } else { "asks" },
                saga.failed_undo,
                saga.reason
            );
            found.that(&subject, detail);
        } else if !saga.ended() {
            let detail = format!(
                "no end: state {}, step {:?}, kind {:?}, command {}, sent again {} times",
                saga.state, saga.step, saga.kind, saga.seq, saga.resends
            );
            found.that(&subject, detail);
        }
        let Some(shown) = evidence.shown.get(id) else {
            continue;
        };
        let right: &[&str] = match saga.state {
            4 => &["confirmed"],
            5 | 6 => &["cancelled"],
            _ => &[
                "pending",
                "action_required",
                "in_review",
                "confirmed",
                "cancelling",
            ],
        };
        if !right.contains(&shown.as_str()) {
            found.that(
                &subject,
                format!("state {}, and shown as {shown}", saga.state),
            );
        }
    }
    let mut last: BTreeMap<Uuid, (i64, &str)> = BTreeMap::new();
    for entry in &evidence.journal {
        match &entry.what {
            What::Answered {
                order: Some(order), ..
            } if !orders.contains(order) => {
                found.that(format!("order {order}"), "it was accepted and is not there");
            }
            What::Answered {
                order: Some(order), ..
            } if !evidence.shown.contains_key(order) => {
                found.that(
                    format!("order {order}"),
                    "it was accepted and nobody is shown it",
                );
            }
            What::Left { order } => {
                let ended = sagas.get(order).filter(|saga| saga.ended());
                let from_ms = ended.map(|saga| saga.updated_at_ms.max(evidence.healed_at_ms));
                if from_ms.is_some_and(|from| entry.at_ms - from > TOLD_WITHIN_MS) {
                    let detail = "it has ended, and whoever followed it was never told";
                    found.that(format!("order {order}"), detail);
                }
            }
            What::Told { order, rev, status } => {
                // Two streams of one order are read side by side, so only the order of revisions counts.
                let (latest, said) = last.entry(*order).or_insert((0, ""));
                let subject = format!("order {order}");
                if *said == "confirmed" && matches!(status.as_str(), "cancelling" | "cancelled")
                    || *said == "cancelled" && status == "confirmed"
                {
                    found.that(&subject, format!("told {said}, then {status}"));
                }
                if rev > latest {
                    (*latest, *said) = (*rev, status);
                }
            }
            _ => {}
        }
    }
    for (order, (_, said)) in last {
        let shown = evidence.shown.get(&order).map(String::as_str);
        let is_end = matches!(said, "confirmed" | "cancelled");
        if is_end && shown.is_some_and(|shown| shown != said) {
            let detail = format!("told {said}, shown as {}", shown.unwrap_or_default());
            found.that(format!("order {order}"), detail);
        }
    }
}

pub(super) fn honest_end(evidence: &Evidence, found: &mut Found<'_>) {
    let books = &evidence.books;
    let sagas: BTreeMap<Uuid, &Saga> = books.sagas.iter().map(|saga| (saga.id, saga)).collect();
    for saga in &books.sagas {
        let subject = format!("saga {}", saga.id);
        if saga.state == 5 && saga.maybe_in_force != 0 {
            let detail = format!(
                "compensated, and effects {:#b} may be in force",
                saga.maybe_in_force
            );
            found.that(&subject, detail);
        }
        if saga.state == ABANDONED {
            let in_force = people::names(books, saga.definition, saga.maybe_in_force);
            let left = people::left(books, saga.id).unwrap_or_default();
            for step in in_force.difference(&left) {
                let detail = format!("given up, and nobody said that {step} may be in force");
                found.that(&subject, detail);
            }
        }
        if saga.state == 4 && saga.done & saga.pivot == 0 {
            found.that(&subject, "completed without its pivot");
        }
    }
    for effect in books
        .effects
        .iter()
        .filter(|effect| matches!(effect.state, 1 | 2))
    {
        let subject = format!("saga {}", effect.saga_id);
        let Some(saga) = sagas.get(&effect.saga_id) else {
            found.that(
                subject,
                format!("there is none, and {} is in force", effect.step),
            );
            continue;
        };
        let taken_over = people::taken_over(books, saga);
        if taken_over.contains(effect.step.as_str()) {
            continue;
        }
        match saga.state {
            5 => found.that(
                subject,
                format!("compensated, and {} is in force", effect.step),
            ),
            ABANDONED => found.that(
                subject,
                format!(
                    "given up, and {} is in force, which nobody named",
                    effect.step
                ),
            ),
            4 if effect.state == 1 => {
                found.that(
                    subject,
                    format!("completed, and {} has only begun", effect.step),
                );
            }
            _ => {}
        }
    }
}
