//! A line that takes what it is told and says nothing any more.

use database::{Config, testing::TestDatabase};
use diesel_async::{AsyncConnection, SimpleAsyncConnection};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use url::Url;

/// Stands before a server. Once it is told to, a connection on which a commit is asked for hears nothing any
/// more: its ends stay open, and the server does what it was asked.
async fn line_to(server: String, swallows: Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&server).await.expect("it listens");
            tokio::spawn(carry(client, server, Arc::clone(&swallows)));
        }
    });
    address
}

async fn carry(client: TcpStream, server: TcpStream, swallows: Arc<AtomicBool>) {
    let ((mut client_in, mut client_out), (mut server_in, mut server_out)) =
        (client.into_split(), server.into_split());
    let deaf = AtomicBool::new(false);
    let there = async {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = client_in.read(&mut bytes).await {
            let commits = bytes[..count].windows(6).any(|part| part == b"COMMIT");
            if commits && swallows.load(Ordering::SeqCst) {
                deaf.store(true, Ordering::SeqCst);
            }
            server_out.write_all(&bytes[..count]).await.expect("open");
        }
    };
    let back = async {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = server_in.read(&mut bytes).await {
            if !deaf.load(Ordering::SeqCst) && client_out.write_all(&bytes[..count]).await.is_err()
            {
                return;
            }
        }
    };
    tokio::join!(there, back);
}

fn address(url: &str) -> String {
    let url: Url = url.parse().expect("a URL");
    let port = url.port().expect("it names a port");
    format!("{}:{port}", url.host_str().expect("it names a host"))
}

#[tokio::test]
async fn a_commit_of_which_nothing_is_heard_ends_and_is_found_by_another_connection() {
    let database = TestDatabase::create().await;
    let swallows = Arc::new(AtomicBool::new(false));
    let line = line_to(address(&database.url()), Arc::clone(&swallows)).await;
    let mut url: Url = database.url().parse().expect("a URL");
    url.set_host(Some("127.0.0.1")).expect("it has a host");
    url.set_port(Some(line.port())).expect("it has a port");
    let mut config = Config::new(url, "test");
    (config.pool_max, config.statement_timeout_ms) = (1, 500);
    let pool = database::pool(&config).expect("sound");

    let mut connection = pool.get().await.expect("it is let through");
    connection.batch_execute("SELECT 1").await.expect("heard");
    swallows.store(true, Ordering::SeqCst);
    let committed = connection.transaction(async |connection| {
        let insert = "INSERT INTO steps VALUES (30, 'x')";
        connection.batch_execute(insert).await
    });
    let error = committed.await.expect_err("nobody answers");
    assert!(database::is_transient(&error), "{error}");
    swallows.store(false, Ordering::SeqCst);
    drop(connection);

    // The pool gives another one in its place, and what was done is there.
    let mut other = pool.get().await.expect("the only place is free");
    let again = other
        .batch_execute("INSERT INTO steps VALUES (30, 'x')")
        .await;
    let error = again.expect_err("it is there");
    assert!(!database::is_transient(&error), "{error}");
}
