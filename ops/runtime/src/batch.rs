//! Group commit: many tasks hand in one item each, one worker does them together.
//!
//! A commit costs the same for one order as for a hundred, and while one is under way others arrive.
//! So nothing is collected on purpose: when a batch is away, whatever is ready by then is the next.
//! Alone, an item waits for nobody (a batch of one starts at once); under load batches grow by
//! themselves until [`Options::max_items`], and beyond that the queue fills and says so.
//!
//! What may go wrong in between: a submitter can go away (its request was cancelled), the work can
//! panic, and the worker can be dropped with its runtime. An item whose submitter left before its batch
//! began is not run; one whose batch began is, and only its result is thrown away. In the other two
//! cases each submitter gets [`BatchError::Lost`]: whether its item took effect is not known, as after
//! an ambiguous commit. Nobody waits for ever for a result that cannot come.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, LazyLock};

use futures_util::FutureExt;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::metrics::{self, HistogramVec, IntCounterVec};

static ITEMS: LazyLock<HistogramVec> = LazyLock::new(|| {
    metrics::sizes(
        "guichet_batch_size_items",
        "Items per batch, by batcher",
        &["batch"],
    )
});
static SECONDS: LazyLock<HistogramVec> = LazyLock::new(|| {
    metrics::latencies(
        "guichet_batch_run_seconds",
        "Time one batch took, by batcher",
        &["batch"],
    )
});
static FULL: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::counters(
        "guichet_batch_full_total",
        "Items that met a full queue, by batcher",
        &["batch"],
    )
});
static LOST: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::counters(
        "guichet_batch_lost_total",
        "Batches whose work panicked or returned another number of results, by batcher",
        &["batch"],
    )
});

/// Items that may wait, unless the options say otherwise.
const QUEUE: usize = 4_096;
/// Items of one batch, unless the options say otherwise.
const BATCH: usize = 500;

/// The bounds of a batcher. Every one is at least 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Items that may wait for the next batch.
    pub queue: usize,
    /// Items of one batch.
    pub max_items: usize,
    /// Batches under way at once. With one, batches are done in the order of submission.
    pub in_flight: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            queue: QUEUE,
            max_items: BATCH,
            in_flight: 1,
        }
    }
}

/// Why a submitted item has no result.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BatchError {
    /// The queue is full; the item was not taken. Try again later.
    #[error("too much is waiting already")]
    Full,
    /// The work panicked or its worker is gone. Whether the item took effect is not known.
    #[error("the batch was lost; whether it took effect is not known")]
    Lost,
}

struct Submission<T, R> {
    item: T,
    reply: oneshot::Sender<R>,
}

/// A handle to hand items in; clones share the queue. The worker ends, after what it was given, when
/// the last handle is dropped.
pub struct Batcher<T, R> {
    name: &'static str,
    queue: mpsc::Sender<Submission<T, R>>,
}

impl<T, R> Clone for Batcher<T, R> {
    fn clone(&self) -> Self {
        Self {
            name: self.name,
            queue: self.queue.clone(),
        }
    }
}

impl<T, R> std::fmt::Debug for Batcher<T, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batcher")
            .field("name", &self.name)
            .field("free", &self.queue.capacity())
            .finish()
    }
}

impl<T: Send + 'static, R: Send + 'static> Batcher<T, R> {
    /// Starts the worker on the current runtime. `name` labels its metrics.
    ///
    /// `work` gets the items of a batch in the order of submission, never none, and returns one result
    /// for each, in the same order. It bounds its own time. When a batch fails as a whole, halving it
    /// until the culprit stands alone is its affair, and so is what to answer the others.
    ///
    /// # Panics
    /// If a bound is 0, or outside of a runtime.
    #[must_use]
    pub fn start<F, W>(name: &'static str, options: Options, work: F) -> Self
    where
        F: Fn(Vec<T>) -> W + Send + Sync + 'static,
        W: Future<Output = Vec<R>> + Send + 'static,
    {
        assert!(
            options.queue > 0 && options.max_items > 0 && options.in_flight > 0,
            "a batcher without room does nothing: {options:?}"
        );
        let (queue, submitted) = mpsc::channel(options.queue);
        tokio::spawn(run(name, options, submitted, Arc::new(work)));
        Self { name, queue }
    }

    /// Hands `item` in and waits for its result; while the queue is full, waits for room first.
    ///
    /// # Errors
    /// [`BatchError::Lost`].
    pub async fn submit(&self, item: T) -> Result<R, BatchError> {
        let (reply, result) = oneshot::channel();
        let room = match self.queue.try_reserve() {
            Ok(room) => room,
            Err(mpsc::error::TrySendError::Full(())) => {
                FULL.with_label_values(&[self.name]).inc();
                let room = self.queue.reserve().await;
                room.map_err(|_closed| BatchError::Lost)?
            }
            Err(mpsc::error::TrySendError::Closed(())) => return Err(BatchError::Lost),
        };
        room.send(Submission { item, reply });
        result.await.map_err(|_dropped| BatchError::Lost)
    }

    /// Like [`submit`](Self::submit), but refuses at once what finds the queue full.
    ///
    /// # Errors
    /// [`BatchError::Full`] and [`BatchError::Lost`].
    pub async fn try_submit(&self, item: T) -> Result<R, BatchError> {
        let (reply, result) = oneshot::channel();
        match self.queue.try_send(Submission { item, reply }) {
            Ok(()) => result.await.map_err(|_dropped| BatchError::Lost),
            Err(mpsc::error::TrySendError::Full(_)) => {
                FULL.with_label_values(&[self.name]).inc();
                Err(BatchError::Full)
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err(BatchError::Lost),
        }
    }
}

/// Waits for one item, then takes what else is ready, at most `max` in all. Empty once the channel is
/// closed and drained (or if `max` is 0). Dropping the future loses nothing.
pub async fn drain<T>(receiver: &mut mpsc::Receiver<T>, max: usize) -> Vec<T> {
    let mut items = Vec::new();
    receiver.recv_many(&mut items, max).await;
    items
}

async fn run<T, R, F, W>(
    name: &'static str,
    options: Options,
    mut submitted: mpsc::Receiver<Submission<T, R>>,
    work: Arc<F>,
) where
    T: Send + 'static,
    R: Send + 'static,
    F: Fn(Vec<T>) -> W + Send + Sync + 'static,
    W: Future<Output = Vec<R>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(options.in_flight));
    loop {
        // First the place, then the items: what arrives while a batch is away joins the next one.
        let place = Arc::clone(&places).acquire_owned().await;
        let place = place.expect("the semaphore of a running worker is never closed");
        let mut batch = drain(&mut submitted, options.max_items).await;
        if batch.is_empty() {
            return;
        }
        batch.retain(|submission| !submission.reply.is_closed());
        if batch.is_empty() {
            continue;
        }
        let work = Arc::clone(&work);
        tokio::spawn(async move {
            run_one(name, batch, &*work).await;
            drop(place);
        });
    }
}

async fn run_one<T, R, W>(
    name: &'static str,
    batch: Vec<Submission<T, R>>,
    work: &(impl Fn(Vec<T>) -> W + Sync),
) where
    W: Future<Output = Vec<R>>,
{
    let (items, replies): (Vec<_>, Vec<_>) = batch
        .into_iter()
        .map(|submission| (submission.item, submission.reply))
        .unzip();
    let started = Instant::now();
    ITEMS.with_label_values(&[name]).observe(items.len() as f64);
    // Each return drops the replies that are left, which is what tells their submitters.
    let results = match AssertUnwindSafe(async { work(items).await })
        .catch_unwind()
        .await
    {
        Ok(results) => results,
        Err(panic) => {
            LOST.with_label_values(&[name]).inc();
            let panic = crate::panic_text(&*panic);
            tracing::error!(batch = name, panic, "the work of a batch panicked");
            return;
        }
    };
    SECONDS
        .with_label_values(&[name])
        .observe(started.elapsed().as_secs_f64());
    if results.len() != replies.len() {
        LOST.with_label_values(&[name]).inc();
        let (items, results) = (replies.len(), results.len());
        tracing::error!(
            batch = name,
            items,
            results,
            "a batch returned another number of results"
        );
        return;
    }
    for (reply, result) in replies.into_iter().zip(results) {
        // A submitter that left meanwhile does not want it.
        let _left = reply.send(result);
    }
}

#[cfg(test)]
mod tests;
