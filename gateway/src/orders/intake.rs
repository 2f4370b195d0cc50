//! Taking orders in: group commit. One transaction is under way; what arrives meanwhile is the next.
//!
//! While no orders are taken, a repeat of one that was taken is answered all the same, or its customer would
//! be told that he has nothing. That costs a look at his key, which is done in groups too: a crowd that is
//! refused costs one statement at a time.

use super::{
    overloaded,
    store::{Bound, InsertOrders, Key, NewOrder, read_keys},
};
use crate::{Config, http::ApiError};
use contract::{
    OrderId, ProblemCode, StepName,
    crash::{self, Gateway, Point},
};
use database::Pool;
use diesel_async::{AsyncConnection, RunQueryDsl};
use engine::{Client, Closed, NewSaga, Started};
use runtime::{
    batch::{BatchError, Batcher, Options},
    metrics::{self, IntCounter},
};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};
use tokio::sync::watch;
use uuid::Uuid;

/// Orders that may wait for a commit; about a second's worth of the fastest we have seen.
const QUEUE: usize = 4_096;
/// Orders of one transaction.
const BATCH: usize = 500;
/// How long what the owners said of their load counts.
const LOAD_COUNTS: Duration = Duration::from_millis(2_500);

/// Whoever asks what is away waits for so long.
const ASKED_WITHIN: Duration = Duration::from_millis(500);
/// Come back after so many seconds when a step is away.
const AWAY_AGAIN_S: u32 = 10;

static RETRIED: LazyLock<IntCounter> = LazyLock::new(|| {
    metrics::counter(
        "guichet_order_batches_retried_total",
        "Batches of orders tried again after trouble with the database",
    )
});

/// What became of an order that was handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is stored, now or earlier, under this id.
    As(OrderId),
    /// Its key stands for another request.
    KeyReused,
}

/// Whether the batch as a whole failed for this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failed {
    /// The database cannot be reached; the same order may be sent again.
    Unavailable,
    /// The database refuses this order.
    Refused,
}

/// The way in.
pub(crate) struct Intake {
    batcher: Batcher<NewOrder, Result<Taken, Failed>>,
    keys: Batcher<Key, Result<Option<Bound>, Failed>>,
    store: Arc<Store>,
    live_max: i64,
    asleep_max: i64,
}

struct Store {
    pool: Pool,
    client: Client,
    load: watch::Sender<Load>,
    away: watch::Sender<Away>,
}

/// How much is on its way, as far as this gateway knows.
#[derive(Clone, Copy, Default)]
struct Load {
    /// Sagas before their pivot, as the owners last said.
    live: i64,
    /// Sagas that wait for long and are in no owner's memory, as the owners last counted.
    asleep: i64,
    /// Orders that we took since there was last an owner to count them.
    unowned: i64,
    /// When we heard it.
    heard: Option<Instant>,
}

/// Why no orders are taken at the moment, as far as this gateway knows.
#[derive(Clone, Default)]
struct Away {
    closed: Closed,
    /// When we heard it.
    heard: Option<Instant>,
    /// Somebody is asking.
    asking: bool,
}

impl Intake {
    /// Starts the worker on the current runtime.
    pub(super) fn start(pool: Pool, client: Client, config: &Config) -> Self {
        let store = Arc::new(Store {
            pool,
            client,
            load: watch::Sender::new(Load::default()),
            away: watch::Sender::new(Away::default()),
        });
        let options = Options {
            queue: QUEUE,
            max_items: BATCH,
            in_flight: 1,
        };
        let working = Arc::clone(&store);
        let batcher = Batcher::start("orders", options, move |orders| {
            let store = Arc::clone(&working);
            async move { store.take(orders).await }
        });
        let reading = Arc::clone(&store);
        let keys = Batcher::start("order_keys", options, move |keys| {
            let store = Arc::clone(&reading);
            async move { store.bound(keys).await }
        });
        Self {
            batcher,
            keys,
            store,
            live_max: i64::try_from(config.live_sagas_max).unwrap_or(i64::MAX),
            asleep_max: i64::try_from(config.asleep_sagas_max).unwrap_or(i64::MAX),
        }
    }

    /// Refuses before any work when too much is in flight: what was accepted is finished first. So it
    /// does while a step has been away for long: whoever came now would only wait, and hold stock. By a
    /// definition that is withdrawn it takes none at all. Whose key is bound is never refused: what that
    /// stands for is returned.
    ///
    /// # Errors
    /// [`ProblemCode::Overloaded`], [`ProblemCode::PaymentUnavailable`], [`ProblemCode::Unavailable`].
    pub(super) async fn admit(&self, key: Key) -> Result<Option<Bound>, ApiError> {
        match self.open().await {
            Ok(()) => Ok(None),
            Err(refusal) => self.bound_or(key, refusal).await.map(Some),
        }
    }

    /// Whether new orders are taken.
    async fn open(&self) -> Result<(), ApiError> {
        self.store.ask_what_is_away().await;
        let closed = self.store.away.borrow().closed.clone();
        if closed.withdrawn {
            let detail =
                "No orders are taken in this way any more; try again later with the same key.";
            let refusal = ApiError::new(ProblemCode::Unavailable, detail);
            return Err(refusal.retry_after_s(AWAY_AGAIN_S));
        }
        if let Some(step) = &closed.away {
            let mut of_a_payment = StepName::OF_A_PAYMENT.iter();
            let code = match of_a_payment.any(|one| one.as_str() == step) {
                true => ProblemCode::PaymentUnavailable,
                false => ProblemCode::Unavailable,
            };
            let detail = "Orders are taken again when it works; try again with the same key.";
            return Err(ApiError::new(code, detail).retry_after_s(AWAY_AGAIN_S));
        }
        let load = *self.store.load.borrow();
        let full = load.live.saturating_add(load.unowned) >= self.live_max
            || load.asleep >= self.asleep_max;
        if full && load.heard.is_some_and(|at| at.elapsed() < LOAD_COUNTS) {
            return Err(overloaded(
                "Too many orders are in flight; try again with the same key.",
            ));
        }
        Ok(())
    }

    /// Stores an order and starts its saga, unless its key is bound.
    ///
    /// # Errors
    /// The queue is full, the database cannot be reached, or it refuses the order. In the first two
    /// cases the same order may be sent again with the same key.
    pub(super) async fn take(&self, order: NewOrder) -> Result<Taken, ApiError> {
        let (key, request_hash) = (order.key, order.request_hash);
        match self.batcher.try_submit(order).await {
            Ok(Ok(taken)) => Ok(taken),
            Ok(Err(Failed::Refused)) => Err(ApiError::new(
                ProblemCode::Internal,
                "This is a defect of ours; it is logged.",
            )),
            Ok(Err(Failed::Unavailable)) | Err(BatchError::Lost) => Err(not_known()),
            Err(BatchError::Full) => {
                let bound = self.bound_or(key, too_many_wait()).await?;
                Ok(bound.taken_by(&request_hash))
            }
        }
    }

    /// What a key stands for already, before an order is refused.
    ///
    /// # Errors
    /// The refusal, if that is nothing; that it cannot be found out now.
    pub(super) async fn bound_or(&self, key: Key, refusal: ApiError) -> Result<Bound, ApiError> {
        match self.keys.try_submit(key).await {
            Ok(Ok(bound)) => bound.ok_or(refusal),
            Ok(Err(_)) | Err(BatchError::Lost) => Err(not_known()),
            Err(BatchError::Full) => Err(too_many_wait()),
        }
    }
}

fn not_known() -> ApiError {
    let detail = "The order may not have been stored; send it again with the same key.";
    ApiError::new(ProblemCode::Unavailable, detail)
}

fn too_many_wait() -> ApiError {
    overloaded("Too many orders are waiting; try again with the same key.")
}

impl Bound {
    /// What it is to a request with this hash.
    pub(super) fn taken_by(&self, request_hash: &[u8; 32]) -> Taken {
        match self.request_hash == request_hash {
            true => Taken::As(self.order),
            false => Taken::KeyReused,
        }
    }
}

impl Store {
    /// Asks if what we know is old. One of those who come together waits for the answer, for a moment;
    /// nobody asks while no orders come.
    async fn ask_what_is_away(self: &Arc<Self>) {
        let asks = self.away.send_if_modified(|away| {
            let is_old = away.heard.is_none_or(|at| at.elapsed() >= LOAD_COUNTS);
            let asks = is_old && !away.asking;
            away.asking |= asks;
            asks
        });
        if !asks {
            return;
        }
        let store = Arc::clone(self);
        // Its own task: whoever waits for it may hang up.
        let asking = tokio::spawn(async move {
            let asked = async {
                let mut connection = store.pool.get().await?;
                store.client.closed(&mut connection).await
            };
            let answer = asked.await;
            store.away.send_modify(|away| {
                away.asking = false;
                // An answer that did not come is asked for again; without the database nothing is taken.
                away.heard = answer.is_ok().then(Instant::now);
                // A withdrawal is for good.
                let withdrawn = away.closed.withdrawn;
                away.closed = answer.unwrap_or_default();
                away.closed.withdrawn |= withdrawn;
            });
        });
        let _ = tokio::time::timeout(ASKED_WITHIN, asking).await;
    }

    /// One result for each order. A batch that fails for a while is tried once more; one that the
    /// database refuses is halved until the culprit stands alone.
    async fn take(&self, orders: Vec<NewOrder>) -> Vec<Result<Taken, Failed>> {
        let mut results: HashMap<OrderId, Result<Taken, Failed>> =
            HashMap::with_capacity(orders.len());
        let ids: Vec<OrderId> = orders.iter().map(|order| order.id).collect();
        let mut parts = vec![(orders, false)];
        while let Some((part, again)) = parts.pop() {
            match self.store(&part).await {
                Ok(taken) => results.extend(taken.into_iter().map(|(id, taken)| (id, Ok(taken)))),
                // After an ambiguous commit the second try finds the keys bound to these very orders.
                Err(error) if error.is_transient() && !again => {
                    RETRIED.inc();
                    parts.push((part, true));
                }
                Err(error) if error.is_transient() => {
                    tracing::warn!(%error, source = ?std::error::Error::source(&error), orders = part.len(), "orders could not be stored");
                    results.extend(
                        part.iter()
                            .map(|order| (order.id, Err(Failed::Unavailable))),
                    );
                }
                Err(error) if part.len() == 1 => {
                    let order = &part[0];
                    tracing::error!(
                        saga_id = %order.id,
                        trace_id = format!("{:032x}", order.trace_id),
                        %error,
                        source = ?std::error::Error::source(&error),
                        "the database refuses an order"
                    );
                    results.insert(order.id, Err(Failed::Refused));
                }
                Err(_) => {
                    let mut first = part;
                    let second = first.split_off(first.len() / 2);
                    parts.extend([(second, false), (first, false)]); // the last is taken next
                }
            }
        }
        ids.iter()
            .map(|id| results.remove(id).unwrap_or(Err(Failed::Unavailable)))
            .collect()
    }

    /// What keys stand for, one result for each.
    async fn bound(&self, keys: Vec<Key>) -> Vec<Result<Option<Bound>, Failed>> {
        let read = async {
            let mut connection = self.pool.get().await?;
            read_keys(&mut connection, &keys).await
        };
        match read.await {
            Ok(bound) => keys.iter().map(|key| Ok(bound.get(key).cloned())).collect(),
            Err(error) => {
                tracing::warn!(%error, keys = keys.len(), "keys could not be looked at");
                keys.iter().map(|_| Err(Failed::Unavailable)).collect()
            }
        }
    }

    async fn store(&self, orders: &[NewOrder]) -> Result<Vec<(OrderId, Taken)>, engine::Error> {
        let mut connection = self.pool.get().await?;
        let insert = InsertOrders::of(orders);
        let client = self.client.clone();
        let traces: HashMap<Uuid, u128> = orders.iter().map(|o| (o.id.0, o.trace_id)).collect();
        let (placed, started): (HashSet<Uuid>, Option<Started>) = connection
            .transaction::<_, engine::Error, _>(async move |connection| {
                let placed: Vec<Uuid> = insert.load(connection).await?;
                let new: Vec<NewSaga> = placed
                    .iter()
                    .map(|id| NewSaga {
                        id: OrderId(*id).into(),
                        trace_id: traces.get(id).copied().unwrap_or_default(),
                    })
                    .collect();
                let started = match new.is_empty() {
                    true => None,
                    false => Some(client.start(connection, &new).await?),
                };
                crash::at(Point::Gateway(Gateway::BeforeCommit));
                Ok((placed.into_iter().collect(), started))
            })
            .await?;
        crash::at(Point::Gateway(Gateway::AfterCommit));
        if let Some(started) = started {
            let new = i64::try_from(placed.len()).unwrap_or(i64::MAX);
            self.load.send_modify(|load| {
                load.live = started.live();
                load.asleep = started.asleep();
                load.unowned = match started.owned() {
                    true => 0,
                    false => load.unowned.saturating_add(new),
                };
                load.heard = Some(Instant::now());
            });
            let client = self.client.clone();
            // The orders are stored: nobody waits for the bus.
            tokio::spawn(async move { client.send_first(started).await });
        }
        let (won, lost): (Vec<_>, Vec<_>) = orders.iter().partition(|o| placed.contains(&o.id.0));
        let mut taken: Vec<(OrderId, Taken)> =
            won.iter().map(|o| (o.id, Taken::As(o.id))).collect();
        if !lost.is_empty() {
            // A statement of its own, after the commit: it sees whoever won.
            let keys: Vec<Key> = lost.iter().map(|order| order.key).collect();
            let bound = read_keys(&mut connection, &keys).await?;
            // One that is missing was deleted meanwhile, being very old: send again.
            taken.extend(lost.into_iter().filter_map(|order| {
                let bound = bound.get(&order.key)?;
                Some((order.id, bound.taken_by(&order.request_hash)))
            }));
        }
        Ok(taken)
    }
}
