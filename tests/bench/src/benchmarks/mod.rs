//! The benchmarks, a file each.

mod catalogue;
mod grow;
mod half;
mod hot;
mod idle;
mod latency;
mod orders;
mod overload;
mod saga;
mod scale;
mod slow_pay;
mod soak;
mod undo;

use anyhow::Result;

use crate::{arguments::Name, session::Bench};

/// Runs one; it tells its results by itself.
pub(crate) async fn run(name: Name, bench: &mut Bench<'_>) -> Result<()> {
    match name {
        Name::Orders => orders::run(bench).await,
        Name::Hot => hot::run(bench).await,
        Name::Saga => saga::run(bench).await,
        Name::Latency => latency::run(bench).await,
        Name::Half => half::run(bench).await,
        Name::Undo => undo::run(bench).await,
        Name::SlowPay => slow_pay::run(bench).await,
        Name::Overload => overload::run(bench).await,
        Name::Grow => grow::run(bench).await,
        Name::Idle => idle::run(bench).await,
        Name::Soak => soak::run(bench).await,
        Name::Scale => scale::run(bench).await,
        Name::Catalogue => catalogue::run(bench).await,
    }
}
