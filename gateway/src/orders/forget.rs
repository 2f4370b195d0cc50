//! Forgets old idempotency keys.
//!
//! Whoever repeats an order does so within seconds, or from a queue of his own within hours. A key that
//! is kept for ever costs a row per order; one that is forgotten may stand for a new order.

use database::Pool;
use diesel::sql_types::Integer;
use diesel_async::RunQueryDsl;
use std::time::Duration;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Between two rounds.
const EVERY: Duration = Duration::from_secs(600);
/// Keys deleted in one statement.
const BATCH: usize = 5_000;

database::statement! {
    /// Deletes some keys of orders that are older than so many hours. Two gateways never wait for each
    /// other.
    struct DeleteKeys {
        hours: i32 => Integer,
        most: i32 => Integer,
    } -> Integer =
    "DELETE FROM idempotency_keys WHERE ctid = ANY (ARRAY(
       SELECT ctid FROM idempotency_keys WHERE order_id < uuid7_floor(now() - {hours} * interval '1 hour')
       LIMIT {most} FOR UPDATE SKIP LOCKED))"
}

/// Deletes keys that are older than so many hours, now and every ten minutes, until `shutdown`.
pub(crate) async fn run(pool: &Pool, hours: u16, shutdown: CancellationToken) {
    let mut round = tokio::time::interval(EVERY);
    round.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = round.tick() => {}
        }
        match forget(pool, hours.into(), &shutdown).await {
            Ok(0) => {}
            Ok(keys) => tracing::info!(keys, "old idempotency keys forgotten"),
            Err(error) => {
                tracing::warn!(%error, "old idempotency keys could not be deleted; tried again later");
            }
        }
    }
}

async fn forget(
    pool: &Pool,
    hours: i32,
    shutdown: &CancellationToken,
) -> Result<usize, database::Error> {
    let most = i32::try_from(BATCH).unwrap_or(i32::MAX);
    let mut forgotten = 0;
    while !shutdown.is_cancelled() {
        let mut connection = pool.get().await?;
        let deleted = DeleteKeys { hours, most }.execute(&mut connection).await?;
        forgotten += deleted;
        if deleted < BATCH {
            break;
        }
    }
    Ok(forgotten)
}
