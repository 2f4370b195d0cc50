//! The ledger as effects outside use it while they run: many at once, few statements.

use super::{
    plan::{self, Action, Change},
    sql,
};
use crate::{
    Error,
    kit::{Claim, Verdict, metrics::METRICS},
};
use chrono::{DateTime, Utc};
use contract::{SagaId, StepKind, StepName};
use database::{Clock, Pool};
use runtime::batch::{Batcher, Options};
use std::{
    collections::{HashMap, HashSet},
    future::Future,
    time::Duration,
};

/// How often a write of the ledger is tried while the database is out of reach, each time a little
/// later: about 20 s in all. After that the effect is answered `retry`, and its next attempt goes on
/// from what the ledger says.
const TRIES: u32 = 12;

/// The pause after the first failure; the second is twice as long, the third three times.
const PAUSE: Duration = Duration::from_millis(250);

/// Characters of what the outside calls an effect.
const OUTSIDE_ID_MAX_CHARS: usize = 255;

/// The ledger of one step, as one of its lanes writes it. Concurrent effects share its statements. Cheap to
/// clone.
#[derive(Clone, Debug)]
pub struct Ledger {
    step: StepName,
    store: Batcher<(SagaId, String), Result<bool, Error>>,
    settle: Batcher<(SagaId, StepKind, Change), Result<Settled, Error>>,
}

/// What became of a verdict in the ledger.
#[derive(Debug)]
pub(crate) enum Settled {
    /// Recorded.
    Recorded,
    /// The row was settled by somebody else before: this is the answer.
    Found(Verdict),
}

impl Ledger {
    /// The ledger of a step. Its writers end when the last clone is dropped.
    #[must_use]
    pub fn start(step: StepName, pool: Pool, clock: Clock) -> Self {
        let options = Options::default();
        let (one, name) = (pool.clone(), step.clone());
        let store = Batcher::start("ledger_outside_ids", options, move |batch| {
            let (pool, step) = (one.clone(), name.clone());
            async move { store_all(&pool, &step, batch).await }
        });
        let name = step.clone();
        let settle = Batcher::start("ledger_settle", options, move |batch| {
            let (pool, step, now) = (pool.clone(), name.clone(), now(&clock));
            async move { settle_all(&pool, &step, batch, now).await }
        });
        Self {
            step,
            store,
            settle,
        }
    }

    /// The step whose ledger it is.
    #[must_use]
    pub fn step(&self) -> &StepName {
        &self.step
    }

    /// Stores what the outside calls the effect, on condition that the effect is still claimed and
    /// has no other id. `false`: it has been undone (or settled, or begun under another id)
    /// meanwhile, and nothing more may be done; what was just made outside is to be made harmless.
    /// Storing the same id again is `true`.
    ///
    /// # Errors
    /// [`Error::BadOutsideId`] unless it has 1 to 255 characters and no NUL; [`Error::Ledger`]
    /// when the database stays out of reach. Then it is not known whether the id is stored: return
    /// the error, and the next attempt finds out.
    pub async fn store_outside_id(&self, claim: &Claim, outside_id: &str) -> Result<bool, Error> {
        let too_long = outside_id.chars().count() > OUTSIDE_ID_MAX_CHARS;
        if outside_id.is_empty() || too_long || outside_id.contains('\0') {
            return Err(Error::BadOutsideId);
        }
        let item = (claim.saga_id(), outside_id.to_owned());
        self.store
            .submit(item)
            .await
            .map_err(|_lost| Error::Ledger)?
    }

    /// Records a verdict; returns what to answer: the verdict, or what the row says if somebody
    /// else settled the effect first.
    pub(crate) async fn settle(&self, claim: &Claim, verdict: Verdict) -> Result<Verdict, Error> {
        let (saga_id, kind) = (claim.saga_id(), claim.command.kind);
        let Some(change) = plan::record(kind, &verdict, claim.row.as_ref()) else {
            return Ok(verdict);
        };
        let settled = self.settle.submit((saga_id, kind, change)).await;
        Ok(match settled.map_err(|_lost| Error::Ledger)?? {
            Settled::Recorded => verdict,
            Settled::Found(answer) => answer,
        })
    }
}

pub(crate) fn now(clock: &Clock) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(clock.now_ms()).unwrap_or_default()
}

async fn store_all(
    pool: &Pool,
    step: &StepName,
    batch: Vec<(SagaId, String)>,
) -> Vec<Result<bool, Error>> {
    // Two ids for one effect cannot be stored by one statement: the first wins, as it would by two.
    let mut first: HashMap<SagaId, &str> = HashMap::with_capacity(batch.len());
    for (saga, id) in &batch {
        first.entry(*saga).or_insert(id);
    }
    let named: Vec<(SagaId, String)> = first
        .iter()
        .map(|(saga, id)| (*saga, (*id).to_owned()))
        .collect();
    let stored = persist(step, || async {
        let mut connection = pool.get().await.map_err(database::Error::from)?;
        sql::store_outside_ids(&mut connection, step, named.clone()).await
    })
    .await;
    batch
        .iter()
        .map(|(saga, id)| match &stored {
            Some(stored) => Ok(stored.contains(saga) && first[saga] == id),
            None => Err(Error::Ledger),
        })
        .collect()
}

async fn settle_all(
    pool: &Pool,
    step: &StepName,
    batch: Vec<(SagaId, StepKind, Change)>,
    now: DateTime<Utc>,
) -> Vec<Result<Settled, Error>> {
    // A statement changes a row once: an effect's second verdict in a batch waits for the next one.
    let mut results: Vec<Option<Result<Settled, Error>>> = batch.iter().map(|_| None).collect();
    let mut open: Vec<usize> = (0..batch.len()).collect();
    while !open.is_empty() {
        let mut seen = HashSet::with_capacity(open.len());
        let (round, rest): (Vec<usize>, Vec<usize>) =
            open.into_iter().partition(|&n| seen.insert(batch[n].0));
        let answers = settle_round(pool, step, &batch, &round, now).await;
        for (&place, answer) in round.iter().zip(answers) {
            results[place] = Some(answer);
        }
        open = rest;
    }
    results
        .into_iter()
        .map(|result| result.unwrap_or(Err(Error::Ledger)))
        .collect()
}

async fn settle_round(
    pool: &Pool,
    step: &StepName,
    batch: &[(SagaId, StepKind, Change)],
    round: &[usize],
    now: DateTime<Utc>,
) -> Vec<Result<Settled, Error>> {
    let changes: Vec<(SagaId, Change)> = round
        .iter()
        .map(|&n| (batch[n].0, batch[n].2.clone()))
        .collect();
    let written = persist(step, || async {
        let mut connection = pool.get().await.map_err(database::Error::from)?;
        let changed = sql::change(&mut connection, step, changes.clone(), now).await?;
        let others = round.iter().map(|&n| batch[n].0);
        let others: Vec<SagaId> = others.filter(|saga| !changed.contains(saga)).collect();
        let found = sql::lock(&mut connection, step, others).await?;
        Ok((changed, found))
    })
    .await;
    let Some((changed, mut found)) = written else {
        return round.iter().map(|_| Err(Error::Ledger)).collect();
    };
    round
        .iter()
        .map(|&n| {
            let (saga, kind, change) = &batch[n];
            if changed.contains(saga) {
                return Ok(Settled::Recorded);
            }
            // Settled by somebody else, or by this very write before its connection was lost.
            let row = found.remove(saga);
            match plan::decide(row.as_ref(), *kind) {
                Action::Answer(answer) => Ok(Settled::Found(answer)),
                _ if row.as_ref().is_some_and(|row| change.is_outdated(row)) => {
                    Ok(Settled::Found(plan::corrected_since()))
                }
                Action::Act | Action::Fence | Action::Undo | Action::Ask => Err(Error::Ledger),
            }
        })
        .collect()
}

/// Tries a write of the ledger until the database takes it. The writes are such that a second time
/// does no harm.
async fn persist<T, W>(step: &StepName, write: impl Fn() -> W) -> Option<T>
where
    W: Future<Output = Result<T, Error>>,
{
    for attempt in 1..=TRIES {
        let error = match write().await {
            Ok(written) => return Some(written),
            Err(error) => error,
        };
        if !error.is_transient() || attempt == TRIES {
            tracing::error!(%step, attempt, error = %crate::error::chain(&error), "the ledger cannot be written");
            return None;
        }
        tracing::warn!(%step, attempt, error = %crate::error::chain(&error), "the ledger is written again");
        METRICS
            .batches_retried
            .with_label_values(&[step.as_str(), "ledger"])
            .inc();
        tokio::time::sleep(PAUSE * attempt).await;
    }
    None
}
