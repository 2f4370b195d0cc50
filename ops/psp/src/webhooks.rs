//! Sends events to the configured URL, signed as Stripe signs them.
//!
//! As at Stripe nothing is promised about order, and an event may come more than once: deliveries run beside
//! each other and are repeated until they are answered 2xx or have been tried [`ATTEMPTS_MAX`] times. What
//! waits is in memory only: a kill of the simulator loses it, which is one more way for a webhook to be
//! missing (`GET /v1/events` still has it).

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use runtime::Secret;
use runtime::metrics::{self, IntCounterVec};
use sha2::Sha256;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::faults::Fault;

/// How many events may wait to be sent; further ones are dropped, logged and counted.
const WAITING_MAX: usize = 10_000;

/// How many deliveries run at a time.
const DELIVERIES_MAX: usize = 32;

/// How often an event is tried.
const ATTEMPTS_MAX: u32 = 8;

/// The pause after the first attempt; each further one is twice as long, so up to 64 s.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// How long the receiver may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How long a reordered event waits for another one to pass it.
const OVERTAKEN_WITHIN: Duration = Duration::from_secs(5);

static DELIVERIES: LazyLock<IntCounterVec> = LazyLock::new(|| {
    metrics::counters(
        "guichet_psp_webhooks_total",
        "Webhook events of the simulator by what became of them",
        &["outcome"],
    )
});

/// An event on its way.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) event_id: String,
    pub(crate) body: Bytes,
    pub(crate) fault: Option<Fault>,
}

/// Where events are sent to.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) url: String,
    pub(crate) secret: Secret,
}

/// The sending end of the queue.
#[derive(Debug, Clone)]
pub(crate) struct Webhooks(mpsc::Sender<Delivery>);

impl Webhooks {
    /// The queue, and the work that empties it until `shutdown`.
    pub(crate) fn new(
        endpoint: Endpoint,
        client: reqwest::Client,
        shutdown: CancellationToken,
    ) -> (Self, impl Future<Output = ()>) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        (Self(sender), deliver(receiver, endpoint, client, shutdown))
    }

    pub(crate) fn send(&self, delivery: Delivery) {
        if let Err(error) = self.0.try_send(delivery) {
            DELIVERIES.with_label_values(&["dropped"]).inc();
            tracing::warn!(%error, waiting = WAITING_MAX, "a webhook event was dropped: too many are waiting");
        }
    }
}

/// An HTTP client for [`Webhooks`].
pub(crate) fn client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .timeout(ANSWER_WITHIN)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
}

async fn deliver(
    mut waiting: mpsc::Receiver<Delivery>,
    endpoint: Endpoint,
    client: reqwest::Client,
    shutdown: CancellationToken,
) {
    let sender = Arc::new(Sender { endpoint, client });
    let slots = Arc::new(Semaphore::new(DELIVERIES_MAX));
    let mut running = JoinSet::new();
    let mut held: Option<(Delivery, Instant)> = None;
    loop {
        let until = held.as_ref().map(|(_, until)| *until);
        let next = tokio::select! {
            () = shutdown.cancelled() => return,
            Some(_) = running.join_next(), if !running.is_empty() => continue,
            () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => None,
            next = waiting.recv() => match next {
                Some(next) => Some(next),
                None => return,
            },
        };
        let overtaken = held.take().map(|(delivery, _)| delivery);
        let batch = match next {
            Some(delivery) if delivery.fault == Some(Fault::Reordered) => {
                held = Some((delivery, Instant::now() + OVERTAKEN_WITHIN));
                [None, overtaken]
            }
            next => [next, overtaken],
        };
        for delivery in batch.into_iter().flatten() {
            let copies = match delivery.fault {
                Some(Fault::Missing) => 0,
                Some(Fault::Duplicate) => 2,
                _ => 1,
            };
            for _ in 0..copies {
                // The queue waits here while all slots are in use, so the work at hand is bounded.
                let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
                    return;
                };
                let (sender, delivery) = (Arc::clone(&sender), delivery.clone());
                running.spawn(async move {
                    sender.send(&delivery).await;
                    drop(slot);
                });
            }
        }
    }
}

struct Sender {
    endpoint: Endpoint,
    client: reqwest::Client,
}

impl Sender {
    async fn send(&self, delivery: &Delivery) {
        if let Some(Fault::Late { ms }) = delivery.fault {
            sleep(Duration::from_millis(ms)).await;
        }
        for attempt in 0..ATTEMPTS_MAX {
            if attempt > 0 {
                sleep(FIRST_PAUSE * (1 << (attempt - 1))).await;
            }
            let result = self.attempt(delivery).await;
            let outcome = match result {
                Ok(status) if (200..300).contains(&status) => {
                    DELIVERIES.with_label_values(&["delivered"]).inc();
                    return;
                }
                Ok(status) => format!("status {status}"),
                Err(error) => error.without_url().to_string(),
            };
            DELIVERIES.with_label_values(&["failed_attempt"]).inc();
            tracing::debug!(
                event = delivery.event_id,
                attempt,
                outcome,
                "a webhook was not taken"
            );
        }
        DELIVERIES.with_label_values(&["given_up"]).inc();
        tracing::warn!(
            event = delivery.event_id,
            attempts = ATTEMPTS_MAX,
            "a webhook was given up"
        );
    }

    async fn attempt(&self, delivery: &Delivery) -> Result<u16, reqwest::Error> {
        // Signed anew for each attempt: receivers refuse old time stamps.
        let now = chrono::Utc::now().timestamp();
        let signature = sign(self.endpoint.secret.expose(), now, &delivery.body);
        let response = self
            .client
            .post(&self.endpoint.url)
            .header("content-type", "application/json; charset=utf-8")
            .header("stripe-signature", signature)
            .header("user-agent", "Stripe/1.0 (simulator)")
            .body(delivery.body.clone())
            .send()
            .await?;
        Ok(response.status().as_u16())
    }
}

/// The `Stripe-Signature` of a body sent at `timestamp` (seconds).
fn sign(secret: &str, timestamp: i64, body: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(timestamp.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    let mut header = format!("t={timestamp},v1=");
    for byte in mac.finalize().into_bytes() {
        // Writing into a string cannot fail.
        let _ = write!(header, "{byte:02x}");
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_stripes() {
        // Computed with Python's hmac module from Stripe's description of the scheme.
        assert_eq!(
            sign("whsec_test", 1_700_000_000, br#"{"id":"evt_1"}"#),
            "t=1700000000,v1=c89214b5b5da833daed6f0b8c5bb6bd58cea9022bd80ccc78230f3942d632925"
        );
    }
}
