//! What is done to the lines between the parts.

use super::seen;
use crate::{
    fault::Fault,
    role::{Kind, To},
    run::Run,
};
use anyhow::Result;
use tests::world::tcp::Line;

const LINE: &str = "Whatever was on its way may be lost, and nothing else.";

macro_rules! line {
    ($name:literal, $to:expr, $line:expr) => {
        Fault::new(
            $name,
            LINE,
            |run| Box::pin(set(run, None, $to, $line)),
            |run| Box::pin(seen::hindered(run, None, $to)),
            |run| Box::pin(set(run, None, $to, Line::Up)),
        )
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
    .lease()
    .ci(),
    line!("database-slow", To::Database, Line::Slow { delay_ms: 20 }),
    line!("database-cut", To::Database, Line::Down).lease(),
    line!("database-mute", To::Database, Line::Mute).lease(),
    line!("database-deaf", To::Database, Line::Deaf).lease(),
    line!("database-half-open", To::Database, Line::HalfOpen).lease(),
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
