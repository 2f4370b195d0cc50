//! The first look at a batch: what is not to be worked on is answered or dropped at once.

use super::letter::{Letter, Outbox};
use crate::ledger::plan::{Group, Triage, fold, triage};
use chrono::{DateTime, Utc};
use contract::{Command, Incarnation, StepKind, StepName};

/// A batch in rounds. Groups name commands by their place.
pub(crate) struct Sorted<T> {
    pub(crate) tickets: Vec<T>,
    pub(crate) commands: Vec<Command>,
    pub(crate) rounds: Vec<Vec<Group>>,
}

pub(crate) fn sort<T>(
    letters: Vec<Letter<T>>,
    step: &StepName,
    incarnation: Incarnation,
    now: DateTime<Utc>,
    outbox: &Outbox<T>,
) -> Sorted<T> {
    let mut tickets = Vec::with_capacity(letters.len());
    let mut commands = Vec::with_capacity(letters.len());
    for letter in letters {
        match triage(&letter.command, step, incarnation, now) {
            Triage::Process => {
                tickets.push(letter.ticket);
                commands.push(letter.command);
            }
            Triage::Drop(reason) => outbox.drop_letter(letter, reason),
            Triage::Answer(verdict) => outbox.answer(letter, verdict),
        }
    }
    let keys: Vec<_> = commands.iter().map(key).collect();
    let rounds = fold(&keys);
    Sorted {
        tickets,
        commands,
        rounds,
    }
}

pub(crate) fn key(command: &Command) -> (contract::SagaId, StepKind) {
    (command.saga_id, command.kind)
}
