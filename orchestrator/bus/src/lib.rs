//! RabbitMQ for every service: sessions, publishing with confirms, consuming, topology.
//!
//! One [`Bus`] per process. It keeps a *session*: one connection for publishing and one for
//! consuming (so that a broker which blocks publishers still delivers and takes
//! acknowledgements). Whatever goes wrong with either ends the whole session; the supervisor then
//! reconnects with a bounded, jittered backoff, declares everything again and resumes every
//! consumer. There is one way to recover and it is walked from the first connection on.
//!
//! What callers may rely on, and what not:
//! - A command whose publishing is answered `Ok` has been routed to a queue and confirmed by the
//!   broker. Any error means *perhaps published*: whoever decided the command sends it again.
//! - Replies, events and nudges are never confirmed. Each may be lost; each has a row in the
//!   database that says the same.
//! - What is consumed arrives at least once. Dropping an [`Acker`] without [`Acker::ack`] leaves
//!   its message with the broker, which delivers it again when the session ends.
//! - An envelope that cannot be read is parked with its reason before its message is acknowledged,
//!   and costs its neighbours nothing. One from another life of the database is dropped.
//! - Batches form by themselves: whatever callers have handed over while the last flight was out
//!   is the next flight, put together by queue.
//!
//! This crate knows no saga, no database and no step's meaning, and nothing outside of it names
//! lapin: so no caller can share a confirm channel, mistake a returned message for a success or
//! depend on the driver's own recovery.

mod backoff;
mod bus;
mod config;
mod confirmed;
mod consume;
mod delivery;
mod error;
mod flight;
mod link;
mod metrics;
mod session;
mod shared;
mod supervisor;
pub mod testing;
mod topology;
mod transient;

pub use bus::Bus;
pub use config::{AmqpUrl, Config, QueueType};
pub use delivery::{Acker, Delivery, ReplyDelivery};
pub use error::PublishError;
pub use flight::Parked;
pub use shared::State;
