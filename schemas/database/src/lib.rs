//! PostgreSQL for every service: the pool, the embedded migrations, the database's clock, and the
//! kit for batch statements ([`statement!`]).
//!
//! A transaction is diesel-async's: `connection.transaction(async |connection| …)`. Never drop that
//! future half-way (no `select!`, no `timeout` around it): the transaction would stay open until the
//! pool discards the connection. The server's statement time-out bounds it, and where the line falls silent
//! the connection's own: it fails, and so does what is under way on it.
//!
//! This crate knows no table but those of the migrations it carries as text, and the row that says which
//! [`incarnation`] of the database this is; whoever uses it owns his SQL.

pub mod clock;
mod config;
mod error;
mod incarnation;
mod life;
mod line;
mod migrations;
mod pool;
mod session;
mod statement;
pub mod testing;

pub use clock::Clock;
pub use config::Config;
pub use error::{Error, chain, is_transient};
pub use incarnation::{incarnation, present_incarnation, renew_incarnation};
pub use life::{Life, Other};
pub use migrations::migrate;
pub use pool::{Connection, Pool, connect, pool, pool_of};
pub use session::WHOLE_TABLES;
#[doc(hidden)]
pub use statement::{Piece, pieces};

#[doc(hidden)]
pub mod reexport {
    pub use diesel;
}
