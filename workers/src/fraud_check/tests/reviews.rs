//! Orders that are held for a person.

use super::*;

/// An order that is held: a throw-away address and a large amount.
async fn held(shop: &Shop) -> Order {
    let order = Order {
        total_minor: 2_000_000,
        ..order("ann@mailinator.com", &[(5, 2)])
    };
    shop.place(std::slice::from_ref(&order)).await;
    let reply = shop
        .worker(Config::default())
        .one(asks(&order, StepKind::Do))
        .await;
    assert_eq!(reply.outcome, Outcome::Waiting);
    assert_eq!(shop.taken().await, 4, "it keeps what it took");
    order
}

async fn decided(shop: &Shop, state: &str) {
    shop.sql(&format!(
        "UPDATE reviews SET state = '{state}', at = now(), by = 'eve', reason = 'known customer'"
    ))
    .await;
}

#[tokio::test]
async fn an_approved_order_goes_on() {
    let shop = Shop::open().await;
    let order = held(&shop).await;
    let worker = shop.worker(Config::default());
    let again = worker.one(asks(&order, StepKind::Do)).await;
    assert_eq!(again.outcome, Outcome::Waiting, "nobody has decided");
    let mut forged = asks(&order, StepKind::Do);
    forged.input = Some(serde_json::json!({"decision": "approved"}));
    assert_eq!(
        worker.one(forged).await.outcome,
        Outcome::Waiting,
        "only the row counts"
    );
    decided(&shop, "approved").await;
    let reply = worker.one(asks(&order, StepKind::Do)).await;
    assert_eq!((reply.outcome, shop.taken().await), (Outcome::Done, 4));
    assert_eq!(
        shop.number("SELECT sum(orders) FROM velocity").await,
        2,
        "counted once"
    );
    let undo = worker.one(asks(&order, StepKind::Undo)).await;
    assert_eq!((undo.outcome, shop.taken().await), (Outcome::Done, 0));
    assert_eq!(
        shop.text("SELECT state FROM reviews").await,
        "approved",
        "it stays decided"
    );
}

#[tokio::test]
async fn a_rejected_order_gives_back_at_once() {
    let shop = Shop::open().await;
    let order = held(&shop).await;
    decided(&shop, "rejected").await;
    let worker = shop.worker(Config::default());
    // In one batch with a newcomer, who may have what is given back.
    let next = super::order("ann@mailinator.com", &[(5, 6)]);
    shop.place(std::slice::from_ref(&next)).await;
    let commands = vec![asks(&order, StepKind::Do), asks(&next, StepKind::Do)];
    let replies = worker.process(commands).await;
    let replies: Vec<Reply> = replies.into_iter().flatten().collect();
    assert_eq!(code(&replies[0]), Some("review_rejected"));
    assert_eq!(
        (replies[1].outcome, shop.taken().await),
        (Outcome::Done, 12)
    );
    let again = worker.one(asks(&order, StepKind::Do)).await;
    assert_eq!(code(&again), Some("review_rejected"));
    let undo = worker.one(asks(&order, StepKind::Undo)).await;
    assert_eq!((undo.outcome, shop.taken().await), (Outcome::Done, 12));
}

#[tokio::test]
async fn an_order_that_ends_leaves_the_reviewers_list() {
    let shop = Shop::open().await;
    let order = held(&shop).await;
    let undo = shop
        .worker(Config::default())
        .one(asks(&order, StepKind::Undo))
        .await;
    assert_eq!((undo.outcome, shop.taken().await), (Outcome::Done, 0));
    assert_eq!(shop.text("SELECT state FROM reviews").await, "withdrawn");
}
