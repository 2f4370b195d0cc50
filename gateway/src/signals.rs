//! Telling sagas what happened outside, many in one commit: what arrives while one is under way is the
//! next. Whoever tells us something is answered after the commit; the owner's nudge follows.

use crate::http::ApiError;
use contract::{
    ProblemCode,
    crash::{self, Gateway, Point},
};
use database::Pool;
use engine::{Client, NewSignal, Told, What};
use runtime::batch::{BatchError, Batcher, Options};
use std::collections::HashSet;

/// Signals that may wait for a commit.
const QUEUE: usize = 4_096;
/// Signals of one transaction.
const BATCH: usize = 500;

/// The way in.
pub(crate) struct Signals {
    /// Whether the saga was told something new; `None` if it could not be told.
    batcher: Batcher<NewSignal, Option<bool>>,
}

impl Signals {
    /// Starts the worker on the current runtime.
    pub(crate) fn start(pool: Pool, client: Client) -> Self {
        let options = Options {
            queue: QUEUE,
            max_items: BATCH,
            in_flight: 1,
        };
        let batcher = Batcher::start("signals", options, move |signals| {
            let (pool, client) = (pool.clone(), client.clone());
            async move { write(&pool, &client, signals).await }
        });
        Self { batcher }
    }

    /// Tells a saga; true if it is something new to a saga that has not ended.
    ///
    /// # Errors
    /// Too many wait, or the database cannot be reached. The same may be told again.
    pub(crate) async fn tell(&self, signal: NewSignal) -> Result<bool, ApiError> {
        match self.batcher.try_submit(signal).await {
            Ok(Some(told)) => Ok(told),
            Ok(None) | Err(BatchError::Lost) => Err(ApiError::new(
                ProblemCode::Unavailable,
                "It could not be stored now; send it again.",
            )),
            Err(BatchError::Full) => Err(ApiError::new(
                ProblemCode::Overloaded,
                "Too many are waiting; send it again.",
            )
            .retry_after_s(2)),
        }
    }
}

async fn write(pool: &Pool, client: &Client, signals: Vec<NewSignal>) -> Vec<Option<bool>> {
    match store(pool, &signals).await {
        Ok(told) => {
            crash::at(Point::Gateway(Gateway::SignalAfterCommit));
            // Of what a step may wait for nobody has to be told who does not wait yet: its answer is on the way,
            // and its owner looks then. An end is in time only if it is told at once.
            let is_nudge = |signal: &&NewSignal| matches!(signal.what, What::Nudge(..));
            let nudges: HashSet<_> = signals.iter().filter(is_nudge).map(|one| one.id).collect();
            let helps = |told: &Told| told.waits || !nudges.contains(&told.signal);
            client.nudge(told.iter().copied().filter(helps));
            let told: HashSet<_> = told.iter().map(|told| told.signal).collect();
            let is_new = |signal: &NewSignal| Some(told.contains(&signal.id));
            signals.iter().map(is_new).collect()
        }
        Err(error) => {
            tracing::warn!(%error, source = ?std::error::Error::source(&error), signals = signals.len(), "signals could not be stored");
            vec![None; signals.len()]
        }
    }
}

async fn store(pool: &Pool, signals: &[NewSignal]) -> Result<Vec<Told>, database::Error> {
    let mut connection = pool.get().await?;
    crash::at(Point::Gateway(Gateway::SignalBeforeCommit));
    engine::signal(&mut connection, signals).await
}
