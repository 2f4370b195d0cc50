//! The promises, each a pure function over the [`Evidence`] that tells who broke it.

mod audit;
mod effects;
mod ends;
mod money;
mod people;
mod reasons;
mod stock;
mod transport;
mod undo;
mod work;

#[cfg(test)]
mod tests;

pub use work::ends;

use crate::Evidence;
use std::fmt;

/// The state of an order that two people have given up.
const ABANDONED: i16 = 6;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which promise.
    pub promise: &'static str,
    /// Of what: an order, an offer, a queue.
    pub subject: String,
    /// How.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            promise,
            subject,
            detail,
        } = self;
        write!(to, "{promise}: {subject}: {detail}")
    }
}

type Promise = fn(&Evidence, &mut Found<'_>);

/// The promises that can be judged from here. `ordered-callbacks` is not among them: there are no
/// webhooks of partners yet.
const PROMISES: [(&str, Promise); 12] = [
    ("no-oversell", stock::no_oversell),
    ("money-iff-ticket", money::money_iff_ticket),
    ("nothing-accepted-is-lost", ends::nothing_accepted_is_lost),
    ("honest-end", ends::honest_end),
    ("effects-once", effects::effects_once),
    ("broker-is-transport", transport::broker_is_transport),
    ("every-end-undoes", undo::every_end_undoes),
    ("unknown-is-a-result", undo::unknown_is_a_result),
    ("failed-undo-is-work", undo::failed_undo_is_work),
    ("tamper-evident", audit::tamper_evident),
    ("bounded-work", work::bounded_work),
    ("prompt-end", work::prompt_end),
];

/// What a promise has found.
struct Found<'a> {
    promise: &'static str,
    into: &'a mut Vec<Violation>,
}

impl Found<'_> {
    fn that(&mut self, subject: impl fmt::Display, detail: impl Into<String>) {
        self.into.push(Violation {
            promise: self.promise,
            subject: subject.to_string(),
            detail: detail.into(),
        });
    }
}

/// Everything that is broken.
#[must_use]
pub fn judge(evidence: &Evidence) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (promise, of) in PROMISES {
        let into = &mut violations;
        of(evidence, &mut Found { promise, into });
    }
    violations
}
