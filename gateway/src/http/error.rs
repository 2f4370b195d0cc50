//! Everything a handler can refuse with: a stable code, a sentence for this time, and what to log.

use super::Reply;
use contract::{FieldProblem, Problem, ProblemCode};
use http::{HeaderValue, StatusCode, header};
use std::{error::Error, fmt};

/// After how many seconds a caller is invited to come back when something of ours is away.
const UNAVAILABLE_AGAIN_S: u32 = 1;

/// A refusal. It becomes a problem document (RFC 9457); its source is only ever logged.
#[derive(Debug)]
pub struct ApiError {
    code: ProblemCode,
    detail: String,
    errors: Vec<FieldProblem>,
    retry_after_s: Option<u32>,
    allow: Option<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl ApiError {
    /// A refusal of a kind. `detail` says what is wrong this time and what to do; the caller sees it.
    #[must_use]
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            // Whoever gets a 503 is told when to come back.
            retry_after_s: (code.status() == 503).then_some(UNAVAILABLE_AGAIN_S),
            allow: None,
            source: None,
        }
    }

    /// There is no such thing, or not for this caller; the two are not told apart.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(
            ProblemCode::NotFound,
            "There is nothing here, or not for you.",
        )
    }

    /// Adds a field that is wrong: a JSON pointer into the body, or `?name` of the query.
    #[must_use]
    pub fn field(
        mut self,
        pointer: impl Into<String>,
        code: ProblemCode,
        detail: impl Into<String>,
    ) -> Self {
        self.errors.push(FieldProblem {
            pointer: pointer.into(),
            code: code.code().to_owned(),
            detail: detail.into(),
        });
        self
    }

    /// Tells when to try again, in seconds.
    #[must_use]
    pub fn retry_after_s(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Which methods the path takes, for a 405.
    #[must_use]
    pub(super) fn allow(mut self, methods: String) -> Self {
        self.allow = Some(methods);
        self
    }

    /// What it came from, for the log.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ProblemCode {
        self.code
    }

    /// Fields that are wrong.
    #[must_use]
    pub fn fields(&self) -> &[FieldProblem] {
        &self.errors
    }

    /// Logs what is ours to mend; what the caller did wrong is in the access log.
    pub(crate) fn log(&self) {
        let mut cause = String::new();
        let mut next = self
            .source
            .as_deref()
            .map(|source| source as &(dyn Error + 'static));
        while let Some(error) = next {
            cause = format!("{cause}{}{error}", if cause.is_empty() { "" } else { ": " });
            next = error.source();
        }
        match self.code.status() {
            500 => tracing::error!(
                code = self.code.code(),
                detail = self.detail,
                cause,
                "request failed"
            ),
            503 => tracing::warn!(
                code = self.code.code(),
                detail = self.detail,
                cause,
                "request refused"
            ),
            _ => tracing::debug!(
                code = self.code.code(),
                detail = self.detail,
                cause,
                "request refused"
            ),
        }
    }

    /// The problem document as an answer.
    pub(super) fn into_reply(self, trace_id: String) -> Reply {
        let document = Problem {
            errors: self.errors,
            ..self.code.problem(self.detail, trace_id)
        };
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let status = StatusCode::from_u16(self.code.status());
        let mut reply = Reply::bytes(
            status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            "application/problem+json",
            body,
        );
        if let Some(seconds) = self.retry_after_s {
            reply = reply.header(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(methods) = self
            .allow
            .and_then(|methods| HeaderValue::from_str(&methods).ok())
        {
            reply = reply.header(header::ALLOW, methods);
        }
        reply
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.code(), self.detail)
    }
}

/// A database that cannot be had is a 503, to be tried again; anything else is our defect.
impl From<database::Error> for ApiError {
    fn from(error: database::Error) -> Self {
        match error.is_transient() {
            true => Self::new(
                ProblemCode::Unavailable,
                "The database cannot be reached; try again.",
            ),
            false => Self::new(
                ProblemCode::Internal,
                "This is a defect of ours; it is logged.",
            ),
        }
        .because(error)
    }
}

impl From<diesel::result::Error> for ApiError {
    fn from(error: diesel::result::Error) -> Self {
        database::Error::from(error).into()
    }
}
