//! The simulator over a real socket, as a client sees it.

mod cards;
mod errors;
mod faults;
mod idempotency;
mod payer;
mod payments;
mod restart;
mod support;
mod webhooks;
