//! The rules one by one, and what must hold of any batch.

use super::{
    batch,
    blocklist::BlockKind,
    config::Config,
    facts::{Line, OrderFacts},
    rules::{Assessment, CounterKey, Counters, Decision, assess, needs},
    subject::Subject,
};
use contract::{EventId, OrderId, Refusal, Tier};
use proptest::prelude::*;
use std::collections::HashMap;
use uuid::Uuid;

fn event(number: u128) -> EventId {
    EventId(Uuid::from_u128(number + 1))
}

fn line(number: u128, tier: Tier, quantity: i32) -> Line {
    Line {
        event: event(number),
        tier,
        quantity,
        attendees: Vec::new(),
    }
}

fn order() -> OrderFacts {
    OrderFacts {
        order: OrderId(Uuid::from_u128(7)),
        account: None,
        email: "ann.lee@example.org".into(),
        name: "Ann Lee".into(),
        address: Some("192.0.2.7".parse().expect("an address")),
        total_minor: 12_500,
        lines: vec![line(1, Tier::Standard, 2)],
    }
}

fn judge(order: &OrderFacts, counters: &Counters, config: &Config) -> Assessment {
    assess(order, &needs(order, config), counters, config)
}

fn rules_of(assessment: &Assessment) -> Vec<(&str, i64)> {
    let hits = assessment.hits.iter();
    hits.map(|hit| (hit.rule.as_str(), hit.value)).collect()
}

/// What an ordinary order with one change meets.
fn met(change: impl FnOnce(&mut OrderFacts)) -> Vec<(String, i64)> {
    let mut order = order();
    change(&mut order);
    let assessment = judge(&order, &Counters::default(), &Config::default());
    let hits = rules_of(&assessment).into_iter();
    hits.map(|(rule, value)| (rule.to_owned(), value)).collect()
}

#[test]
fn an_ordinary_order_meets_no_rule() {
    let assessment = judge(&order(), &Counters::default(), &Config::default());
    assert_eq!((assessment.score, assessment.hits.len()), (0, 0));
    assert_eq!(assessment.decision, Decision::Accept);
}

#[test]
fn each_rule_sees_what_it_is_for() {
    let one = |rule: &str, value| vec![(rule.to_owned(), value)];
    assert_eq!(
        met(|o| o.total_minor = 1_000_000),
        one("large_amount", 1_000_000)
    );
    assert_eq!(
        met(|o| o.email = "ann@mail.mailinator.com".into()),
        one("disposable_email", 1)
    );
    assert_eq!(
        met(|o| o.email = "lee83917@example.org".into()),
        one("odd_email", 62)
    );
    assert_eq!(
        met(|o| o.email = "bob@example.org".into()),
        one("name_not_in_email", 1)
    );
    assert_eq!(met(|o| o.name = "王伟".into()), vec![]);
    let attended = |names: &'static [&'static str]| {
        met(|o| o.lines[0].attendees = names.iter().map(|name| (*name).to_owned()).collect())
    };
    assert_eq!(attended(&["ann  LEE", "Bo"]), vec![]);
    assert_eq!(attended(&["Bo", "Cy"]), one("buyer_not_attending", 1));
    assert_eq!(
        attended(&["Ann Lee", "ann lee"]),
        one("repeated_attendee", 2)
    );
    let many = |o: &mut OrderFacts| o.lines = (0..6).map(|n| line(n, Tier::Standard, 1)).collect();
    assert_eq!(met(many), one("many_events", 6));
    let large = |o: &mut OrderFacts| o.lines = (0..3).map(|n| line(n, Tier::Standard, 5)).collect();
    assert_eq!(met(large), one("many_tickets", 15));
}

#[test]
fn limits_are_told_from_one_another() {
    for (tier, quantity, rule, words) in [
        (Tier::Standard, 7, "limit_event", "6 tickets of one event"),
        (
            Tier::MostWanted,
            5,
            "limit_event_most_wanted",
            "4 tickets of one of the most wanted",
        ),
        (
            Tier::Ceremony,
            5,
            "limit_event_ceremony",
            "4 tickets of a ceremony",
        ),
    ] {
        let mut order = order();
        order.lines = vec![line(1, tier, quantity - 1), line(1, tier, 1)];
        let assessment = judge(&order, &Counters::default(), &Config::default());
        assert_eq!(rules_of(&assessment), [(rule, i64::from(quantity))]);
        let Decision::Reject(Refusal::LimitExceeded, message) = assessment.decision else {
            panic!("{rule} refuses");
        };
        assert!(
            message.contains(words) && message.contains("e-mail address"),
            "{message}"
        );
        order.lines = vec![line(1, tier, quantity - 1)];
        let fits = judge(&order, &Counters::default(), &Config::default());
        assert_eq!(fits.decision, Decision::Accept);
    }
}

#[test]
fn all_tickets_of_account_and_mailbox_count() {
    let mut order = order();
    order.account = Some(Uuid::from_u128(5));
    for subject in order.limited_subjects() {
        let key = CounterKey {
            subject: subject.hash,
            event: Uuid::nil(),
        };
        let counters = |taken| Counters {
            taken: HashMap::from([(key, taken)]),
            ..Counters::default()
        };
        let config = Config::default();
        assert_eq!(
            judge(&order, &counters(28), &config).decision,
            Decision::Accept
        );
        let beyond = judge(&order, &counters(29), &config);
        assert_eq!(rules_of(&beyond), [("limit_total", 31)]);
    }
}

#[test]
fn thresholds_decide_between_accept_review_and_refusal() {
    let mut order = order();
    order.email = "ann@mailinator.com".into();
    let config = Config::default();
    let none = Counters::default();
    assert_eq!(judge(&order, &none, &config).decision, Decision::Accept);
    order.total_minor = 2_000_000;
    let held = judge(&order, &none, &config);
    assert_eq!((held.score, &held.decision), (70, &Decision::Review));
    let blocked = Counters {
        blocked: [(BlockKind::Domain, "mailinator.com".to_owned())].into(),
        ..Counters::default()
    };
    let refused = judge(&order, &blocked, &config);
    assert_eq!(refused.score, 170);
    assert!(matches!(
        refused.decision,
        Decision::Reject(Refusal::FraudRefused, _)
    ));
}

#[test]
fn exempt_networks_are_not_looked_at() {
    let mut order = order();
    order.address = Some("::ffff:127.0.0.1".parse().expect("an address"));
    let subject = Subject::address(order.address.expect("set above"));
    let counters = Counters {
        velocity: HashMap::from([(subject, 1_000)]),
        blocked: [(BlockKind::Network, "127.0.0.1".to_owned())].into(),
        ..Counters::default()
    };
    let mut config = Config::default();
    assert_eq!(judge(&order, &counters, &config).score, 160);
    config.exempt_networks = vec!["127.0.0.0/8".parse().expect("a network")];
    assert_eq!(judge(&order, &counters, &config).score, 0);
    assert_eq!(batch::counted_subjects(&order, &config).len(), 1);
}

#[test]
fn a_rule_without_weight_is_off() {
    let mut config = Config::default();
    config.rules.large_amount.weight = 0;
    let mut order = order();
    order.total_minor = i64::MAX;
    assert_eq!(judge(&order, &Counters::default(), &config).hits, vec![]);
}

#[test]
fn a_refused_order_leaves_room_for_a_smaller_one_behind_it() {
    let orders: Vec<OrderFacts> = [4, 4, 2]
        .into_iter()
        .enumerate()
        .map(|(number, quantity)| OrderFacts {
            order: OrderId(Uuid::from_u128(number as u128)),
            lines: vec![line(1, Tier::Standard, quantity)],
            ..order()
        })
        .collect();
    let decided = batch::decide(&orders, Counters::default(), &Config::default());
    let took: Vec<OrderId> = decided.takes.iter().map(|(order, _)| *order).collect();
    assert_eq!(took, [orders[0].order, orders[2].order]);
}

#[test]
fn velocity_counts_the_order_itself_and_those_before_it() {
    let config = Config::default();
    let orders = vec![order(); 3];
    let counters = Counters {
        velocity: HashMap::from([(Subject::email(&order().folded_email()), 9)]),
        ..Counters::default()
    };
    let decided = batch::decide(&orders, counters, &config);
    let scores: Vec<u32> = decided.assessments.iter().map(|(_, it)| it.score).collect();
    assert_eq!(scores, [0, 60, 60], "the 10th, 11th and 12th of the hour");
}

/// An event of its number's tier: whoever orders, an event has one.
fn tier(event: u128) -> Tier {
    [Tier::Standard, Tier::MostWanted, Tier::Ceremony][event as usize % 3]
}

prop_compose! {
    fn any_order()(
        id: u128,
        account in prop::option::of(0_u128..2),
        email in 0_u8..3,
        lines in prop::collection::vec((0_u128..4, 1_i32..8), 1..4),
    ) -> OrderFacts {
        OrderFacts {
            order: OrderId(Uuid::from_u128(id)),
            account: account.map(Uuid::from_u128),
            email: format!("p{email}@example.org"),
            lines: lines
                .into_iter()
                .map(|(event, quantity)| line(event, tier(event), quantity))
                .collect(),
            ..order()
        }
    }
}

fn without_scores() -> Config {
    Config {
        review_at: 999_999,
        reject_at: 999_999,
        ..Config::default()
    }
}

proptest! {
    #[test]
    fn no_counter_ever_passes_its_limit(orders in prop::collection::vec(any_order(), 1..40)) {
        let config = without_scores();
        let decided = batch::decide(&orders, Counters::default(), &config);
        let mut taken: HashMap<CounterKey, (i32, i32)> = HashMap::new();
        for need in decided.takes.iter().flat_map(|(_, needs)| needs) {
            let entry = taken.entry(need.key).or_insert((0, need.limit));
            entry.0 += need.quantity;
        }
        for (taken, limit) in taken.into_values() {
            prop_assert!(taken <= limit, "{taken} of {limit}");
        }
    }

    /// Cutting a run of orders into batches anywhere decides nothing differently.
    #[test]
    fn batches_decide_as_one_by_one(orders in prop::collection::vec(any_order(), 1..30), cut in 0_usize..30) {
        let config = without_scores();
        let whole = batch::decide(&orders, Counters::default(), &config);
        let (head, tail) = orders.split_at(cut.min(orders.len()));
        let first = batch::decide(head, Counters::default(), &config);
        let mut counters = Counters::default();
        for (_, needs) in &first.takes {
            batch::take(&mut counters.taken, needs);
        }
        for (subject, _) in head.iter().flat_map(|order| batch::counted_subjects(order, &config)) {
            *counters.velocity.entry(subject).or_insert(0) += 1;
        }
        let second = batch::decide(tail, counters, &config);
        let joined: Vec<_> = first.assessments.into_iter().chain(second.assessments).collect();
        prop_assert_eq!(joined, whole.assessments);
    }

    /// An order is refused for a limit only if it does not fit behind those that were accepted.
    #[test]
    fn what_fits_is_accepted(orders in prop::collection::vec(any_order(), 1..30)) {
        let config = without_scores();
        let decided = batch::decide(&orders, Counters::default(), &config);
        let mut taken = HashMap::new();
        for (order, (id, assessment)) in orders.iter().zip(&decided.assessments) {
            prop_assert_eq!(order.order, *id);
            let needs = needs(order, &config);
            let fits = needs.iter().all(|need| need.excess(&taken).is_none());
            prop_assert_eq!(fits, assessment.decision == Decision::Accept);
            if fits {
                batch::take(&mut taken, &needs);
            }
        }
    }

    #[test]
    fn the_score_is_the_sum_of_the_weights(total in 0_i64..3_000_000, digits in 0_u32..999_999, seen in 0_i64..40) {
        let mut order = order();
        order.total_minor = total;
        order.email = format!("lee{digits}@example.org");
        let counters = Counters {
            velocity: HashMap::from([(Subject::email(&order.folded_email()), seen)]),
            ..Counters::default()
        };
        let config = Config::default();
        let assessment = judge(&order, &counters, &config);
        prop_assert_eq!(assessment.score, assessment.hits.iter().map(|hit| hit.weight).sum::<u32>());
        for hit in &assessment.hits {
            prop_assert!(hit.value >= hit.threshold);
        }
    }
}
