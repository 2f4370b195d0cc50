//! Velocity, blocklist, exemption, and what is kept of them.

use super::*;
use crate::fraud_check::{
    blocklist::{BlockKind, block},
    velocity,
};
use chrono::{TimeDelta, Utc};

/// Values of a rule's hits, in ascending order.
async fn values(shop: &Shop, rule: &str) -> String {
    shop.text(&format!(
        "SELECT coalesce(string_agg(hit->>'value', ' ' ORDER BY (hit->>'value')::int), '')
         FROM fraud_assessments, jsonb_array_elements(hits) AS hit WHERE hit->>'rule' = '{rule}'"
    ))
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_order_of_a_window_has_a_number_of_its_own() {
    let shop = Shop::open().await;
    let orders: Vec<Order> = (0..50)
        .map(|n| order("ann@example.org", &[(10 + n, 1)]))
        .collect();
    shop.place(&orders).await;
    let mut config = Config {
        limit_total: 100,
        ..Config::default()
    };
    config.rules.velocity_address.weight = 0;
    let commands = orders
        .iter()
        .map(|order| asks(order, StepKind::Do))
        .collect();
    let replies = at_once(&shop, &config, commands, 3).await;
    assert_eq!(done(&replies), 10, "the 11th of an hour is held");
    let expected: Vec<String> = (11..=50).map(|n: i32| n.to_string()).collect();
    assert_eq!(values(&shop, "velocity_email").await, expected.join(" "));
}

#[tokio::test]
async fn loopback_can_be_exempt() {
    for (exempt, hits) in [(false, 9), (true, 0)] {
        let shop = Shop::open().await;
        let make = |n| Order {
            address: if n % 2 == 0 {
                "127.0.0.1"
            } else {
                "::ffff:127.0.0.1"
            },
            ..order(&format!("p{n}@example.org"), &[(5, 1)])
        };
        let orders: Vec<Order> = (0..39).map(make).collect();
        shop.place(&orders).await;
        let mut config = Config::default();
        if exempt {
            config.exempt_networks = vec!["127.0.0.0/8".parse().expect("a network")];
        }
        let commands = orders
            .iter()
            .map(|order| asks(order, StepKind::Do))
            .collect();
        let replies = at_once(&shop, &config, commands, 10).await;
        assert_eq!(done(&replies), 39 - hits);
        let addresses = shop
            .number("SELECT count(*) FROM velocity WHERE kind = 'address'")
            .await;
        assert_eq!(addresses, i64::from(!exempt));
    }
}

#[tokio::test]
async fn whoever_is_blocked_is_refused_and_told_nothing() {
    let shop = Shop::open().await;
    let (past, future) = (
        Utc::now() - TimeDelta::days(1),
        Utc::now() + TimeDelta::days(1),
    );
    let entries = [
        (BlockKind::Email, "A.nn+x@gmail.com", None),
        (BlockKind::Domain, "bad.example", Some(future)),
        (BlockKind::Network, "198.51.100.0/24", None),
        (BlockKind::Domain, "was.example", Some(past)),
    ];
    for (kind, written, until) in entries {
        let value = kind.value(written).expect("sound");
        let mut connection = shop.connection().await;
        for new in [true, false] {
            let added = block(&mut connection, kind, &value, "chargebacks", "eve", until).await;
            assert_eq!(added.expect("blocked"), new);
        }
    }
    let from = |email, address| Order {
        address,
        ..order(email, &[(5, 1)])
    };
    let orders = [
        from("ann@googlemail.com", "192.0.2.1"),
        from("x@mail.bad.example", "192.0.2.2"),
        from("bo@example.org", "198.51.100.77"),
        from("cy@was.example", "2001:db8::1"),
        from("dee@example.org", "198.51.101.1"),
    ];
    shop.place(&orders).await;
    let commands = orders
        .iter()
        .map(|order| asks(order, StepKind::Do))
        .collect();
    let replies = shop.worker(Config::default()).process(commands).await;
    let codes: Vec<_> = replies.iter().flatten().map(code).collect();
    let refused = Some("fraud_refused");
    assert_eq!(codes, [refused, refused, refused, None, None]);
    for rule in ["blocked_email", "blocked_domain", "blocked_network"] {
        assert_eq!(values(&shop, rule).await, "1", "{rule}");
    }
    let message = replies[0]
        .clone()
        .and_then(|it| it.error)
        .expect("why")
        .message;
    assert_eq!(message, contract::Refusal::FraudRefused.message());
    assert_eq!(shop.taken().await, 4, "refused orders take nothing");
}

#[tokio::test]
async fn an_order_keeps_what_was_found_also_when_it_is_accepted() {
    let shop = Shop::open().await;
    let placed = order("ann@mailinator.com", &[(0, 1)]);
    shop.place(std::slice::from_ref(&placed)).await;
    let reply = shop
        .worker(Config::default())
        .one(asks(&placed, StepKind::Do))
        .await;
    assert_eq!(reply.output, Some(serde_json::json!({ "score": 40 })));
    let hit = r#"[{"rule": "disposable_email", "value": 1, "weight": 40, "threshold": 1}]"#;
    let kept = shop.text("SELECT concat_ws(' ', decision, score, hits) FROM fraud_assessments");
    assert_eq!(kept.await, format!("accept 40 {hit}"));
}

#[tokio::test]
async fn old_buckets_are_deleted_and_young_ones_are_not() {
    let shop = Shop::open().await;
    shop.sql(
        "INSERT INTO velocity SELECT substr(sha256(n::text::bytea), 1, 16),
           now() - make_interval(days => n), 'email', 1 FROM generate_series(0, 20) AS n",
    )
    .await;
    let mut connection = shop.connection().await;
    let pruned = velocity::prune(&mut connection, Utc::now())
        .await
        .expect("pruned");
    drop(connection);
    assert_eq!(pruned, 7, "those of 14 to 20 days ago");
    assert_eq!(shop.number("SELECT count(*) FROM velocity").await, 14);
}

#[tokio::test]
async fn more_old_buckets_than_one_go_deletes_do_not_stay() {
    let shop = Shop::open().await;
    let old = format!(
        "INSERT INTO velocity SELECT substr(sha256(n::text::bytea), 1, 16),
           now() - interval '20 days', 'email', 1 FROM generate_series(1, {}) AS n",
        velocity::PRUNE_MAX * 2 + 1
    );
    shop.sql(&old).await;
    let worker = shop.worker(Config::default());
    for number in 0.. {
        let placed = order(&format!("ann{number}@example.org"), &[(0, 1)]);
        shop.place(std::slice::from_ref(&placed)).await;
        worker.one(asks(&placed, StepKind::Do)).await;
        let left = "SELECT count(*) FROM velocity WHERE bucket < now() - interval '19 days'";
        if shop.number(left).await == 0 {
            break;
        }
        assert!(number < 200, "old buckets stay");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
