//! A customer's hands: the public API and the bank's page. Everything that is said is written down.

use super::wish::{Offer, OnSale, Wish};
use anyhow::{Context, Result, ensure};
use checker::journal::{Entry, What};
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// A customer who is not answered by then asks again.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);
/// A connection of a stream that says nothing for so long is given up; it shows its life every 15 s.
const SILENCE: Duration = Duration::from_secs(20);
const PAYING_EVERY: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_millis(300);
/// Whoever has waited for long looks again after this part of the time: the crowd that a fault of minutes
/// leaves waiting must not be the load of the machine on which the recovery is measured.
const PATIENCE: u32 = 10;
/// An offer with fewer places is one of few, an offer with more one of plenty.
const FEW: i64 = 40;
const PLENTY: i64 = 300;

/// An order that was accepted.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) id: Uuid,
    token: String,
}

/// Why a customer sends his order again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// It was not taken, and he was told so.
    NotTaken,
    /// Nobody answered, or nobody knew: it may have been taken.
    Unknown,
}

/// The gateways as customers know them.
pub(crate) struct Shop {
    gateways: Vec<String>,
    provider: String,
    http: reqwest::Client,
    streaming: reqwest::Client,
    journal: Arc<Mutex<Vec<Entry>>>,
    /// How long a customer waits to be asked for authentication.
    pub(super) stays: Duration,
    /// How long a customer tries to be heard.
    pub(super) persists: Duration,
}

impl Shop {
    pub(crate) fn at(
        gateways: &[String],
        provider: &str,
        journal: Arc<Mutex<Vec<Entry>>>,
        stays: Duration,
        persists: Duration,
    ) -> Result<Self> {
        let client = reqwest::Client::builder().connect_timeout(Duration::from_secs(2));
        Ok(Self {
            gateways: gateways.to_owned(),
            provider: provider.to_owned(),
            http: client.timeout(ANSWER_WITHIN).build()?,
            streaming: reqwest::Client::builder().read_timeout(SILENCE).build()?,
            journal,
            stays,
            persists,
        })
    }

    fn note(&self, what: What) {
        let at = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let at_ms = i64::try_from(at.as_millis()).unwrap_or_default();
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.push(Entry { at_ms, what });
    }

    fn gateway(&self, number: usize) -> &str {
        &self.gateways[number % self.gateways.len()]
    }

    /// What is on sale: offers of which there is plenty, each of another event, and those of few places.
    pub(crate) async fn on_sale(&self) -> Result<OnSale> {
        let mut on_sale = OnSale::default();
        for filter in ["accessible=false&sort=price", "accessible=true&sort=price"] {
            let list = self
                .get(&format!("/v1/events?available=true&{filter}&limit=60"))
                .await?;
            for event in list["data"].as_array().into_iter().flatten() {
                let id = event["id"].as_str().context("an event without id")?;
                let event = self.get(&format!("/v1/events/{id}")).await?;
                let offers = event["offers"].as_array().into_iter().flatten();
                let offers: Vec<Offer> = offers
                    .filter_map(|offer| {
                        let id = offer["id"].as_str()?.parse().ok()?;
                        Some(Offer {
                            id,
                            remaining: offer["remaining"].as_i64()?,
                        })
                    })
                    .collect();
                let plenty = offers.iter().find(|offer| offer.remaining > PLENTY);
                on_sale.plenty.extend(plenty.cloned());
                on_sale.few.extend(
                    offers
                        .iter()
                        .find(|offer| (1..FEW).contains(&offer.remaining))
                        .cloned(),
                );
            }
        }
        ensure!(!on_sale.plenty.is_empty(), "nothing is on sale");
        // A handful: they are to be sold out.
        on_sale.few.truncate(3);
        if on_sale.few.is_empty() {
            on_sale.few.extend(on_sale.plenty.first().cloned());
        }
        Ok(on_sale)
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let answer = self
            .http
            .get(format!("{}{path}", self.gateway(0)))
            .send()
            .await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// Has the provider charge this customer and say so late, and then not at all, and answers the plan's id. If the provider does
    /// not hear of it, it does not.
    pub(crate) async fn pays_slowly(&self, wish: &Wish, time: Duration) -> Option<String> {
        let plan = json!({
            "on": "confirm",
            "match": {"receipt_email": wish.body["email"]},
            "fault": "timeout_after",
            "hold_ms": time.as_millis(),
            "times": 1,
        });
        let plans = format!("{}/_sim/faults", self.provider);
        let planned = self.http.post(plans).body(plan.to_string()).send();
        let planned: Value = planned.await.ok()?.json().await.ok()?;
        Some(planned["id"].as_str()?.to_owned())
    }

    /// Waits until that is under way: the provider forgets a plan that was met.
    pub(crate) async fn until_paying(&self, plan: &str) {
        let plans = format!("{}/_sim/faults", self.provider);
        let began = Instant::now();
        while began.elapsed() < ANSWER_WITHIN {
            let listed = self.http.get(&plans).send();
            if let Ok(Ok(listed)) = listed.await.map(|answer| answer.error_for_status())
                && let Ok(text) = listed.text().await
                && !text.contains(plan)
            {
                return;
            }
            sleep(PAYING_EVERY).await;
        }
    }

    /// Sends an order. It is accepted, or refused for good (none), or to be sent again.
    pub(crate) async fn place(&self, wish: &Wish, gateway: usize) -> Result<Option<Placed>, Again> {
        let key = wish.key.clone();
        let body = wish.body.to_string();
        self.note(What::Asked {
            key: key.clone(),
            body: body.clone(),
        });
        let request = self
            .http
            .post(format!("{}/v1/orders", self.gateway(gateway)))
            .header("idempotency-key", &key)
            .header("content-type", "application/json")
            .body(body);
        let heard = async {
            let answer = request.send().await?;
            let status = answer.status().as_u16();
            Ok::<_, reqwest::Error>((status, answer.text().await?))
        };
        let Ok((status, body)) = heard.await else {
            self.note(What::Unheard { key });
            return Err(Again::Unknown);
        };
        let answer: Value = serde_json::from_str(&body).unwrap_or_default();
        let placed = (status == 202).then(|| {
            let token = answer["access_token"].as_str()?.to_owned();
            Some(Placed {
                id: answer["id"].as_str()?.parse().ok()?,
                token,
            })
        });
        let placed = placed.flatten();
        let order = placed.as_ref().map(|placed| placed.id);
        let not_taken = matches!(
            answer["code"].as_str(),
            Some("rate_limited" | "overloaded" | "payment_unavailable")
        );
        self.note(What::Answered {
            key,
            status,
            body,
            order,
        });
        match status {
            429 | 500.. if not_taken => Err(Again::NotTaken),
            429 | 500.. => Err(Again::Unknown),
            _ => Ok(placed),
        }
    }

    /// The same once, whatever comes.
    pub(crate) async fn try_place(&self, wish: &Wish, gateway: usize) -> Option<Placed> {
        self.place(wish, gateway).await.ok().flatten()
    }

    async fn order(&self, placed: &Placed, gateway: usize) -> Option<Value> {
        let url = format!("{}/v1/orders/{}", self.gateway(gateway), placed.id);
        let answer = self
            .http
            .get(url)
            .bearer_auth(&placed.token)
            .send()
            .await
            .ok()?;
        answer.error_for_status().ok()?.json().await.ok()
    }

    /// The order's status, from whichever gateway answers.
    pub(crate) async fn status(&self, placed: &Placed) -> Option<String> {
        for gateway in 0..self.gateways.len() {
            if let Some(order) = self.order(placed, gateway).await {
                return Some(order["status"].as_str()?.to_owned());
            }
        }
        None
    }

    /// Asks for the order's end; the status of the answer.
    pub(crate) async fn cancel(&self, placed: &Placed, gateway: usize) -> Option<u16> {
        let url = format!("{}/v1/orders/{}/cancel", self.gateway(gateway), placed.id);
        let answer = self.http.post(url).bearer_auth(&placed.token).send().await;
        let status = answer.ok().map(|answer| answer.status().as_u16());
        self.note(What::Cancelled {
            order: placed.id,
            status,
        });
        status
    }

    /// Looks at the order until its end.
    pub(crate) async fn watch(&self, placed: &Placed) {
        let began = Instant::now();
        loop {
            let status = self.status(placed).await;
            if matches!(status.as_deref(), Some("confirmed" | "cancelled")) {
                return;
            }
            pause(began).await;
        }
    }

    /// Follows the order's stream until its end, coming back when it breaks, to another gateway.
    pub(crate) async fn follow(&self, placed: &Placed) {
        let (mut last, mut gateway) = (0, 0);
        loop {
            if self.stream(placed, gateway, &mut last).await {
                return;
            }
            gateway += 1;
            sleep(PAUSE).await;
        }
    }

    /// One connection's worth of it; whether the end was told.
    async fn stream(&self, placed: &Placed, gateway: usize, last: &mut i64) -> bool {
        let url = format!("{}/v1/orders/{}/stream", self.gateway(gateway), placed.id);
        let request = self.streaming.get(url).bearer_auth(&placed.token);
        let request = request.header("last-event-id", last.to_string());
        let Ok(Ok(mut answer)) = tokio::time::timeout(ANSWER_WITHIN, request.send()).await else {
            return false;
        };
        if !answer.status().is_success() {
            return false;
        }
        let (mut text, mut ended) = (String::new(), false);
        while let Ok(Some(bytes)) = answer.chunk().await {
            text += &String::from_utf8_lossy(&bytes);
            while let Some((event, rest)) = text.split_once("\n\n") {
                if let Some((rev, status)) = read(event) {
                    *last = rev;
                    ended |= matches!(status.as_str(), "confirmed" | "cancelled");
                    self.note(What::Told {
                        order: placed.id,
                        rev,
                        status,
                    });
                }
                text = rest.to_owned();
            }
        }
        ended
    }

    /// Goes without having been told an end.
    pub(crate) fn leaves(&self, placed: &Placed) {
        self.note(What::Left { order: placed.id });
    }

    /// Goes to the bank's page when there is one, and answers it.
    pub(crate) async fn authenticate(&self, placed: &Placed, decision: &str) {
        let began = Instant::now();
        let mut gateway = 0;
        while began.elapsed() < self.stays {
            gateway += 1;
            if let Some(order) = self.order(placed, gateway).await {
                let over = matches!(
                    order["status"].as_str(),
                    Some("confirmed" | "cancelling" | "cancelled")
                );
                if over {
                    return;
                }
                if let Some(page) = order["next_action"]["redirect_url"].as_str() {
                    let approves = decision == "approve";
                    let order = placed.id;
                    self.note(What::Authenticated { order, approves });
                    let form = [("decision", decision)];
                    // Where it leads back to may be down; what counts is the decision.
                    let _ = self.http.post(page).form(&form).send().await;
                }
            }
            pause(began).await;
        }
    }
}

/// Until somebody who has been waiting since then looks again.
pub(crate) async fn pause(began: Instant) {
    sleep(PAUSE.max(began.elapsed() / PATIENCE)).await;
}

/// An event of a stream: its id and the status it tells.
fn read(event: &str) -> Option<(i64, String)> {
    let field = |name: &str| {
        let line = event
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim)
    };
    let data: Value = serde_json::from_str(field("data")?).ok()?;
    Some((
        field("id")?.parse().ok()?,
        data["status"].as_str()?.to_owned(),
    ))
}
