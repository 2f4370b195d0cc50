//! The one type of answer.

use super::ApiError;
use bytes::Bytes;
use contract::ProblemCode;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use warp::{Reply as _, reply::Response};

/// An answer: status, headers, body. Headers that every answer bears are added later.
#[derive(Debug)]
pub struct Reply(Response);

impl Reply {
    /// `application/json`.
    ///
    /// # Errors
    /// The value cannot be written as JSON, which is a defect.
    pub fn json(status: StatusCode, value: &impl Serialize) -> Result<Self, ApiError> {
        let body = serde_json::to_vec(value).map_err(|error| {
            ApiError::new(
                ProblemCode::Internal,
                "This is a defect of ours; it is logged.",
            )
            .because(error)
        })?;
        Ok(Self::bytes(status, "application/json", body))
    }

    /// Bytes of a content type.
    #[must_use]
    pub fn bytes(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut response = http::Response::new(body.into()).into_response();
        *response.status_mut() = status;
        Self(response).header(header::CONTENT_TYPE, HeaderValue::from_static(content_type))
    }

    /// No body.
    #[must_use]
    pub fn empty(status: StatusCode) -> Self {
        Self(status.into_response())
    }

    /// Sets a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers_mut().insert(name, value);
        self
    }

    /// Lets anyone keep the answer for a while. Without it an answer may not be stored.
    #[must_use]
    pub fn cache_s(self, seconds: u32) -> Self {
        let value = HeaderValue::from_str(&format!("public, max-age={seconds}"));
        self.header(
            header::CACHE_CONTROL,
            value.expect("digits are a legal header value"),
        )
    }

    pub(super) fn into_response(self) -> Response {
        self.0
    }
}

/// For what warp makes itself, such as a stream of events.
impl From<Response> for Reply {
    fn from(response: Response) -> Self {
        Self(response)
    }
}
