//! Events to a receiver of one's own.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::StatusCode;
use runtime::http::{Limits, serve};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use warp::Filter;

use crate::support::{Sim, eventually, text};

const SECRET: &str = "whsec_of_these_tests";

/// Takes events, after refusing the first `refusals` requests.
struct Receiver {
    taken: Arc<Mutex<Vec<Value>>>,
    url: String,
    _running: DropGuard,
}

impl Receiver {
    async fn start(refusals: usize) -> Self {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let left = Arc::new(Mutex::new(refusals));
        let store = Arc::clone(&taken);
        let routes = warp::header::<String>("stripe-signature")
            .and(warp::body::bytes())
            .map(move |signature: String, body: Bytes| {
                let mut left = left.lock().expect("no panic");
                if *left > 0 {
                    *left -= 1;
                    return StatusCode::SERVICE_UNAVAILABLE;
                }
                assert!(verified(&signature, &body), "{signature}");
                let event = serde_json::from_slice(&body).expect("JSON");
                store.lock().expect("no panic").push(event);
                StatusCode::OK
            })
            .recover(|_| async { Ok::<_, std::convert::Infallible>(StatusCode::BAD_REQUEST) });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/hook", listener.local_addr().expect("bound"));
        let shutdown = CancellationToken::new();
        let running = shutdown.clone().drop_guard();
        tokio::spawn(serve(listener, routes, Limits::default(), shutdown));
        Self {
            taken,
            url,
            _running: running,
        }
    }

    fn taken(&self) -> Vec<Value> {
        self.taken.lock().expect("no panic").clone()
    }

    /// Waits until there are `count` events of `order`; their types in the order they came.
    async fn types(&self, order: &str, count: usize) -> Vec<String> {
        eventually("the events", async || {
            let taken = self.taken();
            let of_order =
                |event: &&Value| event["data"]["object"]["metadata"]["order_id"] == order;
            let found = taken.iter().filter(of_order);
            let types: Vec<_> = found.map(|event| text(&event["type"]).to_owned()).collect();
            (types.len() >= count).then_some(types)
        })
        .await
    }
}

/// Stripe's own rule: `v1` is the HMAC of `t`, a dot and the body.
fn verified(signature: &str, body: &[u8]) -> bool {
    let (time, given) = signature.split_once(",v1=").expect("two parts");
    let time = time.strip_prefix("t=").expect("a time");
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any length");
    mac.update(format!("{time}.").as_bytes());
    mac.update(body);
    let bytes: Vec<u8> = (0..given.len() / 2)
        .map(|at| u8::from_str_radix(&given[2 * at..2 * at + 2], 16).expect("hex"))
        .collect();
    mac.verify_slice(&bytes).is_ok()
}

async fn sim(receiver: &Receiver) -> Sim {
    let url = receiver.url.clone();
    Sim::with(|config| {
        config.webhook_url = Some(url);
        config.webhook_secret = Some(SECRET.into());
    })
    .await
}

#[tokio::test]
async fn events_are_signed_and_repeated_until_taken() {
    let receiver = Receiver::start(1).await;
    let sim = sim(&receiver).await;
    let intent = sim
        .api
        .create("o-1", "pm_card_visa", &[("confirm", "true")])
        .await;
    let mut types = receiver.types("o-1", 3).await;
    types.sort();
    assert_eq!(
        types,
        [
            "charge.succeeded",
            "payment_intent.created",
            "payment_intent.succeeded"
        ]
    );
    let taken = receiver.taken();
    let paid = taken
        .iter()
        .find(|event| event["type"] == "payment_intent.succeeded");
    let paid = paid.expect("it is there");
    assert_eq!(paid["object"], "event");
    assert_eq!(paid["data"]["object"]["id"], intent["id"]);
    let path = format!("/v1/events/{}", text(&paid["id"]));
    assert_eq!(sim.api.get(&path).await.ok(), *paid);
}

#[tokio::test]
async fn events_can_be_missing_doubled_late_and_out_of_order() {
    let receiver = Receiver::start(0).await;
    let sim = sim(&receiver).await;
    let plan = async |order: &str, fault: Value| {
        let plan = json!({"match": {"order_id": order}, "on": "webhook", "fault": fault});
        sim.api.plan(plan).await;
    };
    plan("o-missing", json!("missing")).await;
    plan("o-double", json!("duplicate")).await;
    plan("o-late", json!({"late": {"ms": 300}})).await;
    plan("o-passed", json!("reordered")).await;
    for order in ["o-missing", "o-double", "o-late", "o-passed"] {
        // The first event is the one that the plan is for.
        sim.api
            .create(order, "pm_card_visa", &[("confirm", "true")])
            .await;
    }
    let created = "payment_intent.created".to_owned();
    let count = |types: &[String]| types.iter().filter(|kind| **kind == created).count();
    assert_eq!(count(&receiver.types("o-double", 4).await), 2);
    let late = receiver.types("o-late", 3).await;
    assert_eq!(late.last(), Some(&created), "{late:?}");
    assert_eq!(count(&receiver.types("o-passed", 3).await), 1);
    assert_eq!(count(&receiver.types("o-missing", 2).await), 0);
}
