//! Worlds of races: the success of a payment, or of its capture, against the end of the time that it has.
//! Each order's succeeds within a few seconds of that moment, on either side.

use super::{
    customer::{Order, Stand},
    database::OrderRow,
    world::World,
};
use contract::StepName;
use engine::definitions::Definitions;
use saga::{Definition, State};

/// What of a payment races, and against what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Race {
    /// What is about to succeed.
    pub of: Racer,
    /// What is about to end.
    pub against: Against,
}

/// What races.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Racer {
    /// The payment: it is captured or, by `order@2`, authorised.
    Pay,
    /// The capture of what was authorised, by `order@2`.
    Capture,
}

/// What it races against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// The end of the order's time.
    Deadline,
    /// The end of the step's own time, after which it is asked about.
    Budget,
    /// The end of the time of asking, after which it is taken back.
    Probe,
}

impl Race {
    /// That of a seed: of nine the last three are of captures.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        Self {
            of: match seed % 9 {
                6.. => Racer::Capture,
                _ => Racer::Pay,
            },
            against: match seed % 3 {
                0 => Against::Deadline,
                1 => Against::Budget,
                _ => Against::Probe,
            },
        }
    }
}

/// It succeeds so long before or after the moment at most.
const NEAR_MS: i64 = 3_000;

/// No end is so far away, but after a clock was set back.
const FAR_MS: i64 = 180_000;

/// The order's time in worlds where it is the one that ends first.
const SHORT_MS: u32 = 30_000;

/// What the orders of a world run by: ours, or the same with less time.
pub(super) fn definitions(race: Option<Race>) -> Definitions {
    let short = |mut definition: Definition| {
        if race.is_some_and(|race| race.against == Against::Deadline) {
            definition.deadline_ms = SHORT_MS;
        }
        definition
    };
    Definitions::of(saga::order::versions().into_iter().map(short))
}

impl World {
    /// In how many milliseconds an order's payment or capture is to succeed, if it is to race.
    pub(super) fn race_ms(&mut self, order: usize) -> Option<i64> {
        let race = self.race?;
        let row = &self.db.orders[order];
        let definition = self.definition(row.saga.definition);
        if row.saga.state != State::Running {
            return None;
        }
        let step = definition.step_named(match race.of {
            Racer::Pay => &StepName::PAY,
            Racer::Capture => &StepName::CAPTURE,
        })?;
        let asking = i64::from(step.probe_policy.budget_ms.unwrap_or(0));
        let moment = match race.against {
            Against::Deadline => row.saga.deadline,
            Against::Budget => row.saga.budget_until?,
            Against::Probe => row.saga.budget_until? + asking,
        };
        let near = self.rng.range(-NEAR_MS, NEAR_MS);
        // One moment, whatever clocks do: the end of a step's time moves on while its outside is away, and
        // nothing would ever succeed that moved with it.
        let at = self.now + moment - self.db_now() + near;
        let ms = *self.orders[order].race_at.get_or_insert(at) - self.now;
        let races = (1..FAR_MS).contains(&ms);
        self.orders[order].races |= races;
        races.then_some(ms)
    }

    /// How the races of a world ended.
    pub(super) fn count_races(&mut self) {
        let Some(race) = self.race else { return };
        for (order, row) in self.orders.iter().zip(&self.db.orders) {
            if order.races {
                let end = end(row, order);
                self.coverage.race(race.of, end);
            }
        }
    }
}

/// How it ended; a person has to have a reason to be asked.
fn end(row: &OrderRow, order: &Order) -> &'static str {
    let mut payments = order.payments.iter();
    let charged = payments.any(|payment| payment.stand == Stand::Captured);
    let refused = order.refund_refused || order.moves;
    match row.saga.state {
        _ if row.saga.pivot_done() => "tickets",
        State::Compensated if charged => "money back",
        State::Compensated => "never charged",
        State::Abandoned if order.given_up => "two people give it up",
        _ if row.saga.failed_undo.is_empty() => "nobody knows why",
        _ if refused => "a person decides, for its undo is refused",
        _ => "a person decides, for the time of its undo is over",
    }
}
