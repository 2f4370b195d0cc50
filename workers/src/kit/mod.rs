//! The worker kit: commands in, effects in batches, replies out. A step says what its effect is
//! ([`LocalStep`] or [`OutsideStep`]); everything else is the same for all of them and lives here.

mod orders;
mod step;
mod verdict;

pub use orders::{ItemView, OrderView, orders};
pub use step::{Claim, LocalStep, OutsideStep};
pub use verdict::{OUTPUT_MAX_BYTES, Verdict};
