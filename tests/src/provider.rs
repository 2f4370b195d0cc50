//! A payment simulator of a test's own, spoken to over HTTP only. Its ledger is the judge.

use serde::Deserialize;
use serde_json::{Value, json};
use std::{path::PathBuf, time::Duration};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A line of the simulator's ledger.
#[derive(Clone, Debug, Deserialize)]
pub struct Entry {
    /// The intent.
    pub payment_intent: String,
    /// `authorised`, `captured`, `canceled`, `refunded` or `declined`.
    #[serde(rename = "type")]
    pub kind: String,
    /// In minor units.
    pub amount: i64,
}

/// What the ledger says of an order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// How many captures there were.
    pub captures: usize,
    /// What they captured, in minor units.
    pub captured_minor: i64,
    /// What was given back, in minor units.
    pub refunded_minor: i64,
}

/// The simulator, stopped at the end.
#[derive(Debug)]
pub struct Provider {
    url: String,
    http: reqwest::Client,
    ledger: Option<PathBuf>,
    stop: CancellationToken,
    running: Option<JoinHandle<Result<(), psp::Error>>>,
}

/// The key it takes.
pub const SECRET_KEY: &str = "sk_test_guichet";

/// What it signs its events with.
pub const WEBHOOK_SECRET: &str = "whsec_guichet_test";

impl Provider {
    /// Starts one on a free port. Time-outs hold their connection for 3 s; `fault_rate` is the share
    /// of requests, 0 to 1, that meet a fault without being planned.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn start(fault_rate: f64) -> Self {
        let config = psp::Config {
            fault_rate,
            ..psp::Config::default()
        };
        Self::with(config).await
    }

    /// One that tells the gateway at this address what happens.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn telling(gateway_url: &str) -> Self {
        let config = psp::Config {
            webhook_url: Some(format!("{gateway_url}/v1/psp/webhook")),
            webhook_secret: Some(WEBHOOK_SECRET.into()),
            ..psp::Config::default()
        };
        Self::with(config).await
    }

    async fn with(config: psp::Config) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let ledger = std::env::temp_dir().join(format!("guichet-psp-{}.jsonl", Uuid::now_v7()));
        let config = psp::Config {
            addr,
            ledger_path: ledger.clone(),
            fault_hold_ms: 3_000,
            fault_seed: 7,
            ..config
        };
        let stop = CancellationToken::new();
        let running = tokio::spawn(psp::run(config, listener, stop.clone()));
        Self {
            url: format!("http://{addr}"),
            http: reqwest::Client::new(),
            ledger: Some(ledger),
            stop,
            running: Some(running),
        }
    }

    /// The one at this address, which somebody else runs.
    #[must_use]
    pub fn at(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            http: reqwest::Client::new(),
            ledger: None,
            stop: CancellationToken::new(),
            running: None,
        }
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Plans a fault for requests about one order.
    ///
    /// # Panics
    /// When the simulator refuses the plan.
    pub async fn plan(&self, order: Uuid, on: &str, fault: &Value, times: u32) {
        let matching = json!({ "order_id": order.to_string() });
        self.plan_for(&matching, on, fault, times).await;
    }

    /// Plans a fault for requests that match, such as `{"receipt_email": …}`.
    ///
    /// # Panics
    /// When the simulator refuses the plan.
    pub async fn plan_for(&self, matching: &Value, on: &str, fault: &Value, times: u32) {
        self.plan_as(&json!({ "match": matching, "on": on, "fault": fault, "times": times }))
            .await;
    }

    /// Plans a fault, in the simulator's own words.
    ///
    /// # Panics
    /// When the simulator refuses the plan.
    pub async fn plan_as(&self, plan: &Value) {
        let request = self
            .http
            .post(format!("{}/_sim/faults", self.url))
            .json(plan);
        let answer = request.send().await.expect("the simulator answers");
        assert_eq!(answer.status(), 201, "{:?}", answer.text().await);
    }

    /// Forgets every plan.
    ///
    /// # Panics
    /// When the simulator does not answer.
    pub async fn forget_plans(&self) {
        let request = self.http.delete(format!("{}/_sim/faults", self.url));
        let answer = request.send().await.expect("the simulator answers");
        assert!(answer.status().is_success(), "{answer:?}");
    }

    /// How many plans are still to hit.
    ///
    /// # Panics
    /// When the simulator does not answer.
    pub async fn plans_left(&self) -> usize {
        let plans = self.get("/_sim/faults").await;
        plans["data"].as_array().map_or(0, Vec::len)
    }

    /// What the ledger says of an order.
    ///
    /// # Panics
    /// When the simulator does not answer.
    pub async fn entries(&self, order: Uuid) -> Vec<Entry> {
        let mut ledger = self.get(&format!("/_sim/ledger?reference={order}")).await;
        serde_json::from_value(ledger["entries"].take()).expect("entries")
    }

    /// The sums of an order.
    ///
    /// # Panics
    /// As [`Self::entries`].
    pub async fn balance(&self, order: Uuid) -> Balance {
        let mut balance = Balance::default();
        for entry in self.entries(order).await {
            match entry.kind.as_str() {
                "captured" => {
                    balance.captures += 1;
                    balance.captured_minor += entry.amount;
                }
                "refunded" => balance.refunded_minor += entry.amount,
                _ => {}
            }
        }
        balance
    }

    /// Asks the API as its owner does.
    ///
    /// # Panics
    /// When the simulator does not answer.
    pub async fn api(&self, path: &str, form: &[(&str, &str)]) -> (u16, Value) {
        let request = self.http.post(format!("{}/v1/{path}", self.url));
        let request = request.bearer_auth(SECRET_KEY).form(form);
        let answer = request.send().await.expect("the simulator answers");
        let status = answer.status().as_u16();
        (status, answer.json().await.expect("JSON"))
    }

    /// Whether a request with this idempotency key has not had its effect yet, as the simulator tells
    /// whoever uses the key again.
    pub async fn in_flight(&self, key: &str) -> bool {
        let request = self
            .http
            .post(format!("{}/v1/payment_intents/pi_none/confirm", self.url));
        let request = request
            .bearer_auth(SECRET_KEY)
            .header("idempotency-key", key);
        let request = request.timeout(Duration::from_millis(500));
        request
            .send()
            .await
            .is_ok_and(|answer| answer.status() == 409)
    }

    /// A payment method of a card with this number: the same card for whoever uses it.
    ///
    /// # Panics
    /// When the simulator refuses the card.
    pub async fn card(&self, number: &str) -> String {
        let form = [
            ("type", "card"),
            ("card[number]", number),
            ("card[exp_month]", "12"),
            ("card[exp_year]", "2034"),
            ("card[cvc]", "123"),
        ];
        let (status, method) = self.api("payment_methods", &form).await;
        assert_eq!(status, 200, "{method}");
        method["id"].as_str().expect("an id").to_owned()
    }

    /// Opens the bank's page at `redirect_url` and answers it, as the customer does.
    ///
    /// # Panics
    /// When the page asks nothing, or does not take the answer.
    pub async fn authenticate(&self, redirect_url: &str, decision: &str) {
        let page = self.http.get(redirect_url).send().await;
        let page = page.expect("the page answers").text().await;
        let asks = page.is_ok_and(|text| text.contains(&format!("value=\"{decision}\"")));
        assert!(asks, "{redirect_url}");
        let status = self.try_authenticate(redirect_url, decision).await;
        assert!(status < 400, "{status}");
    }

    /// Answers the page, whatever it asks, and tells how it takes it.
    ///
    /// # Panics
    /// When the page does not answer.
    pub async fn try_authenticate(&self, redirect_url: &str, decision: &str) -> u16 {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("a client");
        let request = client.post(redirect_url).form(&[("decision", decision)]);
        let answer = request.send().await.expect("the page answers");
        answer.status().as_u16()
    }

    async fn get(&self, path: &str) -> Value {
        let request = self.http.get(format!("{}{path}", self.url));
        let answer = request.send().await.expect("the simulator answers");
        answer.json().await.expect("JSON")
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(running) = self.running.take() {
            running.abort();
        }
        // It is in the temporary directory; whatever stays there harms nobody.
        if let Some(ledger) = &self.ledger {
            let _ = std::fs::remove_file(ledger);
        }
    }
}
