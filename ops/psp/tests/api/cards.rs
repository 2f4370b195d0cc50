//! Every documented test card, by its method, its token and its number: what a client is told of each.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{Api, Sim, eventually, path_of, send, text};

const DOCUMENTED: &str = include_str!("documented_cards.txt");

/// A line of the table.
struct Documented {
    method: Option<&'static str>,
    number: &'static str,
    outcome: &'static str,
    /// What is documented besides.
    more: Vec<&'static str>,
}

fn documented(outcome: &str) -> Vec<Documented> {
    let lines = DOCUMENTED.lines().filter(|line| !line.starts_with('#'));
    let all = lines.map(|line| {
        let mut words = line.split(' ');
        let mut next = || words.next().unwrap_or_else(|| panic!("{line}"));
        Documented {
            method: Some(next()).filter(|method| *method != "-"),
            number: next(),
            outcome: next(),
            more: words.collect(),
        }
    });
    let found: Vec<_> = all.filter(|card| card.outcome == outcome).collect();
    assert!(!found.is_empty(), "no card {outcome}");
    found
}

impl Documented {
    /// The payment methods that stand for it: the ready one, and those that are made from its token and number.
    async fn methods(&self, api: &Api) -> Vec<String> {
        let made = async |form: &[(&str, &str)]| {
            let form = [&[("type", "card")], form].concat();
            let method = api.post("/v1/payment_methods", &form).await.ok();
            let last4 = &self.number[self.number.len() - 4..];
            assert_eq!(method["card"]["last4"], last4, "{}", self.number);
            text(&method["id"]).to_owned()
        };
        let by_number = [
            ("card[number]", self.number),
            ("card[exp_month]", "12"),
            ("card[exp_year]", "2034"),
            ("card[cvc]", "1234"),
        ];
        let mut methods = vec![made(&by_number).await];
        if let Some(name) = self.method {
            methods.push(format!("pm_card_{name}"));
            methods.push(made(&[("card[token]", &format!("tok_{name}"))]).await);
        }
        methods
    }

    /// An intent for each of its methods, and the order that each is for.
    async fn intents(&self, api: &Api) -> Vec<(String, Value)> {
        let mut intents = Vec::new();
        for method in self.methods(api).await {
            let order = format!("{}-{method}", self.number);
            let intent = api.create(&order, &method, &[]).await;
            intents.push((order, intent));
        }
        intents
    }
}

/// Tries all cards with this outcome, at once.
async fn with_each(outcome: &str, check: impl AsyncFn(&Api, &Documented, &str, &Value)) {
    let sim = Sim::start().await;
    let cards = documented(outcome);
    let all = cards.iter().map(async |card| {
        for (order, intent) in card.intents(&sim.api).await {
            check(&sim.api, card, &order, &intent).await;
        }
    });
    join_all(all).await;
}

const PAID: [&str; 2] = ["authorised 12500", "captured 12500"];

async fn paid(api: &Api, order: &str, intent: &Value) -> Value {
    let confirmed = api.confirm(intent).await.ok();
    assert_eq!(confirmed["status"], "succeeded", "{order}");
    assert_eq!(confirmed["last_payment_error"], json!(null), "{order}");
    assert_eq!(api.ledger(order).await, PAID, "{order}");
    let path = format!("/v1/charges/{}", text(&confirmed["latest_charge"]));
    api.get(&path).await.ok()
}

fn assert_declined(order: &str, error: &Value, codes: &[&str]) {
    let told = [&error["code"], &error["decline_code"]];
    assert_eq!(told, codes, "{order}: {error}");
    assert_eq!(error["type"], "card_error", "{order}");
}

#[tokio::test]
async fn what_pays_pays_and_says_what_card_it_is() {
    with_each("pays", async |api, card, order, intent| {
        let charge = paid(api, order, intent).await;
        let shown = &charge["payment_method_details"]["card"];
        for (name, documented) in ["brand", "country", "funding"].iter().zip(&card.more) {
            let fits = *documented == "-" || shown[name] == *documented;
            assert!(fits, "{order}: {name} is {documented}: {shown}");
        }
        let refund = [("payment_intent", text(&intent["id"]))];
        let refund = api.post("/v1/refunds", &refund).await.ok();
        assert_eq!(refund["status"], "succeeded", "{order}");
    })
    .await;
}

#[tokio::test]
async fn what_declines_says_why_with_its_two_codes() {
    with_each("declines", async |api, card, order, intent| {
        let error = api.confirm(intent).await.error(402);
        assert_declined(order, &error, &card.more);
        let left = api.get(&path_of(intent)).await.ok();
        assert_eq!(left["status"], "requires_payment_method", "{order}");
        assert_declined(order, &left["last_payment_error"], &card.more);
        assert_eq!(api.ledger(order).await, ["declined 12500"], "{order}");
    })
    .await;
}

#[tokio::test]
async fn what_authenticates_waits_for_its_payer_and_then_pays_or_declines() {
    with_each("authenticates", async |api, card, order, intent| {
        let waiting = api.confirm(intent).await.ok();
        assert_eq!(waiting["status"], "requires_action", "{order}");
        assert!(api.ledger(order).await.is_empty(), "{order}");
        let url = text(&waiting["next_action"]["redirect_to_url"]["url"]);
        let approves = api.client.post(url).form(&[("decision", "approve")]);
        assert!(!send(approves).await.status.is_client_error(), "{order}");
        let after = api.get(&path_of(intent)).await.ok();
        let ledger = api.ledger(order).await;
        if card.more.is_empty() {
            assert_eq!(after["status"], "succeeded", "{order}");
            assert_eq!(ledger, PAID, "{order}");
        } else {
            assert_eq!(after["status"], "requires_payment_method", "{order}");
            assert_declined(order, &after["last_payment_error"], &card.more);
            assert_eq!(ledger, ["declined 12500"], "{order}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_disputed_cannot_be_given_back() {
    with_each("disputed", async |api, _, order, intent| {
        let charge = paid(api, order, intent).await;
        assert_eq!(charge["disputed"], true, "{order}");
        let refund = [("payment_intent", text(&intent["id"]))];
        let error = api.post("/v1/refunds", &refund).await.error(400);
        assert_eq!(error["code"], "charge_disputed", "{order}");
    })
    .await;
}

#[tokio::test]
async fn what_is_given_back_arrives_later_or_comes_back() {
    for (outcome, at_first, at_last) in [
        ("refund_pends", "pending", "succeeded"),
        ("refund_fails", "succeeded", "failed"),
    ] {
        with_each(outcome, async |api, _, order, intent| {
            paid(api, order, intent).await;
            let refund = [("payment_intent", text(&intent["id"]))];
            let refund = api.post("/v1/refunds", &refund).await.ok();
            assert_eq!(refund["status"], at_first, "{order}");
            let path = format!("/v1/refunds/{}", text(&refund["id"]));
            eventually(at_last, async || {
                let now = api.get(&path).await.ok();
                (now["status"] == at_last).then_some(())
            })
            .await;
        })
        .await;
    }
}
