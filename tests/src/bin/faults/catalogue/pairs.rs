//! What is done to the lines of one kind of process only, so that others know more than it does.

use super::{
    network::{noticed, set},
    seen,
};
use crate::{
    fault::{Fault, OUTLASTS_STATEMENTS},
    role::{Kind, To},
};
use tests::world::tcp::Line;

const LINE: &str = "Whoever is cut off is late, and nobody else is misled by it.";

macro_rules! lines {
    ($($name:literal: $kind:ident to $to:ident, $line:expr;)*) => {
        &[$(Fault {
            lasts: noticed(To::$to, $line),
            ..Fault::new(
                $name,
                LINE,
                |run| Box::pin(set(run, Some(Kind::$kind), To::$to, $line)),
                |run| Box::pin(seen::hindered(run, Some(Kind::$kind), To::$to)),
                |run| Box::pin(set(run, Some(Kind::$kind), To::$to, Line::Up)),
            )
        }),*]
    };
}

/// An owner who does not hear of its leases has them run out.
macro_rules! owners {
    ($($name:literal: $line:expr;)*) => {
        &[$(Fault::new(
            $name,
            LINE,
            |run| Box::pin(set(run, Some(Kind::Orchestrator), To::Database, $line)),
            |run| Box::pin(seen::cut_off(run)),
            |run| Box::pin(set(run, Some(Kind::Orchestrator), To::Database, Line::Up)),
        )
        .lasting(OUTLASTS_STATEMENTS)
        .lease()),*]
    };
}

macro_rules! commits {
    ($($name:literal: $kind:ident, $every:literal;)*) => {
        &[$(Fault::new(
            $name,
            "An ambiguous commit is read back.",
            |run| Box::pin(set(run, Some(Kind::$kind), To::Database, Line::LosesCommits { every: $every })),
            |run| Box::pin(seen::commits_lost(run, Some(Kind::$kind))),
            |run| Box::pin(set(run, Some(Kind::$kind), To::Database, Line::Up)),
        )),*]
    };
}

const SLOW: Line = Line::Slow { delay_ms: 100 };

pub(crate) const FAULTS: &[Fault] = lines! {
    "gateway-database-slow": Gateway to Database, SLOW;
    "gateway-database-cut": Gateway to Database, Line::Down;
    "gateway-database-mute": Gateway to Database, Line::Mute;
    "gateway-database-deaf": Gateway to Database, Line::Deaf;
    "gateway-database-half-open": Gateway to Database, Line::HalfOpen;
    "gateway-broker-slow": Gateway to Broker, SLOW;
    "gateway-broker-cut": Gateway to Broker, Line::Down;
    "gateway-broker-mute": Gateway to Broker, Line::Mute;
    "gateway-broker-deaf": Gateway to Broker, Line::Deaf;
    "gateway-broker-half-open": Gateway to Broker, Line::HalfOpen;
    "orchestrator-database-slow": Orchestrator to Database, SLOW;
    "orchestrator-broker-slow": Orchestrator to Broker, SLOW;
    "orchestrator-broker-cut": Orchestrator to Broker, Line::Down;
    "orchestrator-broker-mute": Orchestrator to Broker, Line::Mute;
    "orchestrator-broker-deaf": Orchestrator to Broker, Line::Deaf;
    "orchestrator-broker-half-open": Orchestrator to Broker, Line::HalfOpen;
    "worker-database-slow": Worker to Database, SLOW;
    "worker-database-cut": Worker to Database, Line::Down;
    "worker-database-mute": Worker to Database, Line::Mute;
    "worker-database-deaf": Worker to Database, Line::Deaf;
    "worker-database-half-open": Worker to Database, Line::HalfOpen;
    "worker-broker-slow": Worker to Broker, SLOW;
    "worker-broker-cut": Worker to Broker, Line::Down;
    "worker-broker-mute": Worker to Broker, Line::Mute;
    "worker-broker-deaf": Worker to Broker, Line::Deaf;
    "worker-broker-half-open": Worker to Broker, Line::HalfOpen;
};

pub(crate) const OWNERS: &[Fault] = owners! {
    "orchestrator-database-cut": Line::Down;
    "orchestrator-database-mute": Line::Mute;
    "orchestrator-database-deaf": Line::Deaf;
    "orchestrator-database-half-open": Line::HalfOpen;
};

pub(crate) const COMMITS: &[Fault] = commits! {
    "gateway-commit-answer-lost": Gateway, 3;
    "orchestrator-commit-answer-lost": Orchestrator, 7;
    "worker-commit-answer-lost": Worker, 7;
};
