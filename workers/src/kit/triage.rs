//! The first look at a batch: what is not to be worked on is answered or dropped at once.

use super::letter::{Letter, Outbox};
use crate::ledger::{
    handle::now,
    plan::{Group, Triage, fold, is_expired, triage},
};
use chrono::{DateTime, Utc};
use contract::{Command, Incarnation, StepKind, StepName};
use database::{Clock, Pool};

/// A batch in rounds. Groups name commands by their place.
pub(crate) struct Sorted<T> {
    pub(crate) tickets: Vec<T>,
    pub(crate) commands: Vec<Command>,
    pub(crate) rounds: Vec<Vec<Group>>,
}

/// The time by which a batch is judged. Whoever finds commands too old asks the database first: its clock
/// may have been set back, and by ours everything would be too old from then on, with no work left by which
/// we could learn.
pub(crate) async fn judged_at<T>(
    letters: &[Letter<T>],
    pool: &Pool,
    clock: &Clock,
) -> DateTime<Utc> {
    let at = now(clock);
    if !letters.iter().any(|one| is_expired(&one.command, at)) {
        return at;
    }
    let asked = async { Ok::<_, database::Error>(clock.ask(&mut *pool.get().await?).await?) };
    if let Err(error) = asked.await {
        // Then by what we know: what was too early answered so is asked again.
        tracing::warn!(%error, source = ?std::error::Error::source(&error), "the database's time cannot be asked");
    }
    now(clock)
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
