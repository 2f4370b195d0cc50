//! What people did about orders, by the log of it. What somebody has taken over is no broken promise: the one
//! effect that he named, if he said why, and for giving up an order if a second person agreed.

use crate::books::{Audit, Books, Definition, Saga};
use std::collections::BTreeSet;
use uuid::Uuid;

/// A request waits for so long for whoever approves it, in microseconds.
const REQUEST_US: i64 = 24 * 60 * 60 * 1_000_000;

/// The steps of an order whose effects people dealt with elsewhere: each is named in the log, with evidence.
pub(super) fn resolved(books: &Books, order: Uuid) -> BTreeSet<&str> {
    let rows = of(books, order, "saga.resolve").filter(|row| !row.reason.trim().is_empty());
    rows.filter_map(|row| row.detail["step"].as_str()).collect()
}

/// The steps that two people have left in force when they gave an order up; none if it was not two.
pub(super) fn left(books: &Books, order: Uuid) -> Option<BTreeSet<&str>> {
    let asked: Vec<_> = of(books, order, "saga.abandon.request").collect();
    let mut approved = of(books, order, "saga.abandon.approve");
    let row = approved.rfind(|row| is_of_two(&asked, row))?;
    let failed = row.detail["failed_undo"].as_array()?;
    Some(failed.iter().filter_map(|step| step.as_str()).collect())
}

/// The steps of an order that people answer for.
pub(super) fn taken_over<'a>(books: &'a Books, saga: &Saga) -> BTreeSet<&'a str> {
    let mut steps = resolved(books, saga.id);
    if saga.state == super::ABANDONED {
        steps.extend(left(books, saga.id).into_iter().flatten());
    }
    steps
}

/// Whether somebody ended it.
pub(super) fn ended(books: &Books, order: Uuid) -> bool {
    of(books, order, "saga.compensate").next().is_some()
}

/// Whether somebody corrected what this step was given.
pub(super) fn corrected(books: &Books, order: Uuid, step: &str) -> bool {
    of(books, order, "saga.correct").any(|row| row.detail["step"].as_str() == Some(step))
}

/// Whether two people have withdrawn its version.
pub(super) fn withdrawn(books: &Books, definition: i16) -> bool {
    let all = |action| books.audit.iter().filter(move |row| row.action == action);
    let of_it = |row: &&Audit| {
        let label = row.detail["definition"].as_str();
        let definition = books.definitions.iter().find(|one| one.id == definition);
        label.is_some() && definition.map(label_of).as_deref() == label
    };
    let asked: Vec<_> = all("definition.withdraw.request").filter(of_it).collect();
    all("definition.withdraw.approve")
        .filter(of_it)
        .any(|row| is_of_two(&asked, row))
}

fn label_of(definition: &Definition) -> String {
    let name = definition.body["name"].as_str().unwrap_or_default();
    format!("{name}@{}", definition.body["version"])
}

fn of<'a>(
    books: &'a Books,
    order: Uuid,
    action: &'static str,
) -> impl DoubleEndedIterator<Item = &'a Audit> {
    let rows = books.audit.iter();
    rows.filter(move |row| row.subject == Some(order) && row.action == action)
}

/// Whether somebody else had asked for what this row approves, shortly before, and both said why.
fn is_of_two(asked: &[&Audit], approved: &Audit) -> bool {
    let name = |row: &Audit| row.actor.trim().to_lowercase();
    let is_reasoned = |row: &Audit| !row.reason.trim().is_empty();
    // Only the last request is what was approved.
    let before = asked.iter().rfind(|row| row.id < approved.id);
    before.is_some_and(|row| {
        name(row) != name(approved)
            && is_reasoned(row)
            && is_reasoned(approved)
            && approved.at_us - row.at_us <= REQUEST_US
    })
}

/// Name of the step with this number of a definition.
pub(super) fn step_name(books: &Books, definition: i16, number: i16) -> Option<&str> {
    let definition = books.definitions.iter().find(|one| one.id == definition)?;
    let mut steps = definition.body["steps"].as_array()?.iter();
    steps.find(|step| step["number"].as_i64() == Some(i64::from(number)))?["name"].as_str()
}

/// Names of the steps of some bits.
pub(super) fn names(books: &Books, definition: i16, bits: i64) -> BTreeSet<&str> {
    (0..63)
        .filter(|number| bits & (1 << number) != 0)
        .filter_map(|number| step_name(books, definition, number))
        .collect()
}
