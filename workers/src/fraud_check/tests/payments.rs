//! The rules of the payment fingerprint, as the step `pay` applies them.

use super::*;
use crate::fraud_check::{
    blocklist::{BlockKind, block},
    fingerprint::{Answer, give_back, take},
};
use chrono::Utc;
use contract::{OrderId, Refusal};
use diesel_async::AsyncConnection;

type Payments = [(OrderId, String, i32)];

fn payments(count: usize, fingerprint: &str) -> Vec<(OrderId, String, i32)> {
    (0..count)
        .map(|_| (OrderId::new(), fingerprint.to_owned(), 1))
        .collect()
}

/// In a transaction of its own, again when it was overtaken.
async fn pay(shop: &Shop, config: &Config, payments: &Payments) -> Vec<Answer> {
    loop {
        let mut connection = shop.connection().await;
        let result = connection
            .transaction::<_, crate::Error, _>(async |connection| {
                take(connection, config, payments, Utc::now()).await
            })
            .await;
        match result {
            Ok(answers) => return answers,
            Err(error) if error.is_transient() => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

async fn undo(shop: &Shop, payments: &Payments) {
    let orders: Vec<OrderId> = payments.iter().map(|payment| payment.0).collect();
    let mut connection = shop.connection().await;
    let given_back = connection
        .transaction::<_, crate::Error, _>(async |connection| give_back(connection, &orders).await);
    given_back.await.expect("given back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_tickets_per_fingerprint_however_many_pay_at_once() {
    for batch in [1, 10] {
        let shop = Shop::open().await;
        let mut config = Config::default();
        config.rules.velocity_fingerprint.weight = 0;
        let all = payments(50, "card-1");
        let work = all.chunks(batch).map(|batch| pay(&shop, &config, batch));
        let answers: Vec<Answer> = futures_util::future::join_all(work).await.concat();
        let paid = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!((paid, shop.taken().await), (30, 30));
        let refused = answers
            .iter()
            .find_map(|answer| answer.clone().err())
            .expect("some");
        let message = "At most 30 tickets in all per payment card.".to_owned();
        assert_eq!(refused, (Refusal::LimitExceeded, message));

        let paid: Vec<_> = all
            .iter()
            .zip(&answers)
            .filter(|(_, it)| it.is_ok())
            .collect();
        let paid: Vec<_> = paid
            .into_iter()
            .map(|(payment, _)| payment.clone())
            .collect();
        let again = pay(&shop, &config, &paid).await;
        assert!(
            again.iter().all(Result::is_ok),
            "an attempt that comes again"
        );
        assert_eq!(shop.taken().await, 30);
        undo(&shop, &all).await;
        undo(&shop, &all).await;
        assert_eq!(shop.taken().await, 0);
    }
}

#[tokio::test]
async fn a_payment_behind_its_undo_takes_nothing() {
    let shop = Shop::open().await;
    let late = payments(1, "card-1");
    undo(&shop, &late).await;
    let answers = pay(&shop, &Config::default(), &late).await;
    assert!(
        matches!(answers[..], [Err((Refusal::Undone, _))]),
        "{answers:?}"
    );
    assert_eq!(shop.taken().await, 0);
}

#[tokio::test]
async fn a_card_that_pays_too_often_or_is_blocked_is_refused() {
    let shop = Shop::open().await;
    let (config, often) = (Config::default(), payments(12, "card-1"));
    let answers = pay(&shop, &config, &often).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 10);
    // Asked again, a refused one hears the same and is not counted again.
    let counted = "SELECT sum(orders)::text FROM velocity WHERE kind = 'fingerprint'";
    assert_eq!(shop.text(counted).await, "12");
    assert!(matches!(
        pay(&shop, &config, &often[11..]).await[..],
        [Err((Refusal::FraudRefused, _))]
    ));
    assert_eq!(shop.text(counted).await, "12");
    let value = BlockKind::Fingerprint.value("card-2").expect("sound");
    let mut connection = shop.connection().await;
    let kind = BlockKind::Fingerprint;
    let blocked = block(&mut connection, kind, &value, "stolen", "eve", None).await;
    assert!(blocked.expect("blocked"));
    drop(connection);
    let stolen = payments(1, "card-2");
    shop.sql(&format!(
        "INSERT INTO fraud_assessments VALUES ('{}', now(), 5, 'accept', '[{{\"rule\": \"x\"}}]')",
        stolen[0].0
    ))
    .await;
    let answers = pay(&shop, &config, &stolen).await;
    assert!(
        matches!(answers[..], [Err((Refusal::FraudRefused, _))]),
        "{answers:?}"
    );
    let kept = "SELECT concat(score, ' ', hits->1->>'rule') FROM fraud_assessments";
    assert_eq!(shop.text(kept).await, "105 blocked_fingerprint");
    assert_eq!(shop.taken().await, 10);
}
