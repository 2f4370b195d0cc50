//! One connection: hyper's state machine, our clock over it, and the guard in front of warp.
//!
//! hyper times request heads of HTTP/1.1 only, and only once it knows that it is HTTP/1.1. A peer that
//! sends nothing at all (or the first letter of HTTP/2's preface), and an HTTP/2 peer that never asks
//! anything, would hold its slot for ever. So the connection keeps the time since something was last
//! asked or answered, and ends when that exceeds the limit.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use http::{Method, Request, StatusCode, header};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use warp::Reply;

use super::body::RequestBody;
use super::stall::StallTimeout;
use super::{Limits, PeerAddr};
use crate::metrics::{self, IntCounter};

/// Request heads above this are refused with 431.
const MAX_HEADER_BYTES: usize = 32 * 1024;
/// Requests that one HTTP/2 connection may have open at once.
const MAX_STREAMS: u32 = 128;

static PANICS: LazyLock<IntCounter> = LazyLock::new(|| {
    metrics::counter(
        "guichet_http_handler_panics_total",
        "Requests whose handler panicked",
    )
});

/// Every task of a listener, so that a drain can wait for all of them and cut all of them. hyper spawns
/// a task for each HTTP/2 request through this as well.
#[derive(Clone)]
pub(super) struct Tasks {
    pub(super) tracker: TaskTracker,
    pub(super) cut: CancellationToken,
}

impl Tasks {
    pub(super) fn spawn(&self, future: impl Future<Output: Send> + Send + 'static) {
        let cut = self.cut.clone();
        self.tracker
            .spawn(async move { cut.run_until_cancelled_owned(future).await });
    }
}

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.spawn(future);
    }
}

/// What the connections of a listener have in common.
pub(super) struct Connection {
    builder: auto::Builder<Tasks>,
    limits: Limits,
    shutdown: CancellationToken,
}

impl Connection {
    pub(super) fn new(limits: &Limits, tasks: &Tasks, shutdown: CancellationToken) -> Self {
        let mut builder = auto::Builder::new(tasks.clone());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_read_timeout)
            .max_buf_size(MAX_HEADER_BYTES);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADER_BYTES as u32)
            // A peer that vanished without a word is noticed by a ping, not by the next response.
            .keep_alive_interval(limits.header_read_timeout)
            .keep_alive_timeout(limits.header_read_timeout);
        Self {
            builder,
            limits: limits.clone(),
            shutdown,
        }
    }

    /// Serves one connection to its end.
    pub(super) async fn serve<S>(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, routes: S)
    where
        S: Service<Request<RequestBody>, Response = warp::reply::Response, Error = Infallible>
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        // Small responses must not wait for the peer's delayed ACK of the one before.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, %peer, "TCP_NODELAY not set");
        }
        let activity = Arc::new(Activity::new());
        let routes = Arc::new(routes);
        let service = service_fn(|request: Request<Incoming>| {
            let in_flight = InFlight::begin(&activity);
            let request = request.map(|body| RequestBody::new(body, &self.limits));
            let routes = Arc::clone(&routes);
            async move {
                let response = answer(&*routes, request, peer).await;
                Ok::<_, Infallible>(response.map(|body| Counted {
                    body,
                    _in_flight: in_flight,
                }))
            }
        });
        let io = TokioIo::new(StallTimeout::new(stream, self.limits.write_stall_timeout));
        let mut http = pin!(self.builder.serve_connection(io, service));

        let patience = self.limits.header_read_timeout;
        let mut check = pin!(tokio::time::sleep(patience));
        let mut closing = false;
        loop {
            tokio::select! {
                ended = http.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, %peer, "connection ended");
                    }
                    return;
                }
                () = self.shutdown.cancelled(), if !closing => {
                    closing = true;
                    http.as_mut().graceful_shutdown();
                }
                () = check.as_mut() => {
                    let rest = activity.rest(patience);
                    if !rest.is_zero() {
                        check.as_mut().reset(Instant::now() + rest);
                    } else if closing {
                        tracing::debug!(%peer, "connection cut: idle, and it does not close");
                        return;
                    } else {
                        closing = true;
                        http.as_mut().graceful_shutdown();
                        check.as_mut().reset(Instant::now() + patience);
                    }
                }
            }
        }
    }
}

/// The response to one request; there always is one.
async fn answer<S>(
    routes: &S,
    mut request: Request<RequestBody>,
    peer: SocketAddr,
) -> warp::reply::Response
where
    S: Service<Request<RequestBody>, Response = warp::reply::Response, Error = Infallible>,
{
    if let Some(refusal) = refuse(request.method(), request.uri()) {
        return refusal;
    }
    request.extensions_mut().insert(PeerAddr(peer));
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    // A panic that left here would close the connection without an answer and, on HTTP/2, take the
    // other requests of the connection with it. What the handler held is dropped by the unwinding.
    match AssertUnwindSafe(async { routes.call(request).await })
        .catch_unwind()
        .await
    {
        Ok(Ok(response)) => response,
        Err(panic) => {
            PANICS.inc();
            let panic = crate::panic_text(&*panic);
            tracing::error!(%method, path, panic, "a request handler panicked");
            problem(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal_error",
                "Internal error",
            )
        }
    }
}

/// What warp must not see: its path filters slice behind the leading `/` of the target, and panic on
/// the target of `CONNECT` (`host:port`), which has no path at all.
fn refuse(method: &Method, uri: &http::Uri) -> Option<warp::reply::Response> {
    if method == Method::CONNECT {
        let mut response = problem(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "CONNECT is not supported: this is not a proxy",
        );
        let allowed = http::HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");
        response.headers_mut().insert(header::ALLOW, allowed);
        return Some(response);
    }
    (!uri.path().starts_with('/')).then(|| {
        problem(
            StatusCode::BAD_REQUEST,
            "bad_request_target",
            "The request target must be a path",
        )
    })
}

/// A problem document of the few that are answered before or in place of a route.
fn problem(status: StatusCode, code: &'static str, title: &'static str) -> warp::reply::Response {
    let body = serde_json::json!({
        "type": format!("urn:guichet:problem:{code}"),
        "title": title,
        "status": status.as_u16(),
        "code": code,
    });
    let body = warp::reply::with_status(body.to_string(), status);
    warp::reply::with_header(body, header::CONTENT_TYPE, "application/problem+json").into_response()
}

/// Since when a connection has had nothing to do.
struct Activity {
    in_flight: AtomicUsize,
    idle_since: Mutex<Instant>,
}

impl Activity {
    fn new() -> Self {
        Self {
            in_flight: AtomicUsize::new(0),
            idle_since: Mutex::new(Instant::now()),
        }
    }

    /// How much of `patience` is left: all of it while a request is being answered.
    fn rest(&self, patience: Duration) -> Duration {
        if self.in_flight.load(Ordering::SeqCst) > 0 {
            return patience;
        }
        let since = *self
            .idle_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        patience.saturating_sub(since.elapsed())
    }
}

/// A request from its head to the last byte of its response.
struct InFlight(Arc<Activity>);

impl InFlight {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.in_flight.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(activity))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut since = self
            .0
            .idle_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *since = Instant::now();
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A response body that keeps its request in flight until it is written or given up.
struct Counted<B> {
    body: B,
    _in_flight: InFlight,
}

impl<B: Body + Unpin> Body for Counted<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
