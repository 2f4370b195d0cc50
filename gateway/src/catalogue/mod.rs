//! The catalogue: what is sold, where and when, at which prices.
//!
//! Two halves. *Loading*: a [`source`] is [`plan`]ned into rows ([`pricing`], [`tier`], [`shift`]: all
//! of it pure) and written by [`load()`]. *Reading*: a [`Catalogue`] keeps one version in memory as a
//! [`snapshot`] and answers from it; [`select`] decides what a page holds.

mod keep;
pub mod load;
pub mod model;
pub mod plan;
pub mod pricing;
mod read;
mod routes;
pub mod search;
pub mod select;
pub mod shift;
pub mod snapshot;
pub mod source;
pub mod tier;

pub use keep::Catalogue;
pub use load::{LoadError, LoadOptions, LoadReport, load};
pub use snapshot::{EventStatus, EventView, OfferView, Snapshot, View};
pub use source::Source;

pub(crate) use routes::{Docs, routes};
