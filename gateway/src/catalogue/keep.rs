//! Keeping the copy in memory fresh, with few statements and never more than one look at a time.
//!
//! The scenario: a thousand requests a second for a final's page while its places are sold. Each of
//! them asking the stock would be a thousand statements for a number that is old when it arrives; a
//! timer would ask all night for nobody. So there is one refresher that sleeps until someone *asks*
//! with a copy older than [`FRESH`]. Who asks within [`STALE`] is answered from the old copy at once
//! and the next one has the new; who comes after a quiet time waits for the one look, together with
//! everyone else. When the database cannot be had, the last copy is served: it is only ever a hint,
//! and the truth is told by the reservation.

use super::{
    read,
    snapshot::{Snapshot, View},
};
use crate::http::ApiError;
use arc_swap::ArcSwapOption;
use contract::ProblemCode;
use database::Pool;
use runtime::metrics::{self, IntCounterVec};
use std::{
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// A copy younger than this is not looked at again.
const FRESH: Duration = Duration::from_secs(1);
/// A copy younger than this is served while the next one is fetched.
const STALE: Duration = Duration::from_secs(2);
/// How long a request waits for a look.
const PATIENCE: Duration = Duration::from_secs(2);

static LOOKS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::counters(
        "guichet_gateway_catalogue_looks_total",
        "Looks at the catalogue in the database: only what remains, all of it, or failed",
        &["result"],
    )
});

/// The catalogue as this process knows it.
pub struct Catalogue {
    pool: Pool,
    copy: ArcSwapOption<Kept>,
    asked: Notify,
    looked: watch::Sender<Look>,
}

#[derive(Debug)]
struct Kept {
    view: Arc<View>,
    at: Instant,
}

/// How the last look ended.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    failed_at: Option<Instant>,
}

impl Catalogue {
    /// One without a copy yet.
    #[must_use]
    pub fn new(pool: Pool) -> Self {
        Self {
            pool,
            copy: ArcSwapOption::empty(),
            asked: Notify::new(),
            looked: watch::Sender::new(Look::default()),
        }
    }

    /// Whether there is a copy, however old.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.copy.load().is_some()
    }

    /// Waits for the first copy, which [`Self::run`] gets.
    pub async fn loaded(&self) {
        // Each look is told when it is over. This value holds the sender: it cannot end.
        let _ = self.looked.subscribe().wait_for(|_| self.is_loaded()).await;
    }

    /// The catalogue and what remains, at most about two seconds old as long as the database answers.
    ///
    /// # Errors
    /// [`ProblemCode::Unavailable`]: the database has not answered since the start.
    pub async fn view(&self) -> Result<Arc<View>, ApiError> {
        let copy = self.copy.load_full();
        let age = copy
            .as_ref()
            .map_or(Duration::MAX, |copy| copy.at.elapsed());
        if age >= FRESH {
            // Subscribed before asking, or the answer to this very question could be missed.
            let mut looked = self.looked.subscribe();
            let failed_at = looked.borrow_and_update().failed_at;
            self.asked.notify_one();
            // While it fails, nobody waits for the next failure.
            let failing = failed_at.is_some_and(|at| at.elapsed() < FRESH);
            if age >= STALE && !failing {
                // A time-out and a stopped refresher mean the same: take what is there.
                let _ = tokio::time::timeout(PATIENCE, looked.changed()).await;
            }
        }
        let copy = self.copy.load();
        match copy.as_ref() {
            Some(copy) => Ok(Arc::clone(&copy.view)),
            None => Err(ApiError::new(
                ProblemCode::Unavailable,
                "The catalogue has not been read yet; try again.",
            )),
        }
    }

    /// Looks whenever it is asked to, and until there is a first copy, at most once a second, until
    /// `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        self.asked.notify_one(); // the first copy is fetched before anyone asks
        while shutdown
            .run_until_cancelled(self.asked.notified())
            .await
            .is_some()
        {
            let begun = Instant::now();
            let look = match self.look().await {
                Ok(result) => {
                    LOOKS.with_label_values(&[result]).inc();
                    Look::default()
                }
                Err(error) => {
                    LOOKS.with_label_values(&["failed"]).inc();
                    if self.looked.borrow().failed_at.is_none() {
                        let cause: &dyn std::error::Error = &error;
                        tracing::warn!(
                            error = cause,
                            "the catalogue cannot be read; the last copy stays"
                        );
                    }
                    Look {
                        failed_at: Some(Instant::now()),
                    }
                }
            };
            self.looked.send_replace(look);
            if !self.is_loaded() {
                // Nobody may come to ask: a gateway without a catalogue is not ready.
                self.asked.notify_one();
            }
            let rest = FRESH.saturating_sub(begun.elapsed());
            if shutdown
                .run_until_cancelled(tokio::time::sleep(rest))
                .await
                .is_none()
            {
                return;
            }
        }
    }

    async fn look(&self) -> Result<&'static str, database::Error> {
        let mut connection = self.pool.get().await?;
        let version = read::version(&mut connection).await?;
        let known = self
            .copy
            .load_full()
            .map(|copy| Arc::clone(&copy.view.snapshot));
        let (snapshot, result): (Arc<Snapshot>, _) = match known {
            Some(snapshot) if snapshot.version == version => (snapshot, "stock"),
            _ => (
                Arc::new(read::snapshot(&mut connection, version).await?),
                "all",
            ),
        };
        let at = Instant::now(); // what is taken after this may be missing in it
        let remaining = read::remaining(&mut connection, &snapshot).await?;
        let view = Arc::new(View {
            snapshot,
            remaining,
        });
        self.copy.store(Some(Arc::new(Kept { view, at })));
        Ok(result)
    }
}
