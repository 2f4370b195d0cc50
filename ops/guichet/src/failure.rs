//! How a command fails: one line that says what to do, and the exit code scripts rely on.

use std::fmt;

/// Why a command ended without success.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: u8,
    cause: anyhow::Error,
}

impl Failure {
    /// Exit code 4: somebody else has or did what was asked for.
    pub(crate) fn conflict(cause: anyhow::Error) -> Self {
        Self { exit: 4, cause }
    }

    /// Exit code 3: there is no such thing.
    pub(crate) fn not_found(cause: anyhow::Error) -> Self {
        Self { exit: 3, cause }
    }

    /// Exit code 2: the request makes no sense as it stands.
    pub(crate) fn usage(cause: anyhow::Error) -> Self {
        Self { exit: 2, cause }
    }

    /// The process's exit code: 1 failed, 2 usage, 3 not found, 4 conflict.
    pub(crate) fn exit(&self) -> u8 {
        self.exit
    }
}

/// Everything without a code of its own is a plain failure.
impl From<anyhow::Error> for Failure {
    fn from(cause: anyhow::Error) -> Self {
        Self { exit: 1, cause }
    }
}

/// The whole chain of causes, outermost first.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.cause)
    }
}
