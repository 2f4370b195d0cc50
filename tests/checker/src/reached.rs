//! What sagas have met: which outcome a worker answered to which command of which step, what people did about
//! them, and how they ended. A campaign that never meets one says nothing about it.

use crate::{
    Evidence,
    books::{Definition, Saga},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

const KINDS: [&str; 3] = ["do", "undo", "probe"];
const OUTCOMES: [&str; 5] = ["done", "rejected", "retry", "unknown", "waiting"];
/// What a person did.
const OPERATOR: i16 = 6;

/// Something that a saga has met.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reached {
    /// An outcome of a command of a step.
    Outcome {
        /// The step.
        step: String,
        /// `do`, `undo` or `probe`.
        kind: &'static str,
        /// What was answered; or `pause`, if a person stopped it there.
        outcome: &'static str,
    },
    /// A person's act that moved it.
    Act(String),
    /// Its end: `completed`, `abandoned`, or why it was undone.
    End(String),
}

impl fmt::Display for Reached {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outcome {
                step,
                kind,
                outcome,
            } => write!(to, "{step} {kind} {outcome}"),
            Self::Act(code) => write!(to, "operator {code}"),
            Self::End(why) => write!(to, "end {why}"),
        }
    }
}

/// All that some saga has met; a pause of a saga that was at a command is one of its outcomes.
#[must_use]
pub fn reached(evidence: &Evidence) -> BTreeSet<Reached> {
    let books = &evidence.books;
    let names: BTreeMap<_, _> = books.definitions.iter().flat_map(steps).collect();
    let outcomes = books.history.iter().filter_map(|moment| {
        let outcome = match moment.outcome {
            Some(outcome) => one(&OUTCOMES, outcome)?,
            None if moment.code.as_deref() == Some("pause") && moment.is_of_a_pause() => "pause",
            None => return None,
        };
        Some(Reached::Outcome {
            step: names.get(&moment.step?)?.clone(),
            kind: one(&KINDS, moment.kind?)?,
            outcome,
        })
    });
    let acts = books.history.iter().filter_map(|moment| {
        let code = moment.code.as_ref().filter(|_| moment.input == OPERATOR)?;
        Some(Reached::Act(code.clone()))
    });
    let ends = books.sagas.iter().filter_map(end);
    outcomes.chain(acts).chain(ends).collect()
}

fn end(saga: &Saga) -> Option<Reached> {
    let why = match saga.state {
        4 => "completed",
        5 => saga.reason.as_deref()?,
        6 => "abandoned",
        _ => return None,
    };
    Some(Reached::End(why.to_owned()))
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
