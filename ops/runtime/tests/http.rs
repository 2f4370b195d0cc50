//! The accept loop against real sockets, well-behaved and hostile.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use runtime::http::{BodyError, Limits, PeerAddr, body, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use warp::{Filter, Reply};

/// Far above anything that should happen here; only a failing test meets it.
const LONG: Duration = Duration::from_secs(20);
/// A configured limit short enough to wait for.
const SHORT: Duration = Duration::from_millis(200);

struct Server {
    addr: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    async fn start<F>(limits: Limits, routes: F) -> Self
    where
        F: Filter<Error = Infallible> + Clone + Send + Sync + 'static,
        F::Extract: Reply,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(serve(listener, routes, limits, shutdown.clone()));
        Self {
            addr,
            shutdown,
            task,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.expect("listening")
    }

    async fn stop(self) {
        self.shutdown.cancel();
        within(self.task).await.expect("the server ends well");
    }
}

async fn within<F: Future>(future: F) -> F::Output {
    timeout(LONG, future).await.expect("done long before")
}

/// Reads until the peer closes; a reset counts as closed.
async fn read_to_close(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _reset = within(stream.read_to_end(&mut bytes)).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads until `text` has come.
async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let read = within(stream.read(&mut chunk)).await.expect("readable");
        bytes.extend_from_slice(&chunk[..read]);
        let so_far = String::from_utf8_lossy(&bytes).into_owned();
        if so_far.contains(text) {
            return so_far;
        }
        assert!(read > 0, "closed before {text:?} came: {so_far:?}");
    }
}

async fn ask(addr: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.expect("listening");
    stream.write_all(request.as_bytes()).await.expect("written");
    read_to_close(&mut stream).await
}

fn hello() -> impl Filter<Extract = (&'static str,), Error = Infallible> + Clone {
    warp::any().map(|| "hello")
}

/// `GET /events`: says one thing, then keeps the connection open for ever.
fn endless() -> impl Filter<Extract = (impl Reply,), Error = Infallible> + Clone {
    warp::any().map(|| {
        let first = stream::iter([Ok::<_, Infallible>(
            warp::sse::Event::default().data("first"),
        )]);
        warp::sse::reply(first.chain(stream::pending()))
    })
}

const GET: &str = "GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
const GET_AND_STAY: &str = "GET / HTTP/1.1\r\nhost: test\r\n\r\n";

#[tokio::test]
async fn answers_and_knows_the_peer() {
    let routes = warp::ext::get::<PeerAddr>()
        .map(|peer: PeerAddr| peer.0.to_string())
        .recover(|_| async { Ok::<_, Infallible>("no peer") });
    let server = Server::start(Limits::default(), routes).await;
    let mut stream = server.connect().await;
    let local = stream.local_addr().expect("connected").to_string();
    stream.write_all(GET.as_bytes()).await.expect("written");
    let answer = read_to_close(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with(&format!("\r\n\r\n{local}")), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn cuts_heads_that_never_end() {
    let limits = Limits {
        header_read_timeout: SHORT,
        ..Limits::default()
    };
    let server = Server::start(limits, hello()).await;
    // Nothing at all; the first letter of HTTP/2's preface, which is also that of POST; half a head;
    // HTTP/2's preface and then silence; a whole request and then silence.
    let attacks = [
        "",
        "P",
        "GET / HTTP/1.1\r\nx-slow: ",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        GET_AND_STAY,
    ];
    for attack in attacks {
        let started = Instant::now();
        let mut stream = server.connect().await;
        stream.write_all(attack.as_bytes()).await.expect("written");
        read_to_close(&mut stream).await;
        let lasted = started.elapsed();
        assert!(lasted >= SHORT, "{attack:?} was cut too early: {lasted:?}");
        assert!(lasted < LONG / 4, "{attack:?} held on for {lasted:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_byte_now_and_then_buys_no_time() {
    let limits = Limits {
        header_read_timeout: SHORT,
        ..Limits::default()
    };
    let server = Server::start(limits, hello()).await;
    let (mut read, mut write) = server.connect().await.into_split();
    let attacker = tokio::spawn(async move {
        let mut trickle = tokio::time::interval(SHORT / 10);
        let _sent = write.write_all(b"GET / HTTP/1.1\r\nx-slow: ").await;
        while write.write_all(b"a").await.is_ok() {
            trickle.tick().await;
        }
    });
    let mut rest = Vec::new();
    let _reset = within(read.read_to_end(&mut rest)).await;
    within(attacker).await.expect("the attacker sees it too");
    server.stop().await;
}

#[tokio::test]
async fn an_open_event_stream_is_not_idle() {
    let limits = Limits {
        header_read_timeout: SHORT,
        drain_deadline: Duration::ZERO,
        ..Limits::default()
    };
    let server = Server::start(limits, endless()).await;
    let mut stream = server.connect().await;
    stream
        .write_all(GET_AND_STAY.as_bytes())
        .await
        .expect("written");
    read_until(&mut stream, "first").await;
    let mut byte = [0];
    let silence = timeout(SHORT * 5, stream.read(&mut byte)).await;
    assert!(
        silence.is_err(),
        "cut while its response was open: {silence:?}"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline() {
    let limits = Limits {
        drain_deadline: SHORT,
        ..Limits::default()
    };
    let server = Server::start(limits, endless()).await;
    let addr = server.addr;
    let mut open = server.connect().await;
    open.write_all(GET_AND_STAY.as_bytes())
        .await
        .expect("written");
    read_until(&mut open, "first").await;

    let started = Instant::now();
    server.stop().await;
    let lasted = started.elapsed();
    assert!(lasted >= SHORT, "it did not wait: {lasted:?}");
    assert!(lasted < LONG / 4, "the deadline was not kept: {lasted:?}");
    read_to_close(&mut open).await;
    TcpStream::connect(addr).await.expect_err("closed");
}

#[tokio::test]
async fn a_drain_lets_answers_finish_and_closes_the_idle() {
    let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let routes = {
        let (entered, go) = (Arc::clone(&entered), Arc::clone(&go));
        warp::any().then(move || {
            let (entered, go) = (Arc::clone(&entered), Arc::clone(&go));
            async move {
                entered.notify_one();
                go.notified().await;
                "finished"
            }
        })
    };
    let server = Server::start(Limits::default(), routes).await;
    let mut idle = server.connect().await;
    let mut busy = server.connect().await;
    busy.write_all(GET_AND_STAY.as_bytes())
        .await
        .expect("written");
    within(entered.notified()).await;

    server.shutdown.cancel();
    assert_eq!(read_to_close(&mut idle).await, "");
    go.notify_one();
    let answer = read_to_close(&mut busy).await;
    assert!(answer.ends_with("finished"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn connections_are_capped_and_slots_come_back() {
    let limits = Limits {
        max_connections: 2,
        drain_deadline: Duration::ZERO,
        ..Limits::default()
    };
    let server = Server::start(limits, hello()).await;
    let mut first = server.connect().await;
    let mut second = server.connect().await;
    for stream in [&mut first, &mut second] {
        stream
            .write_all(GET_AND_STAY.as_bytes())
            .await
            .expect("written");
        read_until(stream, "hello").await;
    }
    // The third is in the kernel's backlog: connected, unanswered.
    let mut third = server.connect().await;
    third.write_all(GET.as_bytes()).await.expect("written");
    let mut byte = [0];
    let early = timeout(SHORT, third.read(&mut byte)).await;
    assert!(early.is_err(), "answered above the cap: {early:?}");
    drop(first);
    let answer = read_to_close(&mut third).await;
    assert!(answer.ends_with("hello"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn targets_without_a_path_do_not_reach_warp() {
    let routes = warp::path::full().map(|path: warp::path::FullPath| path.as_str().to_owned());
    let server = Server::start(Limits::default(), routes).await;
    let connect =
        "CONNECT example.com:80 HTTP/1.1\r\nhost: example.com\r\nconnection: close\r\n\r\n";
    let answer = ask(server.addr, connect).await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    for target in ["example.com:80", "*"] {
        let request = format!("GET {target} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        let answer = ask(server.addr, &request).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{target}: {answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
    }
    let absolute = "GET http://test HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
    let answer = ask(server.addr, absolute).await;
    assert!(answer.ends_with("\r\n\r\n/"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn a_panic_answers_500_and_spares_the_connection() {
    let routes = warp::path::full().map(|path: warp::path::FullPath| {
        assert_ne!(path.as_str(), "/boom", "secret detail");
        "fine"
    });
    let server = Server::start(Limits::default(), routes).await;
    let mut stream = server.connect().await;
    let boom = "GET /boom HTTP/1.1\r\nhost: test\r\n\r\n";
    stream.write_all(boom.as_bytes()).await.expect("written");
    let answer = read_until(&mut stream, "internal_error").await;
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    assert!(!answer.contains("secret"), "{answer}");
    stream.write_all(GET.as_bytes()).await.expect("written");
    let answer = read_to_close(&mut stream).await;
    assert!(answer.ends_with("fine"), "{answer}");
    server.stop().await;
}

fn upload(max_bytes: usize) -> impl Filter<Extract = (String,), Error = Infallible> + Clone {
    body(max_bytes)
        .map(|body: Result<Bytes, BodyError>| match body {
            Ok(bytes) => format!("got {}", bytes.len()),
            Err(error) => error.to_string(),
        })
        .recover(|_| async { Ok::<_, Infallible>("rejected".to_owned()) })
        .unify()
}

const CHUNKED: &str =
    "POST / HTTP/1.1\r\nhost: test\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";

#[tokio::test]
async fn bodies_are_bounded_whatever_their_length_claims() {
    let limits = Limits {
        max_body_bytes: 8,
        ..Limits::default()
    };
    let server = Server::start(limits, upload(5)).await;
    let cases = [
        ("5\r\nabcde\r\n0\r\n\r\n", "got 5"),
        ("6\r\nabcdef\r\n0\r\n\r\n", "longer than 5 bytes"),
        ("9\r\nabcdefghi\r\n0\r\n\r\n", "longer than 8 bytes"),
        ("not a chunk", "broke off"),
    ];
    for (chunks, expected) in cases {
        let answer = ask(server.addr, &format!("{CHUNKED}{chunks}")).await;
        assert!(answer.contains(expected), "{chunks:?}: {answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_given_up() {
    let limits = Limits {
        body_read_timeout: SHORT,
        ..Limits::default()
    };
    let server = Server::start(limits, upload(100)).await;
    let mut stream = server.connect().await;
    let start = format!("{CHUNKED}1\r\na\r\n");
    stream.write_all(start.as_bytes()).await.expect("written");
    let answer = read_until(&mut stream, "did not arrive within 200 ms").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn a_peer_that_reads_nothing_is_cut() {
    /// Tells that the response was dropped.
    struct Dropped(Arc<Notify>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let dropped = Arc::new(Notify::new());
    let routes = {
        let dropped = Arc::clone(&dropped);
        warp::any().map(move || {
            let held = Dropped(Arc::clone(&dropped));
            let chunks = stream::repeat_with(move || {
                let _held = &held;
                Ok::<_, Infallible>(Bytes::from_static(&[0; 64 * 1024]))
            });
            warp::reply::stream(chunks)
        })
    };
    let limits = Limits {
        write_stall_timeout: SHORT,
        ..Limits::default()
    };
    let server = Server::start(limits, routes).await;
    let mut stream = server.connect().await;
    stream.write_all(GET.as_bytes()).await.expect("written");
    within(dropped.notified()).await;
    server.stop().await;
}

type Http2 = hyper::client::conn::http2::SendRequest<http_body_util::Empty<Bytes>>;

/// A client of HTTP/2 and the task that drives it, which ends with the connection.
async fn http2(server: &Server) -> (Http2, JoinHandle<hyper::Result<()>>) {
    let io = TokioIo::new(server.connect().await);
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
    let (client, connection) = handshake.expect("spoken");
    (client, tokio::spawn(connection))
}

async fn get2(client: &mut Http2, path: &str) -> http::Response<hyper::body::Incoming> {
    let request = http::Request::get(format!("http://test{path}"));
    let request = request.body(http_body_util::Empty::new()).expect("valid");
    within(client.send_request(request))
        .await
        .expect("answered")
}

#[tokio::test]
async fn http2_is_spoken_and_a_panic_spares_its_other_requests() {
    let go = Arc::new(Notify::new());
    let routes = {
        let go = Arc::clone(&go);
        warp::path::full().then(move |path: warp::path::FullPath| {
            let go = Arc::clone(&go);
            async move {
                if path.as_str() == "/wait" {
                    go.notified().await;
                }
                assert_ne!(path.as_str(), "/boom", "planted");
                "fine"
            }
        })
    };
    let server = Server::start(Limits::default(), routes).await;
    let (mut client, connection) = http2(&server).await;
    let mut other = client.clone();
    let waiting = tokio::spawn(async move { get2(&mut other, "/wait").await.status() });
    assert_eq!(get2(&mut client, "/boom").await.status(), 500);
    go.notify_one();
    assert_eq!(within(waiting).await.expect("no panic"), 200);
    assert_eq!(get2(&mut client, "/").await.status(), 200);
    server.stop().await;
    within(connection)
        .await
        .expect("no panic")
        .expect("an orderly end");
}

#[tokio::test]
async fn an_http2_peer_that_asks_nothing_is_let_go() {
    let limits = Limits {
        header_read_timeout: SHORT,
        ..Limits::default()
    };
    let server = Server::start(limits, hello()).await;
    // This client answers pings, so only the lack of requests can end it.
    let started = Instant::now();
    let (mut client, connection) = http2(&server).await;
    assert_eq!(get2(&mut client, "/").await.status(), 200);
    within(connection)
        .await
        .expect("no panic")
        .expect("an orderly end");
    let lasted = started.elapsed();
    assert!(lasted >= SHORT, "cut too early: {lasted:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_drain_cuts_the_streams_of_http2_too() {
    let limits = Limits {
        drain_deadline: SHORT,
        ..Limits::default()
    };
    let server = Server::start(limits, endless()).await;
    let (mut client, connection) = http2(&server).await;
    let open = get2(&mut client, "/").await;
    let started = Instant::now();
    server.stop().await;
    let lasted = started.elapsed();
    assert!(lasted >= SHORT && lasted < LONG / 4, "{lasted:?}");
    within(connection)
        .await
        .expect("no panic")
        .expect("GOAWAY came before");
    let body = within(open.into_body().collect()).await;
    body.expect_err("an event stream does not end by itself");
}
