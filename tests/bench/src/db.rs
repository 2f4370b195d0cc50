//! A database of one run's own, on the server of the environment.

use anyhow::{Context, Result};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use url::Url;
use uuid::Uuid;

/// What their names begin with.
const PREFIX: &str = "guichet_bench_";

/// The database; whoever is done with it drops it.
#[derive(Debug)]
pub(crate) struct Database {
    server: Url,
    name: String,
}

#[derive(diesel::QueryableByName)]
struct Name {
    #[diesel(sql_type = diesel::sql_types::Text)]
    name: String,
}

impl Database {
    /// Makes an empty one. Those of runs that were killed are removed, unless somebody still uses them.
    pub(crate) async fn create(server: &str) -> Result<Self> {
        let server: Url = server.parse().context("GUICHET_DATABASE_URL is no URL")?;
        let mut admin = connect(&server).await?;
        let old: Vec<Name> = diesel::sql_query(format!(
            "SELECT datname AS name FROM pg_database WHERE datname LIKE '{PREFIX}%'"
        ))
        .load(&mut admin)
        .await?;
        for Name { name } in old {
            // It is another bench's if it is in use.
            let _ = admin.batch_execute(&format!("DROP DATABASE {name}")).await;
        }
        let name = format!("{PREFIX}{}", Uuid::now_v7().simple());
        admin
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .await
            .context("cannot make a database")?;
        Ok(Self { server, name })
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        let mut url = self.server.clone();
        url.set_path(&self.name);
        url.to_string()
    }

    /// A connection with the server's own settings: ours are for many small statements.
    pub(crate) async fn connection(&self) -> Result<AsyncPgConnection> {
        connect(&self.url().parse()?).await
    }

    /// A connection to the server's own database, in which extensions may be.
    pub(crate) async fn admin(&self) -> Result<AsyncPgConnection> {
        connect(&self.server).await
    }

    /// Removes it.
    pub(crate) async fn remove(self) -> Result<()> {
        let mut admin = connect(&self.server).await?;
        admin
            .batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name))
            .await
            .context("cannot remove the database")
    }
}

async fn connect(url: &Url) -> Result<AsyncPgConnection> {
    AsyncPgConnection::establish(url.as_str())
        .await
        .context("PostgreSQL at GUICHET_DATABASE_URL does not answer")
}
