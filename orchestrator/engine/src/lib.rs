//! The orchestrator: it owns shards of sagas, runs [`saga::step`] over batches of what comes in, and
//! makes the result durable before anything leaves the process.
//!
//! - [`start`] puts a new saga into the caller's transaction, so that an order and its saga are one
//!   commit; [`Client`] then sends its first command.
//! - [`signal`] tells sagas what happened outside, as rows.
//! - [`run`] is the orchestrator's role: leases, the batch loop, timers, recovery, signals.
//! - [`release`] lets a saga go on that was set aside.
//! - [`attention`] keeps who has taken on a saga that asks for a person.
//! - [`withdrawal`] ends the sagas of a version that is withdrawn.
//! - [`view`] reads a saga and its history for those who show it.
//!
//! Only this crate writes the rows of sagas and their history. It does not know what any step does,
//! so no step can be a special case here.

pub mod attention;
mod client;
mod command;
mod config;
pub mod definitions;
pub mod lease;
mod metrics;
mod orchestrator;
mod owner;
mod release;
mod sagas;
mod shard;
mod signal;
mod store;
mod trace;
pub mod view;
pub mod withdrawal;

pub use client::{AWAY_MS, Client, ClientError, Closed};
pub use command::Sender;
pub use config::Config;
pub use orchestrator::{Parts, run};
pub use owner::{Aftermath, Answered, Away, Moved, Owner, SLEEPS_MS, Settled, Taken, sleeps};
pub use release::release;
pub use shard::shard_of;
pub use signal::{Act, ActionName, Cause, NewSignal, Person, Told, What, is_kept, signal};
pub use store::start::{NewSaga, Started, start};

/// What the engine cannot do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database failed.
    #[error("the database failed")]
    Database(#[from] database::Error),
    /// A stored definition is not the one in this program.
    #[error(
        "definition {label} in the database has hash {stored}, this program has {ours}: a published \
         version may not change; give the changed definition a new version"
    )]
    DefinitionChanged {
        /// Name and version.
        label: String,
        /// The hash in the database.
        stored: String,
        /// The hash of this program's definition.
        ours: String,
    },
    /// The database has no definition of this program.
    #[error("definition {0} is not in the database: run `guichet migrate`")]
    DefinitionMissing(String),
    /// A step's name or number is taken by another one.
    #[error("step {name} has number {number} in the definition, but the database says otherwise")]
    StepNumber {
        /// The step's name.
        name: String,
        /// The number that the definition gives it.
        number: u8,
    },
    /// Another process runs under this node's name and has its shards.
    #[error(
        "another orchestrator runs under the name {0} and has taken its shards; this one stops: \
         give each its own amqp.node"
    )]
    Fenced(String),
}

impl From<diesel::result::Error> for Error {
    fn from(error: diesel::result::Error) -> Self {
        Self::Database(error.into())
    }
}

impl From<diesel_async::pooled_connection::deadpool::PoolError> for Error {
    fn from(error: diesel_async::pooled_connection::deadpool::PoolError) -> Self {
        Self::Database(error.into())
    }
}

impl Error {
    /// Whether the same work may succeed when tried again.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Database(error) if error.is_transient())
    }

    /// As [`database::Error::is_exhausted`].
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        matches!(self, Self::Database(error) if error.is_exhausted())
    }
}
