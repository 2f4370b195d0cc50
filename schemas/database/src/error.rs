//! What can go wrong between us and PostgreSQL.

use diesel::result::{DatabaseErrorKind, Error as DieselError};

/// A failure of the pool, a connection or a statement.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL could not be reached or refused the login.
    #[error("cannot connect to PostgreSQL; check that it runs and that database.url is right")]
    Connect(#[source] diesel::ConnectionError),
    /// No connection became free in time, or none could be made.
    #[error("no connection to PostgreSQL is free or can be made")]
    Pool(#[from] diesel_async::pooled_connection::deadpool::PoolError),
    /// The pool could not be built.
    #[error("cannot build the connection pool")]
    Build(#[source] diesel_async::pooled_connection::deadpool::BuildError),
    /// A statement failed.
    #[error("a statement failed{}", advice(.0))]
    Statement(#[from] DieselError),
    /// A migration failed; those before it are applied.
    #[error("migration failed: {0}")]
    Migration(String),
}

impl Error {
    /// Whether the same work may succeed when tried again.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Pool(_) => true,
            Self::Statement(error) => is_transient(error),
            Self::Build(_) | Self::Migration(_) => false,
        }
    }

    /// Whether the server has no room, or may not write: trouble that is no statement's fault, and that
    /// passes, but that smaller work would not mend.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        match self {
            Self::Statement(DieselError::DatabaseError(_, info)) => {
                has_sign(info.message(), &EXHAUSTED)
            }
            _ => false,
        }
    }
}

/// What passes. diesel has no kind for these (40P01, 57P01, 57P02, 57P03, 53300, 57014, 55P03).
const PASSING: [&str; 7] = [
    "deadlock detected",
    "terminating connection",
    "the database system is",
    "too many clients",
    "remaining connection slots",
    "canceling statement",
    "connection closed",
];

/// What passes too, and is nothing that a smaller batch would mend.
const EXHAUSTED: [&str; 5] = [
    "No space left",
    "could not extend file",
    "out of memory",
    "out of shared memory",
    "read-only transaction",
];

fn has_sign(text: &str, signs: &[&str]) -> bool {
    signs.iter().any(|sign| text.contains(sign))
}

/// What to do about a statement that this program's own schema would have taken.
fn advice(error: &DieselError) -> &'static str {
    match error {
        DieselError::DatabaseError(_, info)
            if info.message().ends_with("does not exist")
                && ["relation ", "column "]
                    .iter()
                    .any(|what| info.message().starts_with(what)) =>
        {
            "; the database's tables are not those of this program: if they are older, run `guichet migrate`"
        }
        _ => "",
    }
}

/// Whether the same statement may succeed when tried again: a serialisation failure, a deadlock, a
/// lost connection, a server that is shutting down or has no connection left.
///
/// After a lost connection it is not known whether a commit went through.
#[must_use]
pub fn is_transient(error: &DieselError) -> bool {
    match error {
        DieselError::DatabaseError(kind, info) => match kind {
            DatabaseErrorKind::SerializationFailure
            | DatabaseErrorKind::ClosedConnection
            | DatabaseErrorKind::UnableToSendCommand => true,
            _ => has_sign(info.message(), &PASSING) || has_sign(info.message(), &EXHAUSTED),
        },
        DieselError::BrokenTransactionManager => true,
        _ => false,
    }
}

/// An error with its causes, on one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
