//! Orders as customers send them: one ticket each, every buyer another.

use std::net::SocketAddr;

use anyhow::{Result, bail};
use bytes::Bytes;
use diesel_async::AsyncPgConnection;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde::Deserialize;
use uuid::Uuid;

use crate::{connection::Body, postgres};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const GOOD_CARD: &str = "pm_card_visa";
const BAD_CARD: &str = "pm_card_visa_chargeDeclined";

/// What is ordered, number by number.
#[derive(Debug, Clone)]
pub(crate) struct Orders {
    gateway: SocketAddr,
    host: HeaderValue,
    offers: Vec<Uuid>,
    /// How many offers there are in all.
    pub(crate) offers_all: usize,
    /// Of ten cards, so many are declined.
    declined_of_ten: u64,
    buyers: String,
}

impl Orders {
    /// Spread evenly over all offers that have enough for `requests` orders, in an order in which
    /// neighbours belong to different events. The same in each run.
    pub(crate) async fn spread(
        connection: &mut AsyncPgConnection,
        gateway: SocketAddr,
        requests: u64,
    ) -> Result<Self> {
        let (_, all) = postgres::offers(connection, 1).await?;
        let each = i64::try_from(requests)? / all.max(1) + 2;
        let (mut offers, all) = postgres::offers(connection, each).await?;
        if offers.is_empty() {
            bail!("no offer has {each} tickets left");
        }
        offers.shuffle(&mut StdRng::seed_from_u64(7));
        let mut orders = Self::of(gateway, offers);
        orders.offers_all = usize::try_from(all)?;
        Ok(orders)
    }

    /// All of this one offer.
    pub(crate) fn all_of(gateway: SocketAddr, offer: Uuid) -> Self {
        Self::of(gateway, vec![offer])
    }

    /// The same with so many of ten cards declined.
    pub(crate) fn declined(mut self, of_ten: u64) -> Self {
        self.declined_of_ten = of_ten;
        self
    }

    fn of(gateway: SocketAddr, offers: Vec<Uuid>) -> Self {
        let host = HeaderValue::from_str(&gateway.to_string());
        Self {
            gateway,
            host: host.expect("an address is a header's value"),
            offers_all: offers.len(),
            offers,
            declined_of_ten: 0,
            buyers: letters(rand::random()),
        }
    }

    /// Where they are sent.
    pub(crate) fn gateway(&self) -> SocketAddr {
        self.gateway
    }

    /// Over how many offers so many orders are spread.
    pub(crate) fn offers_used(&self, requests: u64) -> usize {
        usize::try_from(requests).map_or(self.offers.len(), |it| it.min(self.offers.len()))
    }

    /// One order; of a buyer of his own, so that no purchase limit is met.
    pub(crate) fn request(&self, number: u64) -> Request<Body> {
        let index = usize::try_from(number).unwrap_or(0) % self.offers.len();
        let (offer, buyers, buyer) = (self.offers[index], &self.buyers, letters(number));
        let card = if self.is_declined(number) {
            BAD_CARD
        } else {
            GOOD_CARD
        };
        let locale = if number.is_multiple_of(2) { "en" } else { "fr" };
        // All of it is plain letters, so JSON needs no escaping.
        let body = format!(
            "{{\"items\":[{{\"offer_id\":\"{offer}\",\"quantity\":1}}],\"payment\":{{\"method\":\
             \"{card}\"}},\"email\":\"ada.{buyers}.{buyer}@example.org\",\"name\":\"Ada Lovelace\",\
             \"locale\":\"{locale}\"}}"
        );
        let mut key = Uuid::encode_buffer();
        let key: &str = Uuid::now_v7().hyphenated().encode_lower(&mut key);
        let mut request = Request::new(Body::from(body));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = http::Uri::from_static("/v1/orders");
        let headers = request.headers_mut();
        headers.insert(header::HOST, self.host.clone());
        headers.insert(header::CONTENT_TYPE, JSON);
        headers.insert(KEY, HeaderValue::from_str(key).expect("digits and hyphens"));
        request
    }

    /// Whether an order's card is declined: evenly spread.
    fn is_declined(&self, number: u64) -> bool {
        number * 7 % 10 < self.declined_of_ten
    }
}

/// What is kept of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placed {
    /// Answered 202.
    As(Uuid),
    /// Answered otherwise; whether it says when to come back.
    Refused { retry_after: bool },
    /// A 202 without an order.
    Unreadable,
}

/// Reads an answer.
pub(crate) fn read(answer: &Response<Bytes>) -> Placed {
    #[derive(Deserialize)]
    struct Order {
        id: Uuid,
    }
    if answer.status() != StatusCode::ACCEPTED {
        let retry_after = answer.headers().contains_key(header::RETRY_AFTER);
        return Placed::Refused { retry_after };
    }
    match serde_json::from_slice(answer.body()) {
        Ok(Order { id }) => Placed::As(id),
        Err(_) => Placed::Unreadable,
    }
}

/// A number in letters: digits in an address count against it.
fn letters(mut number: u64) -> String {
    let mut text = String::new();
    loop {
        text.push(char::from(b'a' + u8::try_from(number % 26).unwrap_or(0)));
        number /= 26;
        if number == 0 {
            return text;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::collections::HashSet;

    #[test]
    fn every_number_has_letters_of_its_own() {
        let all: HashSet<String> = (0..20_000).map(letters).collect();
        assert_eq!(all.len(), 20_000);
        let mut letters = all.iter().flat_map(|text| text.bytes());
        assert!(letters.all(|b| b.is_ascii_lowercase()));
    }

    #[tokio::test]
    async fn an_order_is_json_and_its_cards_are_declined_evenly() {
        let gateway = "127.0.0.1:1".parse().expect("an address");
        let orders = Orders::all_of(gateway, Uuid::nil()).declined(3);
        let mut declined = 0;
        for number in 0..100 {
            let body = orders.request(number).into_body().collect().await;
            let body = body.expect("it is whole").to_bytes();
            let body: serde_json::Value = serde_json::from_slice(&body).expect("it is JSON");
            assert_eq!(body["items"][0]["quantity"], 1);
            declined += u32::from(body["payment"]["method"] == BAD_CARD);
            assert_eq!(
                declined,
                declined.clamp(number as u32 * 3 / 10, number as u32 * 3 / 10 + 3)
            );
        }
        assert_eq!(declined, 30);
    }

    #[test]
    fn an_answer_is_an_order_or_a_refusal() {
        let answer = |status: u16, body: &'static str| {
            let mut answer = Response::new(Bytes::from_static(body.as_bytes()));
            *answer.status_mut() = StatusCode::from_u16(status).expect("a status");
            answer
        };
        let id = Uuid::nil();
        let good = "{\"id\":\"00000000-0000-0000-0000-000000000000\",\"status\":\"pending\"}";
        assert_eq!(read(&answer(202, good)), Placed::As(id));
        assert_eq!(read(&answer(202, "{}")), Placed::Unreadable);
        let mut busy = answer(503, "{}");
        assert_eq!(read(&busy), Placed::Refused { retry_after: false });
        busy.headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        assert_eq!(read(&busy), Placed::Refused { retry_after: true });
    }
}
