//! An open-loop load generator: requests go out by a timetable, whatever becomes of the earlier ones.
//!
//! The trap is *coordinated omission*: a generator that waits for an answer before it sends the next
//! request asks less just when the system is slow, and so never sees how long everybody else would
//! have waited. Here each request has its intended time from the start, and every latency counts from
//! there: if all connections are busy, or this process is late, that counts against the system.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{sleep_until, timeout},
};

/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// From having all connections to the first request.
const LEAD: Duration = Duration::from_millis(100);

/// What is sent.
pub(crate) type Body = Full<Bytes>;

/// How much is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Requests per second, evenly spaced.
    pub(crate) rate_per_s: u32,
    /// For so long.
    pub(crate) seconds: u32,
    /// Over so many connections, kept alive; as many requests can be under way.
    pub(crate) connections: usize,
}

impl Load {
    /// How many requests that makes.
    pub(crate) fn requests(self) -> u64 {
        u64::from(self.rate_per_s) * u64::from(self.seconds)
    }

    fn intended(self, began: Instant, number: u64) -> Instant {
        began + Duration::from_secs_f64(number as f64 / f64::from(self.rate_per_s))
    }
}

/// One request and what came back.
#[derive(Debug)]
pub(crate) struct Answer {
    /// When it was to be sent.
    pub(crate) intended: Instant,
    /// When it was sent.
    pub(crate) sent: Instant,
    /// When the whole answer was there.
    pub(crate) answered: Instant,
    /// None if there was no answer.
    pub(crate) status: Option<StatusCode>,
    /// The answer's body.
    pub(crate) body: Bytes,
}

/// A whole run.
#[derive(Debug)]
pub(crate) struct Run {
    /// The first request's intended time: the window begins.
    pub(crate) began: Instant,
    /// In no order.
    pub(crate) answers: Vec<Answer>,
}

/// Sends `request(n)` for each number from 0 on.
pub(crate) async fn run(
    gateway: SocketAddr,
    load: Load,
    request: impl Fn(u64) -> Request<Body> + Send + Sync + 'static,
) -> Result<Run> {
    let opening = (0..load.connections).map(|_| Connection::open(gateway));
    let connections = try_join_all(opening).await?;
    let (next, request) = (Arc::new(AtomicU64::new(0)), Arc::new(request));
    let began = Instant::now() + LEAD;
    let lanes = connections.into_iter().map(|mut connection| {
        let (next, request) = (Arc::clone(&next), Arc::clone(&request));
        tokio::spawn(async move {
            let mut answers = Vec::new();
            loop {
                // Numbers are given out in order, so no request waits while a connection is idle.
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= load.requests() {
                    return answers;
                }
                let intended = load.intended(began, number);
                sleep_until(intended.into()).await;
                let sent = Instant::now();
                let (status, body) = match connection.send(request(number)).await {
                    Ok((status, body)) => (Some(status), body),
                    Err(_) => (None, Bytes::new()),
                };
                answers.push(Answer {
                    intended,
                    sent,
                    answered: Instant::now(),
                    status,
                    body,
                });
            }
        })
    });
    let mut answers = Vec::new();
    for lane in join_all(lanes).await {
        answers.extend(lane.context("a task of the load generator broke")?);
    }
    Ok(Run { began, answers })
}

/// One connection, opened again when it breaks.
pub(crate) struct Connection {
    gateway: SocketAddr,
    open: Option<SendRequest<Body>>,
}

impl Connection {
    /// Opens it.
    pub(crate) async fn open(gateway: SocketAddr) -> Result<Self> {
        let open = Some(connect(gateway).await?);
        Ok(Self { gateway, open })
    }

    /// One exchange.
    pub(crate) async fn send(&mut self, request: Request<Body>) -> Result<(StatusCode, Bytes)> {
        let exchange = async {
            let mut open = match self.open.take() {
                Some(open) if !open.is_closed() => open,
                _ => connect(self.gateway).await?,
            };
            open.ready().await?;
            let (head, body) = open.send_request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            // Only a connection whose answer was read to the end can be used again.
            self.open = Some(open);
            Ok((head.status, body))
        };
        match timeout(PATIENCE, exchange).await {
            Ok(answer) => answer,
            Err(_) => bail!("no answer within {} s", PATIENCE.as_secs()),
        }
    }

    /// The JSON at a path.
    pub(crate) async fn get(&mut self, path: &str) -> Result<serde_json::Value> {
        let (status, body) = self.send(get(self.gateway, path)).await?;
        if status != StatusCode::OK {
            bail!("GET {path}: {status}");
        }
        Ok(serde_json::from_slice(&body)?)
    }
}

/// A GET request.
pub(crate) fn get(gateway: SocketAddr, path: &str) -> Request<Body> {
    Request::get(path)
        .header(header::HOST, gateway.to_string())
        .body(Body::default())
        .expect("paths come from our own URLs")
}

async fn connect(gateway: SocketAddr) -> Result<SendRequest<Body>> {
    let stream = TcpStream::connect(gateway)
        .await
        .with_context(|| format!("cannot connect to the gateway at {gateway}"))?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // It ends with its connection, whose failure the sender sees too.
    tokio::spawn(connection);
    Ok(sender)
}
