//! A provider that is slow, lies or is away, as its simulator can be told to be, and one that is so for
//! ten minutes.

use super::{network::set, seen};
use crate::{
    customers::wish::{DECLINED, GOOD},
    fault::{Fault, OUTLASTS_LEASES},
    role::To,
    run::Run,
};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::time::Duration;
use tests::world::tcp::Line;

const TEN_MINUTES: Duration = Duration::from_secs(600);
/// As long as an order has, and some more: what could not be paid in time is cancelled.
const OUTLASTS_ORDERS: Duration = Duration::from_secs(660);
/// More than there will be requests.
const ALWAYS: u64 = 1_000_000;

/// So long a connection is held that is to break.
const HOLD_MS: u64 = 1_000;

/// What it is told to do to a kind of request.
pub(super) struct Lie {
    pub(super) on: &'static str,
    pub(super) fault: &'static str,
    /// To so many at most.
    pub(super) times: u64,
    /// To those with one of these cards only, if there are any.
    pub(super) cards: &'static [&'static str],
}

pub(super) type Lies = &'static [Lie];

pub(super) const fn each(on: &'static str, fault: &'static str) -> Lie {
    Lie {
        on,
        fault,
        times: ALWAYS,
        cards: &[],
    }
}

/// So few that others come so far as to meet what follows.
const fn some(on: &'static str, fault: &'static str) -> Lie {
    Lie {
        times: 5,
        ..each(on, fault)
    }
}

/// Those with one of two good cards: the others are taken, and meet what follows.
const fn half(on: &'static str, fault: &'static str) -> Lie {
    Lie {
        cards: &[GOOD[0]],
        ..each(on, fault)
    }
}

/// What is declined is cancelled. Those with the other good card are not hindered: a payment is cancelled before it
/// is refunded.
const fn cancel(fault: &'static str) -> Lie {
    Lie {
        cards: &[GOOD[0], DECLINED[0], DECLINED[1], DECLINED[2]],
        ..each("cancel", fault)
    }
}

/// It refuses, and did it. Payments can still be created, or nobody would come so far.
const REFUSES_AND_DOES: Lies = &[
    half("confirm", r#""500_after""#),
    each("capture", r#""500_after""#),
    cancel(r#""500_after""#),
    each("refund", r#""500_after""#),
];
/// The same, and shows yesterday's truth of every other payment to whoever asks: of the others it becomes known that
/// they have to be given back.
const LIES: Lies = &[
    half("confirm", r#""500_after""#),
    each("capture", r#""500_after""#),
    cancel(r#""500_after""#),
    each("refund", r#""500_after""#),
    half("retrieve", r#""stale""#),
];
/// It does it and hangs up, and shows yesterday's truth of every other payment.
const HIDES: Lies = &[
    half("confirm", r#""reset_after""#),
    each("capture", r#""reset_after""#),
    cancel(r#""timeout_after""#),
    each("refund", r#""reset_after""#),
    half("retrieve", r#""stale""#),
];
/// It refuses for a reason of its own, and stores that under the key.
const BREAKS: Lies = &[
    some("create", r#""500""#),
    half("confirm", r#""500""#),
    each("capture", r#""500""#),
    cancel(r#""500""#),
    each("refund", r#""500""#),
];
const LIMITS: Lies = &[
    some("create", r#""429""#),
    half("confirm", r#""429""#),
    each("capture", r#""429""#),
    cancel(r#""429""#),
    each("refund", r#""429""#),
    half("retrieve", r#""429""#),
];
const SLOW: Lies = &[
    each("create", r#"{"slow": {"ms": 3000}}"#),
    each("confirm", r#"{"slow": {"ms": 3000}}"#),
    each("capture", r#"{"slow": {"ms": 3000}}"#),
    each("cancel", r#"{"slow": {"ms": 3000}}"#),
    each("refund", r#"{"slow": {"ms": 3000}}"#),
    each("retrieve", r#"{"slow": {"ms": 3000}}"#),
];
const EVENTS_TWICE: Lies = &[each("webhook", r#""duplicate""#)];
const EVENTS_LATE: Lies = &[each("webhook", r#"{"late": {"ms": 2000}}"#)];
const EVENTS_REORDERED: Lies = &[each("webhook", r#""reordered""#)];

macro_rules! planned {
    ($name:literal, $hypothesis:literal, $lies:expr) => {
        Fault::new(
            $name,
            $hypothesis,
            |run| Box::pin(plan(run, $lies)),
            |run| Box::pin(met(run, $lies)),
            |run| Box::pin(unplanned(run)),
        )
    };
}

pub(crate) const FAULTS: &[Fault] = &[
    planned!(
        "provider-refuses-and-does",
        "An error of the provider is no proof that nothing happened.",
        REFUSES_AND_DOES
    )
    .lasting(OUTLASTS_LEASES)
    .ci(),
    planned!(
        "provider-hides-what-it-did",
        "What is unknown stays so until it is known, or is undone.",
        HIDES
    )
    .lasting(OUTLASTS_LEASES),
    planned!(
        "provider-breaks",
        "An error that is stored under the key ends in no double charge.",
        BREAKS
    )
    .lasting(OUTLASTS_LEASES),
    planned!(
        "provider-limits",
        "A limit of the provider is kept to, and costs no order its end.",
        LIMITS
    )
    .lasting(OUTLASTS_LEASES),
    planned!(
        "events-duplicated",
        "An event of the provider is a nudge, however often it comes.",
        EVENTS_TWICE
    ),
    planned!(
        "events-late",
        "Nobody relies on an event to come.",
        EVENTS_LATE
    ),
    planned!(
        "events-reordered",
        "Nobody relies on the order of events.",
        EVENTS_REORDERED
    ),
    Fault::new(
        "provider-away-ten-minutes",
        "Nothing is lost; what could not be paid in time is cancelled honestly.",
        |run| Box::pin(set(run, None, To::Provider, Line::Down)),
        |run| Box::pin(seen::hindered(run, None, To::Provider)),
        |run| Box::pin(set(run, None, To::Provider, Line::Up)),
    )
    .lasting(OUTLASTS_ORDERS)
    .late(),
    planned!(
        "provider-slow-ten-minutes",
        "Orders are late, and none is paid twice or lost.",
        SLOW
    )
    .lasting(TEN_MINUTES),
    planned!(
        "provider-lies-ten-minutes",
        "However long it denies what it did and shows what was, each order has a ticket or its money back.",
        LIES
    )
    .lasting(TEN_MINUTES)
    .late(),
];

fn plans_url(run: &Run) -> String {
    format!("{}/_sim/faults", run.stage.provider)
}

pub(super) async fn plan(run: &mut Run, lies: Lies) -> Result<()> {
    for lie in lies {
        let fault: Value = serde_json::from_str(lie.fault)?;
        let plan = json!({"on": lie.on, "fault": fault, "times": lie.times, "hold_ms": HOLD_MS});
        let of = |card: &&str| json!({"payment_method": card});
        let mut matching: Vec<Value> = lie.cards.iter().map(of).collect();
        if matching.is_empty() {
            matching.push(json!({}));
        }
        for of in matching {
            let mut plan = plan.clone();
            plan["match"] = of;
            let asking = reqwest::Client::new().post(plans_url(run));
            let answer = asking.body(plan.to_string()).send().await?;
            let status = answer.status();
            let said = answer.text().await?;
            ensure!(status.is_success(), "the provider takes no plan: {said}");
        }
    }
    Ok(())
}

/// How many requests have met what was planned: of each kind some, or nothing is known of that kind.
async fn met(run: &mut Run, lies: Lies) -> Result<String> {
    let plans = reqwest::get(plans_url(run)).await?.text().await?;
    let plans: Value = serde_json::from_str(&plans)?;
    let plans = plans["data"].as_array().context("plans are a list")?;
    let mut met = Vec::new();
    for lie in lies {
        // A customer's own plan is for once; one that is used up is not listed any more.
        let ours = |plan: &&Value| plan["hold_ms"] == HOLD_MS && plan["on"] == lie.on;
        let left = plans.iter().filter(ours).map(|plan| &plan["remaining"]);
        let left: u64 = left.filter_map(Value::as_u64).sum();
        let count = lie.times * lie.cards.len().max(1) as u64 - left;
        ensure!(count > 0, "no {} met it; before it {met:?}", lie.on);
        met.push(format!("{} {count}", lie.on));
    }
    Ok(format!("requests that met it: {}", met.join(", ")))
}

pub(super) async fn unplanned(run: &mut Run) -> Result<()> {
    let answer = reqwest::Client::new().delete(plans_url(run)).send().await?;
    answer.error_for_status()?;
    Ok(())
}
