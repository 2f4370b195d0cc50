//! People who deal with whatever asks for one, with the operator's commands: a refund that the provider
//! refuses is tried again, corrected, said to be dealt with elsewhere, or given up by two; a mail that bounces
//! goes to another address, or its customer is told otherwise. While there is more to do they also end orders
//! and move those in flight to the second version.

use crate::operator::Desk;
use checker::journal::{Entry, What};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tests::world::evidence::now_ms;
use uuid::Uuid;

const PAUSE: Duration = Duration::from_millis(1_000);
/// So many that ask are dealt with at a time.
const AT_ONCE: &str = "8";
/// An order is ended, and what is in flight is moved, every so many rounds.
const ENDS_EVERY: u32 = 2;
const MOVES_EVERY: u32 = 3;
const ANN: [&str; 4] = ["--as", "ann", "--reason", "case 12, by the bank's letter"];
const BOB: [&str; 4] = ["--as", "bob", "--reason", "case 12, looked at again"];

/// Works until dropped.
pub(crate) async fn attend(desk: Desk, journal: Arc<Mutex<Vec<Entry>>>, more: Arc<AtomicBool>) {
    // How often something was done about an order.
    let mut done: BTreeMap<Uuid, u32> = BTreeMap::new();
    let mut round = 0;
    loop {
        tokio::time::sleep(PAUSE).await;
        round += 1;
        let asking = ["saga", "ls", "--attention", "--limit", AT_ONCE];
        let asking = desk.listed(&asking).await;
        let deals = asking.iter().filter_map(|one| {
            let id: Uuid = one["id"].as_str()?.parse().ok()?;
            let before = done.get(&id).copied().unwrap_or_default();
            let (desk, journal, state) = (&desk, &journal, one["state"].as_str());
            Some(async move {
                let deal = match state {
                    Some("compensating") => refund(desk, id, before).await,
                    _ => mail(desk, journal, id).await,
                };
                (id, deal)
            })
        });
        for (id, deal) in futures_util::future::join_all(deals).await {
            *done.entry(id).or_default() += u32::from(deal.is_some());
        }
        if !more.load(Ordering::Relaxed) {
            continue;
        }
        if round % ENDS_EVERY == 0 {
            let state = if round % (2 * ENDS_EVERY) == 0 {
                "waiting"
            } else {
                "running"
            };
            let some = desk
                .listed(&["saga", "ls", "--state", state, "--limit", "1"])
                .await;
            if let Some(id) = some.first().and_then(|one| one["id"].as_str()) {
                desk.types(&["saga", "compensate", id], &ANN).await;
            }
        }
        if round % MOVES_EVERY == 0 {
            desk.types(&["saga", "migrate", "--to", "order@2"], &ANN)
                .await;
        }
    }
}

/// What is done about a refund that was refused: by the order's number first one thing, then another.
async fn refund(desk: &Desk, order: Uuid, before: u32) -> Option<String> {
    let id = order.to_string();
    match (order.as_u128() % 4, before) {
        (0 | 2, 0) => desk.types(&["saga", "retry", &id], &ANN).await,
        (1, 0) => {
            // The payment that was meant was the right one.
            let shown = desk.says(&["saga", "show", &id, "-o", "json"]).await?;
            let shown: Value = serde_json::from_str(&shown).ok()?;
            let mut effects = shown["effects"].as_array()?.iter();
            let paid = effects.find(|effect| effect["step"] == "pay")?;
            let input = json!({"payment_intent": paid["outside_id"]}).to_string();
            let correct = ["saga", "retry", &id, "--step", "pay", "--input", &input];
            desk.types(&correct, &ANN).await
        }
        (2 | 3, _) => {
            desk.types(&["saga", "abandon", &id], &ANN).await?;
            // One person is not two: this has to be refused, and is seen in the log if it was not.
            desk.types(&["saga", "abandon", &id, "--approve"], &ANN)
                .await;
            desk.types(&["saga", "abandon", &id, "--approve"], &BOB)
                .await
        }
        _ => {
            desk.types(&["saga", "resolve", &id, "--step", "pay"], &ANN)
                .await
        }
    }
}

/// What is done about a mail that nobody takes.
async fn mail(desk: &Desk, journal: &Mutex<Vec<Entry>>, order: Uuid) -> Option<String> {
    let id = order.to_string();
    if order.as_u128().is_multiple_of(3) {
        return desk
            .types(&["saga", "resolve", &id, "--step", "notify"], &ANN)
            .await;
    }
    let email = format!("moved.{id}@example.org");
    let input = json!({"email": email}).to_string();
    let what = What::Corrected { order, email };
    {
        let mut entries = journal.lock().unwrap_or_else(PoisonError::into_inner);
        entries.push(Entry {
            at_ms: now_ms(),
            what,
        });
    }
    let correct = ["saga", "retry", &id, "--step", "notify", "--input", &input];
    desk.types(&correct, &ANN).await
}
