//! A provider that is slow, lies or is away, as its simulator can be told to be, and one that is so for
//! ten minutes.

use super::{network::set, seen};
use crate::{fault::Fault, role::To, run::Run};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::time::Duration;
use tests::world::tcp::Line;

const TEN_MINUTES: Duration = Duration::from_secs(600);
/// More than there will be requests.
const ALWAYS: u64 = 1_000_000;

/// So long a connection is held that is to break.
const HOLD_MS: u64 = 1_000;

type Lies = &'static [(&'static str, &'static str)];

/// It refuses, and did it. Payments can still be created, or nobody would come so far.
const REFUSES_AND_DOES: Lies = &[
    ("confirm", r#""500_after""#),
    ("capture", r#""500_after""#),
    ("cancel", r#""500_after""#),
    ("refund", r#""500_after""#),
];
/// The same, and shows yesterday's truth to whoever asks.
const LIES: Lies = &[
    ("confirm", r#""500_after""#),
    ("capture", r#""500_after""#),
    ("cancel", r#""500_after""#),
    ("refund", r#""500_after""#),
    ("retrieve", r#""stale""#),
];
/// It does it and hangs up, and shows yesterday's truth to whoever asks.
const HIDES: Lies = &[
    ("confirm", r#""reset_after""#),
    ("capture", r#""reset_after""#),
    ("cancel", r#""timeout_after""#),
    ("refund", r#""reset_after""#),
    ("retrieve", r#""stale""#),
];
/// It refuses for a reason of its own, and stores that under the key.
const BREAKS: Lies = &[
    ("create", r#""500""#),
    ("confirm", r#""500""#),
    ("capture", r#""500""#),
    ("cancel", r#""500""#),
    ("refund", r#""500""#),
];
const LIMITS: Lies = &[
    ("create", r#""429""#),
    ("confirm", r#""429""#),
    ("capture", r#""429""#),
    ("cancel", r#""429""#),
    ("refund", r#""429""#),
    ("retrieve", r#""429""#),
];
const SLOW: Lies = &[
    ("create", r#"{"slow": {"ms": 3000}}"#),
    ("confirm", r#"{"slow": {"ms": 3000}}"#),
    ("capture", r#"{"slow": {"ms": 3000}}"#),
    ("cancel", r#"{"slow": {"ms": 3000}}"#),
    ("refund", r#"{"slow": {"ms": 3000}}"#),
    ("retrieve", r#"{"slow": {"ms": 3000}}"#),
];
const EVENTS_TWICE: Lies = &[("webhook", r#""duplicate""#)];
const EVENTS_LATE: Lies = &[("webhook", r#"{"late": {"ms": 2000}}"#)];
const EVENTS_REORDERED: Lies = &[("webhook", r#""reordered""#)];

macro_rules! planned {
    ($name:literal, $hypothesis:literal, $lies:expr) => {
        Fault::new(
            $name,
            $hypothesis,
            |run| Box::pin(plan(run, $lies)),
            |run| Box::pin(met(run)),
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
    .ci(),
    planned!(
        "provider-hides-what-it-did",
        "What is unknown stays so until it is known, or is undone.",
        HIDES
    ),
    planned!(
        "provider-breaks",
        "An error that is stored under the key ends in no double charge.",
        BREAKS
    ),
    planned!(
        "provider-limits",
        "A limit of the provider is kept to, and costs no order its end.",
        LIMITS
    ),
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
    .lasting(TEN_MINUTES)
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

async fn plan(run: &mut Run, lies: Lies) -> Result<()> {
    for (on, fault) in lies {
        let fault: Value = serde_json::from_str(fault)?;
        let plan = json!({"on": on, "fault": fault, "times": ALWAYS, "hold_ms": HOLD_MS});
        let asking = reqwest::Client::new().post(plans_url(run));
        let answer = asking.body(plan.to_string()).send().await?;
        let status = answer.status();
        let said = answer.text().await?;
        ensure!(status.is_success(), "the provider takes no plan: {said}");
    }
    Ok(())
}

/// How many requests have met what was planned.
async fn met(run: &mut Run) -> Result<String> {
    let plans = reqwest::get(plans_url(run)).await?.text().await?;
    let plans: Value = serde_json::from_str(&plans)?;
    let plans = plans["data"].as_array().context("plans are a list")?;
    let mut met = Vec::new();
    let mut all = 0;
    // A customer's own plan is for once.
    for plan in plans.iter().filter(|plan| plan["hold_ms"] == HOLD_MS) {
        let remaining = plan["remaining"].as_u64().unwrap_or(ALWAYS);
        all += ALWAYS - remaining;
        met.push(format!(
            "{} {}",
            plan["on"].as_str().unwrap_or_default(),
            ALWAYS - remaining
        ));
    }
    ensure!(all > 0, "no request met it");
    Ok(format!("requests that met it: {}", met.join(", ")))
}

async fn unplanned(run: &mut Run) -> Result<()> {
    let answer = reqwest::Client::new().delete(plans_url(run)).send().await?;
    answer.error_for_status()?;
    Ok(())
}
