//! The long-lived tasks of a process, watched.
//!
//! A role is several loops. When one of them dies (a panic, an error it cannot recover from, or simply
//! by ending) the others go on as if nothing had happened: the process is alive, ready by its last word,
//! and does half its work. So the end of any of them stops the process, with an error, and whoever
//! started it starts it again.

use std::fmt::Display;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What ended the process before it was asked to stop.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failure {
    /// A task panicked.
    #[error("{task} panicked: {panic}")]
    Panicked {
        /// The task's name.
        task: &'static str,
        /// What the panic said.
        panic: String,
    },
    /// A task gave up.
    #[error("{task} failed: {error}")]
    Failed {
        /// The task's name.
        task: &'static str,
        /// Why, with its causes.
        error: String,
    },
    /// A task returned although no stop was asked for.
    #[error("{task} ended before it was asked to")]
    Ended {
        /// The task's name.
        task: &'static str,
    },
    /// After the stop was asked for, tasks went on beyond the deadline.
    #[error("{} still running {} ms after the stop", tasks, after.as_millis())]
    Overdue {
        /// How many.
        tasks: usize,
        /// The deadline.
        after: Duration,
    },
}

/// What a long-lived task may return: nothing, or a result whose error is for the operator.
pub trait Outcome: Send + 'static {
    /// The error, with its causes, if it is one.
    fn error(self) -> Option<String>;
}

impl Outcome for () {
    fn error(self) -> Option<String> {
        None
    }
}

impl<E: Display + Send + 'static> Outcome for Result<(), E> {
    fn error(self) -> Option<String> {
        // `{:#}` is how anyhow prints the causes too.
        self.err().map(|error| format!("{error:#}"))
    }
}

/// The tasks of one process. Clones are the same set.
#[derive(Clone, Debug)]
pub struct Tasks {
    shutdown: CancellationToken,
    tracker: TaskTracker,
    first: Arc<OnceLock<Failure>>,
}

impl Tasks {
    /// No tasks yet; the first failure will trip `shutdown`.
    #[must_use]
    pub fn new(shutdown: CancellationToken) -> Self {
        Self {
            shutdown,
            tracker: TaskTracker::new(),
            first: Arc::default(),
        }
    }

    /// Runs `future` until `shutdown` trips, which it has to watch by itself.
    pub fn spawn<F>(&self, task: &'static str, future: F)
    where
        F: Future<Output: Outcome> + Send + 'static,
    {
        let tasks = self.clone();
        self.tracker.spawn(async move {
            let failure = match AssertUnwindSafe(future).catch_unwind().await {
                Err(panic) => Failure::Panicked {
                    task,
                    panic: crate::panic_text(&*panic).to_owned(),
                },
                Ok(outcome) => match outcome.error() {
                    Some(error) => Failure::Failed { task, error },
                    None if tasks.shutdown.is_cancelled() => return,
                    None => Failure::Ended { task },
                },
            };
            tracing::error!(task, %failure, "a task of the role is gone; stopping the process");
            // Only the first is the cause; the others may well follow from it.
            let _later = tasks.first.set(failure);
            tasks.shutdown.cancel();
        });
    }

    /// Waits for `shutdown`, then for the tasks, at most `deadline` longer.
    ///
    /// # Errors
    /// The first failure, or that tasks are overdue. They are not cut: the process is about to exit.
    pub async fn finish(self, deadline: Duration) -> Result<(), Failure> {
        self.shutdown.cancelled().await;
        self.tracker.close();
        let ended = timeout(deadline, self.tracker.wait()).await;
        match self.first.get() {
            Some(failure) => Err(failure.clone()),
            None if ended.is_err() => Err(Failure::Overdue {
                tasks: self.tracker.len(),
                after: deadline,
            }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn planted_panic(_: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        panic!("planted")
    }

    fn tasks() -> (Tasks, CancellationToken) {
        let shutdown = CancellationToken::new();
        (Tasks::new(shutdown.clone()), shutdown)
    }

    #[tokio::test]
    async fn a_panic_stops_the_others_and_is_the_result() {
        let (tasks, shutdown) = tasks();
        tasks.spawn("steady", shutdown.clone().cancelled_owned());
        tasks.spawn("fragile", std::future::poll_fn(planted_panic));
        let failure = Failure::Panicked {
            task: "fragile",
            panic: "planted".to_owned(),
        };
        assert_eq!(tasks.finish(LONG).await, Err(failure));
        assert!(shutdown.is_cancelled());
    }

    #[tokio::test]
    async fn an_error_and_an_early_end_are_failures() {
        let (first, _shutdown) = tasks();
        first.spawn("giving up", async { Err("no way") });
        let failure = first.finish(LONG).await.expect_err("a failure");
        assert_eq!(failure.to_string(), "giving up failed: no way");

        let (second, _shutdown) = tasks();
        second.spawn("short", async {});
        let failure = second.finish(LONG).await.expect_err("a failure");
        assert_eq!(failure, Failure::Ended { task: "short" });
    }

    #[tokio::test]
    async fn an_orderly_stop_is_no_failure() {
        let (tasks, shutdown) = tasks();
        tasks.spawn("steady", shutdown.clone().cancelled_owned());
        shutdown.cancel();
        assert_eq!(tasks.finish(LONG).await, Ok(()));
    }

    #[tokio::test]
    async fn a_task_that_does_not_stop_is_overdue() {
        let (tasks, shutdown) = tasks();
        tasks.spawn("stubborn", std::future::pending::<()>());
        shutdown.cancel();
        let after = Duration::from_millis(20);
        assert_eq!(
            tasks.finish(after).await,
            Err(Failure::Overdue { tasks: 1, after })
        );
    }
}
