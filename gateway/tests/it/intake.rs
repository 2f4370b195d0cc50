//! Group commit: what one order of a batch costs the others.

use crate::harness::{Gateway, eventually, json, problem};
use ::http::StatusCode;
use diesel::sql_types::BigInt;
use diesel_async::SimpleAsyncConnection;
use futures_util::future::join_all;
use std::collections::HashSet;

database::statement! {
    /// How many connections wait for somebody else's lock.
    struct CountBlocked {} -> BigInt =
    "SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND wait_event_type = 'Lock'"
}

database::statement! {
    /// In how many transactions the orders were stored.
    struct CountCommits {} -> BigInt =
    "SELECT count(DISTINCT xmin::text) FROM orders"
}

/// The place of the order that the database refuses.
const POISON: usize = 13;

/// Refuses the saga of one order, when everything else of it is written.
const REFUSE: &str = "
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF EXISTS (SELECT FROM orders WHERE id = new.id AND email = 'poison@example.org') THEN
        RAISE EXCEPTION 'refused';
      END IF;
      RETURN new;
    END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON sagas FOR EACH ROW EXECUTE FUNCTION refuse()";

fn key(place: usize) -> String {
    format!("the-key-of-order-{place:02}")
}

#[tokio::test]
async fn an_order_that_the_database_refuses_stands_alone_and_its_neighbours_are_taken() {
    let gateway = Gateway::start().await;
    gateway.execute(REFUSE).await;
    let mut orders = vec![gateway.order().await; 20];
    orders[POISON]["email"] = "poison@example.org".into();
    // The first commit has to wait, so the others gather behind it.
    let mut lock = gateway.database.connection().await;
    lock.batch_execute("BEGIN; LOCK TABLE orders IN SHARE MODE")
        .await
        .unwrap();
    let placing = orders.iter().enumerate();
    let placing = join_all(placing.map(async |(place, order)| {
        let answer = gateway.place_json(order, &key(place)).await;
        (place, answer)
    }));
    let (answers, ()) = tokio::join!(placing, async {
        let mut connection = gateway.database.connection().await;
        eventually(async || {
            let counting = diesel_async::RunQueryDsl::get_result(CountBlocked {}, &mut connection);
            let count: i64 = counting.await.unwrap();
            (count > 0).then_some(())
        })
        .await;
        lock.batch_execute("COMMIT").await.unwrap();
    });
    let mut ids = HashSet::new();
    for (place, answer) in &answers {
        if *place == POISON {
            assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
            assert_eq!(problem(answer)["code"], "internal");
        } else {
            assert_eq!(answer.status(), StatusCode::ACCEPTED, "{place}");
            ids.insert(json(answer)["id"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(ids.len(), 19);
    // Of the refused one nothing is left: no order, no line, no saga, no key.
    assert_eq!(gateway.counts().await, (19, 38, 19, 19));
    // Halving goes on from a batch; one by one there would be as many commits as orders.
    let mut connection = gateway.database.connection().await;
    let counting = diesel_async::RunQueryDsl::get_result(CountCommits {}, &mut connection);
    let commits: i64 = counting.await.unwrap();
    assert!(commits < 10, "{commits} commits");

    // Its key is free: once the defect is mended the same request is taken.
    gateway.execute("DROP TRIGGER refuse ON sagas").await;
    let again = gateway.place_json(&orders[POISON], &key(POISON)).await;
    assert_eq!(again.status(), StatusCode::ACCEPTED);
    assert_eq!(gateway.counts().await, (20, 40, 20, 20));
}
