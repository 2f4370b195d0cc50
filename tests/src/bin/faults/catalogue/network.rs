//! What is done to the lines between the parts.

use super::seen;
use crate::{
    fault::{Fault, OUTLASTS_LEASES, OUTLASTS_STATEMENTS},
    role::{Kind, To},
    run::Run,
};
use anyhow::Result;
use std::time::Duration;
use tests::world::tcp::Line;

/// How long a line is so, if it has to be for as long as those at its ends need to find out. That a connection
/// was closed is known at once; only what nobody hears is not.
pub(super) const fn noticed(to: To, line: Line) -> Option<Duration> {
    match (to, line) {
        (To::Database, Line::Mute | Line::Deaf | Line::HalfOpen) => Some(OUTLASTS_STATEMENTS),
        (_, Line::Mute | Line::Deaf | Line::HalfOpen) => Some(OUTLASTS_LEASES),
        _ => None,
    }
}

const LINE: &str = "Whatever was on its way may be lost, and nothing else.";

macro_rules! line {
    ($name:literal, $to:expr, $line:expr) => {
        Fault {
            lasts: noticed($to, $line),
            ..Fault::new(
                $name,
                LINE,
                |run| Box::pin(set(run, None, $to, $line)),
                |run| Box::pin(seen::hindered(run, None, $to)),
                |run| Box::pin(set(run, None, $to, Line::Up)),
            )
        }
    };
    (lease: $name:literal, $line:expr) => {
        Fault::new(
            $name,
            LINE,
            |run| Box::pin(set(run, None, To::Database, $line)),
            |run| Box::pin(seen::cut_off(run)),
            |run| Box::pin(set(run, None, To::Database, Line::Up)),
        )
        .lasting(OUTLASTS_STATEMENTS)
        .lease()
    };
}

const SLOW: Line = Line::Slow { delay_ms: 100 };
const COMMITS: Line = Line::LosesCommits { every: 10 };

pub(crate) const FAULTS: &[Fault] = &[
    Fault::new(
        "commit-answer-lost",
        "An ambiguous commit is read back.",
        |run| Box::pin(set(run, None, To::Database, COMMITS)),
        |run| Box::pin(seen::commits_lost(run, None)),
        |run| Box::pin(set(run, None, To::Database, Line::Up)),
    )
    .ci(),
    line!("database-slow", To::Database, Line::Slow { delay_ms: 20 }),
    line!(lease: "database-cut", Line::Down),
    line!(lease: "database-mute", Line::Mute),
    line!(lease: "database-deaf", Line::Deaf),
    line!(lease: "database-half-open", Line::HalfOpen),
    line!("broker-slow", To::Broker, SLOW),
    line!("broker-cut", To::Broker, Line::Down),
    line!("broker-mute", To::Broker, Line::Mute),
    line!("broker-deaf", To::Broker, Line::Deaf),
    line!("broker-half-open", To::Broker, Line::HalfOpen),
    line!(
        "broker-thin",
        To::Broker,
        Line::Thin {
            bytes_per_s: 20_000
        }
    ),
    line!(
        "provider-slow",
        To::Provider,
        Line::Slow { delay_ms: 1_000 }
    ),
    line!("provider-dead", To::Provider, Line::Down).ci(),
    line!("provider-deaf", To::Provider, Line::Deaf),
    line!("provider-half-open", To::Provider, Line::HalfOpen),
    line!("webhooks-cut", To::Webhooks, Line::Down),
    line!("mail-cut", To::Mail, Line::Down),
    line!("mail-deaf", To::Mail, Line::Deaf),
    line!("customers-deaf", To::Customers, Line::Deaf),
];

/// Does the same to all lines of this kind of process, or of all, that lead there.
pub(super) async fn set(run: &mut Run, kind: Option<Kind>, to: To, line: Line) -> Result<()> {
    let roles = run.stage.roles.iter();
    for role in roles.filter(|role| kind.is_none_or(|kind| kind == role.kind)) {
        role.set(to, line);
    }
    Ok(())
}
