//! Authentication on the bank's page.

use serde_json::{Value, json};

use crate::support::{Answer, Form, Sim, path_of, send, text};

async fn waiting(sim: &Sim, order: &str, method: &str, more: Form<'_>) -> (Value, String) {
    let mut form = vec![("confirm", "true")];
    form.extend_from_slice(more);
    let intent = sim.api.create(order, method, &form).await;
    assert_eq!(intent["status"], "requires_action");
    let action = &intent["next_action"];
    assert_eq!(action["type"], "redirect_to_url");
    let url = text(&action["redirect_to_url"]["url"]).to_owned();
    (intent, url)
}

async fn decide(sim: &Sim, url: &str, decision: &str) -> Answer {
    let form = [("decision", decision)];
    send(sim.api.client.post(url).form(&form)).await
}

#[tokio::test]
async fn the_payer_approves() {
    let sim = Sim::start().await;
    let back = [("return_url", "https://shop.example/orders/1?a=b")];
    let (intent, url) = waiting(&sim, "o-1", "pm_card_threeDSecure2Required", &back).await;
    assert_eq!(sim.api.ledger("o-1").await, Vec::<String>::new());
    let page = send(sim.api.client.get(&url)).await;
    assert_eq!(page.status, 200);
    assert!(page.text.contains("125.00 EUR") && page.text.contains("<button"));
    assert!(page.headers["content-security-policy"].to_str().is_ok());
    let decided = decide(&sim, &url, "approve").await;
    assert_eq!(decided.status, 303);
    let location = decided.headers["location"].to_str().expect("a URL");
    let id = text(&intent["id"]);
    assert!(location.starts_with(&format!(
        "https://shop.example/orders/1?a=b&payment_intent={id}"
    )));
    assert!(location.ends_with("redirect_status=succeeded"));
    let paid = sim.api.get(&path_of(&intent)).await.ok();
    assert_eq!(paid["status"], "succeeded");
    assert_eq!(paid["next_action"], json!(null));
    assert_eq!(
        sim.api.ledger("o-1").await,
        ["authorised 12500", "captured 12500"]
    );
    // Answering twice changes nothing.
    let twice = decide(&sim, &url, "refuse").await;
    assert_eq!(twice.status, 303);
    assert_eq!(sim.api.ledger("o-1").await.len(), 2);
}

#[tokio::test]
async fn the_payer_refuses() {
    let sim = Sim::start().await;
    let (intent, url) = waiting(&sim, "o-1", "pm_card_authenticationRequired", &[]).await;
    let decided = decide(&sim, &url, "refuse").await;
    assert!(decided.text.contains("not approved"), "{}", decided.text);
    let refused = sim.api.get(&path_of(&intent)).await.ok();
    assert_eq!(refused["status"], "requires_payment_method");
    let error = &refused["last_payment_error"];
    assert_eq!(error["code"], "payment_intent_authentication_failure");
    assert_eq!(refused["latest_charge"], json!(null));
    assert_eq!(sim.api.ledger("o-1").await, ["declined 12500"]);
}

#[tokio::test]
async fn the_bank_may_still_decline_and_the_shop_may_cancel() {
    let sim = Sim::start().await;
    let method = "pm_card_threeDSecureRequiredChargeDeclined";
    let (intent, url) = waiting(&sim, "o-1", method, &[]).await;
    decide(&sim, &url, "approve").await;
    let declined = sim.api.get(&path_of(&intent)).await.ok();
    assert_eq!(declined["last_payment_error"]["code"], "card_declined");

    let (intent, url) = waiting(&sim, "o-2", "pm_card_threeDSecure2Required", &[]).await;
    let cancel = format!("{}/cancel", path_of(&intent));
    sim.api.post(&cancel, &[]).await.ok();
    let late = decide(&sim, &url, "approve").await;
    assert!(late.text.contains("cancelled"));
    assert_eq!(sim.api.ledger("o-2").await, ["canceled 12500"]);
}

#[tokio::test]
async fn nobody_there_to_authenticate_is_a_decline() {
    let sim = Sim::start().await;
    let intent = sim
        .api
        .create("o-1", "pm_card_authenticationRequired", &[])
        .await;
    let path = format!("{}/confirm", path_of(&intent));
    let off = [("off_session", "true")];
    let error = sim.api.post(&path, &off).await.error(402);
    assert_eq!(error["code"], "authentication_required");
}

#[tokio::test]
async fn the_page_shows_no_markup_of_others_and_asks_for_the_secret() {
    let sim = Sim::start().await;
    let script = [("description", "<script>alert(1)</script>")];
    let (_, url) = waiting(&sim, "o-1", "pm_card_threeDSecure2Required", &script).await;
    let page = send(sim.api.client.get(&url)).await;
    assert!(page.text.contains("&lt;script&gt;") && !page.text.contains("<script>"));
    let guess = format!("{}x", url);
    assert_eq!(send(sim.api.client.get(&guess)).await.status, 404);
    assert_eq!(decide(&sim, &guess, "approve").await.status, 404);
    assert_eq!(decide(&sim, &url, "perhaps").await.status, 400);
}
