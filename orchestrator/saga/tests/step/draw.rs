//! Draws definitions, and what the world does to a saga.

use contract::{Outcome, StepName};
use proptest::prelude::*;
use saga::{
    Action, Class, Definition, ProbeMode, RetryPolicy, SignalKind, Status, StepDefinition,
    WaitingDefinition,
};

/// What the world does next.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// A worker gets the current command and its reply arrives.
    Answer {
        outcome: Outcome,
        expired: bool,
        really: bool,
        retry_after_ms: Option<u32>,
    },
    /// A worker gets it, and the reply is lost.
    LoseReply {
        really: bool,
    },
    /// An answer to another command than the current one, so many before or after it.
    Stale {
        off: i32,
        outcome: Outcome,
    },
    /// Time passes up to the saga's next worry.
    Sleep,
    /// A little time passes and the saga is woken too early.
    Nap(i64),
    /// A signal, for the step that the saga is at or for the one with this number.
    Signal {
        kind: SignalKind,
        step: Option<u8>,
    },
    End,
    /// A person does something; `resolve` is only said of what is really dealt with.
    Operator(Action),
    /// From now on the breaker of the step that it is at, or of the next one, is open; or all are closed.
    Away {
        open: Option<u8>,
    },
    /// He moves it to the other version of its definition, if that is safe.
    Migrate,
    /// He stops it, or lets it go on.
    Pause {
        resume: bool,
    },
}

pub(crate) fn acts() -> impl Strategy<Value = Vec<Act>> {
    let outcome = || {
        prop_oneof![
            6 => Just(Outcome::Done),
            2 => Just(Outcome::Rejected),
            3 => Just(Outcome::Retry),
            3 => Just(Outcome::Unknown),
            2 => Just(Outcome::Waiting),
        ]
    };
    let act = prop_oneof![
        8 => (outcome(), any::<bool>(), any::<bool>(), prop::option::of(0_u32..100_000)).prop_map(
            |(outcome, expired, really, retry_after_ms)| {
                Act::Answer { outcome, expired, really, retry_after_ms }
            }
        ),
        1 => any::<bool>().prop_map(|really| Act::LoseReply { really }),
        1 => (prop_oneof![-3..=-1, 1..=3], outcome())
            .prop_map(|(off, outcome)| Act::Stale { off, outcome }),
        3 => Just(Act::Sleep),
        1 => (0_i64..2_000).prop_map(Act::Nap),
        2 => (any::<bool>(), prop::option::of(0_u8..7)).prop_map(|(decision, at)| {
            let step = at.map(number);
            let kind = if decision { SignalKind::Decision } else { SignalKind::Nudge };
            Act::Signal { kind, step }
        }),
        1 => Just(Act::End),
        1 => prop::option::of((0_u8..6).prop_map(number)).prop_map(|open| Act::Away { open }),
        2 => any::<bool>().prop_map(|resume| Act::Pause { resume }),
        1 => Just(Act::Migrate),
        1 => prop_oneof![
            Just(Action::Retry),
            (0_u8..6).prop_map(|at| Action::Correct { step: number(at) }),
            (0_u8..6).prop_map(|at| Action::Resolve { step: number(at) }),
            Just(Action::Abandon { approver: "bob".into() }),
        ]
        .prop_map(Act::Operator),
    ];
    prop::collection::vec(act, 0..80)
}

/// The number of the step at a place. Not in the order of the steps: it is a bit, not a position.
pub(crate) fn number(at: u8) -> u8 {
    29 - at * 3
}

/// Any sound definition of up to six steps.
pub(crate) fn definitions() -> impl Strategy<Value = Definition> {
    let step = (any::<bool>(), any::<bool>(), prop::option::of(1_i16..4));
    (0_usize..4, 0_usize..3, prop::collection::vec(step, 6)).prop_map(|(before, after, kinds)| {
        let steps = (0..before + 1 + after)
            .map(|at| {
                let (read, waits, attempts) = kinds[at % kinds.len()];
                let policy = |budget| RetryPolicy {
                    initial_ms: 100,
                    max_ms: 1_000,
                    max_attempts: attempts,
                    budget_ms: Some(budget),
                };
                let class = match at {
                    at if at < before => Class::Compensatable,
                    at if at == before => Class::Pivot,
                    _ => Class::Retriable,
                };
                let forever = RetryPolicy {
                    initial_ms: 100,
                    max_ms: 1_000,
                    max_attempts: None,
                    budget_ms: None,
                };
                StepDefinition {
                    number: number(u8::try_from(at).expect("small")),
                    name: format!("step-{at}").parse::<StepName>().expect("a name"),
                    class,
                    probe_mode: if read {
                        ProbeMode::Read
                    } else {
                        ProbeMode::Redo
                    },
                    do_policy: if class == Class::Retriable {
                        forever
                    } else {
                        policy(10_000)
                    },
                    probe_policy: policy(10_000),
                    undo_policy: policy(60_000),
                    resend_ms: 1_000,
                    ttl_ms: 10_000,
                    waiting: (waits && class != Class::Retriable).then_some(WaitingDefinition {
                        status: Status::ActionRequired,
                        deadline_ms: 90_000,
                        expired: contract::Refusal::AuthenticationFailed,
                    }),
                    attention_after: (class == Class::Retriable).then_some(3),
                    input: None,
                }
            })
            .collect();
        Definition {
            id: 9,
            name: "any".into(),
            version: 1,
            deadline_ms: 120_000,
            steps,
        }
        .checked()
        .expect("made to be sound")
    })
}

/// Another version of a definition: from a place on its steps say something else to their workers.
pub(crate) fn another(definition: &Definition, from: usize) -> Definition {
    let mut other = definition.clone();
    (other.id, other.version) = (definition.id + 1, definition.version + 1);
    for step in other.steps.iter_mut().skip(from) {
        step.input = Some(serde_json::json!({ "otherwise": true }));
    }
    other
}
