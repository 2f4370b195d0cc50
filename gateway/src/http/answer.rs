//! From a request whose path matched to its answer: method, limit, handler, and the headers that
//! every answer bears.

use super::{
    ApiError, Limit, Reply, Request,
    limit::Decision,
    observe::{self, InFlight},
    request::Chunks,
    trace,
};
use crate::App;
use contract::{ProblemCode, TraceParent};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use hyper::body::Body as _;
use std::{net::IpAddr, sync::Arc, time::Instant};
use tracing::Instrument as _;
use warp::reply::Response;

/// What is fixed about a path.
#[derive(Debug)]
pub struct Route {
    /// The path's pattern, for metrics and logs.
    pub name: &'static str,
    /// Its methods; `GET` brings `HEAD`, and all have `OPTIONS`.
    pub methods: &'static [Method],
    /// Which limit it counts against.
    pub limit: Option<Limit>,
}

/// A request that was let in: what its handler gets.
pub struct Call {
    /// The method, one of the route's; `HEAD` comes as `GET`.
    pub method: Method,
    /// As sent.
    pub headers: HeaderMap,
    /// Behind the `?`, as sent.
    pub query: String,
    /// Who asks, as far as proxies of ours say.
    pub client: IpAddr,
    /// The trace, with a span for this request.
    pub trace: TraceParent,
    pub(super) body: Chunks,
    pub(super) body_max_bytes: usize,
}

/// Answers a request, by the handler if it is let in.
pub async fn answer<H, F>(
    app: Arc<App>,
    route: &'static Route,
    request: Request,
    handler: H,
) -> Response
where
    H: FnOnce(Arc<App>, Call) -> F,
    F: Future<Output = Result<Reply, ApiError>>,
{
    let started = Instant::now();
    let _in_flight = InFlight::begin();
    let client = app.clients.address(request.peer, &request.headers);
    let trace = trace::of(&request.headers);
    let method = request.method.clone();
    let mut extra = app.cors.headers(&request.headers);
    let span = observe::span(trace, route.name);
    let (result, limited) = async {
        if method == Method::OPTIONS {
            extra.extend(app.cors.preflight(&request.headers, route));
            let allow =
                HeaderValue::try_from(route.allow()).expect("methods are legal in a header");
            return (
                Ok(Reply::empty(StatusCode::NO_CONTENT).header(header::ALLOW, allow)),
                None,
            );
        }
        let limited = route.limit.map(|limit| app.limits.check(limit, client));
        let result = match admit(&app, route, limited, request, client, trace) {
            Ok(call) => handler(Arc::clone(&app), call).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &result {
            error.log();
        }
        (result, limited)
    }
    .instrument(span.clone())
    .await;
    let reply = result.unwrap_or_else(|error| error.into_reply(trace.trace_id()));
    let mut response = reply.into_response();
    if let Some(limited) = limited {
        extra.push((
            HeaderName::from_static("ratelimit-policy"),
            limited.policy(),
        ));
        extra.push((HeaderName::from_static("ratelimit"), limited.state()));
    }
    dress(response.headers_mut(), extra);
    if method == Method::HEAD {
        response = without_body(response);
    }
    let (status, took) = (response.status(), started.elapsed());
    let log = app.config.access_log;
    span.in_scope(|| observe::answered(route.name, &method, status, took, client, log));
    response
}

fn admit(
    app: &App,
    route: &Route,
    limited: Option<Decision>,
    request: Request,
    client: IpAddr,
    trace: TraceParent,
) -> Result<Call, ApiError> {
    let method = match request.method {
        Method::HEAD => Method::GET,
        method => method,
    };
    if route.methods.is_empty() {
        return Err(ApiError::not_found());
    }
    if !route.methods.contains(&method) {
        let allow = route.allow();
        let detail = format!("This path takes {allow}.");
        return Err(ApiError::new(ProblemCode::MethodNotAllowed, detail).allow(allow));
    }
    if let Some(seconds) = limited.and_then(|decision| decision.refused_s) {
        let detail = format!("Too many requests from your address; try again in {seconds} s.");
        return Err(ApiError::new(ProblemCode::RateLimited, detail).retry_after_s(seconds));
    }
    Ok(Call {
        method,
        headers: request.headers,
        query: request.query,
        client,
        trace,
        body: request.body,
        body_max_bytes: app.config.body_max_bytes,
    })
}

/// An API serves no pages: nothing of it may be sniffed, framed, run or stored, unless it says so.
fn dress(headers: &mut HeaderMap, extra: Vec<(HeaderName, HeaderValue)>) {
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    headers.extend(extra);
}

/// hyper leaves the body of an answer to `HEAD` out for HTTP/1 only.
fn without_body(response: Response) -> Response {
    let length = response.body().size_hint().exact();
    let (parts, _) = response.into_parts();
    let mut response = Reply::empty(parts.status).into_response();
    *response.headers_mut() = parts.headers;
    if let Some(length) = length {
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}
