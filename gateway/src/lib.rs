//! The public HTTP API: catalogue, orders and their streams.
//!
//! One module per area, each with its routes, handlers and SQL; [`http`] holds what they share. A
//! request is limited, validated and answered without any rejection after its path matched; every
//! refusal is a problem document with a stable code.
//!
//! This crate knows no broker and no worker: what it accepted is a row, and nothing it answers can
//! depend on who acts on it.

mod app;
pub mod catalogue;
mod config;
pub mod http;
pub mod openapi;
mod orders;
mod provider;
mod routes;
mod signals;

pub use app::{App, run};
pub use config::Config;
pub use routes::routes;
