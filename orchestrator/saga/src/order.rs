//! The definitions of an order. `order@1`: reserve, fraud-check, pay, then issue as the pivot, then
//! notify. `order@2`: the same until pay, which only authorises, then issue, then capture as the pivot,
//! then notify.

use crate::{
    Class, Definition, ProbeMode, RetryPolicy, Status, StepDefinition,
    definition::WaitingDefinition,
};
use contract::{Refusal, StepName};
use serde_json::json;

const SECOND: u32 = 1_000;
const MINUTE: u32 = 60 * SECOND;

/// An order, version 1: the payment is captured in `pay`, and issuing the tickets is the pivot.
///
/// # Panics
/// Never: a test checks that it is sound.
#[must_use]
pub fn v1() -> Definition {
    order(
        1,
        vec![
            ours(0, StepName::RESERVE),
            fraud_check(),
            pay(),
            StepDefinition {
                class: Class::Pivot,
                ..ours(3, StepName::ISSUE)
            },
            notify(),
        ],
    )
}

/// An order, version 2: `pay` only authorises, the tickets are made and not shown yet, and capturing
/// the payment is the pivot. Whatever ends it before costs the customer nothing: the authorisation is
/// cancelled, and he never sees a refund.
///
/// # Panics
/// Never: a test checks that it is sound.
#[must_use]
pub fn v2() -> Definition {
    order(
        2,
        vec![
            ours(0, StepName::RESERVE),
            fraud_check(),
            StepDefinition {
                input: Some(json!({ "capture_method": "manual" })),
                ..pay()
            },
            ours(3, StepName::ISSUE),
            StepDefinition {
                class: Class::Pivot,
                ..provider(5, StepName::CAPTURE)
            },
            notify(),
        ],
    )
}

/// The versions that this program knows, the oldest first.
#[must_use]
pub fn versions() -> Vec<Definition> {
    vec![v1(), v2()]
}

fn order(version: i16, steps: Vec<StepDefinition>) -> Definition {
    let definition = Definition {
        id: version,
        name: "order".to_owned(),
        version,
        deadline_ms: 10 * MINUTE,
        steps,
    };
    definition
        .checked()
        .expect("the test below checks the same constant data")
}

// The steps that versions share. One that a version changes is changed there, never here.

/// A step whose effect is in our own database.
fn ours(number: u8, name: StepName) -> StepDefinition {
    StepDefinition {
        number,
        name,
        class: Class::Compensatable,
        probe_mode: ProbeMode::Redo,
        do_policy: policy(100, 5 * SECOND, Some(30 * SECOND)),
        probe_policy: policy(200, 5 * SECOND, Some(30 * SECOND)),
        undo_policy: policy(200, 30 * SECOND, Some(10 * MINUTE)),
        resend_ms: 5 * SECOND,
        ttl_ms: 30 * SECOND,
        waiting: None,
        attention_after: None,
        input: None,
    }
}

/// A step whose effect is at the payment provider.
fn provider(number: u8, name: StepName) -> StepDefinition {
    StepDefinition {
        probe_mode: ProbeMode::Read,
        do_policy: policy(200, 10 * SECOND, Some(MINUTE)),
        probe_policy: policy(500, 10 * SECOND, Some(MINUTE)),
        undo_policy: policy(500, MINUTE, Some(60 * MINUTE)),
        ttl_ms: MINUTE,
        ..ours(number, name)
    }
}

fn fraud_check() -> StepDefinition {
    StepDefinition {
        waiting: Some(WaitingDefinition {
            status: Status::InReview,
            deadline_ms: 24 * 60 * MINUTE,
            expired: Refusal::ReviewExpired,
        }),
        ..ours(1, StepName::FRAUD_CHECK)
    }
}

fn pay() -> StepDefinition {
    StepDefinition {
        waiting: Some(WaitingDefinition {
            status: Status::ActionRequired,
            deadline_ms: 15 * MINUTE,
            expired: Refusal::AuthenticationFailed,
        }),
        ..provider(2, StepName::PAY)
    }
}

fn notify() -> StepDefinition {
    StepDefinition {
        class: Class::Retriable,
        do_policy: policy(500, MINUTE, None),
        attention_after: Some(20),
        ..ours(4, StepName::NOTIFY)
    }
}

fn policy(initial_ms: u32, max_ms: u32, budget_ms: Option<u32>) -> RetryPolicy {
    RetryPolicy {
        initial_ms,
        max_ms,
        max_attempts: None,
        budget_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sagas in flight run by these definitions: they may not change. A change is a new version.
    #[test]
    fn the_published_versions_do_not_change() {
        let published = [
            (
                "order@1",
                "c2cf43e720d0bc30d62ae41ee15d4bd8722da8ee7008b2f12039453246da87c1",
            ),
            (
                "order@2",
                "8fa3b177fa229017ed052f7bdac4502a8531acd4c784178d0b5eb9abfc1b5be0",
            ),
        ];
        let ours = versions();
        assert_eq!(ours.len(), published.len());
        for (definition, (label, hash)) in ours.iter().zip(published) {
            assert_eq!(definition.label(), label);
            assert_eq!(definition.hash(), hash);
        }
    }

    /// One number, one name, in all versions.
    #[test]
    fn a_number_is_never_another_steps() {
        let mut names = std::collections::HashMap::new();
        for step in versions().into_iter().flat_map(|version| version.steps) {
            let name = names.entry(step.number).or_insert(step.name.clone());
            assert_eq!(*name, step.name);
        }
        for (number, name) in StepName::OF_AN_ORDER.iter().enumerate() {
            assert_eq!(names.get(&u8::try_from(number).expect("a few")), Some(name));
        }
    }

    #[test]
    fn an_input_is_short() {
        let mut long = v2();
        long.steps[0].input = Some(json!("x".repeat(1_025)));
        assert!(long.checked().is_err());
    }
}
