//! The migrations of the folder `migrations`, embedded in the binary.

use crate::{Config, Error};
use diesel::{Connection as _, connection::SimpleConnection};
use diesel_async::{AsyncPgConnection, async_connection_wrapper::AsyncConnectionWrapper};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

pub(crate) const MIGRATIONS: EmbeddedMigrations = embed_migrations!("../../migrations");

/// Any number, the same for everyone who migrates.
const LOCK: i64 = 4_745_000;

/// How long a migration waits for others to let go of a lock: whatever waits for a table's lock holds up
/// everybody who comes after it.
const LOCK_WITHIN_S: u32 = 60;

/// Applies what is missing, one process at a time (an advisory lock makes the others wait), and
/// returns the names of what it applied.
///
/// # Errors
/// The database cannot be reached, or a migration fails; each one is a transaction of its own.
pub async fn migrate(config: &Config) -> Result<Vec<String>, Error> {
    let url = config.url.clone();
    // The harness is synchronous; a thread for blocking work lets it wait for the async driver.
    tokio::task::spawn_blocking(move || {
        let mut connection =
            AsyncConnectionWrapper::<AsyncPgConnection>::establish(&crate::pool::heedful(&url))
                .map_err(Error::Connect)?;
        connection.batch_execute(&format!(
            "SELECT pg_advisory_lock({LOCK}); SET lock_timeout = '{LOCK_WITHIN_S}s'"
        ))?;
        let applied = connection
            .run_pending_migrations(MIGRATIONS)
            .map(|versions| versions.iter().map(ToString::to_string).collect())
            .map_err(|error| Error::Migration(error.to_string()));
        connection.batch_execute(&format!("SELECT pg_advisory_unlock({LOCK})"))?;
        applied
    })
    .await
    .unwrap_or_else(|panic| Err(Error::Migration(panic.to_string())))
}
