//! The kit against a real server.

use database::testing::TestDatabase;
use diesel::sql_types::{Array, BigInt, Integer, Text, Uuid as SqlUuid};
use diesel_async::{AsyncConnection, RunQueryDsl, SimpleAsyncConnection};
use uuid::Uuid;

database::statement! {
    struct Numbered {
        ids: Vec<Uuid> => Array<SqlUuid>,
        numbers: Vec<i32> => Array<Integer>,
        plus: i32 => Integer,
    } -> (SqlUuid, Integer) =
    "SELECT id, number + {plus} FROM unnest({ids}, {numbers}) AS t(id, number) WHERE number > {plus}"
}

#[derive(diesel::QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

#[tokio::test]
async fn a_statement_is_prepared_once_for_any_batch_size() {
    let database = TestDatabase::create().await;
    let mut connection = database.connection().await;
    for size in [1, 2, 50, 7, 1000] {
        let ids: Vec<Uuid> = (0..size).map(|_| Uuid::now_v7()).collect();
        let numbers: Vec<i32> = (0..size).map(|n| n + 2).collect();
        let rows: Vec<(Uuid, i32)> = Numbered {
            ids: ids.clone(),
            numbers,
            plus: 1,
        }
        .load(&mut connection)
        .await
        .expect("the statement runs");
        assert_eq!(rows.len(), ids.len());
        assert_eq!(rows[0], (ids[0], 3));
    }
    let prepared: Count = diesel::sql_query(
        "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%unnest%' \
         AND statement NOT LIKE '%pg_prepared_statements%'",
    )
    .get_result(&mut connection)
    .await
    .expect("the catalogue can be read");
    assert_eq!(prepared.count, 1);
}

#[tokio::test]
async fn migrating_again_changes_nothing() {
    let database = TestDatabase::create().await;
    let applied = database::migrate(&database::Config::new(database.url(), "test")).await;
    assert!(applied.expect("the migrations apply").is_empty());
}

#[tokio::test]
async fn a_failed_transaction_leaves_nothing() {
    let database = TestDatabase::create().await;
    let mut connection = database.connection().await;
    let result: Result<(), diesel::result::Error> = connection
        .transaction(async |connection| {
            connection
                .batch_execute("INSERT INTO steps VALUES (30, 'x')")
                .await?;
            Err(diesel::result::Error::RollbackTransaction)
        })
        .await;
    assert!(result.is_err());
    let left: Count = diesel::sql_query("SELECT count(*) FROM steps WHERE name = $1")
        .bind::<Text, _>("x")
        .get_result(&mut connection)
        .await
        .expect("readable");
    assert_eq!(left.count, 0);
}

/// A deadlock is told from a mistake, so that the batch is tried again.
#[tokio::test]
async fn a_deadlock_is_transient() {
    let database = TestDatabase::create().await;
    let mut setup = database.connection().await;
    setup
        .batch_execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2)")
        .await
        .expect("a table");
    let (mut one, mut two) = (database.connection().await, database.connection().await);
    for (connection, id) in [(&mut one, 1), (&mut two, 2)] {
        let lock = format!("BEGIN; SELECT FROM t WHERE id = {id} FOR UPDATE");
        connection.batch_execute(&lock).await.expect("a lock");
    }
    let cross = |id: i32| format!("UPDATE t SET id = id WHERE id = {id}");
    let (to_two, to_one) = (cross(2), cross(1));
    let both = tokio::join!(one.batch_execute(&to_two), async {
        let result = two.batch_execute(&to_one).await;
        two.batch_execute("ROLLBACK").await.expect("a rollback");
        result
    });
    let error = both
        .0
        .err()
        .or(both.1.err())
        .expect("one of them is the victim");
    assert!(database::is_transient(&error), "{error}");
    let mistake = setup
        .batch_execute("SELECT nonsense")
        .await
        .expect_err("no such column");
    assert!(!database::is_transient(&mistake));
}

/// It has the connection, and is not there any more.
#[tokio::test]
async fn a_server_that_says_nothing_is_not_waited_for() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = silent.local_addr().expect("an address");
    let mut config = database::Config::new(format!("postgres://u:p@{addr}/d"), "test");
    config.wait_timeout_ms = 200;
    let error = database::connect(&config).await.err().expect("no server");
    assert!(matches!(error, database::Error::Connect(_)), "{error}");
}
