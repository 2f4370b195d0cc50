//! One round of a batch against the database, whatever goes wrong.
//!
//! Three kinds of trouble look alike at first, and each wants something else:
//! - *A deadlock, a lost connection*: the same round again. A commit whose answer was lost is
//!   harmless, since the ledger then has the rows and repeats what they say.
//! - *The database is away*: wait until it is back. Nothing is answered and nothing acknowledged;
//!   commands that get too old meanwhile are answered `expired` when they come again.
//! - *One member that PostgreSQL (or the step) refuses*: the round is halved until the culprit
//!   stands alone. Its transaction was rolled back, so there is certainly no effect of this
//!   attempt: it is answered `retry`. If it never succeeds the saga's budget ends it, and the undo
//!   that follows finds no effect and fences it. The others are not held up.
//!
//! So a round that goes on failing while the database answers is treated as the third.

use super::{Verdict, metrics::METRICS};
use crate::{Error, error::chain, ledger::plan::Group};
use contract::{Command, StepName};
use database::{Connection, Pool};
use diesel_async::SimpleAsyncConnection;
use futures_util::FutureExt;
use std::{future::Future, panic::AssertUnwindSafe, time::Duration};
use tokio_util::sync::CancellationToken;

/// How often a round is tried before it is asked whether it or the database is to blame.
const TRIES: u32 = 5;

/// The pause after a round's first failure; each further one makes it four times as long.
const FIRST_PAUSE: Duration = Duration::from_millis(40);

/// The longest pause while the database is away.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// What runs a round: a local step's whole transaction, or the claims of effects outside.
pub(crate) trait Round: Sync {
    /// What comes out per group.
    type Outcome: From<Verdict> + Send;

    /// Runs the groups in one transaction, and gives one outcome for each.
    fn run(
        &self,
        connection: &mut Connection,
        commands: &[Command],
        groups: &[Group],
    ) -> impl Future<Output = Result<Vec<Self::Outcome>, Error>> + Send;
}

/// The worker was stopped while it waited for the database; nothing is answered.
#[derive(Debug)]
pub(crate) struct Stopped;

/// Runs a round to its end: one outcome for each group, in their order.
pub(crate) async fn execute<R: Round>(
    round: &R,
    step: &StepName,
    pool: &Pool,
    commands: &[Command],
    groups: &[Group],
    stop: &CancellationToken,
) -> Result<Vec<R::Outcome>, Stopped> {
    let mut outcomes = Vec::with_capacity(groups.len());
    // The first part is on top, so that parts are run, and seats given, in order of arrival.
    let mut parts = vec![groups];
    while let Some(part) = parts.pop() {
        match attempt(round, step, pool, commands, part, stop).await? {
            Ok(part) => outcomes.extend(part),
            Err(error) if part.len() == 1 => {
                let command = &commands[part[0].members[0]];
                tracing::error!(
                    saga_id = %command.saga_id,
                    trace_id = %command.traceparent.trace_id(),
                    %step,
                    error = %chain(&error),
                    "a command cannot be worked on"
                );
                let message = "The step failed in the database.";
                outcomes.push(Verdict::retry("database_refused", message).into());
            }
            Err(error) => {
                METRICS.halved.with_label_values(&[step.as_str()]).inc();
                tracing::warn!(%step, groups = part.len(), error = %chain(&error), "a batch is halved");
                let (first, second) = part.split_at(part.len() / 2);
                parts.extend([second, first]);
            }
        }
    }
    Ok(outcomes)
}

/// Tries a part until it succeeds, or is certainly the cause of its failure.
async fn attempt<R: Round>(
    round: &R,
    step: &StepName,
    pool: &Pool,
    commands: &[Command],
    part: &[Group],
    stop: &CancellationToken,
) -> Result<Result<Vec<R::Outcome>, Error>, Stopped> {
    let mut tries = 0;
    loop {
        let error = match once(round, step, pool, commands, part).await {
            Ok(outcomes) => return Ok(Ok(outcomes)),
            Err(error) => error,
        };
        if !error.is_transient() {
            return Ok(Err(error));
        }
        tries += 1;
        if tries >= TRIES {
            if reachable(pool).await {
                return Ok(Err(error));
            }
            tries = TRIES - 1; // once more, when the database is back
        }
        tracing::warn!(%step, tries, error = %chain(&error), "a batch is tried again");
        METRICS
            .batches_retried
            .with_label_values(&[step.as_str(), "commands"])
            .inc();
        let pause = (FIRST_PAUSE * 4_u32.pow(tries - 1)).min(PAUSE_MAX);
        tokio::select! {
            () = stop.cancelled() => return Err(Stopped),
            () = tokio::time::sleep(jittered(pause)) => {}
        }
    }
}

async fn once<R: Round>(
    round: &R,
    step: &StepName,
    pool: &Pool,
    commands: &[Command],
    part: &[Group],
) -> Result<Vec<R::Outcome>, Error> {
    let mut connection = pool.get().await.map_err(database::Error::from)?;
    // A connection that a panic leaves inside a transaction is discarded by the pool.
    let outcomes = AssertUnwindSafe(round.run(&mut connection, commands, part))
        .catch_unwind()
        .await
        .map_err(|_panic| Error::Panicked(step.clone()))??;
    if outcomes.len() != part.len() {
        return Err(Error::Miscounted {
            step: step.clone(),
            verdicts: outcomes.len(),
            claims: part.len(),
        });
    }
    Ok(outcomes)
}

async fn reachable(pool: &Pool) -> bool {
    match pool.get().await {
        Ok(mut connection) => connection.batch_execute("SELECT 1").await.is_ok(),
        Err(_) => false,
    }
}

/// Half of a pause to all of it, so that twins do not collide again.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)
}
