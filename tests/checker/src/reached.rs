//! What sagas have met: which outcome a worker answered to which command of which step. A campaign that never
//! meets one says nothing about it.

use crate::{Evidence, books::Definition};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

const KINDS: [&str; 3] = ["do", "undo", "probe"];
const OUTCOMES: [&str; 5] = ["done", "rejected", "retry", "unknown", "waiting"];

/// An outcome of a command.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reached {
    /// The step.
    pub step: String,
    /// `do`, `undo` or `probe`.
    pub kind: &'static str,
    /// What was answered.
    pub outcome: &'static str,
}

impl fmt::Display for Reached {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{} {} {}", self.step, self.kind, self.outcome)
    }
}

/// All that some saga has met; a pause of a saga that was at a command is one of its outcomes.
#[must_use]
pub fn reached(evidence: &Evidence) -> BTreeSet<Reached> {
    let books = &evidence.books;
    let names: BTreeMap<_, _> = books.definitions.iter().flat_map(steps).collect();
    let moments = books.history.iter().filter_map(|moment| {
        let outcome = match moment.outcome {
            Some(outcome) => one(&OUTCOMES, outcome)?,
            None if moment.code.as_deref() == Some("pause") && moment.is_of_a_pause() => "pause",
            None => return None,
        };
        Some(Reached {
            step: names.get(&moment.step?)?.clone(),
            kind: one(&KINDS, moment.kind?)?,
            outcome,
        })
    });
    moments.collect()
}

/// Numbers are given once, so they mean the same in each definition.
fn steps(definition: &Definition) -> Vec<(i16, String)> {
    let steps = definition.body["steps"].as_array().into_iter().flatten();
    let step = |step: &serde_json::Value| {
        let number = i16::try_from(step["number"].as_i64()?).ok()?;
        Some((number, step["name"].as_str()?.to_owned()))
    };
    steps.filter_map(step).collect()
}

fn one(names: &[&'static str], number: i16) -> Option<&'static str> {
    names.get(usize::try_from(number - 1).ok()?).copied()
}
