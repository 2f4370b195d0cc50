//! Connections. The pool is set so that taking one costs no round trip: diesel-async's default
//! asks `SELECT 1` each time.

use crate::{Config, Error, Life, line, session::settings};
use deadpool::managed::{Hook, HookError, QueueMode, Timeouts};
use diesel::{ConnectionError, ConnectionResult};
use diesel_async::{
    AsyncPgConnection, SimpleAsyncConnection,
    pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod},
};
use std::time::Duration;

/// After how many seconds of silence a server is asked whether it is still there, how often, and how
/// many times in vain.
const ASKED_AFTER_S: u32 = 10;
const ASKED_EVERY_S: u32 = 5;
const UNANSWERED_MAX: u32 = 4;

/// For how many seconds what we send may stay without the other side's kernel having it.
const UNRECEIVED_MAX_S: u32 = 20;

/// How much longer than a statement may run its answer may take.
const ON_THE_WAY: Duration = Duration::from_secs(5);

/// One connection to PostgreSQL.
pub type Connection = AsyncPgConnection;

/// A pool of them.
pub type Pool = diesel_async::pooled_connection::deadpool::Pool<AsyncPgConnection>;

/// Makes the pool; connections are opened when they are first needed.
///
/// # Errors
/// The pool's own settings are contradictory (never with a [`Config`]).
pub fn pool(config: &Config) -> Result<Pool, Error> {
    pool_of(config, &Life::default())
}

/// The same, whose connections are to this life of the database only.
///
/// # Errors
/// As [`pool`].
pub fn pool_of(config: &Config, life: &Life) -> Result<Pool, Error> {
    let (session, wait, silence) = (settings(config), wait(config), silence(config));
    let (admitting, goes_on) = (life.clone(), life.clone());
    let mut manager = ManagerConfig::default();
    manager.recycling_method = RecyclingMethod::Fast;
    manager.custom_setup = Box::new(move |url| {
        let (url, session, life) = (url.to_owned(), session.clone(), admitting.clone());
        Box::pin(async move {
            let connection = establish(&url, &session, silence).await?;
            life.admit(connection).await
        })
    });
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
    .pre_recycle(Hook::sync_fn(move |_, _| match goes_on.is_over() {
        true => Err(HookError::message("the database is in another life")),
        false => Ok(()),
    }))
    .runtime(deadpool::Runtime::Tokio1)
    .build()
    .map_err(Error::Build)
}

/// A single connection outside any pool.
///
/// # Errors
/// PostgreSQL cannot be reached, does not answer within [`Config::wait_timeout_ms`], or refuses.
pub async fn connect(config: &Config) -> Result<Connection, Error> {
    let session = settings(config);
    let connecting = establish(&config.url, &session, silence(config));
    tokio::time::timeout(wait(config), connecting)
        .await
        .unwrap_or_else(|_| Err(ConnectionError::BadConnection("no answer in time".into())))
        .map_err(Error::Connect)
}

fn wait(config: &Config) -> Duration {
    Duration::from_millis(config.wait_timeout_ms)
}

/// For how long a connection that owes an answer may say nothing: longer than the server lets a statement run.
fn silence(config: &Config) -> Duration {
    Duration::from_millis(config.statement_timeout_ms) + ON_THE_WAY
}

async fn establish(
    url: &str,
    session: &str,
    silence: Duration,
) -> ConnectionResult<AsyncPgConnection> {
    let mut connection = line::establish(&heedful(url), silence).await?;
    connection
        .batch_execute(session)
        .await
        .map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(connection)
}

/// The URL with settings by which a server that vanished without a word is noticed. Without them who
/// waits for its answer does so for hours. What the URL says of them itself counts.
pub(crate) fn heedful(url: &str) -> String {
    let mut heedful = url.to_owned();
    let (first, further) = match url.contains("://") {
        true => ('?', '&'),
        false => (' ', ' '), // the form with key=value
    };
    for (name, number) in [
        ("keepalives_idle", ASKED_AFTER_S),
        ("keepalives_interval", ASKED_EVERY_S),
        ("keepalives_retries", UNANSWERED_MAX),
        ("tcp_user_timeout", UNRECEIVED_MAX_S),
    ] {
        if !heedful.contains(&format!("{name}=")) {
            heedful.push(if heedful.contains('?') {
                further
            } else {
                first
            });
            heedful.push_str(&format!("{name}={number}"));
        }
    }
    heedful
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_url_says_of_the_network_counts() {
        let ours =
            "keepalives_idle=10&keepalives_interval=5&keepalives_retries=4&tcp_user_timeout=20";
        assert_eq!(
            heedful("postgres://u:p@h:1/d"),
            format!("postgres://u:p@h:1/d?{ours}")
        );
        let theirs = "postgres://h/d?keepalives_idle=60&tcp_user_timeout=0";
        assert_eq!(
            heedful(theirs),
            format!("{theirs}&keepalives_interval=5&keepalives_retries=4")
        );
        let pairs = heedful("host=h dbname=d");
        assert!(pairs.starts_with("host=h dbname=d keepalives_idle=10 keepalives_interval=5 "));
    }
}
