//! What an order may have been cancelled for.

use super::{UNDONE, Wrong, asked, cancelled, ended_for, rejected, sound, told};
use crate::promises::judge;

#[test]
fn a_reason_that_is_explained_is_not_accused() {
    let explained: [(&str, Wrong); 11] = [
        ("customer_cancelled", |e| e.journal[2] = cancelled(None)),
        ("review_rejected", |e| {
            e.books.audit[0] = rejected();
        }),
        ("sold_out", |e| e.books.stock[0].capacity = 1),
        // The database's clock was two minutes behind when it was refused.
        ("sold_out", |e| {
            e.books.stock[0].capacity = 1;
            e.books.sagas[1].updated_at_ms -= 120_000;
        }),
        ("limit_exceeded", |e| {
            e.books.items[1].quantity = 7;
        }),
        ("card_declined", |e| {
            e.journal[1] = asked(UNDONE, "pm_card_chargeDeclined");
            e.ledger.truncate(1);
        }),
        ("authentication_failed", |e| {
            e.journal[1] = asked(UNDONE, "pm_card_authenticationRequired");
            e.journal.push(told::authenticated(false));
            e.ledger.truncate(1);
        }),
        // Its provider was away.
        ("payment_unavailable", |e| {
            e.excused.late = true;
            e.healed_at_ms += 600_000;
        }),
        ("deadline_exceeded", |e| {
            e.excused.late = true;
            e.healed_at_ms += 600_000;
            e.books.sagas[1].updated_at_ms += 600_000;
        }),
        // The fault lasted for longer than a step is asked about.
        ("step_failed", |e| {
            e.excused.spent = true;
            (e.books.history[2].kind, e.books.history[2].state) = (Some(3), 3);
        }),
        // Of nobody whose wish is known.
        ("step_failed", |e| drop(e.journal.drain(..3))),
    ];
    for (reason, because) in explained {
        let mut evidence = sound();
        ended_for(&mut evidence, reason);
        because(&mut evidence);
        let violations = judge(&evidence);
        let accused = violations.iter().any(|one| one.promise == "prompt-end");
        assert!(!accused, "{reason}: {violations:#?}");
    }
}
