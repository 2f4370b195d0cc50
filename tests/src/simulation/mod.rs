//! The simulation: worlds in which everything goes wrong, by a seed.
//!
//! It executes the real plans: [`saga::step`], settling and resending (`engine::Owner`), leases, the
//! ledger's protocol, allocation, and the whole flow of `pay`. What surrounds them is a model: a
//! PostgreSQL whose transactions may succeed unheard, a RabbitMQ that loses, doubles, delays and
//! forgets, processes that die or stall between any two actions, a payment provider that lies, and a
//! clock that jumps. First everything goes wrong, and the promises are watched; then nothing goes wrong
//! any more, and everything has to end in time.

mod broker;
pub mod bugs;
mod coverage;
mod customer;
mod database;
mod effect;
mod fault;
mod judge;
mod life;
mod local;
mod orchestrator;
mod outside;
mod provider;
mod race;
mod reach;
pub mod rng;
mod setting;
mod settling;
mod watch;
mod weather;
mod worker;
mod world;

pub use coverage::Coverage;
pub use fault::{Fault, Mix};
pub use judge::Violation;
pub use race::{Against, Race, Racer};
pub use setting::Setting;

/// What came of a seed.
#[derive(Debug)]
pub struct Outcome {
    /// The promise that was broken, if one was.
    pub violation: Option<Violation>,
    /// What was reached.
    pub coverage: Coverage,
    /// The story of the order that it was broken to, or of everything, if it was written down.
    pub story: Vec<String>,
}

/// Runs one seed.
#[must_use]
pub fn run(setting: &Setting) -> Outcome {
    let mut world = world::World::new(setting);
    world.run();
    world.coverage.sagas = world.orders.len() as u64;
    world.count_races();
    let order = world
        .judge
        .violation
        .as_ref()
        .and_then(|violation| violation.order);
    Outcome {
        story: world.story_of(order),
        violation: world.judge.violation,
        coverage: world.coverage,
    }
}
