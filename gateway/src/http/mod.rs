//! What every route has in common: who asks, what he may ask, how answers and problems look.
//!
//! The rule that keeps warp honest: a filter may reject only while it looks for the route. Once the
//! path matched, the request is answered here, by [`answer`], whatever goes wrong; a rejection after
//! that would send it on to the next route and end as another problem than the true one.

mod answer;
pub mod body;
mod client;
mod cors;
pub mod cursor;
mod error;
mod limit;
pub mod list;
mod observe;
pub mod query;
mod reply;
mod request;
pub mod trace;

pub use answer::{Call, Route, answer};
pub use client::Clients;
pub use cors::Cors;
pub use error::ApiError;
pub use limit::{Limit, Limits};
pub use list::List;
pub(crate) use observe::about;
pub use reply::Reply;
pub use request::{Request, request};
