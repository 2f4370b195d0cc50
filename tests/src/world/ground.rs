//! What the roles stand on, whether they are tasks or processes: a database with a catalogue, a
//! namespace on the broker, a mail server, and a folder.

use super::catalogue;
use crate::smtp_sink::SmtpSink;
use bus::testing::TestNamespace;
use contract::Incarnation;
use database::testing::TestDatabase;
use diesel_async::SimpleAsyncConnection;
use engine::definitions::{Definitions, register};
use runtime::Secret;
use std::path::PathBuf;
use uuid::Uuid;
use workers::{fraud_check, issue::code::Signatory, notify, pay};

/// The seed of the key that signs tickets.
pub(crate) const SIGNING_KEY: &str =
    "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";

/// How the world differs from test to test.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Another server for its database than that of the environment.
    pub server: Option<String>,
    /// How long a worker waits for the payment provider.
    pub pay_timeout_ms: u64,
    /// The version of the orders that its first gateway takes.
    pub version: i16,
    /// What orders can run by, unless the roles are processes.
    pub definitions: Definitions,
    /// How much a worker takes on at once, unless it is a process.
    pub worker: workers::Config,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            server: None,
            pay_timeout_ms: 5_000,
            version: 1,
            definitions: Definitions::ours(),
            worker: workers::Config::default(),
        }
    }
}

/// The ground of one test.
#[derive(Debug)]
pub struct Ground {
    /// Its database.
    pub database: TestDatabase,
    /// Its part of the broker.
    pub namespace: TestNamespace,
    /// Life of the database.
    pub incarnation: Incarnation,
    /// Its mail server.
    pub mail: SmtpSink,
    pub(crate) token_secret: String,
    pub(crate) settings: Settings,
    pub(crate) provider_url: String,
    folder: PathBuf,
}

impl Ground {
    pub(crate) async fn lay(settings: Settings, provider_url: String) -> Self {
        let database = match &settings.server {
            Some(server) => TestDatabase::create_on(server).await,
            None => TestDatabase::create().await,
        };
        let mut connection = database.connection().await;
        register(&mut connection, &settings.definitions)
            .await
            .expect("the definitions are new");
        let filled = connection.batch_execute(&catalogue::sql()).await;
        filled.expect("the catalogue is sound");
        let number = database::incarnation(&mut connection).await;
        let folder = std::env::temp_dir().join(format!("guichet-e2e-{}", Uuid::now_v7()));
        std::fs::create_dir(&folder).expect("the temporary folder is writable");
        Self {
            namespace: TestNamespace::new(),
            incarnation: Incarnation(number.expect("the database has a number")),
            mail: SmtpSink::start().await,
            token_secret: Uuid::now_v7().to_string(),
            settings,
            provider_url,
            folder,
            database,
        }
    }

    /// What orders run by.
    #[must_use]
    pub fn definitions(&self) -> Definitions {
        self.settings.definitions.clone()
    }

    /// A file in the test's own folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The key that signs tickets.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn signatory(&self) -> Signatory {
        Signatory::read(SIGNING_KEY).expect("a seed")
    }

    pub(crate) fn pay_config(&self) -> pay::Config {
        pay::Config {
            provider_url: self.provider_url.clone(),
            timeout_ms: self.settings.pay_timeout_ms,
            ..pay::Config::default()
        }
    }

    pub(crate) fn mail_config(&self) -> notify::Config {
        notify::Config {
            transport: notify::TransportKind::Smtp,
            smtp_url: Some(Secret::new(self.mail.url())),
            timeout_ms: 2_000,
            ..notify::Config::default()
        }
    }

    /// Everybody here has the same address, so its rules do not apply.
    pub(crate) fn fraud_config(&self) -> fraud_check::Config {
        fraud_check::Config {
            exempt_networks: vec!["127.0.0.0/8".parse().expect("a network")],
            ..fraud_check::Config::default()
        }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // It is in the temporary directory; whatever stays there harms nobody.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
