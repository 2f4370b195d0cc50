//! The worker kit: commands in, effects in batches, replies out. A step says what its effect is
//! ([`LocalStep`] or [`OutsideStep`]); everything else is the same for all of them and lives here.

mod batch;
mod letter;
mod local;
pub(crate) mod metrics;
mod orders;
mod outside;
mod runner;
mod step;
pub mod testing;
#[cfg(test)]
mod tests;
mod triage;
mod verdict;
mod worker;

pub use orders::{ItemView, OrderView, orders};
pub use step::{Claim, LocalStep, OutsideStep};
pub use verdict::{OUTPUT_MAX_BYTES, Verdict};
pub use worker::{Context, Pools, Step, run};
