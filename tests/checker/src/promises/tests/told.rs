//! What customers did, and what they were told of it.

use super::{BORN_MS, GOOD, UNDONE, Wrong, answered, asked, ended_for, id, moment, sound};
use crate::{
    Evidence,
    books::{Effect, Moment},
    journal::{Entry, What},
    promises::judge,
};
use serde_json::json;

const CHALLENGED: &str = "pm_card_authenticationRequired";
/// How long a customer has at his bank's page.
const WAITS_MS: i64 = 900_000;

/// The second order's customer at his bank's page.
pub(super) fn authenticated(approves: bool) -> Entry {
    let order = id(UNDONE);
    Entry {
        at_ms: BORN_MS,
        what: What::Authenticated { order, approves },
    }
}

/// Somebody who followed the first order goes so long after its end.
fn left(evidence: &mut Evidence, after_ms: i64) {
    let what = What::Left { order: id(GOOD) };
    let at_ms = evidence.books.sagas[0].updated_at_ms + after_ms;
    evidence.journal.push(Entry { at_ms, what });
}

/// The second order was not paid by this method, and ended for this reason.
fn unpaid(evidence: &mut Evidence, method: &str, reason: &str) {
    evidence.journal[1] = asked(UNDONE, method);
    evidence.ledger.truncate(1);
    evidence.books.history = vec![
        moment(1, None, 0, Some((0, 1))),
        Moment {
            state: 5,
            ..moment(2, Some((0, 1)), 2, None)
        },
    ];
    ended_for(evidence, reason);
}

/// Its customer was waited for so long, and it ended for it.
fn waited(evidence: &mut Evidence, for_ms: i64) {
    unpaid(evidence, CHALLENGED, "authentication_failed");
    let books = &mut evidence.books;
    books.definitions[0].body["steps"][0]["waiting"] = json!({ "deadline_ms": WAITS_MS });
    let at = |rev: i64| BORN_MS + for_ms + rev;
    books.history = vec![
        moment(1, None, 0, Some((0, 1))),
        Moment {
            state: 2,
            at_ms: BORN_MS,
            ..moment(2, Some((0, 1)), 5, None)
        },
        Moment {
            at_ms: at(0),
            ..moment(3, None, 0, Some((0, 3)))
        },
        Moment {
            at_ms: at(0),
            state: 3,
            ..moment(4, Some((0, 3)), 5, Some((0, 2)))
        },
        Moment {
            at_ms: at(1),
            ..moment(5, Some((0, 2)), 1, None)
        },
    ];
    books.sagas[1].updated_at_ms = at(1);
}

#[test]
fn only_a_cancelled_event_explains_that_its_orders_ended_for_it() {
    for cancelled in [true, false] {
        let mut evidence = sound();
        ended_for(&mut evidence, "event_cancelled");
        evidence.books.stock[0].cancelled = cancelled;
        let violations = judge(&evidence);
        let accused = violations.iter().any(|one| one.promise == "prompt-end");
        assert_eq!(accused, !cancelled, "{violations:#?}");
    }
}

#[test]
fn what_is_told_in_time_and_explained_is_not_accused() {
    let sounds: [Wrong; 7] = [
        |e| left(e, 60_000),
        // He had gone before it ended.
        |e| left(e, -1),
        // Everybody was cut off.
        |e| {
            left(e, 600_000);
            e.healed_at_ms += 600_000;
        },
        |e| waited(e, WAITS_MS),
        |e| {
            unpaid(
                e,
                "pm_card_chargeDeclinedInsufficientFunds",
                "insufficient_funds",
            )
        },
        |e| unpaid(e, "pm_card_visa_chargeDeclinedExpiredCard", "expired_card"),
        |e| unpaid(e, "pm_card_chargeDeclinedStolenCard", "card_declined"),
    ];
    for (number, right) in sounds.into_iter().enumerate() {
        let mut evidence = sound();
        right(&mut evidence);
        assert_eq!(judge(&evidence), [], "{number}");
    }
}

#[test]
fn what_is_not_told_or_explained_otherwise_is_convicted() {
    let planted: [(&str, Wrong); 11] = [
        ("nothing-accepted-is-lost", |e| {
            e.shown.remove(&id(GOOD));
        }),
        ("nothing-accepted-is-lost", |e| {
            e.journal.push(answered("other", "body", UNDONE));
            e.shown.remove(&id(UNDONE));
        }),
        ("nothing-accepted-is-lost", |e| left(e, 60_001)),
        // He approved of it, or nobody knows that he refused, and was not waited for.
        ("prompt-end", |e| {
            unpaid(e, CHALLENGED, "authentication_failed");
            e.journal.push(authenticated(true));
        }),
        ("prompt-end", |e| {
            unpaid(e, CHALLENGED, "authentication_failed")
        }),
        ("prompt-end", |e| waited(e, WAITS_MS - 1)),
        ("prompt-end", |e| {
            waited(e, WAITS_MS);
            e.journal.push(authenticated(true));
        }),
        // Of another card.
        ("prompt-end", |e| {
            unpaid(e, "pm_card_chargeDeclined", "insufficient_funds");
        }),
        ("prompt-end", |e| {
            unpaid(e, "pm_card_chargeDeclinedExpiredCard", "card_declined");
        }),
        ("prompt-end", |e| {
            unpaid(e, "pm_card_chargeDeclined", "payment_method_invalid");
        }),
        ("honest-end", |e| {
            e.books.effects.push(Effect {
                saga_id: id(9),
                step: "pay".to_owned(),
                state: 2,
            });
        }),
    ];
    for (number, (promise, wrong)) in planted.into_iter().enumerate() {
        let mut evidence = sound();
        wrong(&mut evidence);
        let violations = judge(&evidence);
        let convicts =
            !violations.is_empty() && violations.iter().all(|one| one.promise == promise);
        assert!(convicts, "{number}: {promise}: {violations:#?}");
    }
}
