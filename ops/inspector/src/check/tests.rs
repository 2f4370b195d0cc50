//! Each query sees the violation that it is for.

use super::*;
use database::testing::TestDatabase;
use std::collections::BTreeSet;

const ORDER: &str = "01930000-0000-7000-8000-000000000001";
const OTHER: &str = "01930000-0000-7000-8000-000000000002";

/// A sound shop: one order confirmed with two tickets, one held for review, one compensated.
const SOUND: &str = "
    INSERT INTO venues VALUES ('V1', 'Stade', 'Stade', 'Paris', 'Europe/Paris', 48, 2, 9);
    INSERT INTO sports VALUES ('ATH', 'Athletics', 'Athlétisme', 'sport');
    INSERT INTO events (id, starts_at, ends_at, published_starts_at, code, sport, venue, name, status,
                        tier, currency)
    VALUES ('00000000-0000-0000-0000-0000000000e1', now(), now() + interval '1 hour', now(), 'ATH01',
            'ATH', 'V1', 'Heat', 'on_sale', 'standard', 'EUR');
    INSERT INTO offers VALUES ('00000000-0000-0000-0000-0000000000f1',
      '00000000-0000-0000-0000-0000000000e1', 5000, 'A', 'EUR', false, false);
    INSERT INTO stock VALUES ('00000000-0000-0000-0000-0000000000f1', 100, 3);
    INSERT INTO definitions VALUES (1, 'order', 1, 'x', '{}') ON CONFLICT DO NOTHING;
    INSERT INTO steps VALUES (0, 'reserve'), (1, 'fraud-check'), (2, 'pay'), (3, 'issue'),
      (4, 'notify') ON CONFLICT DO NOTHING;

    CREATE FUNCTION make(order_id uuid, tickets integer, saga_state integer, revision integer,
                         steps_done integer) RETURNS void LANGUAGE sql AS $$
      INSERT INTO orders VALUES (order_id, NULL, 5000 * tickets, 'EUR', 'a@b.example',
        'Ann', 'en', 'pm_card_visa', NULL);
      INSERT INTO order_items VALUES (order_id, '00000000-0000-0000-0000-0000000000f1',
        '00000000-0000-0000-0000-0000000000e1', 5000, tickets, 0);
      INSERT INTO sagas (id, wake_at, deadline, updated_at, trace_id, rev, seq, done, pivot, shard,
                         definition, state, ended)
      VALUES (order_id, CASE WHEN saga_state < 4 THEN now() END, now(), now(), order_id, revision, 1,
              steps_done, 8, 0, 1, saga_state, saga_state >= 4);
      INSERT INTO history (saga_id, at, rev, seq, input, state)
      SELECT order_id, now(), n, n, 2, CASE n WHEN revision THEN saga_state ELSE 1 END
      FROM generate_series(1, revision) AS n;
      INSERT INTO fraud_assessments VALUES (order_id, now(), 0, 'accept', '[]');
    $$;
    SELECT make('01930000-0000-7000-8000-000000000001', 2, 4, 6, 31);
    SELECT make('01930000-0000-7000-8000-000000000002', 1, 2, 3, 1);
    SELECT make('01930000-0000-7000-8000-000000000003', 4, 5, 4, 0);

    INSERT INTO effects (saga_id, claimed_at, definition, state, step, output)
    SELECT id::uuid, now(), 1, state, step, output::jsonb FROM (VALUES
      ('01930000-0000-7000-8000-000000000001', 2, 'reserve',
       '{\"taken\": {\"00000000-0000-0000-0000-0000000000f1\": 2}}'),
      ('01930000-0000-7000-8000-000000000001', 2, 'fraud-check', '{}'),
      ('01930000-0000-7000-8000-000000000001', 2, 'pay', '{\"captured_minor\": 10000}'),
      ('01930000-0000-7000-8000-000000000001', 2, 'issue', '{}'),
      ('01930000-0000-7000-8000-000000000001', 2, 'notify', '{}'),
      ('01930000-0000-7000-8000-000000000002', 2, 'reserve',
       '{\"taken\": {\"00000000-0000-0000-0000-0000000000f1\": 1}}'),
      ('01930000-0000-7000-8000-000000000002', 1, 'fraud-check', '{\"waits_for\": \"review\"}'),
      ('01930000-0000-7000-8000-000000000003', 4, 'reserve',
       '{\"taken\": {\"00000000-0000-0000-0000-0000000000f1\": 4}}'),
      ('01930000-0000-7000-8000-000000000003', 4, 'fraud-check', '{}'),
      ('01930000-0000-7000-8000-000000000003', 4, 'pay', '{\"captured_minor\": 20000}'),
      ('01930000-0000-7000-8000-000000000003', 4, 'issue', '{}')
    ) AS t(id, state, step, output);
    INSERT INTO reviews VALUES ('01930000-0000-7000-8000-000000000002', now(), NULL, 'open');
    INSERT INTO quotas VALUES (substr(sha256('a'), 1, 16), '00000000-0000-0000-0000-000000000000',
      'email', 3);
    INSERT INTO quota_takes SELECT id::uuid, 'fraud-check', ARRAY[substr(sha256('a'), 1, 16)],
      ARRAY['00000000-0000-0000-0000-000000000000'::uuid], ARRAY[n], returned
    FROM (VALUES ('01930000-0000-7000-8000-000000000001', 2, false),
                 ('01930000-0000-7000-8000-000000000002', 1, false),
                 ('01930000-0000-7000-8000-000000000003', 4, true)) AS t(id, n, returned);
    INSERT INTO tickets
    SELECT gen_random_uuid(), CASE WHEN n < 3 THEN '01930000-0000-7000-8000-000000000001'
                                   ELSE '01930000-0000-7000-8000-000000000003' END::uuid,
           '00000000-0000-0000-0000-0000000000e1', '00000000-0000-0000-0000-0000000000f1', now(),
           CASE WHEN n >= 3 THEN now() END, n, 0, n, false, 'Ann', '\\x00000000',
           sha512('x')
    FROM generate_series(1, 6) AS n;
    INSERT INTO ticket_counters VALUES ('00000000-0000-0000-0000-0000000000e1', 6);
    INSERT INTO idempotency_keys VALUES ('guest', 'k', 'r', '01930000-0000-7000-8000-000000000001')";

/// What is planted, the check that must see it, and what it must name.
const PLANTED: &[(&str, &str, &str)] = &[
    (
        "stock-is-held-by-orders",
        "UPDATE stock SET taken = 2",
        "offer 00000000-0000-0000-0000-0000000000f1",
    ),
    (
        "stock-is-held-by-orders",
        "DELETE FROM stock",
        "offer 00000000-0000-0000-0000-0000000000f1",
    ),
    (
        "money-is-tickets",
        "UPDATE effects SET state = 2 WHERE step = 'pay'",
        "order 01930000-0000-7000-8000-000000000003",
    ),
    (
        "money-is-tickets",
        "UPDATE tickets SET revoked_at = now() WHERE number = 1",
        ORDER,
    ),
    (
        "money-is-tickets",
        "UPDATE effects SET output = '{\"captured_minor\": 9999}' WHERE step = 'pay'",
        ORDER,
    ),
    (
        "tickets-are-what-was-ordered",
        "UPDATE tickets SET revoked_at = now() WHERE number = 2",
        ORDER,
    ),
    (
        "tickets-are-what-was-ordered",
        "UPDATE tickets SET revoked_at = NULL WHERE number = 4",
        "order 01930000-0000-7000-8000-000000000003",
    ),
    (
        "ticket-numbers-are-unbroken",
        "DELETE FROM tickets WHERE number = 4",
        "event 00000000-0000-0000-0000-0000000000e1",
    ),
    (
        "ticket-numbers-are-unbroken",
        "UPDATE ticket_counters SET last = 7",
        "event 00000000-0000-0000-0000-0000000000e1",
    ),
    (
        "compensated-has-no-effect",
        "UPDATE effects SET state = 2 WHERE step = 'issue'",
        "saga 01930000-0000-7000-8000-000000000003",
    ),
    (
        "compensated-has-no-effect",
        "UPDATE effects SET state = 1 WHERE step = 'pay'",
        "saga 01930000-0000-7000-8000-000000000003",
    ),
    (
        "completed-has-its-effects",
        "UPDATE effects SET state = 1 WHERE step = 'notify'",
        ORDER,
    ),
    (
        "orders-have-sagas",
        "DELETE FROM sagas WHERE state = 4",
        ORDER,
    ),
    (
        "sagas-have-orders",
        "DELETE FROM orders WHERE total_minor = 5000",
        OTHER,
    ),
    (
        "nothing-sleeps-unseen",
        "UPDATE sagas SET wake_at = NULL, flags = 1",
        OTHER,
    ),
    (
        "history-is-there",
        "DELETE FROM history WHERE rev = 1 AND saga_id = (SELECT id FROM sagas WHERE state = 2)",
        OTHER,
    ),
    (
        "history-is-there",
        "UPDATE history SET state = 1 WHERE state = 4",
        ORDER,
    ),
    (
        "history-is-there",
        "UPDATE sagas SET rev = 2 WHERE state = 2",
        OTHER,
    ),
    (
        "effects-have-sagas",
        "DELETE FROM sagas WHERE state = 2",
        OTHER,
    ),
    (
        "quotas-are-taken-by-orders",
        "UPDATE quotas SET taken = 4",
        "quota ",
    ),
    ("quotas-are-taken-by-orders", "DELETE FROM quotas", "quota "),
    (
        "quotas-are-taken-in-force",
        "UPDATE quota_takes SET returned = false",
        "order 01930000-0000-7000-8000-000000000003",
    ),
    (
        "quotas-are-taken-in-force",
        "DELETE FROM quota_takes WHERE quantities = ARRAY[2]",
        ORDER,
    ),
    (
        "quotas-are-taken-in-force",
        "DELETE FROM effects WHERE state = 1",
        OTHER,
    ),
    (
        "open-reviews-wait",
        "UPDATE effects SET state = 4 WHERE state = 1",
        OTHER,
    ),
    (
        "totals-are-sums",
        "UPDATE order_items SET quantity = 3 WHERE quantity = 2",
        ORDER,
    ),
    (
        "references-lead-somewhere",
        "UPDATE order_items SET event_id = offer_id WHERE quantity = 2",
        ORDER,
    ),
    (
        "references-lead-somewhere",
        "DELETE FROM orders WHERE total_minor = 10000",
        ORDER,
    ),
    (
        "references-lead-somewhere",
        "INSERT INTO stock VALUES ('00000000-0000-0000-0000-0000000000f2', 1)",
        "0000000000f2",
    ),
    (
        "references-lead-somewhere",
        "UPDATE tickets SET line = 1 WHERE number = 1",
        ORDER,
    ),
    (
        "references-lead-somewhere",
        "UPDATE idempotency_keys SET order_id = gen_random_uuid()",
        "order ",
    ),
    (
        "references-lead-somewhere",
        "INSERT INTO signals VALUES ('01930000-0000-7000-8000-00000000000a', '01930000-0000-7000-8000-000000000002', 7, 1, 'fraud-check', '{}')",
        "signal 01930000-0000-7000-8000-00000000000a",
    ),
    (
        "references-lead-somewhere",
        "UPDATE sagas SET definition = 99 WHERE state = 2",
        OTHER,
    ),
    (
        "references-lead-somewhere",
        "DELETE FROM fraud_assessments WHERE order_id IN (SELECT order_id FROM reviews)",
        OTHER,
    ),
    (
        "references-lead-somewhere",
        "INSERT INTO fraud_assessments VALUES ('01930000-0000-7000-8000-00000000000b', now(), 0, 'accept', '[]')",
        "order 01930000-0000-7000-8000-00000000000b",
    ),
    (
        "audit-chain",
        "INSERT INTO audit VALUES (1, now(), 'eve', 'x', NULL, 'x', '{}', '', '')",
        "audit 1",
    ),
];

async fn shop() -> (TestDatabase, Connection) {
    let database = TestDatabase::create().await;
    let mut connection = database.connection().await;
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
}
