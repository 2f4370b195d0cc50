//! What people took over: excused is the one effect that they named, and only if the log has who and why.

use super::{
    BORN_MS, DISPUTED, GOOD, UNDONE, Wrong, asked, audit, ended_for, id, moment, order, sound,
};
use crate::{
    Evidence,
    books::{Audit, Moment},
    evidence::Mail,
    journal::{Entry, What},
    promises::{audit::hash, judge},
};
use serde_json::json;

fn row(action: &str, actor: &str, number: u128, detail: serde_json::Value) -> Audit {
    Audit {
        action: action.to_owned(),
        actor: actor.to_owned(),
        subject: Some(id(number)),
        reason: "case 12".to_owned(),
        detail,
        ..audit()
    }
}

/// The log, each row with the hash of the one before.
fn log(evidence: &mut Evidence) {
    let mut previous = "0".repeat(64);
    for (row, place) in evidence.books.audit.iter_mut().zip(1..) {
        (row.id, row.previous) = (place, previous);
        row.hash = hash(row);
        previous = row.hash.clone();
    }
}

fn acted(rev: i32, code: &str) -> Moment {
    Moment {
        input: 6,
        outcome: None,
        code: Some(code.to_owned()),
        ..moment(rev, None, 0, None)
    }
}

/// The second order's refund was refused, and for an hour nobody was there.
fn refused() -> Evidence {
    let mut evidence = sound();
    evidence.journal[1] = asked(UNDONE, DISPUTED);
    evidence.ledger.pop();
    let books = &mut evidence.books;
    books.history[4].outcome = Some(2);
    books.history[4].state = 3;
    books.effects[1].state = 2;
    books.sagas[1].updated_at_ms = BORN_MS + 3_600_005;
    evidence
}

fn late(moment: Moment) -> Moment {
    Moment {
        at_ms: BORN_MS + 3_600_000,
        ..moment
    }
}

fn resolved() -> Evidence {
    let mut evidence = refused();
    let books = &mut evidence.books;
    books.history.push(late(acted(6, "resolve")));
    let step = json!({"step": "pay"});
    books.audit.push(row("saga.resolve", "ann", UNDONE, step));
    // The card is still counted, for it still pays.
    books.quotas[0].taken = 2;
    let mut card = books.takes[0].clone();
    (card.order_id, card.step) = (id(UNDONE), "pay".to_owned());
    books.takes.push(card);
    evidence
}

fn given_up() -> Evidence {
    let mut evidence = refused();
    let books = &mut evidence.books;
    books.history.push(late(acted(6, "abandon")));
    let saga = &mut books.sagas[1];
    (saga.state, saga.maybe_in_force, saga.failed_undo) = (6, 1, 1);
    for (action, actor) in [("request", "ann"), ("approve", "bob")] {
        let action = format!("saga.abandon.{action}");
        let left = json!({"failed_undo": ["pay"]});
        books.audit.push(row(&action, actor, UNDONE, left));
    }
    evidence
}

/// The second order was ended by its version's withdrawal.
fn withdrawn() -> Evidence {
    let mut evidence = sound();
    ended_for(&mut evidence, "definition_withdrawn");
    let body = &mut evidence.books.definitions[0].body;
    (body["name"], body["version"]) = (json!("order"), json!(1));
    for (action, actor) in [("request", "ann"), ("approve", "bob")] {
        let action = format!("definition.withdraw.{action}");
        let of_it = json!({"definition": "order@1"});
        let row = row(&action, actor, UNDONE, of_it);
        evidence.books.audit.push(Audit {
            subject: None,
            ..row
        });
    }
    evidence
}

fn ended() -> Evidence {
    let mut evidence = sound();
    ended_for(&mut evidence, "operator_ended");
    let row = row("saga.compensate", "ann", UNDONE, json!({}));
    evidence.books.audit.push(row);
    evidence
}

const ELSEWHERE: &str = "1.moved@example.org";

/// The first order's mail bounced; it went where its customer said then, or he was told.
fn bounced() -> Evidence {
    let mut evidence = sound();
    evidence.books.orders[0].email = "1@bounces.example.org".to_owned();
    evidence.journal[0] = asked(GOOD, "pm_card_visa");
    evidence.mails[0].to = ELSEWHERE.to_owned();
    let email = ELSEWHERE.to_owned();
    let what = What::Corrected {
        order: id(GOOD),
        email,
    };
    evidence.journal.push(Entry {
        at_ms: BORN_MS,
        what,
    });
    let refused = Moment {
        saga_id: id(GOOD),
        ..moment(1, Some((4, 1)), 2, None)
    };
    evidence.books.history.push(refused);
    let step = json!({"step": "notify"});
    let row = row("saga.correct", "ann", GOOD, step);
    evidence.books.audit.push(row);
    evidence
}

fn told() -> Evidence {
    let mut evidence = bounced();
    evidence.mails.clear();
    evidence.books.audit[1].action = "saga.resolve".to_owned();
    evidence
}

const ALL: [fn() -> Evidence; 6] = [resolved, given_up, withdrawn, ended, bounced, told];

#[test]
fn what_people_did_and_the_log_has_is_not_accused() {
    for (number, make) in ALL.into_iter().enumerate() {
        let mut evidence = make();
        log(&mut evidence);
        assert_eq!(judge(&evidence), [], "{number}");
    }
}

/// Where it is planted, which promise convicts it, and how it is done.
type Planted = (fn() -> Evidence, &'static str, Wrong);

#[test]
fn whatever_nobody_took_over_is_convicted() {
    let planted: [Planted; 27] = [
        // Nobody did anything, somebody else's order was meant, another step, or nobody said why.
        (resolved, "honest-end", |e| drop(e.books.audit.pop())),
        (resolved, "money-iff-ticket", |e| drop(e.books.audit.pop())),
        (resolved, "every-end-undoes", |e| {
            e.books.audit[1].subject = Some(id(GOOD))
        }),
        (resolved, "honest-end", |e| {
            e.books.audit[1].detail = json!({"step": "issue"})
        }),
        (resolved, "money-iff-ticket", |e| {
            e.books.audit[1].reason = " ".to_owned()
        }),
        // Another effect is left as well.
        (resolved, "money-iff-ticket", |e| {
            e.books.tickets[1].revoked = false
        }),
        (resolved, "every-end-undoes", |e| {
            e.books.history[3].outcome = Some(3)
        }),
        (resolved, "effects-once", |e| {
            e.books.takes[1].step = "fraud-check".to_owned()
        }),
        // A part of the money is back.
        (resolved, "money-iff-ticket", |e| {
            let mut part = super::entry(UNDONE, "refunded");
            part.amount = 1;
            e.ledger.push(part);
        }),
        // Its undo had not been refused.
        (resolved, "failed-undo-is-work", |e| {
            e.books.history[4].outcome = Some(1)
        }),
        // It was refused, and by this card nothing is.
        (resolved, "prompt-end", |e| {
            e.journal[1] = asked(UNDONE, "pm_card_visa")
        }),
        // Somebody was there in time, and it took an hour.
        (resolved, "prompt-end", |e| {
            e.books.history[5].at_ms = BORN_MS + 6
        }),
        // One person, twice; or the second before the first, or far too late.
        (given_up, "nothing-accepted-is-lost", |e| {
            e.books.audit[2].actor = " Ann".to_owned()
        }),
        (given_up, "nothing-accepted-is-lost", |e| {
            e.books.audit.swap(1, 2)
        }),
        (given_up, "nothing-accepted-is-lost", |e| {
            e.books.audit[2].at_us += 25 * 3_600 * 1_000_000
        }),
        (given_up, "nothing-accepted-is-lost", |e| {
            drop(e.books.audit.pop())
        }),
        (given_up, "nothing-accepted-is-lost", |e| {
            e.books.audit[1].reason.clear()
        }),
        // Something is in force that nobody named.
        (given_up, "honest-end", |e| {
            e.books.sagas[1].maybe_in_force = 3
        }),
        (given_up, "honest-end", |e| {
            e.books.audit[2].detail = json!({"failed_undo": []})
        }),
        (given_up, "no-oversell", |e| e.books.stock[0].taken = 2),
        (given_up, "effects-once", |e| {
            e.books.quotas[0].taken = 2;
            let mut take = e.books.takes[0].clone();
            take.order_id = id(UNDONE);
            e.books.takes.push(take);
        }),
        (given_up, "money-iff-ticket", |e| {
            e.books.tickets[1].revoked = false
        }),
        (withdrawn, "prompt-end", |e| {
            e.books.audit[2].actor = "ann".to_owned()
        }),
        (withdrawn, "prompt-end", |e| {
            e.books.audit[1].detail = json!({"definition": "order@2"})
        }),
        (ended, "prompt-end", |e| {
            e.books.audit[1].subject = Some(id(GOOD))
        }),
        // Where he wanted it nothing came, or it came to both.
        (bounced, "effects-once", |e| drop(e.journal.pop())),
        (told, "effects-once", |e| {
            e.books.audit[1].detail = json!({"step": "pay"})
        }),
    ];
    for (number, (make, promise, wrong)) in planted.into_iter().enumerate() {
        let mut evidence = make();
        wrong(&mut evidence);
        log(&mut evidence);
        let violations = judge(&evidence);
        let convicts = violations.iter().any(|one| one.promise == promise);
        assert!(
            convicts,
            "{number}: {promise} said nothing: {violations:#?}"
        );
    }
}

#[test]
fn a_second_mail_to_where_the_first_did_not_come_is_one_too_many() {
    let mut evidence = bounced();
    evidence.mails.push(Mail {
        to: order(GOOD).email,
        message_id: "<2>".to_owned(),
    });
    evidence.books.orders[0].email = order(GOOD).email;
    let violations = judge(&evidence);
    let convicts = violations.iter().any(|one| one.promise == "effects-once");
    assert!(convicts, "{violations:#?}");
}
