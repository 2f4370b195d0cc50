//! Each query sees the violation that it is for.

mod planted;
mod shop;

use super::*;
use database::testing::TestDatabase;
use engine::definitions::{Definitions, register};
use planted::PLANTED;
use shop::SOUND;
use std::collections::BTreeSet;

const ORDER: &str = "01930000-0000-7000-8000-000000000001";
const OTHER: &str = "01930000-0000-7000-8000-000000000002";
const UNDONE: &str = "01930000-0000-7000-8000-000000000003";

async fn shop() -> (TestDatabase, Connection) {
    let database = TestDatabase::create().await;
    let mut connection = database.connection().await;
    let ours = Definitions::ours();
    register(&mut connection, &ours).await.expect("registered");
    connection.batch_execute(SOUND).await.expect("a sound shop");
    (database, connection)
}

#[tokio::test]
async fn a_sound_shop_passes() {
    let (_database, mut connection) = shop().await;
    let report = run(&mut connection).await.expect("it can be checked");
    assert_eq!(report, Report::default());
}

#[tokio::test]
async fn each_violation_is_seen_and_named() {
    let (_database, mut connection) = shop().await;
    for (check, plant, subject) in PLANTED {
        connection.batch_execute("BEGIN").await.expect("begun");
        connection.batch_execute(plant).await.expect(plant);
        let mut seen = Vec::new();
        for query in QUERIES {
            let found = violations(&mut connection, query).await;
            seen.extend(found.expect("the query runs"));
        }
        if let Ok(Verdict::Broken { id, .. }) = audit::verify(&mut connection).await {
            seen.push(Finding {
                check: "audit-chain",
                promise: "tamper-evident",
                subject: format!("audit {id}"),
                detail: String::new(),
            });
        }
        connection
            .batch_execute("ROLLBACK")
            .await
            .expect("rolled back");
        let named =
            |finding: &&Finding| finding.check == *check && finding.subject.contains(subject);
        assert!(
            seen.iter().any(|finding| named(&finding)),
            "{plant}: {seen:?}"
        );
    }
}

#[tokio::test]
async fn a_broken_shop_is_reported_as_a_whole() {
    let (_database, mut connection) = shop().await;
    let sql = "UPDATE stock SET taken = 2;
               INSERT INTO audit VALUES (1, now(), 'eve', 'x', NULL, 'x', '{}', '', '')";
    connection.batch_execute(sql).await.expect("broken");
    let report = run(&mut connection).await.expect("it can be checked");
    let checks: Vec<_> = report
        .findings
        .iter()
        .map(|finding| finding.check)
        .collect();
    assert_eq!(checks, ["stock-is-held-by-orders", "audit-chain"]);
    assert_eq!(report.findings[0].detail, "taken 2, held by orders 3");
}

/// Rows that look like one of the planted ones and are as they should be.
#[tokio::test]
async fn what_is_allowed_is_not_reported() {
    let (_database, mut connection) = shop().await;
    for allowed in [
        // As often as the reservation's 30 s and a deadline allow.
        "UPDATE sagas SET step = 0, kind = 1, outstanding = true, resends = 3 WHERE state = 2",
        // The mail has no end of its time.
        "UPDATE sagas SET step = 4, kind = 1, outstanding = true, resends = 20 WHERE state = 2",
        // Late, and nobody is there; or a person has it; or not that late.
        "UPDATE sagas SET wake_at = now() - interval '11 minutes'
         WHERE NOT ended",
        "UPDATE sagas SET wake_at = now() - interval '11 minutes', flags = 4 WHERE NOT ended;
         UPDATE shards SET owner = 'a', lease_until = now() + interval '5 seconds', reply_queue = 'a'
         WHERE shard = 0",
        "UPDATE sagas SET wake_at = now() - interval '9 minutes' WHERE NOT ended;
         UPDATE shards SET owner = 'a', lease_until = now() + interval '5 seconds', reply_queue = 'a'
         WHERE shard = 0",
        // Its owner has no broker, and waits.
        "UPDATE sagas SET wake_at = now() - interval '11 minutes' WHERE NOT ended;
         UPDATE shards SET owner = 'a', lease_until = now() + interval '5 seconds' WHERE shard = 0",
        // A person has stopped it, whenever it was due and though nothing wakes it.
        "UPDATE sagas SET wake_at = now() - interval '11 minutes', flags = 1, paused_at = now()
         WHERE NOT ended;
         UPDATE shards SET owner = 'a', lease_until = now() + interval '5 seconds', reply_queue = 'a'
         WHERE shard = 0",
        "UPDATE sagas SET wake_at = NULL, flags = 1, paused_at = now() WHERE NOT ended",
        // An undo failed and a later one runs.
        "UPDATE sagas SET state = 3, failed_undo = 2, maybe_in_force = 3, flags = 4, step = 0,
                          kind = 2, flagged_at = now() WHERE state = 2",
        // Refused instead of undone, by the answer to a question.
        "UPDATE history SET kind = 3, outcome = 2 WHERE rev = 10",
        // Not undone: a person said that it was dealt with elsewhere.
        "UPDATE history SET outcome = 2 WHERE rev IN (10, 11);
         UPDATE sagas SET rev = 15 WHERE state = 5;
         INSERT INTO history (saga_id, at, rev, seq, input, state, code, detail)
         SELECT saga_id, at, 13 + n, 10, 6, 5, 'resolve',
                jsonb_build_object('step', CASE n WHEN 1 THEN 'issue' ELSE 'pay' END)
         FROM history, generate_series(1, 2) AS n WHERE rev = 13",
    ] {
        connection.batch_execute("BEGIN").await.expect("begun");
        connection.batch_execute(allowed).await.expect(allowed);
        for query in QUERIES {
            let found = violations(&mut connection, query).await;
            assert_eq!(found.expect("the query runs"), [], "{allowed}");
        }
        connection
            .batch_execute("ROLLBACK")
            .await
            .expect("rolled back");
    }
}

#[test]
fn every_query_has_a_planted_violation() {
    let planted: BTreeSet<_> = PLANTED.iter().map(|(check, ..)| *check).collect();
    let names: BTreeSet<_> = statements().map(|it| it.name).collect();
    assert_eq!(planted, names);
    assert_eq!(QUERIES.len() + 1, names.len(), "names are given once");
}

#[tokio::test]
async fn orders_that_people_have_to_end_are_listed_apart() {
    let (_database, mut connection) = shop().await;
    let sql = format!("UPDATE sagas SET flags = 4, state = 3, reason = 'undo_failed', wake_at = NULL
                       WHERE id = '{OTHER}';
                       UPDATE effects SET state = 2 WHERE saga_id = '{OTHER}' AND step = 'fraud-check';
                       UPDATE reviews SET state = 'withdrawn', at = now();
                       INSERT INTO effects (saga_id, claimed_at, definition, state, step, outside_id)
                       VALUES ('{OTHER}', now(), 1, 1, 'pay', 'pi_1')");
    connection
        .batch_execute(&sql)
        .await
        .expect("an undo failed");
    let report = run(&mut connection).await.expect("it can be checked");
    assert_eq!(report.findings, []);
    let apart = Apart {
        saga: OTHER.to_owned(),
        why: "attention".to_owned(),
        reason: Some("undo_failed".to_owned()),
        at_stake_minor: 5_000,
        currency: "EUR".to_owned(),
    };
    assert_eq!(report.apart, [apart]);
    let paused = async |connection: &mut Connection, since: &str| {
        let sql = format!(
            "UPDATE sagas SET flags = 1, state = 2, reason = NULL, wake_at = now(),
                              paused_at = now() - interval '{since}' WHERE id = '{OTHER}'"
        );
        connection.batch_execute(&sql).await.expect("paused");
        let report = run(connection).await.expect("it can be checked");
        let apart = report.apart.into_iter();
        apart.map(|apart| apart.why).collect::<Vec<_>>()
    };
    assert!(paused(&mut connection, "59 minutes").await.is_empty());
    assert_eq!(paused(&mut connection, "61 minutes").await, ["paused"]);
}
