//! A small typed client of Stripe's API: PaymentIntents and refunds, nothing else.
//!
//! Each POST bears an `Idempotency-Key` made of the effect key, the operation and a generation. The
//! provider keeps the answer of a key for a day and gives it again, *a stored 500 too*; such a
//! replay (it says so in `Idempotent-Replayed`) is got past with the next generation, at once, with
//! at most [`GENERATIONS_MAX`] of them; then the answer is [`Classified::Spent`]. The keys only spare work: that a payment is captured at most
//! once follows from one intent per order that is ever confirmed, whose id is in the ledger before that. (Where all
//! keys of an effect are spent, a command's own key makes another one; if that answer is lost, an intent is left
//! at the provider that nobody confirms.)

mod classify;
mod list;
mod model;

pub use classify::{Answer, Classified, Operation, classify, refusal_of};
pub use list::Page;
pub use model::{
    ApiError, Card, Charge, Expandable, Intent, IntentId, Metadata, NextAction, PaymentMethod,
    RedirectToUrl, Refund, Status,
};

use super::flow::Provider;
use contract::{
    Money,
    crash::{self, Point, Request},
};
use reqwest::{
    Method, Response,
    header::{HeaderMap, HeaderValue},
};
use runtime::metrics;
use serde::de::DeserializeOwned;
use std::{
    fmt,
    sync::LazyLock,
    time::{Duration, Instant},
};
use url::Url;

/// The version of the API the model was written for.
pub const API_VERSION: &str = "2025-09-30.clover";

/// How many keys one request may use to get past answers that are stored with a key.
pub const GENERATIONS_MAX: u32 = 4;

/// No answer is read beyond this; an intent with everything expanded has about 8 KiB, and a page has 100.
const BODY_MAX_BYTES: usize = 2 * 1024 * 1024;

/// How long an idle connection is kept. Below the provider's own time-out: a connection that it closes
/// at the moment of our POST costs an ambiguous answer.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// The longest pause that the provider may ask for.
const RETRY_AFTER_MAX_S: u32 = 3_600;

static REQUESTS: LazyLock<metrics::HistogramVec> = LazyLock::new(|| {
    metrics::latencies(
        "guichet_pay_provider_request_seconds",
        "Requests to the payment provider, by operation and what came of them",
        &["operation", "result"],
    )
});

/// How to reach the provider.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where its API is, without `/v1`.
    pub url: Url,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long a request may take in all.
    pub timeout: Duration,
    /// How many idle connections are kept.
    pub idle_connections_max: usize,
}

/// The client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The secret key cannot stand in a header.
    #[error("pay.secret_key has characters that a header cannot carry")]
    SecretKey,
    /// The TLS or connection settings were refused.
    #[error("the HTTP client of the payment provider cannot be made")]
    Client(#[source] reqwest::Error),
}

/// The client; cheap to clone, its connections are shared.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The HTTP client's own Debug would show the default headers.
        f.debug_struct("Client").field("url", &self.url).finish()
    }
}

/// A new intent.
#[derive(Clone, Copy, Debug)]
pub struct NewIntent<'a> {
    /// What it is for; returned in `metadata[order_id]`.
    pub order_id: &'a str,
    /// What to charge.
    pub total: Money,
    /// The provider's id of a payment method (`pm_…`).
    pub payment_method: &'a str,
    /// Where the provider sends its receipt.
    pub receipt_email: &'a str,
    /// Whether its confirmation captures.
    pub capture_method: CaptureMethod,
}

/// Whether what the bank has authorised is captured at once or by a request of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureMethod {
    /// The confirmation captures.
    Automatic,
    /// [`Client::capture`] does; until then a cancel costs nobody anything. The bank lets go of what is
    /// not captured after some days (7, as a rule).
    Manual,
}

impl CaptureMethod {
    /// The provider's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Automatic => "automatic",
            Self::Manual => "manual",
        }
    }
}

type Form<'a> = Vec<(&'static str, std::borrow::Cow<'a, str>)>;

impl Client {
    /// Makes the client. Connections are opened when they are first needed.
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn new(settings: &Settings, secret_key: &str) -> Result<Self, SetupError> {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {secret_key}"))
            .map_err(|_| SetupError::SecretKey)?;
        bearer.set_sensitive(true);
        let headers = HeaderMap::from_iter([
            (reqwest::header::AUTHORIZATION, bearer),
            (
                reqwest::header::HeaderName::from_static("stripe-version"),
                HeaderValue::from_static(API_VERSION),
            ),
        ]);
        let http = reqwest::Client::builder()
            .user_agent(concat!("guichet/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .connect_timeout(settings.connect_timeout)
            .timeout(settings.timeout)
            .pool_max_idle_per_host(settings.idle_connections_max)
            .pool_idle_timeout(IDLE_MAX)
            .build()
            .map_err(SetupError::Client)?;
        Ok(Self {
            http,
            url: settings.url.as_str().trim_end_matches('/').to_owned(),
        })
    }

    /// Makes an intent with its payment method attached, and does not confirm it: nothing is charged.
    ///
    /// # Errors
    /// What the answer tells, see [`Classified`].
    pub async fn create(&self, key: &str, new: &NewIntent<'_>) -> Result<Intent, Classified> {
        let form: Form<'_> = vec![
            ("amount", new.total.amount_minor.to_string().into()),
            (
                "currency",
                new.total.currency.code().to_ascii_lowercase().into(),
            ),
            ("payment_method", new.payment_method.into()),
            ("payment_method_types[]", "card".into()),
            ("capture_method", new.capture_method.as_str().into()),
            ("receipt_email", new.receipt_email.into()),
            ("metadata[order_id]", new.order_id.into()),
            ("expand[]", "payment_method".into()),
        ];
        self.post(Operation::Create, key, "/v1/payment_intents", &form)
            .await
    }

    /// Charges an intent.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub async fn confirm(
        &self,
        key: &str,
        id: &IntentId,
        return_url: &str,
    ) -> Result<Intent, Classified> {
        let form: Form<'_> = vec![
            ("return_url", return_url.into()),
            ("expand[]", "payment_method".into()),
        ];
        let path = format!("/v1/payment_intents/{id}/confirm");
        self.post(Operation::Confirm, key, &path, &form).await
    }

    /// Takes what an intent of [`CaptureMethod::Manual`] has authorised, all of it or less: what is left
    /// is let go. There is one capture of an intent.
    ///
    /// # Errors
    /// As [`Self::create`]; [`Classified::OtherState`] when nothing waits to be captured (it was
    /// captured already, is cancelled, or the authorisation has expired).
    pub async fn capture(
        &self,
        key: &str,
        id: &IntentId,
        amount_minor: i64,
    ) -> Result<Intent, Classified> {
        let form: Form<'_> = vec![
            ("amount_to_capture", amount_minor.to_string().into()),
            ("expand[]", "payment_method".into()),
        ];
        let path = format!("/v1/payment_intents/{id}/capture");
        self.post(Operation::Capture, key, &path, &form).await
    }

    /// Ends an intent without a charge.
    ///
    /// # Errors
    /// As [`Self::create`]; [`Classified::OtherState`] when it has ended already.
    pub async fn cancel(&self, key: &str, id: &IntentId) -> Result<Intent, Classified> {
        let path = format!("/v1/payment_intents/{id}/cancel");
        self.post(Operation::Cancel, key, &path, &Form::new()).await
    }

    /// Reads an intent, its payment method and charge expanded.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub async fn retrieve(&self, id: &IntentId) -> Result<Intent, Classified> {
        let path =
            format!("/v1/payment_intents/{id}?expand[]=payment_method&expand[]=latest_charge");
        self.timed(
            Operation::Retrieve,
            self.send(Method::GET, &path, None, None),
        )
        .await
        .map_err(|failure| classify(Operation::Retrieve, failure.answer))
    }

    /// Gives back a part of what an intent captured. The provider never gives back more than that,
    /// whatever it is asked. The refund may be pending, see [`Refund::status`].
    ///
    /// # Errors
    /// As [`Self::create`].
    pub async fn refund(
        &self,
        key: &str,
        id: &IntentId,
        amount_minor: i64,
    ) -> Result<Refund, Classified> {
        let form: Form<'_> = vec![
            ("payment_intent", id.as_str().into()),
            ("amount", amount_minor.to_string().into()),
        ];
        self.post(Operation::Refund, key, "/v1/refunds", &form)
            .await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        operation: Operation,
        effect_key: &str,
        path: &str,
        form: &Form<'_>,
    ) -> Result<T, Classified> {
        let mut generation = 0;
        loop {
            let key = format!("{effect_key}/{}/{generation}", operation.as_str());
            let sending = self.send(Method::POST, path, Some(&key), Some(form));
            match self.timed(operation, sending).await {
                Ok(object) => return Ok(object),
                Err(failure) if failure.key_is_spent() && generation + 1 < GENERATIONS_MAX => {
                    generation += 1;
                }
                Err(failure) if failure.key_is_spent() => return Err(Classified::Spent),
                Err(failure) => return Err(classify(operation, failure.answer)),
            }
        }
    }

    async fn timed<T>(
        &self,
        operation: Operation,
        sending: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let started = Instant::now();
        crash::at(Point::Provider(operation.as_str(), Request::Before));
        let result = sending.await;
        crash::at(Point::Provider(operation.as_str(), Request::After));
        let label = match &result {
            Ok(_) => "ok",
            Err(failure) => classify(operation, failure.answer.clone()).as_str(),
        };
        REQUESTS
            .with_label_values(&[operation.as_str(), label])
            .observe(started.elapsed().as_secs_f64());
        result
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        key: Option<&str>,
        form: Option<&Form<'_>>,
    ) -> Result<T, Failure> {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if let Some(form) = form {
            request = request.form(form);
        }
        let response = request.send().await.map_err(|error| Failure::of(&error))?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let body = read(response).await?;
        if (200..300).contains(&status) {
            return serde_json::from_slice(&body).map_err(|error| {
                // It did what was asked, in words we cannot read.
                tracing::warn!(%error, "an answer of the payment provider cannot be read");
                Failure::from(Answer::Lost)
            });
        }
        let error = serde_json::from_slice::<model::ErrorBody>(&body)
            .map(|body| body.error)
            .unwrap_or_default();
        Err(Failure {
            replayed: headers
                .get("idempotent-replayed")
                .is_some_and(|v| v == "true"),
            answer: Answer::Error {
                status,
                error,
                retry_after_ms: retry_after_ms(&headers),
            },
        })
    }
}

/// An answer that is not the object asked for.
struct Failure {
    answer: Answer,
    /// The provider gave an answer again that it had stored with the key.
    replayed: bool,
}

impl From<Answer> for Failure {
    fn from(answer: Answer) -> Self {
        Self {
            answer,
            replayed: false,
        }
    }
}

impl Failure {
    fn of(error: &reqwest::Error) -> Self {
        // A request that cannot be built did not leave either.
        if error.is_connect() || error.is_builder() {
            Answer::NotSent.into()
        } else {
            Answer::Lost.into()
        }
    }

    /// Whether the key gives nothing but an old answer any more: a stored 5xx, or that it was used
    /// with other parameters (the same request before a setting was changed).
    fn key_is_spent(&self) -> bool {
        match &self.answer {
            Answer::Error { status: 500.., .. } => self.replayed,
            Answer::Error {
                status: 400, error, ..
            } => error.kind == "idempotency_error",
            Answer::Error { .. } | Answer::NotSent | Answer::Lost => false,
        }
    }
}

async fn read(mut response: Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= BODY_MAX_BYTES => {
                body.extend_from_slice(&chunk);
            }
            Ok(None) => return Ok(body),
            Ok(Some(_)) => {
                tracing::warn!("an answer of the payment provider is too long");
                return Err(Answer::Lost.into());
            }
            Err(_) => return Err(Answer::Lost.into()),
        }
    }
}

/// `Retry-After` in seconds (the form with a date is not used by the provider), at most an hour.
fn retry_after_ms(headers: &HeaderMap) -> Option<u32> {
    let seconds: u32 = headers
        .get(reqwest::header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(seconds.min(RETRY_AFTER_MAX_S) * 1_000)
}

impl Provider for Client {
    async fn create(&self, key: &str, new: &NewIntent<'_>) -> Result<Intent, Classified> {
        Self::create(self, key, new).await
    }

    async fn confirm(&self, key: &str, id: &IntentId, url: &str) -> Result<Intent, Classified> {
        Self::confirm(self, key, id, url).await
    }

    async fn capture(
        &self,
        key: &str,
        id: &IntentId,
        amount_minor: i64,
    ) -> Result<Intent, Classified> {
        Self::capture(self, key, id, amount_minor).await
    }

    async fn cancel(&self, key: &str, id: &IntentId) -> Result<Intent, Classified> {
        Self::cancel(self, key, id).await
    }

    async fn retrieve(&self, id: &IntentId) -> Result<Intent, Classified> {
        Self::retrieve(self, id).await
    }

    async fn refund(
        &self,
        key: &str,
        id: &IntentId,
        amount_minor: i64,
    ) -> Result<Refund, Classified> {
        Self::refund(self, key, id, amount_minor).await
    }

    async fn refunds(&self, id: &IntentId) -> Result<Vec<Refund>, Classified> {
        Self::refunds(self, id).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_key_is_never_shown() {
        let settings = Settings {
            url: "http://127.0.0.1:1".parse().expect("a URL"),
            connect_timeout: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            idle_connections_max: 1,
        };
        let client = Client::new(&settings, "sk_test_hidden").expect("sound settings");
        assert!(!format!("{client:?}").contains("hidden"));
        assert!(Client::new(&settings, "sk\r\nX-Evil: 1").is_err());
    }

    #[test]
    fn a_pause_is_asked_for_in_seconds_and_bounded() {
        let of = |text: &'static str| {
            let headers = HeaderMap::from_iter([(
                reqwest::header::RETRY_AFTER,
                HeaderValue::from_static(text),
            )]);
            retry_after_ms(&headers)
        };
        assert_eq!(of("2"), Some(2_000));
        assert_eq!(of("999999"), Some(3_600_000));
        assert_eq!(of("Wed, 21 Oct 2015 07:28:00 GMT"), None);
    }
}
