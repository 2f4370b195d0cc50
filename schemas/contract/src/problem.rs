//! Problem documents (RFC 9457) and their stable codes.

use serde::{Deserialize, Serialize};

/// The body of an error answer, `application/problem+json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// A URI that names the kind of problem: `urn:guichet:problem:<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The same sentence for every problem of the kind.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong this time, and what to do.
    pub detail: String,
    /// The stable code programs may rely on.
    pub code: String,
    /// Quote it when asking for help.
    pub trace_id: String,
    /// With a failed validation: each field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldProblem>,
}

/// One field that was refused.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FieldProblem {
    /// JSON pointer (RFC 6901) into the request's body, or `?name` for a query parameter.
    pub pointer: String,
    /// The stable code.
    pub code: String,
    /// What is wrong.
    pub detail: String,
}

macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident = $status:literal, $code:literal, $title:literal;)+) => {
        /// The stable codes. The set grows; none changes.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum ProblemCode {
            $($(#[$doc])* $name,)+
        }

        impl ProblemCode {
            /// All of them, for documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The stable code.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// The HTTP status it comes with.
            #[must_use]
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status,)+ }
            }

            /// The sentence that is the same each time.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)+ }
            }
        }
    };
}

problems! {
    /// The body is not JSON.
    BodyNotJson = 400, "body_not_json", "The body is not JSON";
    /// The body did not arrive in time.
    BodyTimeout = 408, "body_timeout", "The body did not arrive in time";
    /// The body is longer than the route allows.
    BodyTooLarge = 413, "body_too_large", "The body is too large";
    /// The content type is not `application/json`.
    ContentTypeUnsupported = 415, "content_type_unsupported", "The content type is not supported";
    /// One or more fields are wrong; see `errors`.
    ValidationFailed = 422, "validation_failed", "Fields of the request are not valid";
    /// A field that the route does not know.
    UnknownField = 422, "unknown_field", "The request has a field that is not known";
    /// A field of the wrong type, or missing.
    WrongType = 422, "wrong_type", "A field is missing or has the wrong type";
    /// A quantity below 1 or above what one line may ask for.
    QuantityOutOfRange = 422, "quantity_out_of_range", "The quantity is out of range";
    /// No such offer.
    OfferUnknown = 422, "offer_unknown", "The offer does not exist";
    /// The lines are priced in more than one currency.
    MixedCurrencies = 422, "mixed_currencies", "The lines have different currencies";
    /// The event has begun or is over.
    EventPast = 422, "event_past", "The event is in the past";
    /// The event is not on sale, or was cancelled.
    EventNotOnSale = 422, "event_not_on_sale", "The event is not on sale";
    /// A query parameter is not known or has a wrong value.
    QueryInvalid = 400, "query_invalid", "A query parameter is not valid";
    /// The cursor was not made by this server for this query.
    CursorInvalid = 400, "cursor_invalid", "The cursor is not valid";
    /// The `Idempotency-Key` is missing.
    IdempotencyKeyMissing = 400, "idempotency_key_missing", "The Idempotency-Key header is missing";
    /// The `Idempotency-Key` is not 16 to 255 printable ASCII characters.
    IdempotencyKeyInvalid = 400, "idempotency_key_invalid", "The Idempotency-Key is not valid";
    /// The key was used with another body.
    IdempotencyKeyReused = 422, "idempotency_key_reused", "The Idempotency-Key was used for another request";
    /// No such thing, or not for this caller.
    NotFound = 404, "not_found", "There is no such thing here";
    /// The order is confirmed, and cannot be cancelled any more.
    OrderConfirmed = 409, "order_confirmed", "The order is confirmed";
    /// The message is not signed by the payment provider, or long ago.
    SignatureInvalid = 400, "signature_invalid", "The signature is not valid";
    /// The route does not take this method.
    MethodNotAllowed = 405, "method_not_allowed", "The method is not allowed here";
    /// The caller is not known.
    Unauthorised = 401, "unauthorised", "The caller is not known";
    /// Too many requests from this caller.
    RateLimited = 429, "rate_limited", "Too many requests";
    /// Too much is in flight; nothing was written.
    Overloaded = 503, "overloaded", "The service is at its limit";
    /// The database or the broker cannot be reached; repeat with the same key.
    Unavailable = 503, "unavailable", "The service is not available at the moment";
    /// Payments cannot be made at the moment; nothing was written.
    PaymentUnavailable = 503, "payment_unavailable", "Payments cannot be made at the moment";
    /// A defect of ours.
    Internal = 500, "internal", "Something went wrong on our side";
}

impl ProblemCode {
    /// A document of this code.
    #[must_use]
    pub fn problem(self, detail: impl Into<String>, trace_id: impl Into<String>) -> Problem {
        Problem {
            kind: format!("urn:guichet:problem:{}", self.code()),
            title: self.title().to_owned(),
            status: self.status(),
            detail: detail.into(),
            code: self.code().to_owned(),
            trace_id: trace_id.into(),
            errors: Vec::new(),
        }
    }
}
