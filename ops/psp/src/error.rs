//! Errors in the shape Stripe gives them, told apart by `type` and `code` exactly as its libraries expect.

use std::borrow::Cow;

/// Stripe's four error types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorType {
    Api,
    Card,
    Idempotency,
    InvalidRequest,
}

impl ErrorType {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Api => "api_error",
            Self::Card => "card_error",
            Self::Idempotency => "idempotency_error",
            Self::InvalidRequest => "invalid_request_error",
        }
    }
}

/// A refusal of a request: what the body's `error` object says, and the HTTP status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StripeError {
    pub(crate) status: u16,
    pub(crate) kind: ErrorType,
    pub(crate) code: Option<&'static str>,
    pub(crate) decline_code: Option<&'static str>,
    pub(crate) message: String,
    pub(crate) param: Option<Cow<'static, str>>,
    /// Whether the body carries the intent (as it does when its state is why the request was refused).
    pub(crate) with_intent: bool,
}

impl StripeError {
    fn new(status: u16, kind: ErrorType, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            code: None,
            decline_code: None,
            message: message.into(),
            param: None,
            with_intent: false,
        }
    }

    /// 400 with type `invalid_request_error`.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, ErrorType::InvalidRequest, message)
    }

    /// 400: the intent's state does not allow it; the body shows the intent.
    pub(crate) fn unexpected_state(message: impl Into<String>) -> Self {
        let mut error = Self::invalid(message).code("payment_intent_unexpected_state");
        error.with_intent = true;
        error
    }

    /// 404 `resource_missing`.
    pub(crate) fn missing(object: &str, id: &str, param: &'static str) -> Self {
        let mut error = Self::new(
            404,
            ErrorType::InvalidRequest,
            format!("No such {object}: '{id}'"),
        );
        error.code = Some("resource_missing");
        error.param = Some(param.into());
        error
    }

    /// 404 for a path that is no route.
    pub(crate) fn unknown_url(method: &str, path: &str) -> Self {
        Self::new(
            404,
            ErrorType::InvalidRequest,
            format!("Unrecognized request URL ({method}: {path})."),
        )
    }

    /// 401 with Stripe's wording; shows no more of the key than Stripe does.
    pub(crate) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(401, ErrorType::InvalidRequest, message)
    }

    /// 402 `card_error`.
    pub(crate) fn card(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(402, ErrorType::Card, message).code(code)
    }

    /// 400: the key was used for another request.
    pub(crate) fn key_reused(key: &str) -> Self {
        Self::new(
            400,
            ErrorType::Idempotency,
            format!(
                "Keys for idempotent requests can only be used with the same parameters they were first \
                 used with. Try using a key other than '{key}' if you meant to execute a different request."
            ),
        )
    }

    /// 409: the first request with this key is still running.
    pub(crate) fn key_in_use(key: &str) -> Self {
        Self::new(
            409,
            ErrorType::Idempotency,
            format!(
                "There is currently another in-progress request using this Idempotent Key (that probably \
                 means you submitted twice, and the other request is still going through): {key}. Please \
                 try again after the other request completes."
            ),
        )
        .code("idempotency_key_in_use")
    }

    /// 429 `rate_limit`.
    pub(crate) fn rate_limit() -> Self {
        Self::new(
            429,
            ErrorType::InvalidRequest,
            "Request rate limit exceeded. You can learn more about rate limits here \
             https://stripe.com/docs/rate-limits.",
        )
        .code("rate_limit")
    }

    /// 500 `api_error`.
    pub(crate) fn api(message: impl Into<String>) -> Self {
        Self::new(500, ErrorType::Api, message)
    }

    /// 503 `api_error`: a bound of the simulator is hit.
    pub(crate) fn full(message: impl Into<String>) -> Self {
        Self::new(503, ErrorType::Api, message)
    }

    pub(crate) fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    pub(crate) fn param(mut self, param: impl Into<Cow<'static, str>>) -> Self {
        self.param = Some(param.into());
        self
    }
}
