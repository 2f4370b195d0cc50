//! Who has it, for how long it has been asking, and when that ends.

use super::*;
use crate::sagas::{Asking, asking};
use database::testing::TestDatabase;
use diesel_async::SimpleAsyncConnection;
use engine::{NewSaga, definitions::Definitions};
use saga::Now;

/// Three sagas: two ask for a person, the first since two hours, the second, which is held, since three
/// days; the third does not.
async fn sagas(connection: &mut Connection) -> [SagaId; 3] {
    let new = [(); 3].map(|()| NewSaga {
        id: SagaId::new(),
        trace_id: 1,
    });
    let now = Now::new(1_800_000_000_000, 0);
    engine::start(connection, &saga::order::v1(), &new, 8, now)
        .await
        .expect("started");
    let [first, second, third] = new.map(|new| new.id);
    let flags = format!(
        "UPDATE sagas SET flags = 4, flagged_at = now() - interval '2 hours' WHERE id = '{first}';
         UPDATE sagas SET flags = 2, flagged_at = now() - interval '3 days' WHERE id = '{second}'"
    );
    connection.batch_execute(&flags).await.expect("written");
    [first, second, third]
}

async fn listed(connection: &mut Connection, which: Asking) -> Vec<(SagaId, Option<String>)> {
    let rows = asking(connection, &Definitions::ours(), &which).await;
    rows.expect("readable")
        .into_iter()
        .map(|row| (SagaId(row.saga.id), row.taken_by))
        .collect()
}

/// Takes a saga on that is free.
async fn taken(connection: &mut Connection, saga: SagaId, by: &str) {
    let took = take(connection, saga, by, "case 12").await;
    took.expect("it is free");
}

/// Who has a saga.
async fn has(connection: &mut Connection, saga: SagaId) -> Option<String> {
    let read = takings::read(connection, saga).await;
    read.expect("readable").map(|taken| taken.by)
}

fn all() -> Asking {
    Asking {
        limit: 10,
        ..Asking::default()
    }
}

#[tokio::test]
async fn what_asks_for_a_person_is_listed_by_its_age_with_who_has_it() {
    let database = TestDatabase::create().await;
    let mut connection = database.connection().await;
    let [first, second, _] = sagas(&mut connection).await;
    taken(&mut connection, first, " Ann ").await;
    let rows = asking(&mut connection, &Definitions::ours(), &all()).await;
    let rows = rows.expect("readable");
    assert_eq!(
        rows.iter().map(|row| row.saga.id).collect::<Vec<_>>(),
        [second.0, first.0],
        "the longest asking first"
    );
    assert!((7_200..7_300).contains(&rows[1].asks_for_s), "{rows:?}");
    assert!(rows[1].taken_at.is_some() && rows[0].taken_at.is_none());
    let untaken = Asking {
        untaken: true,
        ..all()
    };
    assert_eq!(listed(&mut connection, untaken).await, [(second, None)]);
    for (name, expected) in [
        ("ann", &[(first, Some("Ann".to_owned()))][..]),
        ("bob", &[]),
    ] {
        let hers = Asking {
            taken_by: Some(name.to_owned()),
            ..all()
        };
        assert_eq!(listed(&mut connection, hers).await, expected);
    }
}

#[tokio::test]
async fn one_has_it_until_it_is_given_back() {
    let database = TestDatabase::create().await;
    let mut connection = database.connection().await;
    let [first, _, third] = sagas(&mut connection).await;
    let nobody = release(&mut connection, first, "ann", "x").await;
    assert!(matches!(nobody, Err(Error::Conflict(_))), "{nobody:?}");
    taken(&mut connection, first, "ann").await;
    for other in ["bob", "ann"] {
        let refused = take(&mut connection, first, other, "mine").await;
        let Err(Error::Conflict(why)) = refused else {
            panic!("{refused:?}");
        };
        assert!(why.contains("taken on by ann"), "{why}");
    }
    release(&mut connection, first, "bob", "ann is ill")
        .await
        .expect("anybody may");
    taken(&mut connection, first, "bob").await;
    let quiet = take(&mut connection, third, "ann", "x").await;
    assert!(matches!(quiet, Err(Error::Conflict(_))), "{quiet:?}");
    let unknown = take(&mut connection, SagaId::new(), "ann", "x").await;
    assert!(
        matches!(unknown, Err(Error::NotFound { .. })),
        "{unknown:?}"
    );
    let rows = audit::list(
        &mut connection,
        audit::Filter {
            limit: 10,
            ..audit::Filter::default()
        },
    );
    let kept: Vec<(String, String)> = rows
        .await
        .expect("readable")
        .into_iter()
        .map(|row| (row.action, row.actor))
        .collect();
    let expected = [
        ("saga.take", "bob"),
        ("saga.give_back", "bob"),
        ("saga.take", "ann"),
    ];
    assert_eq!(kept, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
}

#[tokio::test]
async fn a_taking_ends_with_the_asking() {
    let database = TestDatabase::create().await;
    let mut connection = database.connection().await;
    let [first, ..] = sagas(&mut connection).await;
    taken(&mut connection, first, "ann").await;
    let quiet = format!("UPDATE sagas SET flags = 0, flagged_at = NULL WHERE id = '{first}'");
    connection.batch_execute(&quiet).await.expect("written");
    assert_eq!(has(&mut connection, first).await, None);
    let again = format!("UPDATE sagas SET flags = 4, flagged_at = now() WHERE id = '{first}'");
    connection.batch_execute(&again).await.expect("written");
    let nobody = has(&mut connection, first).await;
    assert_eq!(nobody, None, "she took on something else");
    taken(&mut connection, first, "bob").await;
    assert_eq!(has(&mut connection, first).await.as_deref(), Some("bob"));
}

#[tokio::test]
async fn of_many_who_take_it_at_once_one_has_it() {
    let database = TestDatabase::create().await;
    let mut connection = database.connection().await;
    let [first, ..] = sagas(&mut connection).await;
    let pool = database.pool();
    let takes = (0..20).map(|number| {
        let pool = pool.clone();
        async move {
            let mut connection = pool.get().await.expect("a connection");
            let taken = take(&mut connection, first, &format!("ann {number}"), "mine").await;
            taken.is_ok()
        }
    });
    let took = futures_util::future::join_all(takes).await;
    assert_eq!(took.into_iter().filter(|took| *took).count(), 1);
}
