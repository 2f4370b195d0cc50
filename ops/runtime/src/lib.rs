//! What every process of Guichet needs, whatever its role.
//!
//! An accept loop with bounds ([`http`]) and its operator's side ([`admin`], [`health`],
//! [`metrics`]), configuration ([`config`], [`Secret`]), group commit ([`batch`]), logs ([`telemetry`],
//! [`trace`]), and the way from a signal to an orderly stop ([`shutdown`], [`supervise`]).
//!
//! It guarantees by not knowing orders, sagas, the bus or the database that every role starts, is
//! watched and stops in the same way.

use std::any::Any;

pub mod admin;
pub mod batch;
pub mod config;
pub mod health;
pub mod http;
pub mod metrics;
mod secret;
pub mod shutdown;
pub mod supervise;
pub mod telemetry;
pub mod trace;

pub use secret::Secret;

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
