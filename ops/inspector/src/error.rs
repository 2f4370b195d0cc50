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

/// Rows of a list at most.
pub const LIST_MAX: i64 = 1_000;

/// Characters of the name of whoever acts.
pub(crate) const ACTOR_MAX_CHARS: usize = 200;
/// Characters of why he did.
pub(crate) const REASON_MAX_CHARS: usize = 1_000;

/// How many rows a list is asked for: 1 to [`LIST_MAX`].
pub(crate) fn checked_limit(limit: i64) -> Result<i64, Error> {
    if !(1..=LIST_MAX).contains(&limit) {
        let message = format!("the limit must be 1 to {LIST_MAX}");
        return Err(Error::BadRequest(message));
    }
    Ok(limit)
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
