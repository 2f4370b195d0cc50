//! The accept loop of every listener: bounded connections, bounded patience, a drain that ends.
//!
//! `warp::serve` is not used because three things cannot be had with it. It gives hyper no timer, so
//! hyper's limit on the time a request head may take never arms and a few thousand sockets that send a
//! byte a minute keep everyone else out. Its graceful stop waits for open connections without a
//! deadline, and one browser with an event stream open would block the exit for ever. And it knows no
//! bound on connections.
//!
//! Each connection is a task. At shutdown the listener closes first, idle connections are closed, busy
//! ones finish what they are answering (HTTP/1.1 with `Connection: close`, HTTP/2 with GOAWAY), and what
//! is still open at [`Limits::drain_deadline`] is cut. A handler that should end earlier (an event
//! stream) watches the same token.

mod body;
mod connection;
mod stall;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use warp::{Filter, Reply};

pub use body::{BodyError, body, read_body};

use crate::metrics::{self, IntCounter, IntGauge};
use connection::{Connection, Tasks};

static OPEN: LazyLock<IntGauge> = LazyLock::new(|| {
    metrics::gauge(
        "guichet_http_open_connections",
        "Connections open now, over all listeners of the process",
    )
});
static FULL: LazyLock<IntCounter> = LazyLock::new(|| {
    metrics::counter(
        "guichet_http_connections_full_total",
        "Times that a listener stopped accepting because all its connections were in use",
    )
});
static ACCEPT_ERRORS: LazyLock<IntCounter> = LazyLock::new(|| {
    metrics::counter(
        "guichet_http_accept_errors_total",
        "Failed accepts, such as too many open files",
    )
});
static CUT: LazyLock<IntCounter> = LazyLock::new(|| {
    metrics::counter(
        "guichet_http_drain_cut_total",
        "Times that a drain ended at its deadline with connections still open",
    )
});

/// Connections of one listener.
const CONNECTIONS_MAX: usize = 10_000;
/// For the head of a request; also the longest that an idle connection is kept.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// For a whole body.
const BODY_WITHIN: Duration = Duration::from_secs(30);
/// For a peer that takes nothing of a response.
const STALL_MAX: Duration = Duration::from_secs(30);
/// A body, whatever the route allows.
const BODY_MAX_BYTES: usize = 1024 * 1024;
/// For open connections at a stop.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);
/// Before accepting again when there are no descriptors or memory left: the first pause doubles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// Up to this.
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// The bounds of one listener. The defaults suit a public API behind no proxy.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections open at once. Further ones wait in the kernel's backlog. Default 10,000.
    pub max_connections: usize,
    /// The time within which the head of the first, or of the next, request must have arrived; so also
    /// the longest that an idle connection is kept. Default 30 s.
    pub header_read_timeout: Duration,
    /// The time within which a whole body must have arrived once it is being read. Default 30 s.
    pub body_read_timeout: Duration,
    /// How long a peer may take nothing of a response that is waiting for it. Default 30 s.
    pub write_stall_timeout: Duration,
    /// The hard ceiling of a request body, in bytes; routes set lower ones. Default 1 MiB.
    pub max_body_bytes: usize,
    /// How long open connections may go on after shutdown was asked for. Default 10 s.
    pub drain_deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: CONNECTIONS_MAX,
            header_read_timeout: HEAD_WITHIN,
            body_read_timeout: BODY_WITHIN,
            write_stall_timeout: STALL_MAX,
            max_body_bytes: BODY_MAX_BYTES,
            drain_deadline: DRAIN_WITHIN,
        }
    }
}

/// Who is at the other end of the socket, in every request's extensions:
/// `warp::ext::get::<PeerAddr>()`. Behind a proxy this is the proxy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerAddr(
    /// Address and port of the peer.
    pub SocketAddr,
);

/// Serves `routes` on `listener` until `shutdown`, then drains and returns.
///
/// Returns at the latest [`Limits::drain_deadline`] after `shutdown`; by then no task of any connection
/// is left. Dropping the future cuts every connection at once.
///
/// Beyond the limits it refuses, before any route sees them, requests that warp cannot take: `CONNECT`
/// (405) and targets that are not a path (400). A route that panics answers 500 and is logged.
pub async fn serve<F>(listener: TcpListener, routes: F, limits: Limits, shutdown: CancellationToken)
where
    F: Filter<Error = Infallible> + Clone + Send + Sync + 'static,
    F::Extract: Reply,
{
    let tasks = Tasks {
        tracker: TaskTracker::new(),
        cut: CancellationToken::new(),
    };
    let _cut_when_dropped = tasks.cut.clone().drop_guard();
    let connection = Arc::new(Connection::new(&limits, &tasks, shutdown.clone()));
    let service = TowerToHyperService::new(warp::service(routes));
    let slots = Arc::new(Semaphore::new(limits.max_connections));

    loop {
        let (stream, peer, slot) = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        let serving = Arc::clone(&connection).serve(stream, peer, service.clone());
        tasks.spawn(async move {
            let _open = OpenConnection::new(slot);
            serving.await;
        });
    }

    drop(listener);
    tasks.tracker.close();
    if timeout(limits.drain_deadline, tasks.tracker.wait())
        .await
        .is_err()
    {
        let open = tasks.tracker.len();
        tracing::warn!(tasks = open, deadline = ?limits.drain_deadline, "connections cut: still open at the drain deadline");
        CUT.inc();
        tasks.cut.cancel();
        tasks.tracker.wait().await;
    }
}

/// A connection's slot and its place in the gauge; both are given back however the connection ends.
struct OpenConnection {
    _slot: OwnedSemaphorePermit,
}

impl OpenConnection {
    fn new(slot: OwnedSemaphorePermit) -> Self {
        OPEN.inc();
        Self { _slot: slot }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        OPEN.dec();
    }
}

/// The next connection, together with its slot. Never fails: what goes wrong is waited out.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let slot = slot(slots).await;
    let mut pause = ACCEPT_PAUSE;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, slot),
            // The peer gave up while it waited: its affair, and the next one may be fine.
            Err(error) if is_of_one_connection(&error) => {}
            // Out of descriptors or memory. Accepting again at once would spin on the same error, since
            // the waiting connection is still there; connections that end in the meantime give room.
            Err(error) => {
                ACCEPT_ERRORS.inc();
                tracing::warn!(%error, ?pause, "accept failed; trying again after a pause");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
            }
        }
    }
}

async fn slot(slots: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    if let Ok(slot) = Arc::clone(slots).try_acquire_owned() {
        return slot;
    }
    FULL.inc();
    tracing::warn!("all connections are in use; new ones wait");
    let slot = Arc::clone(slots).acquire_owned().await;
    slot.expect("the semaphore of a running listener is never closed")
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}
