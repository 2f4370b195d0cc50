//! The ledger survives a kill. The simulator runs in a process of its own, which is this test binary again.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::support::{Api, Scratch, Sim, config, eventually, path_of, text};

/// Tells the child what it is, and where its ledger stands.
const LEDGER: &str = "PSP_TEST_CHILD_LEDGER";

/// Not a test: the body of the child process. Without its variable it does nothing.
#[tokio::test]
async fn child() {
    let Some(ledger) = std::env::var_os(LEDGER).map(PathBuf::from) else {
        return;
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("bound").to_string();
    // Renamed into place, so that nobody reads half an address.
    let draft = ledger.with_extension("draft");
    std::fs::write(&draft, addr).expect("writable");
    std::fs::rename(&draft, ledger.with_extension("addr")).expect("writable");
    let served = psp::run(config(&ledger), listener, CancellationToken::new()).await;
    served.expect("the simulator starts");
}

/// A simulator that can be killed.
struct Process {
    child: Child,
    api: Api,
}

impl Process {
    async fn start(ledger: &Path) -> Self {
        let announced = ledger.with_extension("addr");
        let _ = std::fs::remove_file(&announced);
        let this = std::env::current_exe().expect("a test runs from a file");
        let child = Command::new(this)
            .args(["--exact", "restart::child"])
            .env(LEDGER, ledger)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it ran before");
        let addr = eventually("the child's address", async || {
            std::fs::read_to_string(&announced).ok()
        })
        .await;
        Self {
            child,
            api: Api::new(format!("http://{addr}")),
        }
    }

    /// As `kill -9` does it.
    fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

const FORM: [(&str, &str); 5] = [
    ("amount", "12500"),
    ("currency", "eur"),
    ("payment_method", "pm_card_visa"),
    ("metadata[order_id]", "o-1"),
    ("receipt_email", "a@example.com"),
];

#[tokio::test]
async fn everything_is_there_after_a_kill() {
    let scratch = Scratch::new();
    let before = Process::start(&scratch.ledger()).await;
    let api = &before.api;
    let created = api.post_once("/v1/payment_intents", &FORM, "create").await;
    let intent = created.clone().ok();
    let confirm = format!("{}/confirm", path_of(&intent));
    let confirmed = api.post_once(&confirm, &[], "confirm").await;
    let part = [("payment_intent", text(&intent["id"])), ("amount", "500")];
    let refunded = api.post_once("/v1/refunds", &part, "refund").await;
    api.plan(json!({"on": "confirm", "fault": "500"})).await;
    let other = api.create("o-2", "pm_card_chargeDeclined", &[]).await;
    let other_confirm = format!("{}/confirm", path_of(&other));
    let broken = api.post_once(&other_confirm, &[], "broken").await;
    assert_eq!(broken.status, 500);
    let card = [
        ("type", "card"),
        ("card[number]", "4242424242424242"),
        ("card[exp_month]", "8"),
        ("card[exp_year]", "2031"),
    ];
    let method = api.post("/v1/payment_methods", &card).await.ok();
    let ledger = api.get("/_sim/ledger").await.text;
    let events = api.get("/v1/events").await.text;
    let intents = api.get("/v1/payment_intents").await.text;
    before.kill();

    let after = Process::start(&scratch.ledger()).await;
    let api = &after.api;
    assert_eq!(api.get("/_sim/ledger").await.text, ledger);
    assert_eq!(api.get("/v1/events").await.text, events);
    assert_eq!(api.get("/v1/payment_intents").await.text, intents);
    let path = format!("/v1/payment_methods/{}", text(&method["id"]));
    assert_eq!(api.get(&path).await.ok(), method);
    for (path, form, key, first) in [
        ("/v1/payment_intents", &FORM[..], "create", &created),
        (&confirm, &[], "confirm", &confirmed),
        ("/v1/refunds", &part, "refund", &refunded),
        (&other_confirm, &[], "broken", &broken),
    ] {
        let again = api.post_once(path, form, key).await;
        assert!(again.is_replay(), "{key}");
        assert_eq!(again.status, first.status, "{key}");
        assert_eq!(again.text, first.text, "{key}");
    }
    let rest = [("payment_intent", text(&intent["id"]))];
    assert_eq!(api.post("/v1/refunds", &rest).await.ok()["amount"], 12_000);
    assert_eq!(api.ledger("o-1").await.len(), 4);
    after.kill();
}

/// Whoever was answered finds his payment again, however hard the kill came into the work.
#[tokio::test]
async fn what_was_answered_is_in_the_ledger() {
    let scratch = Scratch::new();
    let before = Process::start(&scratch.ledger()).await;
    let api = before.api.clone();
    let paying = (0..8).map(|payer| {
        let api = api.clone();
        tokio::spawn(async move {
            let mut answered = Vec::new();
            for number in 0.. {
                let order = format!("o-{payer}-{number}");
                let form = [
                    ("amount", "500"),
                    ("currency", "eur"),
                    ("payment_method", "pm_card_visa"),
                    ("metadata[order_id]", order.as_str()),
                    ("confirm", "true"),
                ];
                let request = api.posting("/v1/payment_intents", &form, Some(&order));
                match request.send().await {
                    Ok(response) => assert_eq!(response.status(), 200),
                    Err(_) => return answered,
                }
                answered.push(order);
            }
            answered
        })
    });
    let paying: Vec<_> = paying.collect();
    eventually("some payments", async || {
        let ledger = api.get("/_sim/ledger?after=200&limit=1").await.ok();
        (!ledger["entries"].as_array()?.is_empty()).then_some(())
    })
    .await;
    before.kill();
    let after = Process::start(&scratch.ledger()).await;
    let mut found = 0;
    for payer in paying {
        for order in payer.await.expect("no panic") {
            let ledger = after.api.ledger(&order).await;
            assert_eq!(ledger, ["authorised 500", "captured 500"], "{order}");
            found += 1;
        }
    }
    assert!(found >= 90, "the kill came into the work: {found}");
    after.kill();
}

#[tokio::test]
async fn a_torn_record_is_cut_off_and_the_rest_is_kept() {
    let scratch = Scratch::new();
    let before = Process::start(&scratch.ledger()).await;
    before
        .api
        .post_once("/v1/payment_intents", &FORM, "k")
        .await
        .ok();
    before.kill();
    let mut file = OpenOptions::new()
        .append(true)
        .open(scratch.ledger())
        .expect("the ledger");
    file.write_all(b"{\"at\":17,\"request\":\"req_")
        .expect("writable");
    drop(file);
    let after = Process::start(&scratch.ledger()).await;
    let again = after.api.post_once("/v1/payment_intents", &FORM, "k").await;
    assert!(again.is_replay());
    after.kill();
}

#[tokio::test]
async fn a_ledger_that_cannot_be_used_is_refused_with_its_reason() {
    let listener = async || TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let start = async |path: &Path| {
        let shutdown = CancellationToken::new();
        let error = psp::run(config(path), listener().await, shutdown).await;
        error.expect_err("refused").to_string()
    };
    let sim = Sim::start().await;
    sim.api.create("o-1", "pm_card_visa", &[]).await;
    assert!(start(&sim.scratch.ledger()).await.contains("in use"));

    let scratch = Scratch::new();
    let whole = std::fs::read_to_string(sim.scratch.ledger()).expect("readable");
    let corrupt = whole.replacen("{\"at\"", "{\"at", 1) + "{}\n";
    std::fs::write(scratch.ledger(), corrupt).expect("writable");
    let said = start(&scratch.ledger()).await;
    assert!(said.contains("corrupt at line 2"), "{said}");
    std::fs::write(scratch.ledger(), "other").expect("writable");
    assert!(start(&scratch.ledger()).await.contains("not a ledger"));

    let mut wrong = config(&scratch.ledger());
    wrong.secret_key = "sk_live_x".into();
    wrong.latency_ms = 1_000_000;
    let refused = psp::run(wrong, listener().await, CancellationToken::new()).await;
    let said = refused.expect_err("refused").to_string();
    assert!(
        said.contains("secret_key") && said.contains("latency_ms"),
        "{said}"
    );
}

/// A refund that was pending when the simulator was killed ends all the same.
#[tokio::test]
async fn a_pending_refund_ends_in_the_next_life() {
    let scratch = Scratch::new();
    let before = Process::start(&scratch.ledger()).await;
    let intent = before.api.create("o-1", "pm_card_visa", &[]).await;
    before.api.confirm(&intent).await.ok();
    let plan = json!({"on": "refund", "fault": {"refund_pending": {"ms": 500}}});
    before.api.plan(plan).await;
    let form = [("payment_intent", text(&intent["id"]))];
    let refund = before.api.post("/v1/refunds", &form).await.ok();
    assert_eq!(refund["status"], "pending");
    before.kill();
    let after = Process::start(&scratch.ledger()).await;
    let path = format!("/v1/refunds/{}", text(&refund["id"]));
    eventually("the refund's end", async || {
        let seen = after.api.get(&path).await.ok();
        (seen["status"] == "succeeded").then_some(())
    })
    .await;
    let ledger = after.api.ledger("o-1").await;
    assert_eq!(ledger[2..], ["refunded 12500"]);
    after.kill();
}
