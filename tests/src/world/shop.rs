//! A customer: places orders over HTTP and follows their streams to the end.

use super::{PATIENCE, catalogue::Offer, until};
use contract::OrderId;
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

/// What a customer wants.
#[derive(Clone, Debug)]
pub struct Wish {
    body: Value,
    key: String,
    traceparent: Option<String>,
}

impl Wish {
    /// Some of an offer, paid with a good card, by a buyer of its own who reads English.
    #[must_use]
    pub fn of(offer: Offer, quantity: i32) -> Self {
        let buyer = letters(Uuid::now_v7());
        let body = json!({
            "items": [],
            "payment": {"method": "pm_card_visa"},
            "email": format!("ada.{buyer}@example.org"),
            "name": "Ada Buyer",
            "locale": "en",
        });
        let wish = Self {
            body,
            key: Uuid::now_v7().to_string(),
            traceparent: None,
        };
        wish.and(offer, quantity)
    }

    /// And some of another one, as a further line.
    #[must_use]
    pub fn and(mut self, offer: Offer, quantity: i32) -> Self {
        let lines = self.body["items"].as_array_mut();
        let line = json!({"offer_id": offer.id, "quantity": quantity});
        lines.expect("there are lines").push(line);
        self
    }

    /// For these people, on the last line.
    #[must_use]
    pub fn attended_by(mut self, names: &[&str]) -> Self {
        let names: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
        let lines = self.body["items"].as_array_mut();
        let line = lines.and_then(|lines| lines.last_mut());
        line.expect("there is a line")["attendees"] = names.into();
        self
    }

    /// With a field of the order replaced.
    #[must_use]
    pub fn with(mut self, field: &str, value: &str) -> Self {
        self.body[field] = value.into();
        self
    }

    /// Paid with this payment method.
    #[must_use]
    pub fn paid_with(mut self, method: &str) -> Self {
        self.body["payment"]["method"] = method.into();
        self
    }

    /// As part of a trace of the customer's own.
    #[must_use]
    pub fn traced(mut self, traceparent: String) -> Self {
        self.traceparent = Some(traceparent);
        self
    }

    /// The buyer's address, by which faults are planned before there is an order id.
    #[must_use]
    pub fn email(&self) -> &str {
        self.body["email"].as_str().unwrap_or_default()
    }
}

/// A UUID's digits as letters: addresses full of digits are suspicious.
fn letters(id: Uuid) -> String {
    let digits = id.simple().to_string();
    digits
        .chars()
        .map(|digit| match digit.to_digit(16) {
            Some(digit) => char::from(b'a' + u8::try_from(digit).unwrap_or_default()),
            None => digit,
        })
        .collect()
}

/// An answer of the gateway.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body's bytes.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("not JSON: {}", String::from_utf8_lossy(&self.body)))
    }
}

/// An order that was accepted.
#[derive(Clone, Debug)]
pub struct Placed {
    /// Its id.
    pub id: OrderId,
    /// What opens it.
    pub token: String,
}

/// An event of an order's stream.
#[derive(Clone, Debug)]
pub struct Told {
    /// Its id, by which the stream is resumed.
    pub id: i32,
    /// The order's status.
    pub status: String,
}

/// How an order ended, as its customer saw it.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The statuses of the stream, in their order.
    pub told: Vec<String>,
    /// The order at the end.
    pub order: Value,
}

impl Ended {
    /// `confirmed` or `cancelled`.
    #[must_use]
    pub fn status(&self) -> &str {
        self.order["status"].as_str().unwrap_or_default()
    }

    /// Why it was cancelled.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.order["reason"]["code"].as_str().unwrap_or_default()
    }
}

/// The gateway as a customer knows it.
#[derive(Clone, Debug)]
pub struct Shop {
    url: String,
    http: reqwest::Client,
}

impl Shop {
    /// The gateway at this address.
    ///
    /// # Panics
    /// When there can be no HTTP client.
    #[must_use]
    pub fn at(url: &str) -> Self {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(60))
            .build();
        Self {
            url: url.to_owned(),
            http: http.expect("an HTTP client"),
        }
    }

    /// Sends an order; `None` when nobody answers.
    pub async fn try_place(&self, wish: &Wish) -> Option<Answer> {
        let mut request = self
            .http
            .post(format!("{}/v1/orders", self.url))
            .header("idempotency-key", &wish.key)
            .json(&wish.body);
        if let Some(traceparent) = &wish.traceparent {
            request = request.header("traceparent", traceparent);
        }
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        let body = answer.bytes().await.ok()?.to_vec();
        Some(Answer { status, body })
    }

    /// Places an order, which must be accepted.
    ///
    /// # Panics
    /// When it is not.
    pub async fn place(&self, wish: &Wish) -> Placed {
        let answer = self.try_place(wish).await.expect("the gateway answers");
        Self::accepted(&answer)
    }

    /// What a 202 says.
    ///
    /// # Panics
    /// When it is no 202.
    #[must_use]
    pub fn accepted(answer: &Answer) -> Placed {
        let body = answer.json();
        assert_eq!(answer.status, 202, "{body}");
        let text = |field: &str| body[field].as_str().expect("a text").to_owned();
        Placed {
            id: text("id").parse().expect("an id"),
            token: text("access_token"),
        }
    }

    /// Places an order and follows it to its end.
    ///
    /// # Panics
    /// As [`Self::place`] and [`Self::ended`].
    pub async fn buy(&self, wish: &Wish) -> (Placed, Ended) {
        let placed = self.place(wish).await;
        let ended = self.ended(&placed).await;
        (placed, ended)
    }

    /// The order as it is now; `None` when the gateway does not answer.
    pub async fn look(&self, placed: &Placed) -> Option<Value> {
        let request = self
            .http
            .get(format!("{}/v1/orders/{}", self.url, placed.id))
            .bearer_auth(&placed.token);
        let answer = request.send().await.ok()?;
        if !answer.status().is_success() {
            return None;
        }
        answer.json().await.ok()
    }

    /// Asks for the order's end.
    ///
    /// # Panics
    /// When the gateway does not answer.
    pub async fn cancel(&self, placed: &Placed) -> Answer {
        self.try_cancel(placed).await.expect("the gateway answers")
    }

    /// Asks for the order's end; `None` when nobody answers.
    pub async fn try_cancel(&self, placed: &Placed) -> Option<Answer> {
        let request = self
            .http
            .post(format!("{}/v1/orders/{}/cancel", self.url, placed.id))
            .bearer_auth(&placed.token);
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        let body = answer.bytes().await.ok()?.to_vec();
        Some(Answer { status, body })
    }

    /// Reads the order as a frontend does whose customer is back from the provider's page.
    ///
    /// # Panics
    /// When the gateway does not show it.
    pub async fn come_back(&self, placed: &Placed) -> Value {
        let request = self
            .http
            .get(format!("{}/v1/orders/{}", self.url, placed.id))
            .query(&[("payment_intent", "pi_1"), ("redirect_status", "succeeded")])
            .bearer_auth(&placed.token);
        let answer = request.send().await.expect("the gateway answers");
        assert_eq!(answer.status(), 200);
        answer.json().await.expect("JSON")
    }

    /// What the provider's page sends him to by the default address; the gateway's status.
    ///
    /// # Panics
    /// When the gateway does not answer.
    pub async fn come_back_without_token(&self, placed: &Placed) -> u16 {
        let request = self
            .http
            .get(format!("{}/v1/orders/{}", self.url, placed.id))
            .query(&[("payment_intent", "pi_1"), ("redirect_status", "succeeded")]);
        let answer = request.send().await.expect("the gateway answers");
        answer.status().as_u16()
    }

    /// Waits until the order has a status.
    ///
    /// # Panics
    /// When it takes longer than [`PATIENCE`].
    pub async fn until_status(&self, placed: &Placed, status: &str) -> Value {
        until(&format!("the order is {status}"), async || {
            let order = self.look(placed).await?;
            (order["status"] == status).then_some(order)
        })
        .await
    }

    /// Follows the order's stream to its end, coming back when the connection breaks, and reads the
    /// order then.
    ///
    /// # Panics
    /// When there is no end within [`PATIENCE`], or the stream says another one than the order.
    pub async fn ended(&self, placed: &Placed) -> Ended {
        let mut told: Vec<Told> = Vec::new();
        let follow = async {
            while !told.last().is_some_and(|last| is_end(&last.status)) {
                if !self.follow(placed, &mut told).await {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, follow).await.is_ok();
        let told: Vec<String> = told.into_iter().map(|told| told.status).collect();
        assert!(in_time, "no end of {} in time: {told:?}", placed.id);
        let order = until("the order can be read", || self.look(placed)).await;
        assert_eq!(told.last().map(String::as_str), order["status"].as_str());
        Ended { told, order }
    }

    /// Reads one connection's worth of the stream; `false` if there was none.
    async fn follow(&self, placed: &Placed, told: &mut Vec<Told>) -> bool {
        let after = told.last().map_or(0, |last| last.id);
        let request = self
            .http
            .get(format!("{}/v1/orders/{}/stream", self.url, placed.id))
            .query(&[("token", &placed.token)])
            .header("last-event-id", after.to_string());
        let Ok(mut answer) = request.send().await else {
            return false;
        };
        if !answer.status().is_success() {
            return false;
        }
        let mut text = String::new();
        while let Ok(Some(bytes)) = answer.chunk().await {
            text += &String::from_utf8_lossy(&bytes);
            while let Some((event, rest)) = text.split_once("\n\n") {
                told.extend(read(event));
                text = rest.to_owned();
            }
        }
        true
    }
}

fn is_end(status: &str) -> bool {
    matches!(status, "confirmed" | "cancelled")
}

/// An event of a stream; comments are none.
fn read(event: &str) -> Option<Told> {
    let field = |name: &str| {
        event
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
    };
    let data: Value = serde_json::from_str(field("data")?).ok()?;
    Some(Told {
        id: field("id")?.parse().ok()?,
        status: data["status"].as_str()?.to_owned(),
    })
}
