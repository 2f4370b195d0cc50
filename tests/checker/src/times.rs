//! What follows from a definition: how often a command may be sent again, and how long a saga may take.

use serde_json::Value;
use std::collections::BTreeMap;

/// The times of a definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times {
    deadline_ms: i64,
    steps: BTreeMap<i16, Step>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Step {
    resend_ms: i64,
    /// Of `do`, `undo` and `probe`; none is without end.
    budgets_ms: [Option<i64>; 3],
}

/// Reads a definition's body.
#[must_use]
pub fn times_of(body: &Value) -> Times {
    let steps = body["steps"].as_array().into_iter().flatten();
    let step = |step: &Value| {
        let budget = |policy: &str| step[policy]["budget_ms"].as_i64();
        let number = i16::try_from(step["number"].as_i64()?).ok()?;
        let times = Step {
            resend_ms: step["resend_ms"].as_i64()?,
            budgets_ms: ["do_policy", "undo_policy", "probe_policy"].map(budget),
        };
        Some((number, times))
    };
    Times {
        deadline_ms: body["deadline_ms"].as_i64().unwrap_or_default(),
        steps: steps.filter_map(step).collect(),
    }
}

impl Times {
    /// How often a command of this step and kind (1 do, 2 undo, 3 probe) is sent again at most for want of
    /// an answer: its pauses double, and fit into its budget. One more where the saga's own deadline wakes
    /// it early. `None` where there is no such number.
    #[must_use]
    pub fn resends(&self, step: i16, kind: i16) -> Option<i32> {
        let step = self.steps.get(&step)?;
        let budget_ms = usize::try_from(kind - 1)
            .ok()
            .and_then(|kind| *step.budgets_ms.get(kind)?)?;
        let mut pause_ms = step.resend_ms.max(1);
        let (mut spent_ms, mut times) = (pause_ms, 0);
        while spent_ms <= budget_ms {
            times += 1;
            pause_ms *= 2;
            spent_ms += pause_ms;
        }
        Some(times + 1)
    }

    /// How long a saga may take before it is ended for it.
    #[must_use]
    pub const fn deadline_ms(&self) -> i64 {
        self.deadline_ms
    }

    /// How long a saga takes at most without waiting for anybody: its deadline, the asking about the step
    /// it is at, and the undos of all its steps.
    #[must_use]
    pub fn end_ms(&self) -> i64 {
        let budget = |kind: usize| move |step: &Step| step.budgets_ms[kind].unwrap_or_default();
        let asking = self.steps.values().map(budget(2)).max().unwrap_or_default();
        let undoing: i64 = self.steps.values().map(budget(1)).sum();
        self.deadline_ms + asking + undoing
    }
}
