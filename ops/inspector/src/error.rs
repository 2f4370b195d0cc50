//! What an operator's request can meet.

use uuid::Uuid;

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such thing.
    #[error("there is no {what} {id}")]
    NotFound {
        /// What was looked for.
        what: &'static str,
        /// By which id.
        id: Uuid,
    },
    /// Somebody else was faster, or it is too late.
    #[error("{0}")]
    Conflict(String),
    /// The request makes no sense as it stands.
    #[error("{0}")]
    BadRequest(String),
    /// A row is not as its writer promised.
    #[error("{0}")]
    BadRow(String),
    /// The database failed.
    #[error("the database failed")]
    Database(#[from] database::Error),
}

impl From<diesel::result::Error> for Error {
    fn from(error: diesel::result::Error) -> Self {
        Self::Database(error.into())
    }
}

impl Error {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::Conflict(_) => "conflict",
            Self::BadRequest(_) => "bad_request",
            Self::BadRow(_) => "bad_row",
            Self::Database(_) => "database_unavailable",
        }
    }
}

/// Text that a person wrote: 1 to `max` characters without control characters.
pub(crate) fn checked_text(what: &str, text: &str, max: usize) -> Result<String, Error> {
    let text = text.trim();
    let length = text.chars().count();
    if length == 0 || length > max || text.chars().any(char::is_control) {
        return Err(Error::BadRequest(format!(
            "the {what} must be 1 to {max} characters without control characters"
        )));
    }
    Ok(text.to_owned())
}
