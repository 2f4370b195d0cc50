//! A batch of orders against counters that all of them draw from.
//!
//! The race: ten orders of one buyer arrive together, each within his limit, all of them together
//! beyond it. A check before taking would let all ten pass. So the counters are locked first, and
//! here, in memory, each order meets what those before it have left: decided in arrival order, an
//! order that is refused takes nothing (a smaller one behind it may still fit), and what the batch
//! takes from each counter comes out as one sum, to be written once.

use super::{
    config::{Config, VelocityRule},
    facts::OrderFacts,
    rules::{Assessment, CounterKey, Counters, Decision, Need, assess, needs},
    subject::Subject,
};
use contract::OrderId;
use std::collections::HashMap;

/// What is decided about a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// Each order's assessment, in the order of arrival.
    pub assessments: Vec<(OrderId, Assessment)>,
    /// What each order takes; nothing of those that are refused.
    pub takes: Vec<(OrderId, Vec<Need>)>,
}

/// Assesses the orders in their order of arrival. `counters.velocity` holds the orders of the
/// window *before* this batch; each order counts itself and those of the batch before it, refused
/// ones too (they were attempts).
#[must_use]
pub fn decide(orders: &[OrderFacts], mut counters: Counters, config: &Config) -> Decided {
    let mut assessments = Vec::with_capacity(orders.len());
    let mut takes = Vec::new();
    for order in orders {
        for (subject, _) in counted_subjects(order, config) {
            *counters.velocity.entry(subject).or_insert(0) += 1;
        }
        let needs = needs(order, config);
        let assessment = assess(order, &needs, &counters, config);
        if !matches!(assessment.decision, Decision::Reject(..)) {
            take(&mut counters.taken, &needs);
            takes.push((order.order, needs));
        }
        assessments.push((order.order, assessment));
    }
    Decided { assessments, takes }
}

/// Those whose orders are counted in windows, each with its window: the mailbox, and the address
/// unless exempt. A rule that is switched off counts nothing.
#[must_use]
pub fn counted_subjects(order: &OrderFacts, config: &Config) -> Vec<(Subject, VelocityRule)> {
    let rules = &config.rules;
    let address = order.address_for_rules(config).map(Subject::address);
    let email = Subject::email(&order.folded_email());
    [
        address.map(|address| (address, rules.velocity_address)),
        Some((email, rules.velocity_email)),
    ]
    .into_iter()
    .flatten()
    .filter(|(_, rule)| rule.weight > 0)
    .collect()
}

/// Takes needs from counters in memory.
pub fn take(taken: &mut HashMap<CounterKey, i32>, needs: &[Need]) {
    for need in needs {
        let count = taken.entry(need.key).or_insert(0);
        *count = count.saturating_add(need.quantity);
    }
}
