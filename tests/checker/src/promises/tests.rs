//! A small world in which everything is right, and one thing after the other made wrong in it: each is
//! seen, by the promise that it breaks.

mod pauses;
mod people;
mod prompt;
mod reasons;
mod told;
mod unknown;

use super::{PROMISES, judge};
use crate::{
    Evidence,
    books::{
        Audit, Books, Definition, Effect, Item, Moment, Order, Quota, Saga, Stock, Take, Ticket,
    },
    evidence::{Excused, LedgerEntry, Mail, Parked},
    journal::{Entry, What},
};
use serde_json::json;
use uuid::Uuid;

/// When it all happened.
const BORN_MS: i64 = 1_790_000_000_000;
const OFFER: Uuid = Uuid::from_u128(0xa);
const EVENT: Uuid = Uuid::from_u128(0xe);

fn id(number: u128) -> Uuid {
    Uuid::from_u128((u128::from(BORN_MS.unsigned_abs()) << 80) | number)
}

/// The good order, and the one that was cancelled after its payment.
const GOOD: u128 = 1;
const UNDONE: u128 = 2;
/// The provider refuses to give back what was paid with it.
const DISPUTED: &str = "pm_card_createDispute";

fn order(number: u128) -> Order {
    Order {
        id: id(number),
        total_minor: 5_000,
        email: format!("{number}@example.org"),
    }
}

fn saga(number: u128, state: i16, done: i64) -> Saga {
    Saga {
        id: id(number),
        state,
        done,
        pivot: 2,
        definition: 1,
        updated_at_ms: BORN_MS + 500,
        ..Saga::default()
    }
}

fn moment(rev: i32, asked: Option<(i16, i16)>, outcome: i16, next: Option<(i16, i16)>) -> Moment {
    Moment {
        saga_id: id(UNDONE),
        rev,
        at_ms: BORN_MS + i64::from(rev),
        seq: rev - 1,
        input: if asked.is_some() { 2 } else { 1 },
        step: asked.map(|(step, _)| step),
        kind: asked.map(|(_, kind)| kind),
        outcome: asked.map(|_| outcome),
        state: 1,
        next_seq: next.map(|_| rev),
        next_step: next.map(|(step, _)| step),
        next_kind: next.map(|(_, kind)| kind),
        next_attempt: next.map(|_| 1),
        ..Moment::default()
    }
}

fn entry(number: u128, kind: &str) -> LedgerEntry {
    LedgerEntry {
        payment_intent: format!("pi_{number}"),
        reference: Some(id(number).to_string()),
        kind: kind.to_owned(),
        amount: 5_000,
    }
}

fn policy(budget_ms: i64) -> serde_json::Value {
    json!({ "initial_ms": 500, "max_ms": 10_000, "budget_ms": budget_ms })
}

fn definition() -> Definition {
    let step = |number: i16, name: &str| {
        json!({ "number": number, "name": name, "resend_ms": 5_000, "do_policy": policy(30_000),
                "undo_policy": policy(60_000), "probe_policy": policy(30_000) })
    };
    let body = json!({ "deadline_ms": 600_000, "steps": [step(0, "pay"), step(1, "issue"), step(4, "notify")] });
    Definition { id: 1, body }
}

fn told(rev: i64, status: &str) -> Entry {
    let what = What::Told {
        order: id(GOOD),
        rev,
        status: status.to_owned(),
    };
    Entry {
        at_ms: BORN_MS,
        what,
    }
}

fn answered(key: &str, body: &str, number: u128) -> Entry {
    let (key, body) = (key.to_owned(), body.to_owned());
    let what = What::Answered {
        key,
        status: 202,
        body,
        order: Some(id(number)),
    };
    Entry {
        at_ms: BORN_MS,
        what,
    }
}

fn asked(number: u128, method: &str) -> Entry {
    let body = json!({ "email": order(number).email, "payment": { "method": method } });
    let (key, body) = (number.to_string(), body.to_string());
    Entry {
        at_ms: BORN_MS,
        what: What::Asked { key, body },
    }
}

fn cancelled(status: Option<u16>) -> Entry {
    let order = id(UNDONE);
    Entry {
        at_ms: BORN_MS,
        what: What::Cancelled { order, status },
    }
}

/// A reviewer's decision about the second order.
fn rejected() -> Audit {
    Audit {
        action: "review.reject".to_owned(),
        subject: Some(id(UNDONE)),
        ..audit()
    }
}

/// A row of a real log.
fn audit() -> Audit {
    Audit {
        id: 1,
        at_us: 1_700_000_000_123_456,
        actor: "eve".to_owned(),
        action: "review.approve".to_owned(),
        subject: Some(Uuid::from_u128(7)),
        reason: "known customer".to_owned(),
        detail: json!({"b": 1, "a": [true, {"z": null, "y": "ü\""}]}),
        previous: "0".repeat(64),
        hash: "fe52bfdd29a6754c807cc9737c2c6afe9fbc26d748ee3685e911a3715e0a5877".to_owned(),
    }
}

fn sound() -> Evidence {
    let books = Books {
        orders: vec![order(GOOD), order(UNDONE)],
        items: [GOOD, UNDONE]
            .map(|number| Item {
                order_id: id(number),
                line: 1,
                offer_id: OFFER,
                quantity: 1,
                unit_amount_minor: 5_000,
            })
            .to_vec(),
        sagas: vec![
            saga(GOOD, 4, 3),
            Saga {
                reason: Some("customer_cancelled".to_owned()),
                ..saga(UNDONE, 5, 0)
            },
        ],
        history: vec![
            moment(1, None, 0, Some((0, 1))),
            moment(2, Some((0, 1)), 1, Some((1, 1))),
            moment(3, Some((1, 1)), 4, Some((1, 2))),
            moment(4, Some((1, 2)), 1, Some((0, 2))),
            moment(5, Some((0, 2)), 1, None),
        ],
        effects: vec![
            Effect {
                saga_id: id(GOOD),
                step: "pay".to_owned(),
                state: 2,
            },
            Effect {
                saga_id: id(UNDONE),
                step: "pay".to_owned(),
                state: 4,
            },
        ],
        tickets: [(GOOD, 1, false), (UNDONE, 2, true)]
            .map(|(number, ticket, revoked)| Ticket {
                order_id: id(number),
                line: 1,
                event_id: EVENT,
                offer_id: OFFER,
                number: ticket,
                companion: false,
                revoked,
            })
            .to_vec(),
        stock: vec![Stock {
            offer_id: OFFER,
            capacity: 2,
            taken: 1,
            cancelled: false,
        }],
        quotas: vec![Quota {
            counter: "ada".to_owned(),
            taken: 1,
        }],
        takes: vec![Take {
            order_id: id(GOOD),
            step: "fraud-check".to_owned(),
            counter: "ada".to_owned(),
            quantity: 1,
        }],
        definitions: vec![definition()],
        audit: vec![audit()],
    };
    Evidence {
        journal: vec![
            asked(GOOD, "pm_card_visa"),
            asked(UNDONE, "pm_card_visa"),
            cancelled(Some(202)),
            answered("key", "body", GOOD),
            answered("key", "body", GOOD),
            told(1, "pending"),
            told(4, "confirmed"),
        ],
        ledger: vec![
            entry(GOOD, "captured"),
            entry(UNDONE, "captured"),
            entry(UNDONE, "refunded"),
        ],
        mails: vec![Mail {
            to: order(GOOD).email,
            message_id: "<1>".to_owned(),
        }],
        shown: [
            (id(GOOD), "confirmed".to_owned()),
            (id(UNDONE), "cancelled".to_owned()),
        ]
        .into(),
        queues: [("commands".to_owned(), 0), ("parked".to_owned(), 1)].into(),
        parked: Parked {
            queue: "parked".to_owned(),
            sent: 1,
        },
        broken_at_ms: BORN_MS,
        healed_at_ms: BORN_MS,
        calm: None,
        excused: Excused::default(),
        books,
    }
}

#[test]
fn what_is_right_is_not_accused() {
    assert_eq!(judge(&sound()), []);
    assert_eq!(
        judge(&Evidence {
            calm: Some(0),
            ..sound()
        }),
        []
    );
    assert_eq!(judge(&Evidence::default()), []);
}

type Wrong = fn(&mut Evidence);

fn ended_for(evidence: &mut Evidence, reason: &str) {
    evidence.books.sagas[1].reason = Some(reason.to_owned());
}

/// The second order's refund was refused.
fn before_a_person(evidence: &mut Evidence) {
    let saga = &mut evidence.books.sagas[1];
    (saga.state, saga.flags, saga.maybe_in_force) = (3, 4, 1);
    (saga.failed_undo, saga.flagged_at_ms) = (1, Some(BORN_MS));
    evidence.shown.insert(id(UNDONE), "cancelling".to_owned());
}

#[test]
fn each_planted_violation_is_convicted_by_its_promise() {
    let planted: [(&str, Wrong); 70] = [
        ("no-oversell", |e| e.books.stock[0].taken = 3),
        ("no-oversell", |e| e.books.stock[0].taken = 2),
        ("no-oversell", |e| e.books.stock.clear()),
        ("money-iff-ticket", |e| {
            e.ledger.push(entry(GOOD, "captured"))
        }),
        ("money-iff-ticket", |e| drop(e.ledger.remove(0))),
        ("money-iff-ticket", |e| drop(e.ledger.pop())),
        ("money-iff-ticket", |e| e.ledger[0].amount -= 1),
        ("money-iff-ticket", |e| e.ledger.push(entry(9, "captured"))),
        ("money-iff-ticket", |e| e.ledger[0].reference = None),
        ("money-iff-ticket", |e| {
            e.ledger.push(entry(UNDONE, "authorised"))
        }),
        ("money-iff-ticket", |e| e.books.tickets[1].revoked = false),
        ("nothing-accepted-is-lost", |e| {
            e.journal.push(answered("other", "body", 9))
        }),
        ("nothing-accepted-is-lost", |e| e.books.sagas[0].state = 1),
        ("nothing-accepted-is-lost", |e| {
            drop(e.books.sagas.remove(0))
        }),
        ("nothing-accepted-is-lost", |e| {
            drop(e.books.orders.remove(0))
        }),
        ("nothing-accepted-is-lost", |e| {
            e.journal.push(told(5, "cancelling"))
        }),
        ("nothing-accepted-is-lost", |e| {
            drop(e.shown.insert(id(GOOD), "cancelled".to_owned()))
        }),
        ("honest-end", |e| e.books.sagas[1].maybe_in_force = 1),
        ("honest-end", |e| e.books.sagas[0].done = 1),
        ("honest-end", |e| e.books.effects[1].state = 2),
        ("honest-end", |e| e.books.effects[0].state = 1),
        ("effects-once", |e| {
            e.journal.push(answered("key", "bodY", GOOD))
        }),
        ("effects-once", |e| {
            e.journal.push(answered("other", "body", GOOD))
        }),
        ("effects-once", |e| e.books.tickets[1].number = 3),
        ("effects-once", |e| e.books.items[0].quantity = 2),
        ("effects-once", |e| {
            e.mails.push(Mail {
                message_id: "<2>".to_owned(),
                ..e.mails[0].clone()
            })
        }),
        ("effects-once", |e| e.mails.clear()),
        ("effects-once", |e| e.mails[0].to = order(UNDONE).email),
        ("effects-once", |e| e.books.quotas[0].taken = 2),
        ("effects-once", |e| e.books.takes[0].order_id = id(UNDONE)),
        ("broker-is-transport", |e| {
            e.queues.extend([("commands".to_owned(), 1)])
        }),
        ("broker-is-transport", |e| e.parked.sent = 0),
        ("every-end-undoes", |e| e.books.history[4].outcome = Some(3)),
        ("every-end-undoes", |e| {
            let (issue, pay) = (e.books.history[2].next_step, e.books.history[3].next_step);
            (e.books.history[2].next_step, e.books.history[3].next_step) = (pay, issue);
        }),
        ("unknown-is-a-result", |e| {
            e.books.history[3].outcome = Some(3)
        }),
        ("failed-undo-is-work", |e| e.books.sagas[0].failed_undo = 1),
        ("tamper-evident", |e| e.books.audit[0].reason.push('!')),
        ("tamper-evident", |e| {
            e.books.audit[0].previous.replace_range(0..1, "1")
        }),
        ("bounded-work", |e| e.books.sagas[1].resends = 9),
        ("bounded-work", |e| e.calm = Some(1)),
        ("prompt-end", |e| {
            e.books.sagas[0].updated_at_ms += 3_600_000
        }),
        // A person, where nothing explains that one is needed.
        ("nothing-accepted-is-lost", |e| e.books.sagas[0].flags = 4),
        ("nothing-accepted-is-lost", |e| e.books.sagas[1].flags = 2),
        ("nothing-accepted-is-lost", |e| e.books.sagas[1].state = 6),
        ("prompt-end", before_a_person),
        ("prompt-end", |e| {
            e.books.sagas[0].flags = 4;
            e.books.sagas[0].updated_at_ms += 3_600_000;
        }),
        // What its row does not say of an order before a person.
        ("money-iff-ticket", |e| {
            before_a_person(e);
            e.ledger.pop();
            e.books.sagas[1].maybe_in_force = 2;
        }),
        ("money-iff-ticket", |e| {
            before_a_person(e);
            e.books.tickets[1].revoked = false;
        }),
        ("money-iff-ticket", |e| {
            before_a_person(e);
            e.ledger.push(entry(UNDONE, "refunded"));
        }),
        // Reasons that nothing explains.
        ("prompt-end", |e| e.books.sagas[1].reason = None),
        ("prompt-end", |e| ended_for(e, "step_failed")),
        ("prompt-end", |e| {
            ended_for(e, "step_failed");
            e.excused.spent = true;
            e.books.history[2].state = 3;
        }),
        ("prompt-end", |e| ended_for(e, "undone")),
        ("prompt-end", |e| ended_for(e, "payment_unavailable")),
        // A database that refuses steps explains nothing of the provider; and who came after the fault was served.
        ("prompt-end", |e| {
            ended_for(e, "payment_unavailable");
            e.excused.spent = true;
            e.healed_at_ms += 600_000;
        }),
        ("prompt-end", |e| {
            ended_for(e, "payment_unavailable");
            e.excused.late = true;
            e.healed_at_ms -= 60_000;
        }),
        ("prompt-end", |e| ended_for(e, "deadline_exceeded")),
        ("prompt-end", |e| {
            ended_for(e, "deadline_exceeded");
            e.excused.spent = true;
            e.healed_at_ms += 600_000;
            e.books.sagas[1].updated_at_ms += 600_000;
        }),
        // The other one had given its place back before this one came.
        ("prompt-end", |e| {
            ended_for(e, "sold_out");
            e.books.stock[0].capacity = 1;
            let saga = &mut e.books.sagas[0];
            (saga.state, saga.updated_at_ms) = (5, BORN_MS - 200_000);
        }),
        // The fault lasted for longer than an order may take, and this one was ended before its time was over.
        ("prompt-end", |e| {
            ended_for(e, "deadline_exceeded");
            e.excused.late = true;
        }),
        ("prompt-end", |e| {
            ended_for(e, "deadline_exceeded");
            e.excused.late = true;
            e.books.history[2].state = 3;
            e.healed_at_ms += 700_000;
            e.books.sagas[1].updated_at_ms += 700_000;
        }),
        ("prompt-end", |e| ended_for(e, "review_rejected")),
        ("prompt-end", |e| ended_for(e, "fraud_refused")),
        ("prompt-end", |e| ended_for(e, "limit_exceeded")),
        ("prompt-end", |e| ended_for(e, "sold_out")),
        ("prompt-end", |e| ended_for(e, "card_declined")),
        ("prompt-end", |e| ended_for(e, "authentication_failed")),
        ("prompt-end", |e| drop(e.journal.remove(2))),
        ("prompt-end", |e| e.journal[2] = cancelled(Some(409))),
        // It was paid: whoever had asked would have known.
        ("prompt-end", |e| {
            e.journal[1] = asked(UNDONE, "pm_card_authenticationRequired");
            e.journal.push(told::authenticated(false));
            ended_for(e, "authentication_failed");
        }),
    ];
    for (number, (promise, wrong)) in planted.into_iter().enumerate() {
        let mut evidence = sound();
        if promise == "bounded-work" {
            (evidence.books.sagas[1].step, evidence.books.sagas[1].kind) = (Some(0), Some(1));
        }
        wrong(&mut evidence);
        let violations = judge(&evidence);
        let convicts = violations
            .iter()
            .any(|violation| violation.promise == promise);
        assert!(
            convicts,
            "{number}: {promise} said nothing: {violations:#?}"
        );
    }
    let attacked = |promise: &str| planted.iter().any(|(name, _)| *name == promise);
    assert!(PROMISES.iter().all(|(promise, _)| attacked(promise)));
}
