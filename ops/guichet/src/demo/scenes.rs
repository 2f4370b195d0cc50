//! The scenes. Each places its order, brings about what it is named after, and fails if anything is
//! not as it should be at the end.

use std::{future::Future, pin::Pin};

use anyhow::{Context, Result, ensure};
use contract::OrderId;
use serde_json::{Value, json};

use super::{
    on_sale::{events, offers, one_event, remaining, set_status},
    shop::{Placed, Shop},
};

/// Why a scene did not end as it should, and its order if there was one.
pub(super) struct Failed {
    pub(super) cause: anyhow::Error,
    pub(super) order: Option<OrderId>,
}

type Playing<'a> = Pin<Box<dyn Future<Output = Result<OrderId, Failed>> + 'a>>;

/// One way an order can end.
pub(super) struct Scene {
    pub(super) name: &'static str,
    pub(super) expected: &'static str,
    play: for<'a> fn(&'a Shop) -> Playing<'a>,
}

impl Scene {
    pub(super) async fn play(&self, shop: &Shop) -> Result<OrderId, Failed> {
        (self.play)(shop).await
    }
}

/// All of them.
pub(super) const ALL: [Scene; 8] = [
    Scene {
        name: "a good order",
        expected: "confirmed, paid once, tickets mailed",
        play: |shop| Box::pin(scene(shop, good(shop), confirmed)),
    },
    Scene {
        name: "more places than there are",
        expected: "cancelled (sold_out), nothing charged",
        play: |shop| {
            Box::pin(scene(shop, too_many(shop), |shop, placed| {
                cancelled(shop, placed, "sold_out", 0)
            }))
        },
    },
    Scene {
        name: "an order like a bot's",
        expected: "cancelled (fraud_refused), nothing charged",
        play: |shop| {
            Box::pin(scene(shop, like_a_bots(shop), |shop, placed| {
                cancelled(shop, placed, "fraud_refused", 0)
            }))
        },
    },
    Scene {
        name: "a doubtful order that a reviewer approves",
        expected: "held for review, then confirmed",
        play: |shop| Box::pin(scene(shop, doubtful(shop), reviewed)),
    },
    Scene {
        name: "a declined card",
        expected: "cancelled (card_declined), nothing charged",
        play: |shop| {
            Box::pin(scene(shop, with_declined_card(shop), |shop, placed| {
                cancelled(shop, placed, "card_declined", 0)
            }))
        },
    },
    Scene {
        name: "a payment provider that fails three times",
        expected: "confirmed, paid once",
        play: |shop| {
            Box::pin(scene(
                shop,
                with_failing_provider(shop),
                confirmed_after_faults,
            ))
        },
    },
    Scene {
        name: "an event cancelled while the provider is slow",
        expected: "cancelled (event_cancelled), nothing kept, places back",
        play: |shop| Box::pin(event_cancelled(shop)),
    },
    Scene {
        name: "a mail server that is down",
        expected: "confirmed all the same, mailed when it is back",
        play: |shop| Box::pin(mail_down(shop)),
    },
];

async fn scene<'a, F>(
    shop: &'a Shop,
    placing: impl Future<Output = Result<Placed>>,
    judge: impl FnOnce(&'a Shop, Placed) -> F,
) -> Result<OrderId, Failed>
where
    F: Future<Output = Result<()>>,
{
    let placed = placing
        .await
        .map_err(|cause| Failed { cause, order: None })?;
    let id = placed.id;
    let judged = judge(shop, placed).await;
    judged.map(|()| id).map_err(|cause| Failed {
        cause,
        order: Some(id),
    })
}

// What is ordered.

async fn good(shop: &Shop) -> Result<Placed> {
    let events = events(shop, 2).await?;
    let items = json!([
        {"offer_id": events[0].offer, "quantity": 2, "attendees": [{"name": "Zoé Martin"}, {"name": "Ana Lopes"}]},
        {"offer_id": events[1].offer, "quantity": 1}
    ]);
    shop.place(&order(
        &items,
        &shop.email("zoe.martin"),
        "Zoé Martin",
        "fr",
        "pm_card_visa",
    ))
    .await
}

async fn too_many(shop: &Shop) -> Result<Placed> {
    // Of wheelchair places there are few.
    let offers = offers(shop, "accessible=true&available=true").await?;
    let scarce = offers
        .iter()
        .filter_map(|offer| Some((offer["remaining"].as_u64()?, offer)));
    let (left, offer) = scarce
        .filter(|(left, _)| *left < 30)
        .min_by_key(|(left, _)| *left)
        .context("no offer has fewer than 30 places left")?;
    let items = json!([{"offer_id": offer["id"], "quantity": left + 1}]);
    shop.place(&order(
        &items,
        &shop.email("ana.lopes"),
        "Ana Lopes",
        "en",
        "pm_card_visa",
    ))
    .await
}

async fn like_a_bots(shop: &Shop) -> Result<Placed> {
    let names: Vec<Value> = ["Ben Katz", "Eva Lind", "Ola Nord"]
        .iter()
        .map(|name| json!({"name": name}))
        .collect();
    let events = events(shop, 6).await?;
    let items: Vec<Value> = events
        .iter()
        .map(|event| json!({"offer_id": event.offer, "quantity": 3, "attendees": names}))
        .collect();
    let email = format!("{}@mailinator.com", shop.digits());
    shop.place(&order(
        &json!(items),
        &email,
        "Kim Sato",
        "en",
        "pm_card_visa",
    ))
    .await
}

async fn doubtful(shop: &Shop) -> Result<Placed> {
    let email = format!("{}@yopmail.com", shop.digits());
    let event = one_event(shop).await?;
    let items = json!([{"offer_id": event.offer, "quantity": 1}]);
    shop.place(&order(&items, &email, "Kim Sato", "en", "pm_card_visa"))
        .await
}

async fn with_declined_card(shop: &Shop) -> Result<Placed> {
    let event = one_event(shop).await?;
    let items = json!([{"offer_id": event.offer, "quantity": 1}]);
    let email = shop.email("jo.unlucky");
    shop.place(&order(
        &items,
        &email,
        "Jo Unlucky",
        "en",
        "pm_card_chargeDeclined",
    ))
    .await
}

/// Whose payments meet a failing provider.
const PATIENT: &str = "paul.patient";

async fn with_failing_provider(shop: &Shop) -> Result<Placed> {
    let email = shop.email(PATIENT);
    shop.plan_fault(&email, "create", json!("500"), 1).await?;
    shop.plan_fault(&email, "confirm", json!("429"), 1).await?;
    shop.plan_fault(&email, "confirm", json!("reset_after"), 1)
        .await?;
    let event = one_event(shop).await?;
    let items = json!([{"offer_id": event.offer, "quantity": 1}]);
    shop.place(&order(&items, &email, "Paul Patient", "fr", "pm_card_visa"))
        .await
}

fn order(items: &Value, email: &str, name: &str, locale: &str, method: &str) -> Value {
    json!({
        "items": items, "payment": {"method": method},
        "email": email, "name": name, "locale": locale,
    })
}

// How it must end.

async fn confirmed(shop: &Shop, placed: Placed) -> Result<()> {
    let order = shop.end(&placed).await?;
    ensure!(
        order["status"] == "confirmed",
        "{} {}",
        order["status"],
        order["reason"]["code"]
    );
    let tickets = order["tickets"].as_array().map_or(0, Vec::len);
    ensure!(tickets > 0, "confirmed without tickets");
    let (captured, captures) = shop.books(&placed).await?;
    ensure!(captures == 1, "{captures} captures in the provider's books");
    ensure!(
        Some(captured) == order["total"]["amount"].as_i64(),
        "captured {captured}"
    );
    mailed(shop, &placed).await
}

/// A confirmed order is no wonder if nothing failed: every planned fault must have been met.
async fn confirmed_after_faults(shop: &Shop, placed: Placed) -> Result<()> {
    confirmed(shop, placed).await?;
    faults_met(shop, &shop.email(PATIENT)).await
}

async fn faults_met(shop: &Shop, email: &str) -> Result<()> {
    let left = shop.faults_left(email).await?;
    ensure!(
        left == 0,
        "the payment met {left} fewer faults than planned"
    );
    Ok(())
}

/// For this reason, with so many captures, and nothing of the customer's money kept.
async fn cancelled(shop: &Shop, placed: Placed, code: &str, captures: usize) -> Result<()> {
    let order = shop.end(&placed).await?;
    ensure!(order["status"] == "cancelled", "{}", order["status"]);
    ensure!(
        order["reason"]["code"] == code,
        "cancelled for {}",
        order["reason"]["code"]
    );
    let (kept, captured) = shop.books(&placed).await?;
    ensure!(
        kept == 0,
        "the provider's books keep {kept} of the customer's money"
    );
    ensure!(
        captured == captures,
        "{captured} captures in the provider's books, not {captures}"
    );
    Ok(())
}

async fn reviewed(shop: &Shop, placed: Placed) -> Result<()> {
    let held = |order: &Value| order["status"] != "pending";
    let order = shop.until(&placed, "held", held).await?;
    ensure!(
        order["status"] == "in_review",
        "not held but {}",
        order["status"]
    );
    let mut connection = shop.connection().await?;
    inspector::review::approve(&mut connection, placed.id, "demo", "a known customer").await?;
    drop(connection);
    confirmed(shop, placed).await
}

async fn event_cancelled(shop: &Shop) -> Result<OrderId, Failed> {
    let nothing = |cause| Failed { cause, order: None };
    let email = shop.email("lea.late");
    shop.plan_fault(&email, "confirm", json!({"slow": {"ms": 4000}}), 1)
        .await
        .map_err(nothing)?;
    let event = one_event(shop).await.map_err(nothing)?;
    let before = remaining(shop, &event).await.map_err(nothing)?;
    let items = json!([{"offer_id": event.offer, "quantity": 2}]);
    let wanted = order(&items, &email, "Léa Late", "fr", "pm_card_visa");
    let placed = shop.place(&wanted).await.map_err(nothing)?;
    let id = placed.id;
    let acts = async {
        let paying = |order: &Value| {
            let timeline = order["timeline"].as_array().cloned().unwrap_or_default();
            timeline
                .iter()
                .any(|e| e["step"] == "fraud-check" && e["outcome"] == "done")
        };
        shop.until(&placed, "at the provider", paying).await?;
        set_status(shop, event.id, "cancelled").await?;
        // Where the payment is captured before the tickets are made, it is given back; else never taken.
        let captures = usize::from(shop.definition(&placed).await? == "order@1");
        let judged = cancelled(shop, placed, "event_cancelled", captures).await;
        // On sale again whatever came of it, so that the demo can be played once more.
        set_status(shop, event.id, "on_sale").await?;
        judged?;
        faults_met(shop, &email).await?;
        let after = remaining(shop, &event).await?;
        ensure!(
            after == before,
            "{before} places were left before, {after} after"
        );
        Ok(())
    };
    acts.await.map(|()| id).map_err(|cause| Failed {
        cause,
        order: Some(id),
    })
}

/// The mail drop stands for the mail server: while its directory is away nothing can be sent.
async fn mail_down(shop: &Shop) -> Result<OrderId, Failed> {
    let (mail, away) = (&shop.places.mail, shop.places.mail.with_extension("away"));
    let nothing = |cause| Failed { cause, order: None };
    tokio::fs::rename(mail, &away)
        .await
        .context("cannot take the mail drop away")
        .map_err(nothing)?;
    let placed = async {
        let event = one_event(shop).await?;
        let items = json!([{"offer_id": event.offer, "quantity": 1}]);
        let email = shop.email("max.mailless");
        shop.place(&order(&items, &email, "Max Mailless", "en", "pm_card_visa"))
            .await
    }
    .await;
    let tried = async {
        let placed = placed?;
        let tried = |order: &Value| {
            let timeline = order["timeline"].as_array().cloned().unwrap_or_default();
            timeline
                .iter()
                .any(|e| e["step"] == "notify" && e["outcome"] == "retry")
        };
        let order = shop
            .until(&placed, "refused by the mail server", tried)
            .await;
        Ok::<_, anyhow::Error>((placed, order))
    }
    .await;
    tokio::fs::rename(&away, mail)
        .await
        .context("cannot bring the mail drop back")
        .map_err(nothing)?;
    let (placed, order) = tried.map_err(nothing)?;
    let id = placed.id;
    let judged = async {
        let status = order?["status"].clone();
        ensure!(status == "confirmed", "without mail the order is {status}");
        confirmed(shop, placed).await
    };
    judged.await.map(|()| id).map_err(|cause| Failed {
        cause,
        order: Some(id),
    })
}

/// Waits until a mail about the order lies in the drop.
async fn mailed(shop: &Shop, placed: &Placed) -> Result<()> {
    let sent = |order: &Value| {
        let timeline = order["timeline"].as_array().cloned().unwrap_or_default();
        timeline
            .iter()
            .any(|e| e["step"] == "notify" && e["outcome"] == "done")
    };
    shop.until(placed, "mailed", sent).await?;
    let mut files = tokio::fs::read_dir(&shop.places.mail).await?;
    while let Some(file) = files.next_entry().await? {
        if file
            .file_name()
            .to_string_lossy()
            .contains(&placed.id.to_string())
        {
            return Ok(());
        }
    }
    anyhow::bail!(
        "there is no mail about it in {}",
        shop.places.mail.display()
    )
}
