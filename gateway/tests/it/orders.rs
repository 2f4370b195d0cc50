//! Placing orders: what is accepted, once; what is refused, with its code and without a trace.

use crate::harness::{Gateway, eventually, json, problem};
use ::http::{Response, StatusCode};
use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::{collections::HashSet, sync::Arc};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const KEY: &str = "a-key-of-at-least-16";

database::statement! {
    struct Counts {} -> (
        diesel::sql_types::BigInt, diesel::sql_types::BigInt, diesel::sql_types::BigInt,
        diesel::sql_types::BigInt,
    ) =
    "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM order_items),
            (SELECT count(*) FROM sagas), (SELECT count(*) FROM idempotency_keys)"
}

impl Gateway {
    async fn offers(&self) -> Vec<Value> {
        let events = self.get("/v1/events?available=true&limit=3").await;
        let id = events["data"][0]["id"].as_str().unwrap().to_owned();
        let event = self.get(&format!("/v1/events/{id}")).await;
        event["offers"].as_array().unwrap().clone()
    }

    /// A good one, of two lines.
    pub(crate) async fn order(&self) -> Value {
        let offers = self.offers().await;
        json!({
            "items": [
                {"offer_id": offers[0]["id"], "quantity": 2, "attendees": [{"name": "Zoé"}, {"name": "Ana"}]},
                {"offer_id": offers[1]["id"], "quantity": 1}
            ],
            "payment": {"method": "pm_card_visa"},
            "email": "zoe@example.org", "name": "Zoé Müller", "locale": "fr"
        })
    }

    pub(crate) async fn place_json(&self, body: &Value, key: &str) -> Response<Bytes> {
        let headers = [
            ("idempotency-key", key),
            ("content-type", "application/json"),
        ];
        self.post("/v1/orders", &body.to_string(), &headers).await
    }

    /// Orders, lines, sagas, keys.
    pub(crate) async fn counts(&self) -> (i64, i64, i64, i64) {
        let mut connection = self.database.connection().await;
        diesel_async::RunQueryDsl::get_result(Counts {}, &mut connection)
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn an_order_is_stored_with_its_saga_and_opened_by_its_token() {
    let gateway = Gateway::start().await;
    let order = gateway.order().await;
    let response = gateway.place_json(&order, KEY).await;
    assert_eq!(
        response.status(),
        StatusCode::ACCEPTED,
        "{:?}",
        response.body()
    );
    let placed = json(&response);
    let id = placed["id"].as_str().unwrap();
    assert_eq!(response.headers()["location"], format!("/v1/orders/{id}"));
    assert_eq!(gateway.counts().await, (1, 2, 1, 1));
    let token = placed["access_token"].as_str().unwrap();
    let shown = gateway.get(&format!("/v1/orders/{id}?token={token}")).await;
    assert_eq!(shown["status"], "pending");
    assert_eq!(shown["total"], placed["total"]);
    assert_eq!(shown["items"], placed["items"]);
    assert_eq!(shown["timeline"][0]["rev"], 1);
    let bearer = format!("Bearer {token}");
    let path = format!("/v1/orders/{id}");
    let shown = gateway
        .call("GET", &path, &[("authorization", &bearer)])
        .await;
    assert_eq!(shown.status(), StatusCode::OK);
    for (path, headers) in [
        (path.clone(), vec![]),
        (format!("{path}?token={}", "A".repeat(43)), vec![]),
        (path.clone(), vec![("authorization", "Bearer nonsense")]),
        (
            format!("/v1/orders/{}?token={token}", contract::OrderId::new()),
            vec![],
        ),
        (format!("/v1/orders/nonsense?token={token}"), vec![]),
        (format!("{path}/stream"), vec![]),
    ] {
        let refused = gateway.call("GET", &path, &headers).await;
        assert_eq!(refused.status(), StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn the_first_command_goes_out_once_an_owner_is_there() {
    let gateway = Gateway::start().await;
    gateway
        .execute("UPDATE shards SET owner = 'x', lease_until = 'infinity', reply_queue = 'nowhere'")
        .await;
    gateway.bus.ready().await;
    let order = gateway.order().await;
    let headers = [
        ("idempotency-key", KEY),
        ("content-type", "application/json"),
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
        ),
    ];
    let (path, body) = ("/v1/orders", order.to_string());
    gateway.post(path, &body, &headers).await;
    let raw = gateway.namespace.raw().await;
    let reserve = format!(
        "{}.reserve",
        gateway.namespace.topology().commands_exchange()
    );
    let message = eventually(async || raw.take(&reserve).await).await;
    let commands: Value = serde_json::from_slice(&message.body).unwrap();
    assert_eq!(commands[0]["reply_to"], "nowhere");
    assert_eq!(commands[0]["kind"], "do");
    let trace = commands[0]["traceparent"].as_str().unwrap();
    // The customer's trace, with a span of ours; what happens to an order is always recorded.
    assert!(
        trace.starts_with("00-0af7651916cd43dd8448eb211c80319c-")
            && !trace.contains("b7ad6b7169203331")
            && trace.ends_with("-01"),
        "{trace}"
    );
    let text = commands.to_string();
    assert!(
        !text.contains("zoe@") && !text.contains("Zoé"),
        "no personal data on the bus"
    );
}

#[tokio::test]
async fn the_same_key_and_body_is_answered_the_same_byte_for_byte_even_at_once() {
    let gateway = Gateway::start().await;
    let order = gateway.order().await;
    let answers = join_all((0..40).map(|_| gateway.place_json(&order, KEY))).await;
    let bodies: HashSet<&Bytes> = answers.iter().map(Response::body).collect();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert!(answers.iter().all(|a| a.status() == StatusCode::ACCEPTED));
    assert_eq!(gateway.counts().await, (1, 2, 1, 1));
    // White space and the order of fields make no other request.
    let spaced = serde_json::to_string_pretty(&order).unwrap();
    let headers = [
        ("idempotency-key", KEY),
        ("content-type", "application/json"),
    ];
    assert_eq!(
        gateway.post("/v1/orders", &spaced, &headers).await.body(),
        answers[0].body()
    );
    // What was accepted stays accepted when its event is over.
    gateway.execute("UPDATE events SET status = 'cancelled'; UPDATE catalogue_state SET version = version + 1").await;
    let mut n = 0;
    eventually(async || {
        n += 1; // a key that was accepted would stay so
        let other = gateway
            .place_json(&order, &format!("another-key-{n:016}"))
            .await;
        (other.status() == StatusCode::UNPROCESSABLE_ENTITY).then_some(())
    })
    .await;
    assert_eq!(
        gateway.place_json(&order, KEY).await.body(),
        answers[0].body()
    );
}

#[tokio::test]
async fn a_key_with_another_body_is_refused_also_at_once() {
    let gateway = Gateway::start().await;
    let order = gateway.order().await;
    let mut other = order.clone();
    other["name"] = "Somebody Else".into();
    let answers = join_all(
        [&order, &other, &order, &other]
            .iter()
            .map(|o| gateway.place_json(o, KEY)),
    )
    .await;
    let accepted: Vec<usize> = (0..4)
        .filter(|n| answers[*n].status() == StatusCode::ACCEPTED)
        .collect();
    assert!(accepted == [0, 2] || accepted == [1, 3], "{accepted:?}");
    for (n, answer) in answers.iter().enumerate() {
        if !accepted.contains(&n) {
            assert_eq!(problem(answer)["code"], "idempotency_key_reused");
        }
    }
    assert_eq!(gateway.counts().await.0, 1);
}

#[tokio::test]
async fn every_bad_order_has_its_code_and_leaves_nothing() {
    let gateway = Gateway::start().await;
    let good = gateway.order().await;
    let with = |pointer: &str, value: Value| {
        let mut order = good.clone();
        *order.pointer_mut(pointer).unwrap() = value;
        order
    };
    let extra = |pointer: &str, name: &str| {
        let mut order = good.clone();
        order.pointer_mut(pointer).unwrap()[name] = json!(1);
        order
    };
    let q = "/items/0/quantity";
    let unknown = json!("0190a5a5-0000-7000-8000-000000000000");
    let many: Vec<Value> = vec![good["items"][1].clone(); 21];
    let cases: Vec<(Value, &str)> = vec![
        (extra("", "hello"), "unknown_field"),
        (extra("/items/0", "price"), "unknown_field"),
        (extra("/payment", "number"), "unknown_field"),
        (with(q, json!(0)), "quantity_out_of_range"),
        (with(q, json!(-1)), "quantity_out_of_range"),
        (with(q, json!(31)), "quantity_out_of_range"),
        (
            with(q, json!(99_999_999_999_999_999_999.0)),
            "quantity_out_of_range",
        ),
        (with(q, json!(u64::MAX)), "quantity_out_of_range"),
        (with(q, json!(1.5)), "wrong_type"),
        (with(q, json!("2")), "wrong_type"),
        (with(q, Value::Null), "wrong_type"),
        (with("/items/0/offer_id", unknown), "offer_unknown"),
        (with("/items/0/offer_id", json!("x")), "wrong_type"),
        (with("/items", json!([])), "quantity_out_of_range"),
        (with("/items", json!(many)), "quantity_out_of_range"),
        (with("/items/0/attendees", json!([])), "validation_failed"),
        (
            with("/items/0/attendees/0/name", json!("")),
            "validation_failed",
        ),
        (with("/email", json!("nobody")), "validation_failed"),
        (
            with("/email", json!("a@b.fr\r\nBcc: c@d.fr")),
            "validation_failed",
        ),
        (with("/name", json!("a\u{0}b")), "validation_failed"),
        (with("/name", json!("x".repeat(101))), "validation_failed"),
        (with("/locale", json!("klingon-\u{0}")), "validation_failed"),
        (
            with("/payment/method", json!("4242424242424242")),
            "validation_failed",
        ),
        (json!([]), "wrong_type"),
        (json!("order"), "wrong_type"),
    ];
    for (order, code) in cases {
        let response = gateway.place_json(&order, KEY).await;
        let refused = problem(&response);
        assert_eq!(refused["code"], code, "{order}: {refused}");
        assert!(
            response.status() == StatusCode::UNPROCESSABLE_ENTITY,
            "{refused}"
        );
    }
    let json_type = ("content-type", "application/json");
    let key = ("idempotency-key", KEY);
    let text = good.to_string();
    let long = format!("{{\"name\": \"{}\"}}", "x".repeat(70_000));
    type Raw<'a> = (&'a str, Vec<(&'a str, &'a str)>, u16, &'a str);
    let raw: Vec<Raw<'_>> = vec![
        (&text, vec![json_type], 400, "idempotency_key_missing"),
        (
            &text,
            vec![json_type, ("idempotency-key", "short")],
            400,
            "idempotency_key_invalid",
        ),
        (&text, vec![key], 415, "content_type_unsupported"),
        (
            &text,
            vec![key, ("content-type", "text/plain")],
            415,
            "content_type_unsupported",
        ),
        ("{\"items\":", vec![json_type, key], 400, "body_not_json"),
        ("", vec![json_type, key], 400, "body_not_json"),
        (&long, vec![json_type, key], 413, "body_too_large"),
    ];
    for (body, headers, status, code) in raw {
        let response = gateway.post("/v1/orders", body, &headers).await;
        assert_eq!(problem(&response)["code"], code);
        assert_eq!(response.status().as_u16(), status, "{code}");
    }
    assert_eq!(gateway.counts().await, (0, 0, 0, 0), "nothing was written");
    assert_eq!(
        gateway.place_json(&good, KEY).await.status(),
        StatusCode::ACCEPTED,
        "no refusal bound the key"
    );
}

#[tokio::test]
async fn what_cannot_be_sold_now_is_refused() {
    let gateway = Gateway::start().await;
    let order = gateway.order().await;
    let accepted = gateway.place_json(&order, KEY).await;
    assert_eq!(accepted.status(), StatusCode::ACCEPTED, "it could be sold");
    let first = order["items"][0]["offer_id"].as_str().unwrap();
    for (sql, code) in [
        (
            format!("UPDATE offers SET currency = 'USD' WHERE id = '{first}'"),
            "mixed_currencies",
        ),
        (
            "UPDATE events SET status = 'not_on_sale'".to_owned(),
            "event_not_on_sale",
        ),
        (
            "UPDATE events SET starts_at = now() - interval '2 h', ends_at = now() - interval '1 h'"
                .to_owned(),
            "event_past",
        ),
    ] {
        gateway.execute(&format!("{sql}; UPDATE catalogue_state SET version = version + 1")).await;
        let mut n = 0;
        eventually(async || {
            n += 1;
            let before = gateway.counts().await;
            let response = gateway.place_json(&order, &format!("{code}-{n:016}")).await;
            let refused = response.status() == StatusCode::UNPROCESSABLE_ENTITY;
            if refused {
                assert_eq!(gateway.counts().await, before, "{code}: nothing was written");
            }
            (refused && problem(&response)["code"] == code).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn old_keys_are_forgotten_and_young_ones_kept() {
    let gateway = Gateway::start().await;
    // More than are deleted in one go, and two that are younger than 48 hours.
    gateway
        .execute(
            "INSERT INTO idempotency_keys (scope, key_hash, request_hash, order_id)
             SELECT 'guests', sha256(n::text::bytea), 'r',
                    (left(uuid7_floor(now() - age)::text, 24) || lpad(to_hex(n), 12, '0'))::uuid
             FROM (SELECT n, CASE WHEN n <= 6000 THEN interval '48 hours 1 minute'
                                  ELSE interval '47 hours 59 minutes' END AS age
                   FROM generate_series(1, 6002) AS n) AS given",
        )
        .await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(gateway::run(
        Arc::clone(&gateway.app),
        listener,
        stop.clone(),
    ));
    eventually(async || (gateway.counts().await.3 == 2).then_some(())).await;
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn too_much_in_flight_is_refused_before_any_work() {
    refused_with("owner = 'x', lease_until = 'infinity', live = 10000000").await;
}

/// They are in nobody's memory, and would all come back.
#[tokio::test]
async fn too_many_asleep_are_refused_too() {
    refused_with("asleep = 10000000").await;
}

async fn refused_with(said: &str) {
    let gateway = Gateway::start().await;
    gateway.execute(&format!("UPDATE shards SET {said}")).await;
    let order = gateway.order().await;
    let first = gateway.place_json(&order, KEY).await;
    assert_eq!(
        first.status(),
        StatusCode::ACCEPTED,
        "nobody knew of the load yet"
    );
    let refused = gateway.place_json(&order, "another-key-of-16-chars").await;
    assert_eq!(problem(&refused)["code"], "overloaded");
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(gateway.counts().await.0, 1);
}

#[tokio::test]
async fn a_stream_tells_each_change_of_status_and_goes_on_where_it_was_left() {
    let gateway = Gateway::start().await;
    let order = gateway.order().await;
    let placed = json(&gateway.place_json(&order, KEY).await);
    let (id, token) = (
        placed["id"].as_str().unwrap(),
        placed["access_token"].as_str().unwrap(),
    );
    // As the engine would have written it.
    gateway
        .execute(&format!(
            "INSERT INTO history (saga_id, at, rev, seq, input, step, kind, attempt, outcome, state, code)
             VALUES ('{id}', now(), 2, 1, 2, 0, 1, 1, 2, 5, 'sold_out');
             UPDATE sagas SET rev = 2, state = 5, maybe_in_force = 0, ended = true, step = NULL,
                              kind = NULL, reason = 'sold_out' WHERE id = '{id}'"
        ))
        .await;
    let path = format!("/v1/orders/{id}/stream?token={token}");
    let whole = gateway.call("GET", &path, &[]).await;
    assert_eq!(whole.headers()["content-type"], "text/event-stream");
    let text = String::from_utf8(whole.body().to_vec()).unwrap();
    let ids: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("id:"))
        .collect();
    assert_eq!(ids.len(), 2, "{text}");
    assert!(text.contains("pending") && text.contains("cancelled") && text.contains("sold_out"));
    let rest = gateway.call("GET", &path, &[("last-event-id", "1")]).await;
    let text = String::from_utf8(rest.body().to_vec()).unwrap();
    assert!(
        !text.contains("pending") && text.contains("cancelled"),
        "{text}"
    );
}
