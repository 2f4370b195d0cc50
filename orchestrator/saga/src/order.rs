//! The definition `order@1`: reserve, fraud-check, pay, then issue as the pivot, then notify.

use crate::{
    Class, Definition, ProbeMode, RetryPolicy, Status, StepDefinition,
    definition::WaitingDefinition,
};
use contract::{Refusal, StepName};

const SECOND: u32 = 1_000;
const MINUTE: u32 = 60 * SECOND;

/// An order, version 1: the payment is captured in `pay`, and issuing the tickets is the pivot.
///
/// # Panics
/// Never: a test checks that it is sound.
#[must_use]
pub fn v1() -> Definition {
    let ours = |number, name| StepDefinition {
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
    };
    let definition = Definition {
        id: 1,
        name: "order".to_owned(),
        version: 1,
        deadline_ms: 10 * MINUTE,
        steps: vec![
            ours(0, StepName::RESERVE),
            StepDefinition {
                waiting: Some(WaitingDefinition {
                    status: Status::InReview,
                    deadline_ms: 24 * 60 * MINUTE,
                    expired: Refusal::ReviewExpired,
                }),
                ..ours(1, StepName::FRAUD_CHECK)
            },
            StepDefinition {
                probe_mode: ProbeMode::Read,
                do_policy: policy(200, 10 * SECOND, Some(MINUTE)),
                probe_policy: policy(500, 10 * SECOND, Some(MINUTE)),
                undo_policy: policy(500, MINUTE, Some(60 * MINUTE)),
                ttl_ms: MINUTE,
                waiting: Some(WaitingDefinition {
                    status: Status::ActionRequired,
                    deadline_ms: 15 * MINUTE,
                    expired: Refusal::AuthenticationFailed,
                }),
                ..ours(2, StepName::PAY)
            },
            StepDefinition {
                class: Class::Pivot,
                ..ours(3, StepName::ISSUE)
            },
            StepDefinition {
                class: Class::Retriable,
                do_policy: policy(500, MINUTE, None),
                attention_after: Some(20),
                ..ours(4, StepName::NOTIFY)
            },
        ],
    };
    definition
        .checked()
        .expect("the test below checks the same constant data")
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

    /// Sagas in flight run by this definition: it may not change. A change is a new version.
    #[test]
    fn the_published_version_does_not_change() {
        assert_eq!(v1().label(), "order@1");
        let published = "c2cf43e720d0bc30d62ae41ee15d4bd8722da8ee7008b2f12039453246da87c1";
        assert_eq!(v1().hash(), published);
    }
}
