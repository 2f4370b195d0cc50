//! HTTP in and out: who asks, what for, and the answer with Stripe's headers.

use std::convert::Infallible;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use runtime::http::BodyError;
use warp::Filter;
use warp::path::FullPath;
use warp::reply::{Reply, Response};

use crate::call::Call;
use crate::error::StripeError;
use crate::execute::{Request, refuse};
use crate::form::Params;
use crate::id;
use crate::keys::Key;
use crate::observe::Observed;
use crate::server::{Outcome, Simulator};
use crate::sim_api;
use crate::view::API_VERSION;

/// The longest request body, in bytes.
pub(crate) const BODY_MAX_BYTES: usize = 64 * 1024;

/// The longest idempotency key, in characters, as at Stripe.
const KEY_MAX: usize = 255;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const ORIGINAL_REQUEST: HeaderName = HeaderName::from_static("original-request");
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("stripe-should-retry");
const STRIPE_VERSION: HeaderName = HeaderName::from_static("stripe-version");

/// A request as it came in.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Everything the simulator serves. One filter takes all there is, so no request can fall from one into another.
pub(crate) fn routes(
    simulator: Arc<Simulator>,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone {
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    warp::method()
        .and(warp::path::full())
        .and(query)
        .and(warp::header::headers_cloned())
        .and(runtime::http::body(BODY_MAX_BYTES))
        .then(
            move |method, path: FullPath, query, headers, body: Result<Bytes, BodyError>| {
                let simulator = Arc::clone(&simulator);
                async move {
                    let incoming = |body| Incoming {
                        method,
                        path: path.as_str().to_owned(),
                        query,
                        headers,
                        body,
                    };
                    match body {
                        Ok(body) => simulator.handle(incoming(body)).await,
                        Err(error) => simulator.unread(&error),
                    }
                }
            },
        )
        // Nothing above rejects; the types do not know it.
        .recover(|_| async { Ok::<_, Infallible>(StatusCode::INTERNAL_SERVER_ERROR) })
        .map(Reply::into_response)
}

impl Simulator {
    async fn handle(self: Arc<Self>, incoming: Incoming) -> Response {
        if incoming.path.starts_with("/_sim") {
            return sim_api::handle(&self, &incoming);
        }
        let mut observed = Observed::begin();
        let request_id = id::fresh("req", rand::random());
        let outcome = match self.read(&incoming, &request_id) {
            Ok(request) => {
                observed.asks(&request.call);
                Arc::clone(&self).serve(request, &incoming.path).await
            }
            Err(error) => Outcome::Answer(refuse(&error, None, self.viewer())),
        };
        match outcome {
            Outcome::Answer(answer) => {
                observed.answered(answer.status);
                let mut response = json(answer.status, answer.body);
                let headers = response.headers_mut();
                if let Some(original) = &answer.original {
                    headers.insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
                    insert(headers, ORIGINAL_REQUEST, original);
                }
                if let Some(key) = incoming.headers.get(&IDEMPOTENCY_KEY) {
                    headers.insert(IDEMPOTENCY_KEY, key.clone());
                }
                // Stripe's libraries obey this where it is given.
                match answer.status {
                    409 | 429 => {
                        headers.insert(SHOULD_RETRY, HeaderValue::from_static("true"));
                    }
                    401 => {
                        let realm = HeaderValue::from_static("Basic realm=\"Stripe\"");
                        headers.insert(http::header::WWW_AUTHENTICATE, realm);
                    }
                    _ => {}
                }
                let version = incoming.headers.get(&STRIPE_VERSION).cloned();
                let version = version.unwrap_or(HeaderValue::from_static(API_VERSION));
                headers.insert(STRIPE_VERSION, version);
                insert(headers, REQUEST_ID, &request_id);
                response
            }
            Outcome::Silence(hold) => {
                observed.ignored();
                tokio::time::sleep(hold).await;
                broken_off()
            }
        }
    }

    /// Checks who asks and reads what for.
    fn read(&self, incoming: &Incoming, request_id: &str) -> Result<Request, StripeError> {
        self.check_key(&incoming.headers)?;
        let Some(rest) = incoming.path.strip_prefix("/v1/") else {
            return Err(StripeError::unknown_url(
                incoming.method.as_str(),
                &incoming.path,
            ));
        };
        let segments: Vec<&str> = rest.trim_end_matches('/').split('/').collect();
        let is_post = incoming.method == Method::POST;
        let encoded = if is_post {
            check_content_type(incoming)?;
            &incoming.body[..]
        } else {
            incoming.query.as_bytes()
        };
        let params = Params::read(encoded)?;
        let (call, expand) = Call::read(incoming.method.as_str(), &segments, params)?;
        let key = match incoming.headers.get(&IDEMPOTENCY_KEY) {
            Some(key) if is_post => Some(read_key(key, incoming)?),
            _ => None,
        };
        Ok(Request {
            call,
            expand,
            key,
            id: request_id.to_owned(),
        })
    }

    fn check_key(&self, headers: &HeaderMap) -> Result<(), StripeError> {
        let Some(given) = headers.get(AUTHORIZATION).and_then(api_key) else {
            return Err(StripeError::unauthorized(
                "You did not provide an API key. You need to provide your API key in the Authorization \
                 header, using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY').",
            ));
        };
        // Digests take the same time to compare wherever they differ.
        let expected = id::digest(&[self.config.secret_key.expose().as_bytes()]);
        if id::digest(&[given.as_bytes()]) == expected {
            return Ok(());
        }
        let tail: String = given.chars().rev().take(4).collect();
        let tail: String = tail.chars().rev().collect();
        Err(StripeError::unauthorized(format!(
            "Invalid API Key provided: ****{tail}"
        )))
    }

    fn unread(&self, error: &BodyError) -> Response {
        let status = match error {
            BodyError::TooLarge { .. } => 413,
            BodyError::TooSlow { .. } => 408,
            BodyError::Broken(_) => 400,
        };
        let mut stripe = StripeError::invalid(format!("Invalid request: {error}."));
        stripe.status = status;
        json(status, refuse(&stripe, None, self.viewer()).body)
    }
}

/// The key in `Bearer …` or, as the user name, in `Basic …`.
fn api_key(header: &HeaderValue) -> Option<String> {
    let (scheme, value) = header.to_str().ok()?.split_once(' ')?;
    let value = value.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(value).ok()?).ok()?;
    let (user, _) = decoded.split_once(':').unwrap_or((&decoded, ""));
    Some(user.to_owned())
}

fn check_content_type(incoming: &Incoming) -> Result<(), StripeError> {
    let given = incoming.headers.get(CONTENT_TYPE);
    let is_form = given
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| {
            let kind = value.split(';').next().unwrap_or_default().trim();
            kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
        });
    if incoming.body.is_empty() || is_form {
        return Ok(());
    }
    Err(StripeError::invalid(
        "Invalid request (check that your POST content type is application/x-www-form-urlencoded). If you \
         have questions, we can help at https://support.stripe.com/.",
    ))
}

fn read_key(header: &HeaderValue, incoming: &Incoming) -> Result<Key, StripeError> {
    let refused = |why: String| StripeError::invalid(format!("Invalid Idempotency-Key: {why}"));
    let text = header
        .to_str()
        .map_err(|_| refused("it must be printable ASCII.".to_owned()))?;
    if text.is_empty() || text.len() > KEY_MAX {
        return Err(refused(format!("it must have 1 to {KEY_MAX} characters.")));
    }
    let asked = id::digest(&[
        incoming.method.as_str().as_bytes(),
        incoming.path.as_bytes(),
        &incoming.body,
    ]);
    Ok(Key::new(text.to_owned(), asked))
}

/// An answer in JSON.
pub(crate) fn json(status: u16, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(body.into().into());
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(
        http::header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-store"),
    );
    response
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// A response that never comes: its body fails before anything is sent, which makes the server close the
/// connection.
fn broken_off() -> Response {
    let failing = futures_util::stream::once(async {
        Err::<Bytes, _>(std::io::Error::other(
            "a planned fault breaks the connection",
        ))
    });
    warp::reply::stream(failing).into_response()
}
