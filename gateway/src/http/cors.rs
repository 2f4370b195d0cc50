//! Which pages of other origins may read answers in a browser.

use super::answer::Route;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

const REQUEST_HEADERS: &str =
    "authorization, content-type, idempotency-key, last-event-id, traceparent";
const EXPOSED: &str = "location, ratelimit, ratelimit-policy, retry-after";

/// How long a browser may keep the answer to a preflight.
const PREFLIGHT_CACHE_S: u32 = 600;

/// The origins that are allowed. Cookies are never sent along: a page of another origin uses a token.
#[derive(Clone, Debug, Default)]
pub struct Cors {
    /// `https://tickets.example`, or `*` for all.
    pub origins: Vec<String>,
}

impl Cors {
    /// The headers for an answer to a request with these headers.
    pub(super) fn headers(&self, request: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
        if self.origins.is_empty() {
            return Vec::new();
        }
        // Of every answer: one that is kept for somebody without an origin is not for somebody with one.
        let mut headers = vec![(header::VARY, HeaderValue::from_static("origin"))];
        if let Some(allowed) = self.allowed_by(request) {
            headers.extend([
                (header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed),
                (
                    header::ACCESS_CONTROL_EXPOSE_HEADERS,
                    HeaderValue::from_static(EXPOSED),
                ),
            ]);
        }
        headers
    }

    fn allowed_by(&self, request: &HeaderMap) -> Option<HeaderValue> {
        self.allowed(request.get(header::ORIGIN)?)
    }

    /// The further headers for an answer to a preflight.
    pub(super) fn preflight(
        &self,
        request: &HeaderMap,
        route: &Route,
    ) -> Vec<(HeaderName, HeaderValue)> {
        let asks = request.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if !asks || self.allowed_by(request).is_none() {
            return Vec::new();
        }
        let methods = HeaderValue::from_str(&route.allow());
        vec![
            (
                header::ACCESS_CONTROL_ALLOW_METHODS,
                methods.expect("methods are legal in a header"),
            ),
            (
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                HeaderValue::from_static(REQUEST_HEADERS),
            ),
            (
                header::ACCESS_CONTROL_MAX_AGE,
                HeaderValue::from(PREFLIGHT_CACHE_S),
            ),
        ]
    }

    fn allowed(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        if self.origins.iter().any(|allowed| allowed == "*") {
            return Some(HeaderValue::from_static("*"));
        }
        let known = self
            .origins
            .iter()
            .any(|allowed| allowed.as_bytes() == origin.as_bytes());
        known.then(|| origin.clone())
    }
}

impl Route {
    /// Its methods, for the header `Allow`.
    pub(super) fn allow(&self) -> String {
        let own = self.methods.iter().map(Method::as_str);
        let head = self.methods.contains(&Method::GET).then_some("HEAD");
        own.chain(head)
            .chain(["OPTIONS"])
            .collect::<Vec<_>>()
            .join(", ")
    }
}
