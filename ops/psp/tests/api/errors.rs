//! What is refused, and how.

use reqwest::Method;

use crate::support::{KEY, Sim, send};

#[tokio::test]
async fn keys_are_checked_in_both_forms() {
    let sim = Sim::start().await;
    let url = format!("{}/v1/payment_intents", sim.api.base);
    let get = || sim.api.client.get(&url);
    assert_eq!(send(get().basic_auth(KEY, Some(""))).await.status, 200);
    assert_eq!(send(get().bearer_auth(KEY)).await.status, 200);
    let missing = send(get()).await;
    assert!(missing.headers.contains_key("www-authenticate"));
    assert_eq!(missing.error(401)["type"], "invalid_request_error");
    let wrong = send(get().bearer_auth("sk_test_not_this_one")).await;
    assert!(wrong.headers.contains_key("request-id"));
    let text = wrong.text.clone();
    wrong.error(401);
    assert!(!text.contains("sk_test_not"), "the key is shown: {text}");
}

#[tokio::test]
async fn bad_parameters_are_named() {
    let sim = Sim::start().await;
    let good = [("amount", "500"), ("currency", "eur")];
    for (change, code, param) in [
        (("amount", "0"), "parameter_invalid_integer", "amount"),
        (("amount", "-500"), "parameter_invalid_integer", "amount"),
        (("amount", "49"), "amount_too_small", "amount"),
        (("amount", "100000000"), "amount_too_large", "amount"),
        (
            ("amount", "99999999999999999999"),
            "parameter_invalid_integer",
            "amount",
        ),
        (("amount", "5.00"), "parameter_invalid_integer", "amount"),
        (("amount", ""), "parameter_invalid_empty", "amount"),
        (("currency", "xyz"), "", "currency"),
        (("confirm", "maybe"), "", "confirm"),
        (("capture_method", "later"), "", "capture_method"),
        (
            ("receipt_email", "nobody"),
            "email_invalid",
            "receipt_email",
        ),
        (("amuont", "500"), "parameter_unknown", "amuont"),
        (
            ("payment_method", "pm_card_nothing"),
            "resource_missing",
            "payment_method",
        ),
        (
            ("payment_method", "pm_missing"),
            "resource_missing",
            "payment_method",
        ),
        (("return_url", "https://shop.example/"), "", "return_url"),
    ] {
        let mut form: Vec<_> = good.iter().filter(|(name, _)| *name != change.0).collect();
        form.push(&change);
        let form: Vec<_> = form.into_iter().copied().collect();
        let answer = sim.api.post("/v1/payment_intents", &form).await;
        let status = if code == "resource_missing" { 404 } else { 400 };
        let error = answer.error(status);
        assert_eq!(error["type"], "invalid_request_error", "{change:?}");
        assert_eq!(error["code"].as_str().unwrap_or(""), code, "{change:?}");
        assert_eq!(error["param"], param, "{change:?}");
    }
    for missing in ["amount", "currency"] {
        let form: Vec<_> = good
            .into_iter()
            .filter(|(name, _)| *name != missing)
            .collect();
        let error = sim.api.post("/v1/payment_intents", &form).await.error(400);
        assert_eq!(error["code"], "parameter_missing");
        assert_eq!(error["param"], missing);
    }
    let scripted = [
        good[0],
        good[1],
        ("confirm", "true"),
        ("return_url", "javascript:alert(1)"),
    ];
    let error = sim
        .api
        .post("/v1/payment_intents", &scripted)
        .await
        .error(400);
    assert_eq!(error["code"], "url_invalid");
    let list = sim.api.get("/v1/payment_intents").await.ok();
    assert_eq!(
        list["data"].as_array().map(Vec::len),
        Some(0),
        "nothing was made"
    );
}

#[tokio::test]
async fn bad_cards_are_refused() {
    let sim = Sim::start().await;
    for (number, month, cvc, code) in [
        ("4242424242424241", "1", "123", "incorrect_number"),
        ("4539148803436467", "1", "123", "card_declined"),
        ("4242424242424242", "13", "123", "invalid_expiry_month"),
        ("4242424242424242", "1", "99", "invalid_cvc"),
    ] {
        let form = [
            ("type", "card"),
            ("card[number]", number),
            ("card[exp_month]", month),
            ("card[exp_year]", "2031"),
            ("card[cvc]", cvc),
        ];
        let answer = sim.api.post("/v1/payment_methods", &form).await;
        assert!(!answer.text.contains(number), "the number is shown");
        assert_eq!(answer.error(402)["code"], code);
    }
}

#[tokio::test]
async fn requests_of_the_wrong_kind_are_refused() {
    let sim = Sim::start().await;
    let json = sim.api.request(Method::POST, "/v1/payment_intents");
    let json = json.json(&serde_json::json!({"amount": 500}));
    let error = send(json).await.error(400);
    assert!(
        error["message"]
            .to_string()
            .contains("x-www-form-urlencoded")
    );
    let large = "x".repeat(70_000);
    let form = [("description", large.as_str())];
    assert_eq!(sim.api.post("/v1/payment_intents", &form).await.status, 413);
    for (method, path) in [
        (Method::GET, "/v1/nothing"),
        (Method::PUT, "/v1/payment_intents"),
        (Method::GET, "/"),
        (Method::GET, "/_sim/nothing"),
    ] {
        let error = send(sim.api.request(method, path)).await.error(404);
        assert_eq!(error["type"], "invalid_request_error", "{path}");
    }
    for path in [
        "/v1/payment_intents/pi_none",
        "/v1/refunds/re_none",
        "/v1/charges/ch_none",
        "/v1/payment_methods/pm_none",
        "/v1/events/evt_none",
    ] {
        let error = sim.api.get(path).await.error(404);
        assert_eq!(error["code"], "resource_missing", "{path}");
    }
}

#[tokio::test]
async fn a_full_ledger_refuses_changes_and_still_reads() {
    let sim = Sim::with(|config| config.ledger_records_max = 2).await;
    let intent = sim.api.create("o-1", "pm_card_visa", &[]).await;
    sim.api.confirm(&intent).await.ok();
    let form = [("amount", "500"), ("currency", "eur")];
    let error = sim.api.post("/v1/payment_intents", &form).await.error(503);
    assert!(error["message"].to_string().contains("ledger_records_max"));
    let path = crate::support::path_of(&intent);
    assert_eq!(sim.api.get(&path).await.ok()["status"], "succeeded");
}
