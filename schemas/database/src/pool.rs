//! Connections. The pool is set so that taking one costs no round trip: diesel-async's default
//! asks `SELECT 1` each time.

use crate::{Config, Error};
use deadpool::managed::{QueueMode, Timeouts};
use diesel::{ConnectionError, ConnectionResult};
use diesel_async::{
    AsyncConnection, AsyncPgConnection, SimpleAsyncConnection,
    pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod},
};
use std::time::Duration;

/// One connection to PostgreSQL.
pub type Connection = AsyncPgConnection;

/// A pool of them.
pub type Pool = diesel_async::pooled_connection::deadpool::Pool<AsyncPgConnection>;

/// Makes the pool; connections are opened when they are first needed.
///
/// # Errors
/// The pool's own settings are contradictory (never with a [`Config`]).
pub fn pool(config: &Config) -> Result<Pool, Error> {
    let session = session_settings(config);
    let mut manager = ManagerConfig::default();
    manager.recycling_method = RecyclingMethod::Fast;
    manager.custom_setup = Box::new(move |url| {
        let (url, session) = (url.to_owned(), session.clone());
        Box::pin(async move { establish(&url, &session).await })
    });
    let wait = Duration::from_millis(config.wait_timeout_ms);
    Pool::builder(AsyncDieselConnectionManager::new_with_config(
        &config.url,
        manager,
    ))
    .max_size(config.pool_max)
    .queue_mode(QueueMode::Lifo) // keeps the statement caches of few connections warm
    .timeouts(Timeouts {
        wait: Some(wait),
        create: Some(wait),
        recycle: Some(wait),
    })
    .runtime(deadpool::Runtime::Tokio1)
    .build()
    .map_err(Error::Build)
}

/// A single connection outside any pool.
///
/// # Errors
/// PostgreSQL cannot be reached or refuses.
pub async fn connect(config: &Config) -> Result<Connection, Error> {
    establish(&config.url, &session_settings(config))
        .await
        .map_err(Error::Connect)
}

async fn establish(url: &str, session: &str) -> ConnectionResult<AsyncPgConnection> {
    let mut connection = AsyncPgConnection::establish(url).await?;
    connection
        .batch_execute(session)
        .await
        .map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(connection)
}

/// Statements are planned once and keep their plan. Planned while a table is still empty, one would
/// read the whole table for ever, so reading by a key is preferred from the start. (Where there is no
/// key the whole table is read all the same, at a pretended cost that must not start the JIT.)
fn session_settings(config: &Config) -> String {
    let name: String = config
        .application_name
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "-_. ".contains(*c))
        .take(60)
        .collect();
    format!(
        "SET application_name = '{name}'; SET statement_timeout = {}; \
         SET idle_in_transaction_session_timeout = 30000; SET timezone = 'UTC'; \
         SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET jit = off",
        config.statement_timeout_ms
    )
}
