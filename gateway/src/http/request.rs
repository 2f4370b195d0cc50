//! A request as the routes see it, extracted by a filter that never rejects once the path matched.

use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, Method};
use runtime::http::PeerAddr;
use std::{net::SocketAddr, pin::Pin};
use warp::{Filter, Rejection};

/// Chunks of a body that nobody has read yet.
pub(super) type Chunks = Pin<Box<dyn Stream<Item = Result<Bytes, warp::Error>> + Send>>;

/// Everything of a request but its path; the body is not read yet.
pub struct Request {
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) query: String,
    pub(super) peer: Option<SocketAddr>,
    pub(super) body: Chunks,
}

/// Extracts the request. Stands after the path: the body can be taken only once.
pub fn request() -> impl Filter<Extract = (Request,), Error = Rejection> + Clone {
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    warp::method()
        .and(warp::header::headers_cloned())
        .and(query)
        .and(warp::ext::optional::<PeerAddr>())
        .and(warp::body::stream())
        .map(
            |method, headers, query, peer: Option<PeerAddr>, body| Request {
                method,
                headers,
                query,
                peer: peer.map(|PeerAddr(peer)| peer),
                body: chunks(body),
            },
        )
}

fn chunks<B: Buf>(body: impl Stream<Item = Result<B, warp::Error>> + Send + 'static) -> Chunks {
    Box::pin(body.map(|chunk| chunk.map(|mut chunk| chunk.copy_to_bytes(chunk.remaining()))))
}
