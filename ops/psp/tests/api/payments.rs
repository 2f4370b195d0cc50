//! Payments from creation to refund.

use futures_util::future::join_all;
use serde_json::json;

use crate::support::{Sim, path_of, text};

#[tokio::test]
async fn a_payment_is_created_looked_at_and_confirmed() {
    let sim = Sim::start().await;
    let expand = [("expand[]", "payment_method")];
    let intent = sim.api.create("o-1", "pm_card_visa", &expand).await;
    assert_eq!(intent["object"], "payment_intent");
    assert_eq!(intent["status"], "requires_confirmation");
    assert_eq!(intent["livemode"], false);
    assert_eq!(intent["metadata"], json!({"order_id": "o-1"}));
    assert_eq!(intent["amount_received"], 0);
    assert_eq!(intent["latest_charge"], json!(null));
    let method = &intent["payment_method"];
    let fingerprint = text(&method["card"]["fingerprint"]).to_owned();
    assert_eq!(fingerprint.len(), 16);
    assert_eq!(method["card"]["last4"], "4242");
    let path = format!("/v1/payment_methods/{}", text(&method["id"]));
    let alone = sim.api.get(&path).await.ok();
    assert_eq!(alone, *method);
    assert_eq!(sim.api.ledger("o-1").await, Vec::<String>::new());

    let confirmed = sim.api.confirm(&intent).await.ok();
    assert_eq!(confirmed["status"], "succeeded");
    assert_eq!(confirmed["amount_received"], 12_500);
    let path = format!("{}?expand[]=latest_charge", path_of(&intent));
    let read = sim.api.get(&path).await.ok();
    let charge = &read["latest_charge"];
    assert_eq!(charge["object"], "charge");
    assert_eq!(charge["captured"], true);
    let card = &charge["payment_method_details"]["card"];
    assert_eq!(card["fingerprint"], fingerprint);
    assert_eq!(
        (&card["brand"], &card["last4"]),
        (&json!("visa"), &json!("4242"))
    );
    assert_eq!(confirmed["latest_charge"], charge["id"]);
    let path = format!("/v1/charges/{}", text(&charge["id"]));
    assert_eq!(sim.api.get(&path).await.ok(), *charge);
    let ledger = sim.api.ledger("o-1").await;
    assert_eq!(ledger, ["authorised 12500", "captured 12500"]);
}

#[tokio::test]
async fn fingerprints_tell_payers_apart() {
    let sim = Sim::start().await;
    let fingerprint = async |method: &str, email: &str| {
        let form = [
            ("amount", "100"),
            ("currency", "eur"),
            ("payment_method", method),
            ("receipt_email", email),
            ("expand[0]", "payment_method"),
        ];
        let intent = sim.api.post("/v1/payment_intents", &form).await.ok();
        text(&intent["payment_method"]["card"]["fingerprint"]).to_owned()
    };
    let first = fingerprint("pm_card_visa", "a@example.com").await;
    assert_eq!(first, fingerprint("pm_card_visa", "A@example.com").await);
    assert_ne!(first, fingerprint("pm_card_visa", "b@example.com").await);
    assert_ne!(
        first,
        fingerprint("pm_card_mastercard", "a@example.com").await
    );

    let card = [
        ("type", "card"),
        ("card[number]", "5555 5555 5555 4444"),
        ("card[exp_month]", "8"),
        ("card[exp_year]", "2031"),
        ("card[cvc]", "123"),
    ];
    let one = sim.api.post("/v1/payment_methods", &card).await.ok();
    let two = sim.api.post("/v1/payment_methods", &card).await.ok();
    assert_ne!(one["id"], two["id"]);
    assert_eq!(one["card"]["fingerprint"], two["card"]["fingerprint"]);
    let id = text(&one["id"]);
    let fixed = text(&one["card"]["fingerprint"]);
    assert_eq!(fixed, fingerprint(id, "a@example.com").await);
    assert_eq!(fixed, fingerprint(id, "b@example.com").await);
    let file = std::fs::read_to_string(sim.scratch.ledger()).expect("readable");
    assert!(!file.contains("5555"), "a card number is in the ledger");
}

#[tokio::test]
async fn declines_have_stripes_codes_and_leave_the_intent_open() {
    let sim = Sim::start().await;
    for (method, code, decline_code) in [
        ("pm_card_chargeDeclined", "card_declined", "generic_decline"),
        (
            "pm_card_visa_chargeDeclinedInsufficientFunds",
            "card_declined",
            "insufficient_funds",
        ),
        (
            "pm_card_chargeDeclinedInsufficientFunds",
            "card_declined",
            "insufficient_funds",
        ),
        (
            "pm_card_visa_chargeDeclinedLostCard",
            "card_declined",
            "lost_card",
        ),
        (
            "pm_card_visa_chargeDeclinedStolenCard",
            "card_declined",
            "stolen_card",
        ),
        (
            "pm_card_chargeDeclinedExpiredCard",
            "expired_card",
            "expired_card",
        ),
        (
            "pm_card_chargeDeclinedIncorrectCvc",
            "incorrect_cvc",
            "incorrect_cvc",
        ),
        (
            "pm_card_chargeDeclinedProcessingError",
            "processing_error",
            "processing_error",
        ),
        (
            "pm_card_chargeDeclinedFraudulent",
            "card_declined",
            "fraudulent",
        ),
        (
            "pm_card_chargeCustomerFail",
            "card_declined",
            "generic_decline",
        ),
    ] {
        let intent = sim.api.create(method, method, &[]).await;
        let error = sim.api.confirm(&intent).await.error(402);
        assert_eq!(error["type"], "card_error", "{method}");
        assert_eq!(error["code"], code, "{method}");
        assert_eq!(error["decline_code"], decline_code, "{method}");
        let shown = &error["payment_intent"];
        assert_eq!(shown["status"], "requires_payment_method");
        assert_eq!(shown["payment_method"], json!(null));
        assert_eq!(shown["last_payment_error"]["decline_code"], decline_code);
        assert_eq!(shown["latest_charge"], error["charge"]);
        assert!(error["payment_method"]["card"]["fingerprint"].is_string());
        assert_eq!(sim.api.ledger(method).await, ["declined 12500"]);

        let path = format!("{}/confirm", path_of(&intent));
        let again = [("payment_method", "pm_card_visa")];
        let paid = sim.api.post(&path, &again).await.ok();
        assert_eq!(paid["status"], "succeeded");
        assert_eq!(paid["last_payment_error"], json!(null));
    }
}

#[tokio::test]
async fn money_can_be_reserved_and_taken_in_part_or_let_go() {
    let sim = Sim::start().await;
    let manual = [("capture_method", "manual"), ("confirm", "true")];
    let intent = sim.api.create("o-1", "pm_card_visa", &manual).await;
    assert_eq!(intent["status"], "requires_capture");
    assert_eq!(intent["amount_capturable"], 12_500);
    let capture = format!("{}/capture", path_of(&intent));
    let too_much = [("amount_to_capture", "12501")];
    let error = sim.api.post(&capture, &too_much).await.error(400);
    assert_eq!(error["param"], "amount_to_capture");
    let part = [("amount_to_capture", "5000")];
    let captured = sim.api.post(&capture, &part).await.ok();
    assert_eq!(captured["status"], "succeeded");
    assert_eq!(captured["amount_received"], 5_000);
    assert_eq!(captured["amount_capturable"], 0);
    let twice = sim.api.post(&capture, &[]).await.error(400);
    assert_eq!(twice["code"], "payment_intent_unexpected_state");
    assert_eq!(
        sim.api.ledger("o-1").await,
        ["authorised 12500", "captured 5000"]
    );

    let intent = sim.api.create("o-2", "pm_card_visa", &manual).await;
    let cancel = format!("{}/cancel", path_of(&intent));
    let reason = [("cancellation_reason", "abandoned")];
    let cancelled = sim.api.post(&cancel, &reason).await.ok();
    assert_eq!(cancelled["status"], "canceled");
    assert_eq!(cancelled["cancellation_reason"], "abandoned");
    assert!(cancelled["canceled_at"].is_i64());
    for path in ["confirm", "capture", "cancel"] {
        let path = format!("{}/{path}", path_of(&intent));
        let error = sim.api.post(&path, &[]).await.error(400);
        assert_eq!(error["code"], "payment_intent_unexpected_state", "{path}");
        assert_eq!(error["payment_intent"]["status"], "canceled");
    }
    assert_eq!(
        sim.api.ledger("o-2").await,
        ["authorised 12500", "canceled 12500"]
    );
}

#[tokio::test]
async fn what_was_captured_can_be_given_back_once() {
    let sim = Sim::start().await;
    let confirm = [("confirm", "true")];
    let intent = sim.api.create("o-1", "pm_card_visa", &confirm).await;
    let id = text(&intent["id"]);
    let cancel = format!("{}/cancel", path_of(&intent));
    let error = sim.api.post(&cancel, &[]).await.error(400);
    assert_eq!(error["payment_intent"]["status"], "succeeded");

    let part = [
        ("payment_intent", id),
        ("amount", "500"),
        ("reason", "requested_by_customer"),
    ];
    let refund = sim.api.post("/v1/refunds", &part).await.ok();
    assert_eq!(refund["object"], "refund");
    assert_eq!(refund["status"], "succeeded");
    assert_eq!(refund["payment_intent"], id);
    let too_much = [("payment_intent", id), ("amount", "12001")];
    sim.api.post("/v1/refunds", &too_much).await.error(400);
    let charge = [("charge", text(&intent["latest_charge"]))];
    let rest = sim.api.post("/v1/refunds", &charge).await.ok();
    assert_eq!(rest["amount"], 12_000);
    let error = sim.api.post("/v1/refunds", &charge).await.error(400);
    assert_eq!(error["code"], "charge_already_refunded");

    let path = format!("/v1/refunds/{}", text(&refund["id"]));
    assert_eq!(sim.api.get(&path).await.ok(), refund);
    let path = format!("/v1/refunds?payment_intent={id}");
    let list = sim.api.get(&path).await.ok();
    assert_eq!(list["data"], json!([rest, refund]));
    let path = format!("{}?expand[]=latest_charge", path_of(&intent));
    let charge = sim.api.get(&path).await.ok()["latest_charge"].clone();
    assert_eq!(
        (&charge["refunded"], &charge["amount_refunded"]),
        (&json!(true), &json!(12_500))
    );
    assert_eq!(
        sim.api.ledger("o-1").await,
        [
            "authorised 12500",
            "captured 12500",
            "refunded 500",
            "refunded 12000"
        ]
    );

    let open = sim.api.create("o-2", "pm_card_visa", &[]).await;
    let early = [("payment_intent", text(&open["id"]))];
    sim.api.post("/v1/refunds", &early).await.error(400);
    let disputed = sim
        .api
        .create("o-3", "pm_card_createDispute", &confirm)
        .await;
    let refund = [("payment_intent", text(&disputed["id"]))];
    let error = sim.api.post("/v1/refunds", &refund).await.error(400);
    assert_eq!(error["code"], "charge_disputed");
}

#[tokio::test]
async fn fifty_confirmations_at_once_take_the_money_once() {
    let sim = Sim::start().await;
    let intent = sim.api.create("o-1", "pm_card_visa", &[]).await;
    let answers = join_all((0..50).map(|_| sim.api.confirm(&intent))).await;
    let succeeded = answers.iter().filter(|answer| answer.status == 200);
    assert_eq!(succeeded.count(), 1);
    assert_eq!(
        sim.api.ledger("o-1").await,
        ["authorised 12500", "captured 12500"]
    );
}

#[tokio::test]
async fn lists_are_paged() {
    let sim = Sim::start().await;
    let mut ids = Vec::new();
    for number in 0..5 {
        let intent = sim
            .api
            .create(&format!("o-{number}"), "pm_card_visa", &[])
            .await;
        ids.insert(0, intent["id"].clone());
    }
    let list = async |query: &str| {
        let path = format!("/v1/payment_intents?{query}");
        let page = sim.api.get(&path).await.ok();
        assert_eq!(page["object"], "list");
        assert_eq!(page["url"], "/v1/payment_intents");
        let data = page["data"].as_array().expect("a list");
        let found: Vec<_> = data.iter().map(|intent| intent["id"].clone()).collect();
        (found, page["has_more"] == true)
    };
    assert_eq!(list("limit=2").await, (ids[..2].to_vec(), true));
    let after = format!("limit=3&starting_after={}", text(&ids[1]));
    assert_eq!(list(&after).await, (ids[2..].to_vec(), false));
    let before = format!("limit=1&ending_before={}", text(&ids[2]));
    assert_eq!(list(&before).await, (vec![ids[1].clone()], true));
    assert_eq!(list("created[gte]=1").await, (ids.clone(), false));
    assert_eq!(list("created[lt]=1").await, (vec![], false));
}

#[tokio::test]
async fn the_ledger_is_shown_as_the_contract_says() {
    let sim = Sim::start().await;
    let form = [
        ("amount", "700"),
        ("currency", "EUR"),
        ("confirm", "true"),
        ("payment_method", "pm_card_visa"),
        ("metadata[order_id]", "o-1"),
    ];
    let paid = sim
        .api
        .post_once("/v1/payment_intents", &form, "key-1")
        .await
        .ok();
    sim.api
        .create("o-2", "pm_card_visa", &[("confirm", "true")])
        .await;
    let whole = sim.api.get("/_sim/ledger").await.ok();
    let entries = whole["entries"].as_array().expect("a list");
    assert_eq!(entries.len(), 4);
    let mut first = entries[0].clone();
    let at = first["at"].take();
    chrono::DateTime::parse_from_rfc3339(text(&at)).expect("RFC 3339");
    assert_eq!(
        first,
        json!({
            "seq": 1, "at": null, "payment_intent": paid["id"], "reference": "o-1",
            "type": "authorised", "amount": 700, "currency": "eur", "idempotency_key": "key-1",
        })
    );
    assert_eq!(entries[3]["idempotency_key"], json!(null));
    let part = sim.api.get("/_sim/ledger?after=1&limit=2").await.ok();
    assert_eq!(part["entries"].as_array(), Some(&entries[1..3].to_vec()));
    assert_eq!(sim.api.ledger("o-9").await, Vec::<String>::new());
}
