//! What the worlds reached. What they never reached they prove nothing about.

use super::{fault::Fault, orchestrator::STEP_NAMES, race::Racer, reach};
use contract::StepKind;
use saga::{Illegal, Input, Log, State};
use std::collections::BTreeMap;

/// How often what was reached.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    inputs: BTreeMap<(State, &'static str), u64>,
    illegal: BTreeMap<&'static str, u64>,
    faults: BTreeMap<Fault, u64>,
    /// By the definition's number.
    ends: BTreeMap<(&'static str, i16), u64>,
    /// What the sagas that were at a step were told, by the step's number.
    steps: BTreeMap<(usize, &'static str), u64>,
    races: BTreeMap<(Racer, &'static str), u64>,
    moments: BTreeMap<&'static str, u64>,
    /// Sagas in all.
    pub sagas: u64,
}

/// What has to have happened besides.
const MUST_HAPPEN: &[&str] = &[
    "a breaker opens",
    "a command is held back",
    "a command is let through",
    "a breaker closes",
    "a deadline is near",
    "a refusal is opened again",
    "a saga leaves memory",
    "a nudge before the wait is looked at in it",
    "a nudge before a wait that does not come is settled",
    "our own request is not told early",
    "an outdated owner reads again",
    "an owner's leases are over",
];

/// The ends that sagas of each version have to have come to; each other one those of any.
const MUST_END: &[&str] = &["completed", "compensated", ATTENTION];

/// It rests, and asks for a person.
const ATTENTION: &str = "attention";

impl Coverage {
    pub(super) fn fault(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }

    pub(super) fn applied(&mut self, before: State, input: &Input, log: &Log) {
        let asked = log.cursor.map_or(StepKind::Do, |cursor| cursor.kind);
        let name = reach::input(asked, input);
        if let Some(cursor) = log.cursor {
            let step = usize::from(cursor.step);
            *self.steps.entry((step, name)).or_default() += 1;
        }
        *self.inputs.entry((before, name)).or_default() += 1;
    }

    pub(super) fn refused(&mut self, why: Illegal) {
        *self.illegal.entry(reach::refusal(why)).or_default() += 1;
    }

    pub(super) fn reached(&mut self, moment: &'static str) {
        *self.moments.entry(moment).or_default() += 1;
    }

    pub(super) fn ended(&mut self, saga: &saga::Instance) {
        let name = match saga.state.is_end() {
            true => saga.state.name(),
            false => ATTENTION,
        };
        *self.ends.entry((name, saga.definition)).or_default() += 1;
    }

    pub(super) fn race(&mut self, of: Racer, end: &'static str) {
        *self.races.entry((of, end)).or_default() += 1;
    }

    /// How many races there were of this kind, by how they ended.
    #[must_use]
    pub fn races(&self, of: Racer) -> BTreeMap<&'static str, u64> {
        let races = self.races.iter().filter(|((one, _), _)| *one == of);
        races.map(|((_, end), n)| (*end, *n)).collect()
    }

    /// How many races there were.
    #[must_use]
    pub fn all_races(&self) -> u64 {
        self.races.values().sum()
    }

    /// Adds another world's.
    pub fn add(&mut self, other: &Self) {
        for (key, count) in &other.inputs {
            *self.inputs.entry(*key).or_default() += count;
        }
        for (key, count) in &other.illegal {
            *self.illegal.entry(key).or_default() += count;
        }
        for (key, count) in &other.faults {
            *self.faults.entry(*key).or_default() += count;
        }
        for (key, count) in &other.ends {
            *self.ends.entry(*key).or_default() += count;
        }
        for (key, count) in &other.steps {
            *self.steps.entry(*key).or_default() += count;
        }
        for (key, count) in &other.races {
            *self.races.entry(*key).or_default() += count;
        }
        for (key, count) in &other.moments {
            *self.moments.entry(key).or_default() += count;
        }
        self.sagas += other.sagas;
    }

    /// What should have been reached and was not.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let inputs = reach::pairs().filter(|(state, input)| reach::exempt(*state, input).is_none());
        let inputs = inputs.filter(|key| !self.inputs.contains_key(key));
        let inputs = inputs.map(|(state, input)| format!("{} x {input}", state.name()));
        let refused = reach::REFUSALS.iter();
        let refused = refused.filter(|name| !reach::REFUSALS_EXEMPT.contains(name));
        let refused = refused.filter(|name| !self.illegal.contains_key(*name));
        let faults = Fault::ALL
            .iter()
            .filter(|fault| !self.faults.contains_key(fault));
        let versions = saga::order::versions();
        let ends = versions.iter().flat_map(|version| {
            let ends = MUST_END.iter().map(move |name| (*name, version));
            ends.filter(|(name, version)| !self.ends.contains_key(&(*name, version.id)))
        });
        let met = |state: State| self.ends.keys().any(|(name, _)| *name == state.name());
        let never = State::ALL
            .into_iter()
            .filter(|state| state.is_end() && !met(*state));
        let steps = reach::of_steps().filter(|key| !self.steps.contains_key(key));
        let steps = steps.map(|(step, input)| format!("{} x {input}", STEP_NAMES[step]));
        let moments = MUST_HAPPEN
            .iter()
            .filter(|name| !self.moments.contains_key(*name));
        inputs
            .chain(refused.map(|name| format!("refused: {name}")))
            .chain(faults.map(|fault| format!("fault: {}", fault.name())))
            .chain(ends.map(|(name, version)| format!("end: {name} by {}", version.label())))
            .chain(never.map(|state| format!("end: {}", state.name())))
            .chain(steps)
            .chain(moments.map(|name| (*name).to_owned()))
            .collect()
    }

    /// What is said to be impossible, with a reason, and was reached.
    #[must_use]
    pub fn impossible(&self) -> Vec<String> {
        let inputs = self.inputs.keys();
        let inputs = inputs.filter_map(|(state, input)| {
            let because = reach::exempt(*state, input)?;
            Some(format!("{} x {input} ({because})", state.name()))
        });
        let refused = self.illegal.keys();
        let refused = refused.filter(|name| reach::REFUSALS_EXEMPT.contains(name));
        let steps = self.steps.keys().filter_map(|(step, input)| {
            let because = reach::never_of_step(*step, input)?;
            Some(format!("{} x {input} ({because})", STEP_NAMES[*step]))
        });
        inputs
            .chain(steps)
            .chain(refused.map(|name| format!("refused: {name}")))
            .collect()
    }

    /// All of it, a line each.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let inputs = self
            .inputs
            .iter()
            .map(|((state, input), n)| format!("{n:>10}  {} x {input}", state.name()));
        let refused = self
            .illegal
            .iter()
            .map(|(name, n)| format!("{n:>10}  refused: {name}"));
        let faults = self
            .faults
            .iter()
            .map(|(fault, n)| format!("{n:>10}  fault: {}", fault.name()));
        let ends = self
            .ends
            .iter()
            .map(|((name, number), n)| format!("{n:>10}  end: {name} by definition {number}"));
        let steps = self
            .steps
            .iter()
            .map(|((step, name), n)| format!("{n:>10}  {} x {name}", STEP_NAMES[*step]));
        let races = self
            .races
            .iter()
            .map(|((of, end), n)| format!("{n:>10}  race of {of:?}: {end}"));
        let moments = self
            .moments
            .iter()
            .map(|(name, n)| format!("{n:>10}  {name}"));
        inputs
            .chain(refused)
            .chain(faults)
            .chain(ends)
            .chain(steps)
            .chain(races)
            .chain(moments)
            .collect()
    }
}
