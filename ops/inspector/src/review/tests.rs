//! Decisions in a real database.

use super::*;
use crate::audit::{Verdict, verify};
use database::testing::TestDatabase;
use diesel_async::SimpleAsyncConnection;

/// A held order whose saga waits in shard 3.
async fn held(connection: &mut Connection) -> OrderId {
    let order = OrderId::new();
    let sql = format!(
        "INSERT INTO orders VALUES ('{order}', NULL, 2000000, 'EUR', 'ann@example.org',
           'Ann Lee', 'en', 'pm_card_visa', '192.0.2.1');
         INSERT INTO order_items VALUES ('{order}', gen_random_uuid(), gen_random_uuid(), 100, 2, 0);
         INSERT INTO sagas (id, deadline, updated_at, trace_id, rev, seq, pivot, shard, definition,
           state) VALUES ('{order}', now(), now(), gen_random_uuid(), 3, 2, 8, 3, 1, 2);
         INSERT INTO fraud_assessments VALUES ('{order}', now(), 70, 'review',
           '[{{\"rule\": \"large_amount\", \"value\": 2000000, \"threshold\": 1, \"weight\": 70}}]');
         INSERT INTO reviews (order_id, opened_at, state) VALUES ('{order}', now(), 'open')"
    );
    connection
        .batch_execute(&sql)
        .await
        .expect("an order is held");
    order
}

#[derive(diesel::QueryableByName, Debug)]
struct Signal {
    #[diesel(sql_type = SqlUuid)]
    saga_id: Uuid,
    #[diesel(sql_type = SmallInt)]
    shard: i16,
    #[diesel(sql_type = SmallInt)]
    kind: i16,
    #[diesel(sql_type = Text)]
    step: String,
    #[diesel(sql_type = Jsonb)]
    payload: Value,
}

async fn signals(connection: &mut Connection) -> Vec<Signal> {
    diesel::sql_query("SELECT saga_id, shard, kind, step, payload FROM signals")
        .load(connection)
        .await
        .expect("readable")
}

async fn audited(connection: &mut Connection) -> Vec<audit::Row> {
    let filter = audit::Filter {
        limit: 10,
        ..audit::Filter::default()
    };
    audit::list(connection, filter).await.expect("readable")
}

fn all(state: Option<&str>) -> Filter {
    Filter {
        state: state.map(str::to_owned),
        limit: 10,
    }
}

#[tokio::test]
async fn a_decision_is_review_signal_and_audit_row() {
    for (decision, state) in [
        (Decision::Approve, "approved"),
        (Decision::Reject, "rejected"),
    ] {
        let database = TestDatabase::create().await;
        let mut connection = database.connection().await;
        let order = held(&mut connection).await;
        let open = list(&mut connection, all(Some("open")))
            .await
            .expect("readable");
        assert_eq!((open.len(), open[0].score, open[0].tickets), (1, 70, 2));
        decide(&mut connection, order, "eve", "seen his passport", decision)
            .await
            .expect("decided");
        assert_eq!(
            list(&mut connection, all(Some("open")))
                .await
                .expect("readable"),
            []
        );
        let kept = list(&mut connection, all(None)).await.expect("readable");
        assert_eq!(
            (kept[0].state.as_str(), kept[0].by.as_deref()),
            (state, Some("eve"))
        );
        let signals = signals(&mut connection).await;
        assert_eq!(signals.len(), 1);
        let signal = &signals[0];
        assert_eq!((signal.saga_id, signal.shard, signal.kind), (order.0, 3, 1));
        assert_eq!(
            (signal.step.as_str(), &signal.payload),
            (
                "fraud-check",
                &json!({"decision": state, "by": "eve", "audit": 1})
            )
        );
        let rows = audited(&mut connection).await;
        assert_eq!((rows.len(), rows[0].subject), (1, Some(order.0)));
        assert_eq!(rows[0].reason, "seen his passport");
        assert_eq!(rows[0].detail["hits"][0]["rule"], "large_amount");
        assert!(matches!(
            verify(&mut connection).await,
            Ok(Verdict::Whole(_))
        ));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_twenty_reviewers_one_decides() {
    let database = TestDatabase::create().await;
    let mut connection = database.connection().await;
    let order = held(&mut connection).await;
    let pool = database.pool();
    let work = (0..20).map(|number| {
        let pool = pool.clone();
        async move {
            let mut connection = pool.get().await.expect("a connection");
            let decision = [Decision::Approve, Decision::Reject][number % 2];
            decide(&mut connection, order, "eve", "because", decision).await
        }
    });
    let results = futures_util::future::join_all(work).await;
    let decided = results.iter().filter(|result| result.is_ok()).count();
    let conflicts = results
        .iter()
        .filter(|result| matches!(result, Err(Error::Conflict(_))));
    assert_eq!((decided, conflicts.count()), (1, 19));
    assert_eq!(signals(&mut connection).await.len(), 1);
    assert_eq!(audited(&mut connection).await.len(), 1);
}

#[tokio::test]
async fn what_cannot_be_decided_leaves_nothing() {
    let database = TestDatabase::create().await;
    let mut connection = database.connection().await;
    let missing = approve(&mut connection, OrderId::new(), "eve", "because").await;
    assert!(
        matches!(missing, Err(Error::NotFound { .. })),
        "{missing:?}"
    );
    let ending = held(&mut connection).await;
    let withdrawn = held(&mut connection).await;
    let sql = format!(
        "UPDATE sagas SET state = 3 WHERE id = '{ending}';
         UPDATE reviews SET state = 'withdrawn', at = now() WHERE order_id = '{withdrawn}'"
    );
    connection.batch_execute(&sql).await.expect("they end");
    for order in [ending, withdrawn] {
        let late = reject(&mut connection, order, "eve", "because").await;
        assert!(matches!(late, Err(Error::Conflict(_))), "{late:?}");
    }
    let open = held(&mut connection).await;
    let silent = approve(&mut connection, open, "eve", " ").await;
    assert!(matches!(silent, Err(Error::BadRequest(_))), "{silent:?}");
    assert_eq!(signals(&mut connection).await.len(), 0);
    assert_eq!(audited(&mut connection).await.len(), 0);
    let states = list(&mut connection, all(Some("open")))
        .await
        .expect("readable");
    assert_eq!(
        states.len(),
        2,
        "the ending order's and the last one's are open still"
    );
    assert!(list(&mut connection, all(Some("lost"))).await.is_err());
}
