//! A listener that runs out of file descriptors, and gets them back. The server is this test binary,
//! started again under a low limit, so that nobody else's descriptors are touched.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use runtime::http::{Limits, serve};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use warp::Filter;

const CHILD: &str = "RUNTIME_DESCRIPTORS_CHILD";
const LONG: Duration = Duration::from_secs(20);
const DESCRIPTORS: usize = 40;

/// Serves the number of failed accepts until its standard input ends.
fn child() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let errors =
            runtime::metrics::counter("guichet_http_accept_errors_total", "Shared by name");
        let routes = warp::any().map(move || errors.get().to_string());
        let shutdown = CancellationToken::new();
        let serving = serve(listener, routes, Limits::default(), shutdown.clone());
        let serving = tokio::spawn(serving);
        writeln!(std::io::stdout(), "child: {addr}").expect("the parent reads");
        let parent = || std::io::stdin().read_to_end(&mut Vec::new());
        let ended = tokio::task::spawn_blocking(parent).await;
        ended.expect("no panic").expect("readable");
        shutdown.cancel();
        serving.await.expect("the server ends well");
    });
}

fn ask(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(LONG)).expect("a socket");
    let request = b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
    stream.write_all(request).expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    answer.split_once("\r\n\r\n").expect("a head").1.to_owned()
}

#[test]
fn accepting_survives_a_lack_of_descriptors() {
    if std::env::var_os(CHILD).is_some() {
        return child();
    }
    let this = std::env::current_exe().expect("a test binary");
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(format!("ulimit -n {DESCRIPTORS}; exec \"$0\" --nocapture"))
        .arg(this)
        .env(CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let addr: SocketAddr = lines
        .find_map(|line| {
            let line = line.expect("UTF-8");
            Some(line.split_once("child: ")?.1.parse().expect("an address"))
        })
        .expect("the child serves");

    let mut open: Vec<_> = (0..2 * DESCRIPTORS)
        .map(|_| TcpStream::connect(addr).expect("in the backlog"))
        .collect();
    // The last one waits for a descriptor: it is answered only after others have gone.
    let mut last = open.pop().expect("many");
    let started = Instant::now();
    last.set_read_timeout(Some(Duration::from_millis(300)))
        .expect("a socket");
    last.write_all(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
        .expect("buffered");
    last.read(&mut [0; 16]).expect_err("no descriptor is left");
    drop(open);
    let errors: u64 = ask(&mut TcpStream::connect(addr).expect("in the backlog"))
        .parse()
        .expect("a number");
    assert!(started.elapsed() < LONG, "it came back too late");
    // With a pause between attempts there are a few, without it thousands.
    assert!((1..100).contains(&errors), "{errors} failed accepts");

    drop(child.stdin.take());
    assert!(child.wait().expect("ended").success());
}
