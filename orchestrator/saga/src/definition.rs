//! What a saga is made of, as data. Definitions are stored with a hash, so that a version can never
//! change under the sagas that run by it.

use crate::{RetryPolicy, Steps};
use contract::{Refusal, StepKind, StepName};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Bytes of a step's input as JSON.
const INPUT_MAX_BYTES: usize = 1_024;

/// A saga's kind: its steps in order, with everything about time and failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Its number in the database and in messages; never used again for another one.
    pub id: i16,
    /// For example `order`.
    pub name: String,
    /// 1 for the first.
    pub version: i16,
    /// A saga that takes longer is ended and undone; waiting does not count.
    pub deadline_ms: u32,
    /// In the order in which they run.
    pub steps: Vec<StepDefinition>,
}

/// One step of a definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepDefinition {
    /// Its bit in a saga's sets, 0 to 30; given once per name for all definitions, for ever.
    pub number: u8,
    /// Its name.
    pub name: StepName,
    /// Whether it can be undone.
    pub class: Class,
    /// How its unknown outcome is made known.
    pub probe_mode: ProbeMode,
    /// Tries of the `do`; spent means unknown.
    pub do_policy: RetryPolicy,
    /// Tries of the probe; spent means that the step is undone.
    pub probe_policy: RetryPolicy,
    /// Tries of the `undo`; spent means a failed undo, which is work for a person.
    pub undo_policy: RetryPolicy,
    /// First pause before a command without an answer is sent again; doubled each time.
    pub resend_ms: u32,
    /// A worker does not begin with a command that is older.
    pub ttl_ms: u32,
    /// For a step that may wait for the outside.
    pub waiting: Option<WaitingDefinition>,
    /// Attempts after which a step that is tried for ever also asks for a person's attention.
    pub attention_after: Option<i16>,
    /// What each of its commands says to the worker beside the saga's id: ids, amounts and constants,
    /// the same for all sagas, at most 1 KiB. Left out of the hash where there is none, as it was
    /// before there was any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
}

impl StepDefinition {
    fn input_is_short(&self) -> bool {
        let input = self.input.as_ref();
        input.is_none_or(|input| input.to_string().len() <= INPUT_MAX_BYTES)
    }
}

impl StepDefinition {
    /// The kinds of commands that it can get: what is never taken back gets no undo, and only what is
    /// asked about by reading gets a probe.
    pub fn kinds(&self) -> impl Iterator<Item = StepKind> + use<> {
        let undo = (self.class != Class::Retriable).then_some(StepKind::Undo);
        let probe = (self.probe_mode == ProbeMode::Read).then_some(StepKind::Probe);
        [Some(StepKind::Do), undo, probe].into_iter().flatten()
    }
}

/// How a step waits for a customer or a reviewer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitingDefinition {
    /// What the order's status says meanwhile.
    pub status: crate::Status,
    /// How long it waits at most.
    pub deadline_ms: u32,
    /// The reason of the cancellation when that passes.
    pub expired: Refusal,
}

/// What may follow when a step fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Can be undone.
    Compensatable,
    /// The point of no return: once it is done the saga only goes forward. Undone only when its
    /// outcome stayed unknown or its tries were spent.
    Pivot,
    /// Comes after the pivot and is only ever tried again.
    Retriable,
}

/// How an unknown outcome is made known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeMode {
    /// By asking: a command of kind `probe`.
    Read,
    /// By the same `do` again, which repeats what is recorded.
    Redo,
}

/// A definition that contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("definition {name}@{version}: {problem}")]
pub struct BadDefinition {
    name: String,
    version: i16,
    problem: &'static str,
}

impl Definition {
    /// The definition itself, if it is sound: steps compensatable up to one pivot, retriable after
    /// it, numbers and names unique.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn checked(self) -> Result<Self, BadDefinition> {
        let problem = self.problem();
        match problem {
            None => Ok(self),
            Some(problem) => Err(BadDefinition {
                name: self.name,
                version: self.version,
                problem,
            }),
        }
    }

    fn problem(&self) -> Option<&'static str> {
        let pivots: Vec<usize> = self.positions(Class::Pivot);
        let &[pivot] = pivots.as_slice() else {
            return Some("there must be exactly one pivot");
        };
        let (before, after) = (&self.steps[..pivot], &self.steps[pivot + 1..]);
        let mut seen = Steps::default();
        for step in &self.steps {
            if step.number > 30 || seen.contains(step.number) {
                return Some("step numbers must be unique and at most 30");
            }
            seen.insert(step.number);
        }
        let unique_name = |step: &StepDefinition| {
            self.steps
                .iter()
                .filter(|other| other.name == step.name)
                .count()
                == 1
        };
        if before.iter().any(|step| step.class != Class::Compensatable) {
            Some("steps before the pivot must be compensatable")
        } else if after.iter().any(|step| step.class != Class::Retriable) {
            Some("steps after the pivot must be retriable")
        } else if after
            .iter()
            .any(|s| s.do_policy.max_attempts.is_some() || s.do_policy.budget_ms.is_some())
        {
            Some("a retriable step must be tried without end")
        } else if before
            .iter()
            .chain(&self.steps[pivot..=pivot])
            .any(|s| s.do_policy.budget_ms.is_none())
        {
            Some("a step up to the pivot must have a time budget")
        } else if self
            .steps
            .iter()
            .any(|s| s.probe_policy.budget_ms.is_none() || s.undo_policy.budget_ms.is_none())
        {
            Some("probes and undos must have a time budget")
        } else if !self.steps.iter().all(unique_name) {
            Some("step names must be unique")
        } else if self.steps.iter().any(|s| s.resend_ms == 0 || s.ttl_ms == 0) {
            Some("resend_ms and ttl_ms must not be 0")
        } else if self.steps.iter().any(|s| !s.input_is_short()) {
            Some("a step's input must have at most 1 KiB")
        } else {
            None
        }
    }

    fn positions(&self, class: Class) -> Vec<usize> {
        (0..self.steps.len())
            .filter(|&at| self.steps[at].class == class)
            .collect()
    }

    /// `order@1`.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    /// SHA-256 over the definition's JSON, in hexadecimal: the same name and version with another
    /// hash is another definition, and refuses to start.
    #[must_use]
    pub fn hash(&self) -> String {
        let json = serde_json::to_vec(self).expect("a definition has only JSON types");
        Sha256::digest(json)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// The step with this number.
    #[must_use]
    pub fn step(&self, number: u8) -> Option<&StepDefinition> {
        self.steps.iter().find(|step| step.number == number)
    }

    /// The step with this name.
    #[must_use]
    pub fn step_named(&self, name: &StepName) -> Option<&StepDefinition> {
        self.steps.iter().find(|step| step.name == *name)
    }

    /// The step that runs after the one with this number.
    #[must_use]
    pub fn after(&self, number: u8) -> Option<&StepDefinition> {
        let at = self.steps.iter().position(|step| step.number == number)?;
        self.steps.get(at + 1)
    }

    /// The pivot's number as a set, as the saga's row keeps it.
    #[must_use]
    pub fn pivot(&self) -> Steps {
        self.steps
            .iter()
            .filter(|step| step.class == Class::Pivot)
            .map(|step| step.number)
            .collect()
    }

    /// Of the steps in `among`, the one that runs last.
    #[must_use]
    pub fn last_of(&self, among: Steps) -> Option<&StepDefinition> {
        self.steps
            .iter()
            .rev()
            .find(|step| among.contains(step.number))
    }
}
