//! What every process of Guichet needs, whatever its role: an accept loop with bounds ([`http`]), group
//! commit ([`batch`]) and
//! metrics ([`metrics`]).
//!
//! It guarantees by not knowing orders, sagas, the bus or the database that every role starts, is
//! watched and stops in the same way.

use std::any::Any;

pub mod batch;
pub mod http;
pub mod metrics;

/// What a panic said, if it said it in words.
fn panic_text(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&'static str>() {
        text
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else {
        "(not text)"
    }
}
