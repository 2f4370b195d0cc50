//! Lives of a database.

use database::{
    Config, Life, Other, Pool, incarnation, present_incarnation, renew_incarnation,
    testing::TestDatabase,
};
use diesel_async::SimpleAsyncConnection;
use std::collections::BTreeSet;

async fn of(database: &TestDatabase) -> u64 {
    let number = incarnation(&mut database.connection().await).await;
    number.expect("readable")
}

/// The row as it comes out of a backup: it names another place than where the database now is.
async fn restored(database: &TestDatabase) {
    let sql = "UPDATE incarnation SET place = '7/1/5'";
    let mut connection = database.connection().await;
    connection.batch_execute(sql).await.expect("there is a row");
}

#[tokio::test]
async fn each_database_has_an_incarnation_of_its_own() {
    let (one, two) = (TestDatabase::create().await, TestDatabase::create().await);
    let first = of(&one).await;
    assert_eq!(first, of(&one).await);
    assert_ne!(first, of(&two).await);
}

/// At its first place it is what earlier versions make of the place, which may still be at work.
#[tokio::test]
async fn the_first_number_is_that_of_earlier_versions() {
    #[derive(diesel::QueryableByName)]
    struct Place {
        #[diesel(sql_type = diesel::sql_types::Text)]
        place: String,
    }
    let database = TestDatabase::create().await;
    let number = of(&database).await;
    let sql = "SELECT concat_ws('/', s.system_identifier, c.timeline_id, d.oid) AS place
               FROM pg_control_system() s, pg_control_checkpoint() c, pg_database d
               WHERE d.datname = current_database()";
    let query = diesel::sql_query(sql);
    let mut connection = database.connection().await;
    let place: Place = diesel_async::RunQueryDsl::get_result(query, &mut connection)
        .await
        .expect("a place");
    let hash = place.place.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, it| {
        (hash ^ u64::from(it)).wrapping_mul(0x0100_0000_01b3)
    });
    assert_eq!(number, hash);
}

/// Two clones of one backup are at the same new place, and yet two lives.
#[tokio::test]
async fn a_restore_is_another_life_each_time() {
    let database = TestDatabase::create().await;
    let mut lives = BTreeSet::from([of(&database).await]);
    for _ in 0..3 {
        restored(&database).await;
        let known = present_incarnation(&mut database.connection().await).await;
        assert!(lives.contains(&known.expect("readable").expect("there is a row")));
        assert!(lives.insert(of(&database).await), "{lives:?}");
    }
}

#[tokio::test]
async fn of_many_who_begin_after_a_restore_at_once_all_are_of_one_life() {
    let database = TestDatabase::create().await;
    let before = of(&database).await;
    restored(&database).await;
    let of = || of(&database);
    let many = tokio::join!(of(), of(), of(), of(), of(), of(), of(), of());
    let (a, b, c, d, e, f, g, h) = many;
    let lives = BTreeSet::from([a, b, c, d, e, f, g, h]);
    assert_eq!(lives.len(), 1, "{lives:?}");
    assert!(!lives.contains(&before));
}

#[tokio::test]
async fn whoever_knows_of_a_restore_renews_it() {
    let database = TestDatabase::create().await;
    let before = of(&database).await;
    let renewed = renew_incarnation(&mut database.connection().await).await;
    let renewed = renewed.expect("writable");
    assert_ne!(renewed, before);
    assert_eq!(of(&database).await, renewed);
    let known = present_incarnation(&mut database.connection().await).await;
    assert_eq!(known.expect("readable"), Some(renewed));
}

/// A pool of a process that began.
async fn at_work(database: &TestDatabase) -> (Life, Pool) {
    let life = Life::default();
    let config = Config::new(database.url(), "guichet test");
    let pool = database::pool_of(&config, &life).expect("sound");
    let begun = incarnation(&mut pool.get().await.expect("a connection")).await;
    life.begin(begun.expect("readable"));
    (life, pool)
}

/// The connection that it has is ended, and it gets no other; who begins anew gets one.
#[tokio::test]
async fn whoever_began_before_another_life_was_begun_has_no_connection_to_it() {
    let database = TestDatabase::create().await;
    let (life, pool) = at_work(&database).await;
    let mut held = pool.get().await.expect("a connection");
    held.batch_execute("BEGIN; INSERT INTO steps VALUES (30, 'x')")
        .await
        .expect("it is at work");
    assert!(!life.is_over());
    let renewed = renew_incarnation(&mut database.connection().await).await;
    let renewed = renewed.expect("it waits for nobody");
    held.batch_execute("COMMIT").await.expect_err("it is ended");
    drop(held);
    for _ in 0..2 {
        let refused = pool.get().await.err().expect("no connection");
        assert!(
            format!("{refused:?}").contains("another life"),
            "{refused:?}"
        );
    }
    assert_eq!(life.over().await, Other::Number(renewed));
    let (life, pool) = at_work(&database).await;
    let mut connection = pool.get().await.expect("a connection");
    connection
        .batch_execute("INSERT INTO steps VALUES (30, 'x')")
        .await
        .expect("nothing is there of what was before");
    assert!(!life.is_over());
}

/// It came back from a backup, and nobody has begun on it yet.
#[tokio::test]
async fn whoever_began_elsewhere_has_no_connection() {
    let database = TestDatabase::create().await;
    let (life, pool) = at_work(&database).await;
    restored(&database).await;
    drop(pool.get().await.expect("the one that it has"));
    let taken = pool.get().await.expect("the same");
    pool.get().await.err().expect("another one looks first");
    assert_eq!(life.over().await, Other::Place);
    drop(taken);
    pool.get()
        .await
        .err()
        .expect("nor is the old one given out");
}
