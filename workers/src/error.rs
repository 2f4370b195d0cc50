//! What can go wrong in a worker.

pub(crate) use database::chain;

/// A failure of a worker's own means, not of an effect: those are verdicts.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL failed.
    #[error("the database failed")]
    Database(#[from] database::Error),
    /// The ledger did not record in time.
    #[error("the ledger cannot be written now")]
    Ledger,
    /// A row is not as its writer promised.
    #[error("{0}")]
    BadRow(String),
    /// What should go into the ledger would be refused by it.
    #[error("an outside id is 1 to 255 characters without NUL")]
    BadOutsideId,
    /// A command's input is not one of those that its step knows; `retry`.
    #[error("the input of {0} is not known here")]
    BadInput(contract::StepName),
    /// The outside cannot be reached or answers nonsense; `retry`.
    #[error("the outside failed: {0}")]
    Outside(String),
    /// A step panicked; its transaction is rolled back.
    #[error("step {0} panicked")]
    Panicked(contract::StepName),
    /// A lane of the worker ended before it was asked to.
    #[error("the worker ended before it was asked to: {0}")]
    Ended(String),
    /// A step returned more or fewer verdicts than it got claims.
    #[error("step {step} returned {verdicts} verdicts for {claims} claims")]
    Miscounted {
        /// The step.
        step: contract::StepName,
        /// How many it returned.
        verdicts: usize,
        /// How many it got.
        claims: usize,
    },
}

impl From<diesel::result::Error> for Error {
    fn from(error: diesel::result::Error) -> Self {
        Self::Database(error.into())
    }
}

impl Error {
    /// Whether the same work may succeed when tried again.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Database(error) => error.is_transient(),
            Self::Ledger | Self::Outside(_) => true,
            Self::BadRow(_)
            | Self::BadOutsideId
            | Self::BadInput(_)
            | Self::Panicked(_)
            | Self::Ended(_)
            | Self::Miscounted { .. } => false,
        }
    }

    /// The stable code of the reply that reports it.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Database(_) => "database_failed",
            Self::Ledger => "ledger_unavailable",
            Self::BadRow(_) => "bad_row",
            Self::BadOutsideId => "bad_outside_id",
            Self::BadInput(_) => "bad_input",
            Self::Outside(_) => "outside_failed",
            Self::Panicked(_) => "panicked",
            Self::Ended(_) => "worker_ended",
            Self::Miscounted { .. } => "miscounted",
        }
    }
}
