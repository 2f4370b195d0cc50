//! A database for each test, cloned from a migrated template on the server of
//! `GUICHET_DATABASE_URL`; dropped at the end. For tests only.

use crate::{Config, Connection, Pool, migrate};
use diesel::{migration::MigrationSource, pg::Pg};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use std::hash::{DefaultHasher, Hash, Hasher};
use url::Url;
use uuid::Uuid;

/// A migrated database of a test's own.
#[derive(Debug)]
pub struct TestDatabase {
    server: Url,
    name: String,
}

impl TestDatabase {
    /// Makes one.
    ///
    /// # Panics
    /// When `GUICHET_DATABASE_URL` is not set or the server does not do what is asked: a test that
    /// cannot reach its server fails.
    pub async fn create() -> Self {
        let server = std::env::var("GUICHET_DATABASE_URL").expect(
            "GUICHET_DATABASE_URL is not set: run ./ops/test, which starts servers and sets it",
        );
        Self::create_on(&server).await
    }

    /// Makes one on another server.
    ///
    /// # Panics
    /// As [`Self::create`].
    pub async fn create_on(server: &str) -> Self {
        let server: Url = server.parse().expect("the server's address is a URL");
        let mut admin = connect(&server).await;
        let template = template(&server, &mut admin).await;
        let name = format!("guichet_test_{}", Uuid::now_v7().simple());
        run(
            &mut admin,
            &format!("CREATE DATABASE {name} TEMPLATE {template}"),
        )
        .await;
        Self { server, name }
    }

    /// The database's URL.
    #[must_use]
    pub fn url(&self) -> String {
        with_name(&self.server, &self.name).to_string()
    }

    /// A pool of up to 8 connections.
    #[must_use]
    pub fn pool(&self) -> Pool {
        crate::pool(&Config::new(self.url(), "test")).expect("the pool's settings are sound")
    }

    /// A connection of its own.
    ///
    /// # Panics
    /// When the server refuses it.
    pub async fn connection(&self) -> Connection {
        connect(&with_name(&self.server, &self.name)).await
    }
}

/// Rows of a table and its partitions that were read so far, by whatever way: what this connection did, and
/// what others have told the server of theirs.
///
/// # Panics
/// When the server does not say.
pub async fn rows_read(connection: &mut Connection, table: &str) -> i64 {
    #[derive(diesel::QueryableByName)]
    struct Read {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        read: i64,
    }
    run(connection, "SELECT pg_stat_force_next_flush()").await;
    diesel::sql_query(
        "SELECT ((SELECT coalesce(sum(seq_tup_read), 0) FROM pg_stat_user_tables WHERE relname ~ $1)
               + (SELECT coalesce(sum(idx_tup_read), 0) FROM pg_stat_user_indexes WHERE relname ~ $1)
                )::bigint AS read",
    )
    .bind::<diesel::sql_types::Text, _>(format!("^{table}(_[0-9a-z]*)?$"))
    .get_result::<Read>(connection)
    .await
    .expect("the statistics can be read")
    .read
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // A test's runtime may be going down; the clean-up has one of its own.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let Ok(mut admin) = AsyncPgConnection::establish(server.as_str()).await else {
                    return;
                };
                let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
                let _ = admin.batch_execute(&drop).await;
            });
            Ok::<_, std::io::Error>(())
        });
        let _ = dropping.join();
    }
}

/// The template of today's migrations, made by whichever test comes first.
async fn template(server: &Url, admin: &mut Connection) -> String {
    let mut hasher = DefaultHasher::new();
    let migrations = MigrationSource::<Pg>::migrations(&crate::migrations::MIGRATIONS)
        .expect("embedded migrations can be listed");
    for migration in migrations {
        migration.name().to_string().hash(&mut hasher);
    }
    include_bytes!(concat!(env!("OUT_DIR"), "/migrations.hash")).hash(&mut hasher);
    let name = format!("guichet_template_{:016x}", hasher.finish());
    // Not the lock of `migrate`, which is taken below while this one is held.
    run(admin, "SELECT pg_advisory_lock(4745002)").await;
    if !exists(admin, &name).await {
        let making = format!("{name}_making");
        run(
            admin,
            &format!("DROP DATABASE IF EXISTS {making} WITH (FORCE)"),
        )
        .await;
        run(admin, &format!("CREATE DATABASE {making}")).await;
        let config = Config::new(with_name(server, &making).to_string(), "test-template");
        migrate(&config)
            .await
            .expect("the migrations apply to an empty database");
        run(admin, &format!("ALTER DATABASE {making} RENAME TO {name}")).await;
    }
    run(admin, "SELECT pg_advisory_unlock(4745002)").await;
    name
}

async fn exists(admin: &mut Connection, name: &str) -> bool {
    #[derive(diesel::QueryableByName)]
    struct Found {
        #[diesel(sql_type = diesel::sql_types::Bool)]
        found: bool,
    }
    diesel::sql_query("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1) AS found")
        .bind::<diesel::sql_types::Text, _>(name)
        .get_result::<Found>(admin)
        .await
        .expect("the catalogue can be read")
        .found
}

async fn connect(url: &Url) -> Connection {
    AsyncPgConnection::establish(url.as_str())
        .await
        .expect("PostgreSQL at GUICHET_DATABASE_URL answers")
}

async fn run(connection: &mut Connection, sql: &str) {
    if let Err(error) = connection.batch_execute(sql).await {
        panic!("{sql}: {error}");
    }
}

fn with_name(server: &Url, name: &str) -> Url {
    let mut url = server.clone();
    url.set_path(name);
    url
}
