//! Dying by name, in a binary that is built with `contract`'s feature `crash-points`. In every other,
//! nothing here does anything.
//!
//! `GUICHET_CRASH_AT=worker.pay.do.after_effect:2` makes the process abort at the second passing of that
//! place; `GUICHET_CRASH_AT=list` prints the names of all places there are, one a line, and ends.

use anyhow::anyhow;
use contract::{
    StepKind,
    crash::{self, Gateway, Orchestrator, Point, Request, Saga, Work},
};
use engine::definitions::Definitions;
use std::collections::BTreeSet;
use workers::pay::stripe::Operation;

use crate::{failure::Failure, output};

/// The variable; not part of the configuration.
pub(crate) const VARIABLE: &str = "GUICHET_CRASH_AT";

/// Does what the variable says; whether that is all that is to be done.
pub(crate) fn from_environment() -> Result<bool, Failure> {
    if !crash::BUILT_IN {
        return Ok(false);
    }
    let Ok(value) = std::env::var(VARIABLE) else {
        return Ok(false);
    };
    if value == "list" {
        let lines = places().into_iter().map(|place| place + "\n");
        output::print(&lines.collect::<String>())?;
        return Ok(true);
    }
    let armed = value
        .rsplit_once(':')
        .and_then(|(place, passing)| Some((place, passing.parse().ok()?)))
        .filter(|(place, passing)| *passing > 0 && places().contains(*place));
    let Some((place, passing)) = armed else {
        return Err(Failure::usage(anyhow!(
            "{VARIABLE}: {value} is no <place>:<passing>; {VARIABLE}=list prints the places"
        )));
    };
    crash::arm(place, passing);
    Ok(false)
}

/// Every place there is, once. Those of steps are made of the definitions, so a new step has its own.
fn places() -> BTreeSet<String> {
    let mut places = BTreeSet::new();
    let mut add = |point: Point<'_>| places.insert(point.to_string());
    let definitions = Definitions::ours();
    for definition in definitions.iter() {
        for (position, step) in definition.steps.iter().enumerate() {
            for kind in step.kinds() {
                for at in Work::ALL {
                    add(Point::Worker(&step.name, kind, *at));
                }
                // The gateway decides the first command and publishes it.
                let first = position == 0 && kind == StepKind::Do;
                for at in Saga::ALL
                    .iter()
                    .filter(|at| !(first && at.is_of_the_command()))
                {
                    add(Point::Saga(&step.name, kind, *at));
                }
            }
        }
    }
    let steps = definitions.iter().flat_map(|definition| &definition.steps);
    let captures = steps
        .map(|step| step.name.as_str())
        .any(|name| name == "capture");
    // The client can ask for more than these definitions make it ask for.
    let asked = |request: &Operation| *request != Operation::Capture || captures;
    for request in Operation::ALL.into_iter().filter(asked) {
        add(Point::Provider(request.as_str(), Request::Before));
        add(Point::Provider(request.as_str(), Request::After));
    }
    add(Point::Provider("create", Request::Stored));
    for at in Orchestrator::ALL {
        add(Point::Orchestrator(*at));
    }
    for at in Gateway::ALL {
        add(Point::Gateway(*at));
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_and_kind_has_its_places_in_the_worker_and_in_the_orchestrator() {
        let places = places();
        let of = |start: &str| {
            let of = places.iter().filter(|place| place.starts_with(start));
            of.count()
        };
        let definitions = Definitions::ours();
        for step in definitions.iter().flat_map(|definition| &definition.steps) {
            for kind in step.kinds() {
                let on_the_way = format!("{}.{}.", step.name, kind.name());
                let name = format!("orchestrator.{on_the_way}");
                // The gateway sends the first.
                let expected = match on_the_way.as_str() {
                    "reserve.do." => 5,
                    _ => Saga::ALL.len(),
                };
                assert_eq!(of(&name), expected, "{name}");
                let name = format!("worker.{on_the_way}");
                assert_eq!(of(&name), Work::ALL.len(), "{name}");
            }
        }
        assert!(places.contains("orchestrator.lease.acquired"));
        assert!(places.contains("orchestrator.issue.undo.after_confirm"));
    }
}
