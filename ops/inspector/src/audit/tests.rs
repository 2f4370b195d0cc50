//! The chain in a real database.

use super::*;
use database::testing::TestDatabase;
use diesel_async::SimpleAsyncConnection;
use serde_json::json;

fn entry(number: usize) -> Entry {
    Entry {
        actor: format!("eve-{number}"),
        action: "review.approve".into(),
        subject: number
            .is_multiple_of(2)
            .then(|| Uuid::from_u128(number as u128)),
        reason: "known customer".into(),
        detail: json!({"b": 1.5, "aa": {"n": number, "big": 1e300, "text": "ü\u{1F3AB}"}, "c": [1, null]}),
    }
}

async fn with_rows(count: usize) -> (TestDatabase, Connection) {
    let database = TestDatabase::create().await;
    let mut connection = database.connection().await;
    for number in 0..count {
        record(&mut connection, entry(number))
            .await
            .expect("appended");
    }
    (database, connection)
}

async fn after(sql: &str) -> Verdict {
    let (_database, mut connection) = with_rows(6).await;
    connection
        .batch_execute(sql)
        .await
        .expect("the log is tampered with");
    verify(&mut connection).await.expect("the log can be read")
}

fn broken_at(verdict: &Verdict) -> Option<i64> {
    match verdict {
        Verdict::Broken { id, .. } => Some(*id),
        Verdict::Whole(_) => None,
    }
}

#[tokio::test]
async fn an_untouched_log_is_whole() {
    let (_database, mut connection) = with_rows(0).await;
    let empty = verify(&mut connection).await.expect("readable");
    assert!(matches!(empty, Verdict::Whole(Head { id: 0, .. })));
    let (_database, mut connection) = with_rows(5).await;
    let whole = verify(&mut connection).await.expect("readable");
    assert!(
        matches!(whole, Verdict::Whole(Head { id: 5, .. })),
        "{whole:?}"
    );
}

#[tokio::test]
async fn changing_one_row_is_found_at_that_row() {
    for change in [
        "at = at + interval '1 microsecond'",
        "actor = 'mallory'",
        "action = 'review.reject'",
        "subject = gen_random_uuid()",
        "reason = 'none'",
        r#"detail = detail || '{"n": 2}'"#,
        "hash = sha256('x')",
        "previous = sha256('x')",
    ] {
        let verdict = after(&format!("UPDATE audit SET {change} WHERE id = 3")).await;
        assert_eq!(broken_at(&verdict), Some(3), "{change}: {verdict:?}");
    }
}

#[tokio::test]
async fn a_removed_or_exchanged_row_is_found() {
    let removed = after("DELETE FROM audit WHERE id = 3").await;
    assert_eq!(broken_at(&removed), Some(4), "{removed:?}");
    let first = after("DELETE FROM audit WHERE id = 1").await;
    assert_eq!(broken_at(&first), Some(2));
    let closed = after("DELETE FROM audit WHERE id = 3; UPDATE audit SET id = id - 1 WHERE id > 3");
    assert_eq!(broken_at(&closed.await), Some(3));
    let replaced = after(
        "UPDATE audit SET id = CASE id WHEN 2 THEN -3 ELSE -2 END WHERE id IN (2, 3);
                          UPDATE audit SET id = -id WHERE id < 0",
    );
    assert_eq!(broken_at(&replaced.await), Some(2));
}

#[tokio::test]
async fn a_page_border_is_no_border() {
    let (_database, mut connection) = with_rows(1).await;
    let appended: Result<(), Error> = connection
        .transaction(async |connection| {
            for number in 0..1_500 {
                append(connection, entry(number)).await?;
            }
            Ok(())
        })
        .await;
    appended.expect("appended");
    let whole = verify(&mut connection).await.expect("readable");
    assert!(
        matches!(whole, Verdict::Whole(Head { id: 1_501, .. })),
        "{whole:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_append_at_once_make_one_chain() {
    let (database, mut connection) = with_rows(0).await;
    let pool = database.pool();
    let work = (0..40).map(|number| {
        let pool = pool.clone();
        async move {
            let mut connection = pool.get().await.expect("a connection");
            record(&mut connection, entry(number))
                .await
                .expect("appended")
        }
    });
    let mut ids = futures_util::future::join_all(work).await;
    ids.sort_unstable();
    assert_eq!(ids, (1..=40).collect::<Vec<i64>>());
    let whole = verify(&mut connection).await.expect("readable");
    assert!(
        matches!(whole, Verdict::Whole(Head { id: 40, .. })),
        "{whole:?}"
    );
}

#[tokio::test]
async fn rows_are_listed_newest_first_in_pages() {
    let (_database, mut connection) = with_rows(5).await;
    let filter = |before, limit| Filter {
        before,
        limit,
        ..Filter::default()
    };
    let page = list(&mut connection, filter(None, 2))
        .await
        .expect("readable");
    assert_eq!(page.iter().map(|row| row.id).collect::<Vec<_>>(), [5, 4]);
    let next = list(&mut connection, filter(Some(4), 10))
        .await
        .expect("readable");
    assert_eq!(next.iter().map(|row| row.id).collect::<Vec<_>>(), [3, 2, 1]);
    let by_subject = Filter {
        subject: Some(Uuid::from_u128(2)),
        ..filter(None, 10)
    };
    let found = list(&mut connection, by_subject).await.expect("readable");
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].actor.as_str(), &found[0].detail),
        ("eve-2", &entry(2).detail)
    );
    assert!(list(&mut connection, filter(None, 0)).await.is_err());
}

#[tokio::test]
async fn an_entry_without_a_reason_is_refused() {
    let (_database, mut connection) = with_rows(0).await;
    for reason in ["", "  ", "a\0b", &"x".repeat(1_001)] {
        let bad = Entry {
            reason: reason.to_owned(),
            ..entry(0)
        };
        let refused = record(&mut connection, bad).await;
        assert!(matches!(refused, Err(Error::BadRequest(_))), "{refused:?}");
    }
}
