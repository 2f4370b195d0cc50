//! What the payment provider says: taken once, believed never, and only if it is the provider.

use crate::harness::{Gateway, config, json, problem};
use ::http::StatusCode;
use contract::OrderId;
use gateway::Config;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

const SECRET: &str = "whsec_of_this_test";
const PATH: &str = "/v1/psp/webhook";

database::statement! {
    struct Signals {} -> (diesel::sql_types::SmallInt, diesel::sql_types::Text) =
    "SELECT kind, step FROM signals ORDER BY created_at"
}

async fn gateway() -> Gateway {
    Gateway::with(Config {
        psp_webhook_secret: SECRET.into(),
        ..config()
    })
    .await
}

fn signed(body: &str) -> String {
    let now_s = chrono::Utc::now().timestamp();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("{now_s}.{body}").as_bytes());
    let digits = mac.finalize().into_bytes();
    let hex: String = digits.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={now_s},v1={hex}")
}

fn event(id: &str, kind: &str, order: Option<&str>) -> String {
    json!({
        "id": id, "object": "event", "type": kind, "livemode": false,
        "data": {"object": {"id": "pi_1", "object": "payment_intent", "status": "succeeded",
            "metadata": order.map_or(json!({}), |order| json!({"order_id": order}))}},
    })
    .to_string()
}

/// The same event, caused by a request.
fn caused_by(event: &str, id: &Value, key: &str) -> String {
    let mut event: Value = serde_json::from_str(event).unwrap();
    event["request"] = json!({"id": id, "idempotency_key": key});
    event.to_string()
}

impl Gateway {
    async fn tell(&self, body: &str) -> StatusCode {
        let signature = signed(body);
        let headers = [("stripe-signature", signature.as_str())];
        self.post(PATH, body, &headers).await.status()
    }

    async fn signals(&self) -> Vec<(i16, String)> {
        let mut connection = self.database.connection().await;
        diesel_async::RunQueryDsl::load(Signals {}, &mut connection)
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn an_event_about_a_payment_that_may_be_waited_for_is_a_nudge_once() {
    let gateway = gateway().await;
    let [at_pay, paying, elsewhere] = [(); 3].map(|()| OrderId::new());
    gateway
        .execute(&format!(
            "INSERT INTO steps VALUES (0, 'reserve'), (2, 'pay') ON CONFLICT DO NOTHING;
             INSERT INTO sagas (id, deadline, updated_at, trace_id, rev, seq, pivot, shard, definition,
                                state, step, kind)
             VALUES ('{at_pay}', now(), now(), '{at_pay}', 4, 3, 8, 5, 1, 2, 2, 1),
                    ('{paying}', now(), now(), '{paying}', 4, 3, 8, 5, 1, 1, 2, 1),
                    ('{elsewhere}', now(), now(), '{elsewhere}', 2, 1, 8, 5, 1, 1, 0, 1);
             UPDATE sagas SET waiting_since = now() WHERE id = '{at_pay}'"
        ))
        .await;
    let [at_pay, paying, elsewhere] = [at_pay, paying, elsewhere].map(|id| id.to_string());
    let succeeded = "payment_intent.succeeded";
    for body in [
        event("evt_1", succeeded, Some(&elsewhere)),
        event("evt_2", succeeded, Some(&OrderId::new().to_string())),
        event("evt_3", succeeded, None),
        caused_by(
            &event("evt_3a", succeeded, Some(&paying)),
            &json!("req_1"),
            &format!("{paying}/pay/confirm/0"),
        ),
        event("evt_3b", succeeded, Some("6735")),
        event("evt_3c", "payment_intent.created", Some(&at_pay)),
        event("evt_3d", succeeded, None).replace("{}", "null"),
        event("evt_4", "charge.refunded", Some(&at_pay)),
    ] {
        assert_eq!(gateway.tell(&body).await, StatusCode::OK, "{body}");
    }
    assert_eq!(gateway.signals().await, [], "nobody waits for any of these");
    let body = event("evt_5", succeeded, Some(&at_pay));
    let twins = futures_util::future::join_all((0..20).map(|_| gateway.tell(&body))).await;
    assert!(twins.iter().all(|status| *status == StatusCode::OK));
    let nudge = || (2_i16, "pay".to_owned());
    assert_eq!(gateway.signals().await, [nudge()]);

    // Its payment is on its way, and may come to a wait that ends by what is told now: it is kept, unless it
    // is certain that our own request caused it.
    let key = format!("{paying}/pay/confirm/0");
    let of = |id: &str| event(id, succeeded, Some(&paying));
    for (number, body) in [
        of("evt_6"),
        caused_by(&of("evt_7"), &Value::Null, &key),
        caused_by(&of("evt_8"), &json!("req_1"), "somebody's"),
        caused_by(
            &of("evt_9"),
            &json!("req_1"),
            &key.replace(&paying, &at_pay),
        ),
        of("evt_10").replacen('{', r#"{"request":"req_1","#, 1),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(gateway.tell(&body).await, StatusCode::OK, "{body}");
        let signals = gateway.signals().await;
        assert_eq!(signals, vec![nudge(); number + 2], "{body}");
    }
    // Whoever waits is told of everything.
    let own = format!("{at_pay}/pay/confirm/0");
    let body = caused_by(
        &event("evt_11", succeeded, Some(&at_pay)),
        &json!("req_1"),
        &own,
    );
    assert_eq!(gateway.tell(&body).await, StatusCode::OK);
    assert_eq!(gateway.signals().await, vec![nudge(); 7]);
}

#[tokio::test]
async fn what_is_not_the_providers_is_refused_and_leaves_nothing() {
    let gateway = gateway().await;
    let order = OrderId::new().to_string();
    let body = event("evt_1", "payment_intent.succeeded", Some(&order));
    let good = signed(&body);
    let forged = good.replace("v1=", "v1=0");
    for (headers, code) in [
        (vec![], "signature_invalid"),
        (
            vec![("stripe-signature", forged.as_str())],
            "signature_invalid",
        ),
        (
            vec![("stripe-signature", "t=1700000000,v1=00")],
            "signature_invalid",
        ),
    ] {
        let refused = gateway.post(PATH, &body, &headers).await;
        assert_eq!(problem(&refused)["code"], code);
    }
    let other_body = body.replace("evt_1", "evt_2");
    let refused = gateway
        .post(PATH, &other_body, &[("stripe-signature", &good)])
        .await;
    assert_eq!(problem(&refused)["code"], "signature_invalid");
    for (body, code) in [
        ("not json", "body_not_json"),
        ("{}", "wrong_type"),
        (r#"{"id":1,"type":"x","data":{"object":{}}}"#, "wrong_type"),
    ] {
        let refused = gateway
            .post(PATH, body, &[("stripe-signature", &signed(body))])
            .await;
        assert_eq!(problem(&refused)["code"], code, "{body}");
    }
    let long = "x".repeat(100_000);
    let refused = gateway
        .post(PATH, &long, &[("stripe-signature", &signed(&long))])
        .await;
    assert_eq!(problem(&refused)["code"], "body_too_large");
    assert_eq!(gateway.signals().await, []);
}

#[tokio::test]
async fn without_a_secret_there_is_no_such_route() {
    let gateway = Gateway::start().await;
    let body = event("evt_1", "payment_intent.succeeded", None);
    let refused = gateway
        .post(PATH, &body, &[("stripe-signature", &signed(&body))])
        .await;
    assert_eq!(refused.status(), StatusCode::NOT_FOUND);
    let _: Value = json(&refused);
}
