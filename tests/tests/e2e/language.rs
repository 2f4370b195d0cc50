//! A PostgreSQL that says in German what goes wrong.

use crate::restore::server::Server;
use database::{Config, Connection, connect};
use diesel_async::SimpleAsyncConnection;
use url::Url;

async fn execute(connection: &mut Connection, sql: &str) {
    let done = connection.batch_execute(sql).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// What one of two is told who stand in each other's way.
async fn deadlock(config: &Config) -> diesel::result::Error {
    let mut one = connect(config).await.expect("it is let on");
    let mut two = connect(config).await.expect("it is let on");
    execute(&mut one, "BEGIN; SELECT FROM t WHERE id = 1 FOR UPDATE").await;
    execute(&mut two, "BEGIN; SELECT FROM t WHERE id = 2 FOR UPDATE").await;
    let both = tokio::join!(
        one.batch_execute("UPDATE t SET id = id WHERE id = 2"),
        async {
            let result = two.batch_execute("UPDATE t SET id = id WHERE id = 1").await;
            execute(&mut two, "ROLLBACK").await;
            result
        }
    );
    both.0.err().or(both.1.err()).expect("one is the victim")
}

#[tokio::test]
async fn a_deadlock_is_told_from_a_mistake_whatever_language_the_server_speaks() {
    let server = Server::create_speaking("de").await;
    let superuser = Config::new(server.url(), "test");
    let mut raw = raw(&server.url()).await;
    let error = raw
        .batch_execute("SELECT 1 / 0")
        .await
        .expect_err("no number");
    assert_eq!(error.to_string(), "Division durch Null");
    let tables = "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2);
                  CREATE ROLE weak LOGIN PASSWORD 'weak'; GRANT ALL ON t TO weak";
    execute(&mut raw, tables).await;
    let error = deadlock(&superuser).await;
    assert!(database::is_transient(&error), "{error}");

    // Who may not choose the language has to be told why he cannot be served.
    let mut url: Url = server.url().parse().expect("a URL");
    url.set_username("weak").expect("it has a host");
    url.set_password(Some("weak")).expect("it has a host");
    let weak = Config::new(url, "test");
    let refused = connect(&weak).await.err().expect("it speaks German to him");
    let grant = "GRANT SET ON PARAMETER lc_messages TO weak";
    assert!(format!("{refused:?}").contains(grant), "{refused:?}");
    execute(&mut raw, grant).await;
    let error = deadlock(&weak).await;
    assert!(database::is_transient(&error), "{error}");
}

/// A connection that is set to nothing.
async fn raw(url: &str) -> Connection {
    let connection = <Connection as diesel_async::AsyncConnection>::establish(url).await;
    connection.expect("it answers")
}
