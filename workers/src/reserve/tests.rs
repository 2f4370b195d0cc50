use super::Reserve;
use crate::{
    fixture::Shop,
    kit::testing::{Bench, command},
};
use contract::{Command, Outcome, Reply, SagaId, StepKind, StepName};
use futures_util::future::join_all;

fn ask(saga: SagaId, kind: StepKind) -> Command {
    command(&StepName::RESERVE, saga, kind)
}

fn code(reply: &Reply) -> &str {
    reply.error.as_ref().map_or("", |error| &error.code)
}

/// Fifty workers' batches want one offer at once; the last seat is sold, and none twice. The CHECK
/// would forgive a missing lock (the batch fails and is halved), so here it is not there.
#[tokio::test]
async fn fifty_batches_race_for_one_offer() {
    let shop = Shop::open().await;
    shop.run("ALTER TABLE stock DROP CONSTRAINT no_oversell")
        .await;
    let event = shop.event().await;
    let (offer, other) = (
        shop.offer(event, 100, false).await,
        shop.offer(event, 1000, true).await,
    );
    let alone = shop.orders(150, &[(event, offer, 1)]).await;
    let pairs = shop
        .orders(50, &[(event, other, 1), (event, offer, 2)])
        .await;
    let workers: Vec<_> = (0..50)
        .map(|_| Bench::new(Reserve, shop.pool.clone()))
        .collect();
    let batches = workers.iter().enumerate().map(|(n, worker)| {
        let sagas = alone[n * 3..n * 3 + 3].iter().chain(&pairs[n..=n]);
        let commands = sagas.map(|saga| ask(*saga, StepKind::Do)).collect();
        worker.process(commands)
    });
    let replies: Vec<Reply> = join_all(batches)
        .await
        .into_iter()
        .flatten()
        .flatten()
        .collect();
    assert_eq!(replies.len(), 200);
    let won = |reply: &&Reply| reply.outcome == Outcome::Done;
    let winners: Vec<SagaId> = replies
        .iter()
        .filter(won)
        .map(|reply| reply.saga_id)
        .collect();
    let doubles = winners.iter().filter(|saga| pairs.contains(saga)).count();
    let sold = winners.len() + doubles;
    assert!(sold == 100 || sold == 99, "{sold}"); // 99 if only pairs were left
    assert_eq!(shop.taken(offer).await, i64::try_from(sold).expect("few"));
    assert_eq!(
        shop.taken(other).await,
        i64::try_from(doubles).expect("few")
    );
    let lost = replies
        .iter()
        .filter(|reply| reply.outcome != Outcome::Done);
    assert!(lost.map(code).all(|code| code == "sold_out"));

    // Every one of them is taken back, twice, by two workers at once: the stock is as before.
    let undos = || {
        winners
            .iter()
            .map(|saga| ask(*saga, StepKind::Undo))
            .collect()
    };
    let (one, two) = tokio::join!(workers[0].process(undos()), workers[1].process(undos()));
    let all_done = |replies: Vec<Option<Reply>>| {
        replies
            .iter()
            .flatten()
            .all(|reply| reply.outcome == Outcome::Done)
    };
    assert!(all_done(one) && all_done(two));
    assert_eq!(shop.taken(offer).await + shop.taken(other).await, 0);
}

#[tokio::test]
async fn a_duplicate_takes_nothing_and_is_told_the_same() {
    let shop = Shop::open().await;
    let event = shop.event().await;
    let offer = shop.offer(event, 2, false).await;
    let sagas = shop.orders(2, &[(event, offer, 2)]).await;
    let worker = Bench::new(Reserve, shop.pool.clone());
    let both = || {
        sagas
            .iter()
            .flat_map(|saga| [ask(*saga, StepKind::Do), ask(*saga, StepKind::Do)])
    };
    let first = worker.process(both().collect()).await;
    let again = worker.process(both().collect()).await;
    for replies in [first, again] {
        let replies: Vec<Reply> = replies.into_iter().flatten().collect();
        let outcomes: Vec<_> = replies.iter().map(|reply| reply.outcome).collect();
        use Outcome::{Done, Rejected};
        assert_eq!(outcomes, [Done, Done, Rejected, Rejected]);
        assert_eq!(replies[0].output, replies[1].output);
        assert_eq!(code(&replies[3]), "sold_out");
    }
    assert_eq!(shop.taken(offer).await, 2);
}

#[tokio::test]
async fn an_undo_that_comes_first_keeps_the_do_out() {
    let shop = Shop::open().await;
    let event = shop.event().await;
    let offer = shop.offer(event, 2, false).await;
    let saga = shop.orders(1, &[(event, offer, 1)]).await[0];
    let worker = Bench::new(Reserve, shop.pool.clone());
    assert_eq!(
        worker.one(ask(saga, StepKind::Undo)).await.outcome,
        Outcome::Done
    );
    let late = worker.one(ask(saga, StepKind::Do)).await;
    assert_eq!((late.outcome, code(&late)), (Outcome::Rejected, "undone"));
    assert_eq!(shop.taken(offer).await, 0);
}

#[tokio::test]
async fn only_what_is_on_sale_is_reserved() {
    let shop = Shop::open().await;
    let worker = Bench::new(Reserve, shop.pool.clone());
    for (change, expected) in [
        ("status = 'cancelled'", "event_cancelled"),
        ("status = 'not_on_sale'", "not_on_sale"),
        ("starts_at = now() - interval '1 minute'", "not_on_sale"),
    ] {
        let event = shop.event().await;
        let offer = shop.offer(event, 2, false).await;
        let saga = shop.orders(1, &[(event, offer, 1)]).await[0];
        shop.run(&format!("UPDATE events SET {change} WHERE id = '{event}'"))
            .await;
        let reply = worker.one(ask(saga, StepKind::Do)).await;
        assert_eq!((reply.outcome, code(&reply)), (Outcome::Rejected, expected));
        assert_eq!(shop.taken(offer).await, 0);
    }
    let nobody = worker.one(ask(SagaId::new(), StepKind::Do)).await;
    assert_eq!(
        (nobody.outcome, code(&nobody)),
        (Outcome::Retry, "order_missing")
    );
}

/// One order's row cannot be written by PostgreSQL; its neighbours do not suffer.
#[tokio::test]
async fn a_poisonous_order_stands_alone() {
    let shop = Shop::open().await;
    let event = shop.event().await;
    let (good, bad) = (
        shop.offer(event, 100, false).await,
        shop.offer(event, 100, true).await,
    );
    // Stock that is inconsistent in a way the CHECK only sees at the update.
    shop.run(&format!(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
           'BEGIN RAISE EXCEPTION ''refused''; END';
         CREATE TRIGGER refuse BEFORE UPDATE ON stock FOR EACH ROW
           WHEN (old.offer_id = '{bad}') EXECUTE FUNCTION refuse()"
    ))
    .await;
    let mut sagas = shop.orders(20, &[(event, good, 1)]).await;
    let poison = shop.orders(1, &[(event, good, 1), (event, bad, 1)]).await[0];
    sagas.insert(13, poison);
    let worker = Bench::new(Reserve, shop.pool.clone());
    let replies = worker
        .process(sagas.iter().map(|saga| ask(*saga, StepKind::Do)).collect())
        .await;
    for (place, reply) in replies.iter().flatten().enumerate() {
        let expected = if place == 13 {
            (Outcome::Retry, "database_refused")
        } else {
            (Outcome::Done, "")
        };
        assert_eq!((reply.outcome, code(reply)), expected, "{place}");
    }
    assert_eq!(shop.taken(good).await, 20);
    let left = shop
        .number(&format!(
            "SELECT count(*) FROM effects WHERE saga_id = '{poison}'"
        ))
        .await;
    assert_eq!(left, 0, "the poisonous attempt left nothing");
}
