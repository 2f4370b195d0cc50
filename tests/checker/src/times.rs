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
    /// How long it waits for somebody outside, if it does.
    wait_ms: Option<i64>,
    /// Of `do`, `undo` and `probe`.
    policies: [Policy; 3],
}

/// How a command is tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Policy {
    initial_ms: i64,
    max_ms: i64,
    /// None is without end.
    budget_ms: Option<i64>,
}

/// Reads a definition's body.
#[must_use]
pub fn times_of(body: &Value) -> Times {
    let steps = body["steps"].as_array().into_iter().flatten();
    let step = |step: &Value| {
        let policy = |name: &str| Policy {
            initial_ms: step[name]["initial_ms"].as_i64().unwrap_or_default(),
            max_ms: step[name]["max_ms"].as_i64().unwrap_or_default(),
            budget_ms: step[name]["budget_ms"].as_i64(),
        };
        let number = i16::try_from(step["number"].as_i64()?).ok()?;
        let times = Step {
            resend_ms: step["resend_ms"].as_i64()?,
            wait_ms: step["waiting"]["deadline_ms"].as_i64(),
            policies: ["do_policy", "undo_policy", "probe_policy"].map(policy),
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
            .and_then(|kind| step.policies.get(kind)?.budget_ms)?;
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

    /// How long a step waits for somebody outside before it is ended for it.
    #[must_use]
    pub fn wait_ms(&self, step: i16) -> Option<i64> {
        self.steps.get(&step)?.wait_ms
    }

    /// How long a saga takes at most once everything is well, if it was on its way for so long while it was
    /// not, and waits for nobody: the pause that it may be in then, and one command of each kind of each
    /// step, each of which is answered before it would be sent again.
    #[must_use]
    pub fn prompt_ms(&self, unwell_ms: i64) -> i64 {
        let commands = 3 * self.steps.values().map(|step| step.resend_ms).sum::<i64>();
        let pauses = self.steps.values().map(|step| step.pause_ms(unwell_ms));
        commands + pauses.max().unwrap_or_default()
    }
}

impl Step {
    /// The longest pause that it may be in after so much time in vain. Pauses double, so each is at most the time
    /// since the first try and one more; of tries that were answered it is twice that, for up to half of each is
    /// left out by chance. The provider of the fault runs asks nobody to come later.
    fn pause_ms(&self, vain_ms: i64) -> i64 {
        let of = |policy: &Policy| {
            let unanswered = vain_ms + self.resend_ms;
            let unanswered = policy
                .budget_ms
                .map_or(unanswered, |most| unanswered.min(most));
            let answered = (2 * vain_ms + policy.initial_ms).min(policy.max_ms);
            unanswered.max(answered)
        };
        let pauses = self.policies.iter().map(of);
        let longest = pauses.max().unwrap_or_default();
        if vain_ms > 0 { longest } else { 0 }
    }
}
