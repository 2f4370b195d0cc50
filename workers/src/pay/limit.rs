//! Takes from the limits of the payment's card ([`fingerprint`]) for many payments at a time, and
//! gives back. What an order took, and that it gave back, is a row, so doing either twice does
//! nothing, and giving back first forbids to take.

use super::flow::Limits;
use crate::{
    Error,
    fraud_check::{
        Config,
        fingerprint::{self, Answer},
    },
    kit::{Pools, metrics::METRICS},
};
use chrono::{DateTime, Utc};
use contract::{OrderId, Refusal, StepName};
use database::{Clock, Connection, Pool};
use diesel_async::AsyncConnection;
use runtime::batch::{Batcher, Options};
use std::{collections::HashMap, sync::Arc};

/// How often a batch is tried that another worker got in the way of.
const TRIES: u32 = 6;

/// An order, its card as the provider calls it, and its tickets.
type Payment = (OrderId, String, i32);

/// The limits of cards. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Limiter {
    take: Batcher<Payment, Result<Answer, Error>>,
    give_back: Batcher<OrderId, Result<Option<Refusal>, Error>>,
}

impl Limiter {
    /// Starts the writers; they end when the last clone is dropped.
    pub(super) fn start(config: Config, pools: Pools, clock: Clock) -> Self {
        let config = Arc::new(config);
        let Pools { acts, undos } = pools;
        let take = move |batch: Vec<Payment>| {
            let (pool, config, clock) = (acts.clone(), Arc::clone(&config), clock.clone());
            async move { take_all(&pool, &config, &clock, batch).await }
        };
        let give_back = move |batch: Vec<OrderId>| {
            let pool = undos.clone();
            async move { give_back_all(&pool, batch).await }
        };
        Self {
            take: Batcher::start("pay_take", Options::default(), take),
            give_back: Batcher::start("pay_give_back", Options::default(), give_back),
        }
    }
}

impl Limits for Limiter {
    async fn take(&self, order: OrderId, fingerprint: &str, tickets: i32) -> Result<Answer, Error> {
        let payment = (order, fingerprint.to_owned(), tickets);
        self.take.submit(payment).await.map_err(|_lost| lost())?
    }

    async fn give_back(&self, order: OrderId) -> Result<Option<Refusal>, Error> {
        self.give_back.submit(order).await.map_err(|_lost| lost())?
    }
}

fn lost() -> Error {
    Error::Outside("the limits per card cannot be written now".to_owned())
}

async fn take_all(
    pool: &Pool,
    config: &Config,
    clock: &Clock,
    batch: Vec<Payment>,
) -> Vec<Result<Answer, Error>> {
    // The same command twice (it was sent again) is one payment.
    let mut places = HashMap::with_capacity(batch.len());
    let mut payments: Vec<Payment> = Vec::with_capacity(batch.len());
    for payment in &batch {
        places.entry(payment.0).or_insert_with(|| {
            payments.push(payment.clone());
            payments.len() - 1
        });
    }
    let now = DateTime::from_timestamp_millis(clock.now_ms()).unwrap_or_default();
    let answers = in_transactions(pool, &payments, &Take { config, now }).await;
    batch
        .iter()
        .map(|(order, ..)| answers[places[order]].clone().ok_or_else(lost))
        .collect()
}

async fn give_back_all(pool: &Pool, batch: Vec<OrderId>) -> Vec<Result<Option<Refusal>, Error>> {
    let mut orders = batch.clone();
    orders.sort_unstable();
    orders.dedup();
    let given = in_transactions(pool, &orders, &GiveBack).await;
    batch
        .iter()
        .map(|order| {
            let place = orders.binary_search(order).map_err(|_| lost())?;
            given[place].ok_or_else(lost)
        })
        .collect()
}

/// What is done with a batch in a transaction: one result for each item.
trait Work<T>: Sync {
    type Done: Send;

    fn run(
        &self,
        connection: &mut Connection,
        items: &[T],
    ) -> impl Future<Output = Result<Vec<Self::Done>, Error>> + Send;
}

struct Take<'a> {
    config: &'a Config,
    now: DateTime<Utc>,
}

impl Work<Payment> for Take<'_> {
    type Done = Answer;

    async fn run(
        &self,
        connection: &mut Connection,
        payments: &[Payment],
    ) -> Result<Vec<Answer>, Error> {
        fingerprint::take(connection, self.config, payments, self.now).await
    }
}

struct GiveBack;

impl Work<OrderId> for GiveBack {
    type Done = Option<Refusal>;

    async fn run(
        &self,
        connection: &mut Connection,
        orders: &[OrderId],
    ) -> Result<Vec<Option<Refusal>>, Error> {
        fingerprint::give_back(connection, orders).await
    }
}

/// Does a batch in one transaction; one that the database refuses is halved until the culprit
/// stands alone. `None`: not done, and logged.
async fn in_transactions<T: Sync, W: Work<T>>(
    pool: &Pool,
    batch: &[T],
    work: &W,
) -> Vec<Option<W::Done>> {
    let mut results = Vec::with_capacity(batch.len());
    let mut open = vec![batch];
    while let Some(part) = open.pop() {
        match in_transaction(pool, part, work).await {
            Ok(done) => results.extend(done.into_iter().map(Some)),
            Err(error) if part.len() == 1 || error.is_transient() => {
                tracing::warn!(%error, orders = part.len(), "the limits per card cannot be written");
                results.extend(part.iter().map(|_| None));
            }
            Err(_) => {
                let (front, back) = part.split_at(part.len() / 2);
                open.extend([back, front]);
            }
        }
    }
    results
}

async fn in_transaction<T: Sync, W: Work<T>>(
    pool: &Pool,
    part: &[T],
    work: &W,
) -> Result<Vec<W::Done>, Error> {
    let mut tries = 0;
    loop {
        tries += 1;
        let mut connection = pool.get().await.map_err(database::Error::from)?;
        let done = connection
            .transaction(async |connection| work.run(connection, part).await)
            .await;
        match done {
            Err(error) if in_the_way(&error) && tries < TRIES => METRICS
                .batches_retried
                .with_label_values(&[StepName::PAY.as_str(), "card_limits"])
                .inc(),
            done => return done,
        }
    }
}

/// Whether another worker got in the way, maybe with a payment of the same order.
fn in_the_way(error: &Error) -> bool {
    use diesel::result::{DatabaseErrorKind::UniqueViolation, Error as Diesel};
    let twin = matches!(
        error,
        Error::Database(database::Error::Statement(Diesel::DatabaseError(
            UniqueViolation,
            _
        )))
    );
    twin || error.is_transient()
}
