//! A customer's and an operator's hands: the public API, the provider's books, the database.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use contract::OrderId;
use database::{Connection, Pool};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// How long an order may take to reach what is waited for.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// How long one request may take.
const REQUEST_WITHIN: Duration = Duration::from_secs(20);

/// Where everything is.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// The gateway, as `http://127.0.0.1:8080`.
    pub(crate) gateway: String,
    /// The payment simulator.
    pub(crate) psp: String,
    /// The database's URL.
    pub(crate) database: String,
    /// Where mail is dropped.
    pub(crate) mail: PathBuf,
}

/// An order as the one who placed it holds it.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub(crate) id: OrderId,
    token: String,
}

/// The shop.
pub(crate) struct Shop {
    http: reqwest::Client,
    pub(crate) places: Places,
    pool: Pool,
    /// Of this run, so that purchase limits of an earlier one do not count.
    run: String,
}

impl Shop {
    pub(crate) async fn open(places: Places) -> Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(REQUEST_WITHIN)
            .build()
            .context("cannot make an HTTP client")?;
        let pool = database::pool(&database::Config::new(&places.database, "guichet demo"))?;
        let run = Uuid::now_v7().simple().to_string();
        Ok(Self {
            http,
            places,
            pool,
            run: run[20..].to_owned(),
        })
    }

    /// An e-mail address that only this run uses.
    pub(crate) fn email(&self, name: &str) -> String {
        format!("{name}.{}@example.org", self.run)
    }

    /// Digits that only this run uses.
    pub(crate) fn digits(&self) -> String {
        self.run
            .bytes()
            .map(|byte| char::from(b'0' + byte % 10))
            .collect()
    }

    pub(crate) async fn connection(&self) -> Result<impl std::ops::DerefMut<Target = Connection>> {
        self.pool.get().await.context("cannot reach the database")
    }

    /// JSON of a path of the gateway.
    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        let response = self
            .http
            .get(format!("{}{path}", self.places.gateway))
            .send()
            .await;
        let response = response.context("the gateway does not answer")?;
        let status = response.status();
        let body: Value = response
            .json()
            .await
            .context("the gateway's answer is no JSON")?;
        if !status.is_success() {
            bail!("{path}: {status} {}", body["code"]);
        }
        Ok(body)
    }

    /// Places an order for lines of (offer, quantity).
    pub(crate) async fn place(&self, order: &Value) -> Result<Placed> {
        let response = self
            .http
            .post(format!("{}/v1/orders", self.places.gateway))
            .header("idempotency-key", Uuid::now_v7().to_string())
            .json(order)
            .send()
            .await
            .context("the gateway does not answer")?;
        let status = response.status();
        let body: Value = response
            .json()
            .await
            .context("the gateway's answer is no JSON")?;
        let (Some(id), Some(token)) = (body["id"].as_str(), body["access_token"].as_str()) else {
            bail!(
                "the order was not accepted: {status} {} {}",
                body["code"],
                body["detail"]
            );
        };
        Ok(Placed {
            id: id.parse()?,
            token: token.to_owned(),
        })
    }

    /// The order as its customer sees it.
    pub(crate) async fn order(&self, placed: &Placed) -> Result<Value> {
        self.get(&format!("/v1/orders/{}?token={}", placed.id, placed.token))
            .await
    }

    /// Waits until `wanted` is true of the order.
    pub(crate) async fn until(
        &self,
        placed: &Placed,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let order = self.order(placed).await?;
            if wanted(&order) {
                return Ok(order);
            }
            if Instant::now() > deadline {
                bail!(
                    "not {what} within {} s: {}",
                    PATIENCE.as_secs(),
                    order["status"]
                );
            }
            sleep(PAUSE).await;
        }
    }

    /// Waits until the order is confirmed or cancelled.
    pub(crate) async fn end(&self, placed: &Placed) -> Result<Value> {
        let ended =
            |order: &Value| order["status"] == "confirmed" || order["status"] == "cancelled";
        self.until(placed, "decided", ended).await
    }

    /// Plans a fault for the payments of one e-mail address.
    pub(crate) async fn plan_fault(
        &self,
        email: &str,
        on: &str,
        fault: Value,
        times: u32,
    ) -> Result<()> {
        let plan =
            json!({"match": {"receipt_email": email}, "on": on, "fault": fault, "times": times});
        let response = self
            .http
            .post(format!("{}/_sim/faults", self.places.psp))
            .json(&plan)
            .send()
            .await
            .context("the payment simulator does not answer")?;
        if !response.status().is_success() {
            bail!(
                "the payment simulator refuses the fault: {}",
                response.text().await?
            );
        }
        Ok(())
    }

    /// How many times the faults planned for an e-mail address have not been met yet: a plan that is
    /// used up is no longer listed.
    pub(crate) async fn faults_left(&self, email: &str) -> Result<u64> {
        let url = format!("{}/_sim/faults", self.places.psp);
        let plans: Value = self.http.get(url).send().await?.json().await?;
        let plans = plans["data"].as_array().context("no list of faults")?;
        let ours = plans
            .iter()
            .filter(|plan| plan["match"]["receipt_email"] == email);
        Ok(ours.filter_map(|plan| plan["remaining"].as_u64()).sum())
    }

    /// The definition that an order runs by.
    pub(crate) async fn definition(&self, placed: &Placed) -> Result<String> {
        let mut connection = self.connection().await?;
        let ours = engine::definitions::Definitions::ours();
        let saga = engine::view::read(&mut connection, &ours, placed.id.into()).await?;
        Ok(saga.context("the order has no saga")?.definition)
    }

    /// What the provider's own books say of an order: captured minus refunded, in minor units, and
    /// how many captures there were.
    pub(crate) async fn books(&self, placed: &Placed) -> Result<(i64, usize)> {
        let url = format!("{}/_sim/ledger?reference={}", self.places.psp, placed.id);
        let ledger: Value = self.http.get(url).send().await?.json().await?;
        let entries = ledger["entries"].as_array().cloned().unwrap_or_default();
        let sum = |kind: &str| -> i64 {
            let of_kind = entries.iter().filter(|entry| entry["type"] == kind);
            of_kind.filter_map(|entry| entry["amount"].as_i64()).sum()
        };
        let captures = entries
            .iter()
            .filter(|entry| entry["type"] == "captured")
            .count();
        Ok((sum("captured") - sum("refunded"), captures))
    }
}
