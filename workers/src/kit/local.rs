//! Batches of a step whose effect is in our own database.

use super::{
    Claim, LocalStep, Verdict,
    batch::{Round, Stopped, execute},
    letter::{Letter, Outbox},
    triage::{Sorted, judged_at, sort},
};
use crate::{
    Error,
    ledger::{
        handle::now,
        open::{Opened, open},
        plan::{self, Group},
        sql,
    },
};
use chrono::{DateTime, Utc};
use contract::{
    Command, Incarnation, StepKind, StepName,
    crash::{self, Work as At},
};
use database::{Clock, Connection, Pool};
use diesel_async::{AsyncConnection, TransactionManager};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Works on batches of one local step. One per lane.
pub(crate) struct Local<S> {
    pub(crate) step: Arc<S>,
    pub(crate) name: StepName,
    pub(crate) pool: Pool,
    pub(crate) incarnation: Incarnation,
    pub(crate) clock: Clock,
}

impl<S: LocalStep> Local<S> {
    /// Works on letters in the order of arrival and answers each.
    pub(crate) async fn process<T>(
        &self,
        letters: Vec<Letter<T>>,
        outbox: &Outbox<T>,
        stop: &CancellationToken,
    ) -> Result<(), Stopped> {
        let now = judged_at(&letters, &self.pool, &self.clock).await;
        let Sorted {
            tickets,
            commands,
            rounds,
        } = sort(letters, &self.name, self.incarnation, now, outbox);
        let mut tickets: Vec<Option<T>> = tickets.into_iter().map(Some).collect();
        for round in rounds {
            let run = execute(self, &self.name, &self.pool, &commands, &round, stop);
            let verdicts = run.await?;
            for (group, verdict) in round.iter().zip(verdicts) {
                for &member in &group.members {
                    if let Some(ticket) = tickets[member].take() {
                        let command = commands[member].clone();
                        outbox.answer(Letter { ticket, command }, verdict.clone());
                    }
                }
            }
        }
        Ok(())
    }

    async fn transact(
        &self,
        connection: &mut Connection,
        commands: &[Command],
        groups: &[Group],
    ) -> Result<Vec<Verdict>, Error> {
        let now = now(&self.clock);
        let opened = open(connection, &self.name, commands, groups, &self.clock, now).await?;
        let mut outcomes: Vec<Option<Verdict>> = Vec::with_capacity(groups.len());
        let (mut acts, mut undos) = (Work::default(), Work::default());
        for (place, opened) in opened.into_iter().enumerate() {
            outcomes.push(match opened {
                Opened::Answer(verdict) => Some(verdict),
                Opened::Work(claim) => match claim.command.kind {
                    StepKind::Do => acts.take(place, *claim),
                    StepKind::Undo => undos.take(place, *claim),
                    StepKind::Probe => Some(standing(&claim)),
                },
            });
        }
        let mut changes = Vec::with_capacity(acts.claims.len() + undos.claims.len());
        // Undos first: what they give back may be taken by the same batch.
        for (work, kind) in [(undos, StepKind::Undo), (acts, StepKind::Do)] {
            let verdicts = self.work(connection, &work, kind, now).await?;
            for ((place, verdict), claim) in verdicts.into_iter().zip(&work.claims) {
                let change = plan::record(kind, &verdict, claim.row.as_ref());
                changes.extend(change.map(|change| (claim.saga_id(), change)));
                outcomes[place] = Some(verdict);
            }
        }
        sql::change(connection, &self.name, changes, now).await?;
        Ok(outcomes.into_iter().flatten().collect())
    }

    async fn work(
        &self,
        connection: &mut Connection,
        work: &Work,
        kind: StepKind,
        now: DateTime<Utc>,
    ) -> Result<Vec<(usize, Verdict)>, Error> {
        if work.claims.is_empty() {
            return Ok(Vec::new());
        }
        crash::each(
            work.claims
                .iter()
                .map(|claim| claim.command.at(At::BeforeEffect)),
        );
        let verdicts = match kind {
            StepKind::Undo => self.step.undo(connection, &work.claims, now).await?,
            StepKind::Do | StepKind::Probe => self.step.act(connection, &work.claims, now).await?,
        };
        crash::each(
            work.claims
                .iter()
                .map(|claim| claim.command.at(At::AfterEffect)),
        );
        if verdicts.len() != work.claims.len() {
            return Err(Error::Miscounted {
                step: self.name.clone(),
                verdicts: verdicts.len(),
                claims: work.claims.len(),
            });
        }
        let claims = verdicts.into_iter().zip(&work.claims);
        let verdicts = claims.map(|(verdict, claim)| verdict.storable(&claim.command));
        Ok(work.places.iter().copied().zip(verdicts).collect())
    }
}

impl<S: LocalStep> Round for Local<S> {
    type Outcome = Verdict;

    async fn run(
        &self,
        connection: &mut Connection,
        commands: &[Command],
        groups: &[Group],
    ) -> Result<Vec<Verdict>, Error> {
        begin(connection).await?;
        let outcome = self.transact(connection, commands, groups).await;
        let commands = || groups.iter().map(|group| &commands[group.members[0]]);
        crash::each(commands().map(|command| command.at(At::BeforeCommit)));
        let ended = end(connection, outcome).await;
        crash::each(commands().map(|command| command.at(At::AfterCommit)));
        ended
    }
}

/// Claims with their places in the round.
#[derive(Default)]
struct Work {
    places: Vec<usize>,
    claims: Vec<Claim>,
}

impl Work {
    fn take(&mut self, place: usize, claim: Claim) -> Option<Verdict> {
        self.places.push(place);
        self.claims.push(claim);
        None
    }
}

/// How an effect stands that has begun and is not done: a local one can only be waiting.
fn standing(claim: &Claim) -> Verdict {
    match claim.output() {
        Some(output) => Verdict::Waiting(output.clone()),
        None => Verdict::unknown("not_found", "Nothing is known of this effect."),
    }
}

type Manager = <Connection as AsyncConnection>::TransactionManager;

pub(crate) async fn begin(connection: &mut Connection) -> Result<(), Error> {
    Ok(Manager::begin_transaction(connection).await?)
}

/// Commits, or rolls back what failed.
///
/// Not diesel's `transaction` with a closure: a closure over a generic step cannot be shown to be
/// `Send`.
pub(crate) async fn end<T>(
    connection: &mut Connection,
    outcome: Result<T, Error>,
) -> Result<T, Error> {
    match outcome {
        Ok(value) => {
            Manager::commit_transaction(connection).await?;
            Ok(value)
        }
        Err(error) => {
            // The first error says what went wrong; a connection that cannot roll back is broken
            // and leaves the pool.
            let _broken = Manager::rollback_transaction(connection).await;
            Err(error)
        }
    }
}
