//! A simulator of one's own on a free port with a ledger of its own, and a client for it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use psp::Config;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) const KEY: &str = "sk_test_of_these_tests";

/// A folder that is gone at the end.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        let name = format!("psp-test-{}", uuid::Uuid::now_v7());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("the temporary folder is writable");
        Self(path)
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.0.join("ledger.jsonl")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn config(ledger: &Path) -> Config {
    Config {
        ledger_path: ledger.to_owned(),
        secret_key: KEY.into(),
        ..Config::default()
    }
}

/// A running simulator.
pub(crate) struct Sim {
    pub(crate) api: Api,
    pub(crate) scratch: Scratch,
    _running: DropGuard,
}

impl Sim {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let scratch = Scratch::new();
        let mut config = config(&scratch.ledger());
        change(&mut config);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let shutdown = CancellationToken::new();
        let running = shutdown.clone().drop_guard();
        tokio::spawn(async move {
            let served = psp::run(config, listener, shutdown).await;
            served.expect("the simulator starts");
        });
        Self {
            api: Api::new(format!("http://{addr}")),
            scratch,
            _running: running,
        }
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
    pub(crate) json: Value,
}

impl Answer {
    /// The object of a 200.
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json
    }

    /// The error of any other status.
    pub(crate) fn error(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json["error"].clone()
    }

    pub(crate) fn is_replay(&self) -> bool {
        self.headers
            .get("idempotent-replayed")
            .is_some_and(|value| value == "true")
    }
}

/// A client of one simulator.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pub(crate) base: String,
    pub(crate) client: Client,
}

/// The parameters of a request.
pub(crate) type Form<'a> = &'a [(&'a str, &'a str)];

impl Api {
    pub(crate) fn new(base: String) -> Self {
        let client = Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(20))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("a client");
        Self { base, client }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.base);
        self.client.request(method, url).bearer_auth(KEY)
    }

    pub(crate) fn posting(&self, path: &str, form: Form<'_>, key: Option<&str>) -> RequestBuilder {
        let request = self.request(Method::POST, path).form(form);
        match key {
            Some(key) => request.header("idempotency-key", key),
            None => request,
        }
    }

    pub(crate) async fn post(&self, path: &str, form: Form<'_>) -> Answer {
        send(self.posting(path, form, None)).await
    }

    pub(crate) async fn post_once(&self, path: &str, form: Form<'_>, key: &str) -> Answer {
        send(self.posting(path, form, Some(key))).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    /// Creates an intent of 12,500 cents for `order`, with these parameters besides.
    pub(crate) async fn create(&self, order: &str, method: &str, more: Form<'_>) -> Value {
        let mut form = vec![
            ("amount", "12500"),
            ("currency", "eur"),
            ("metadata[order_id]", order),
            ("payment_method", method),
            ("receipt_email", "a@example.com"),
        ];
        form.extend_from_slice(more);
        self.post("/v1/payment_intents", &form).await.ok()
    }

    pub(crate) async fn confirm(&self, intent: &Value) -> Answer {
        self.post(&format!("{}/confirm", path_of(intent)), &[])
            .await
    }

    pub(crate) async fn plan(&self, plan: Value) -> Value {
        let request = self.request(Method::POST, "/_sim/faults").json(&plan);
        let answer = send(request).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.json
    }

    /// The ledger's lines for an order, as `type amount`.
    pub(crate) async fn ledger(&self, order: &str) -> Vec<String> {
        let found = self
            .get(&format!("/_sim/ledger?reference={order}"))
            .await
            .ok();
        let entries = found["entries"].as_array().expect("a list").clone();
        let line = |entry: Value| {
            assert_eq!(entry["reference"], order);
            format!("{} {}", text(&entry["type"]), entry["amount"])
        };
        entries.into_iter().map(line).collect()
    }
}

pub(crate) async fn send(request: RequestBuilder) -> Answer {
    let response = request.send().await.expect("an answer");
    let status = response.status();
    let headers = response.headers().clone();
    let text = response.text().await.expect("a body");
    let json = serde_json::from_str(&text).unwrap_or(Value::Null);
    Answer {
        status,
        headers,
        text,
        json,
    }
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

pub(crate) fn path_of(intent: &Value) -> String {
    format!("/v1/payment_intents/{}", text(&intent["id"]))
}

/// Asks again until it is so, for ten seconds at most.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not in ten seconds: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
