//! Request bodies: bounded in size and in time, and read without a rejection.
//!
//! warp's own `body::bytes()` reads whatever comes for as long as it takes, trusts `Content-Length` for
//! its limit (a chunked body has none), and *rejects* when it fails, which sends the request on to the
//! next route. [`body`] is the one to use.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};
use warp::{Filter, Rejection};

use super::Limits;

/// Why a request body could not be had.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BodyError {
    /// Longer than the route, or the listener, allows: answer 413.
    #[error("the body is longer than {limit} bytes")]
    TooLarge {
        /// The bound that was hit, in bytes.
        limit: usize,
    },
    /// Not there in time: answer 408.
    #[error("the body did not arrive within {} ms", within.as_millis())]
    TooSlow {
        /// The bound that was hit.
        within: Duration,
    },
    /// The peer went away or broke the framing: nobody will read the answer, 400 does.
    #[error("the body broke off: {0}")]
    Broken(String),
}

/// Extracts the whole body, at most `max_bytes` of it (and never more than
/// [`Limits::max_body_bytes`]), or why not. Never rejects because of the body.
pub fn body(
    max_bytes: usize,
) -> impl Filter<Extract = (Result<Bytes, BodyError>,), Error = Rejection> + Copy {
    warp::body::stream().then(move |chunks| read_body(chunks, max_bytes))
}

/// Reads what a route took as a stream, at most `limit` bytes: for a route that has something to
/// check before it reads.
///
/// # Errors
/// Too large, too slow, or broken off.
pub async fn read_body<B: Buf>(
    chunks: impl Stream<Item = Result<B, warp::Error>>,
    limit: usize,
) -> Result<Bytes, BodyError> {
    let mut chunks = std::pin::pin!(chunks);
    let mut whole = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| cause(&error))?;
        if whole.len() + chunk.remaining() > limit {
            return Err(BodyError::TooLarge { limit });
        }
        whole.extend_from_slice(chunk.chunk());
    }
    Ok(whole.freeze())
}

/// warp wraps the error of the body it was given; ours is at the end of the chain.
fn cause(error: &(dyn std::error::Error + 'static)) -> BodyError {
    let mut chain = std::iter::successors(Some(error), |error| error.source());
    match chain.find_map(|error| error.downcast_ref::<BodyError>()) {
        Some(ours) => ours.clone(),
        None => BodyError::Broken(error.to_string()),
    }
}

/// What warp is given in place of hyper's body: the listener's bounds on it.
pub(super) struct RequestBody {
    body: Incoming,
    left: usize,
    limit: usize,
    within: Duration,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    pub(super) fn new(body: Incoming, limits: &Limits) -> Self {
        Self {
            body,
            left: limits.max_body_bytes,
            limit: limits.max_body_bytes,
            within: limits.body_read_timeout,
            deadline: None,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Err(error))) => {
                Poll::Ready(Some(Err(BodyError::Broken(error.to_string()))))
            }
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                match this.left.checked_sub(length) {
                    Some(left) => this.left = left,
                    None => {
                        return Poll::Ready(Some(Err(BodyError::TooLarge { limit: this.limit })));
                    }
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Pending => {
                // Armed at the first wait and never moved: a byte now and then buys no time. A body
                // that came together with its head costs no timer.
                let within = this.within;
                let deadline = this.deadline.get_or_insert_with(|| {
                    Box::pin(tokio::time::sleep_until(Instant::now() + within))
                });
                ready!(deadline.as_mut().poll(cx));
                Poll::Ready(Some(Err(BodyError::TooSlow { within })))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
