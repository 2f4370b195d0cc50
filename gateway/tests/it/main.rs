//! The gateway against a real PostgreSQL (`GUICHET_DATABASE_URL`).
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod catalogue;
mod harness;
mod http;
mod intake;
mod load;
mod openapi;
mod orders;
mod provider;
mod repeat;
