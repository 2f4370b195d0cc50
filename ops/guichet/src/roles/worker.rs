//! `guichet worker STEP…`: does the work of some steps.

use std::{collections::BTreeSet, path::Path, time::Duration};

use anyhow::{Context, Result};
use clap::ValueEnum;
use workers::{
    Step, fraud_check::FraudCheck, issue::Issue, notify::Notify, pay::Pay, reserve::Reserve,
};

use super::{Process, ground::Ground};
use crate::{
    config::{self, Config, Uses},
    failure::Failure,
};

/// A step on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Name {
    /// Take stock
    Reserve,
    /// Limits, velocity, blocklists and the score
    FraudCheck,
    /// Charge the customer
    Pay,
    /// Make the tickets
    Issue,
    /// Send the mail
    Notify,
    /// Every step
    All,
}

const ALL: [Name; 5] = [
    Name::Reserve,
    Name::FraudCheck,
    Name::Pay,
    Name::Issue,
    Name::Notify,
];

struct Worker;

impl Uses for Worker {
    const SECTIONS: &'static [&'static str] =
        &["database", "amqp", "worker", "fraud", "pay", "mail"];
}

/// The one that makes tickets also needs the key; no other should have it.
struct Issuer;

impl Uses for Issuer {
    const SECTIONS: &'static [&'static str] = &[
        "database", "amqp", "worker", "fraud", "pay", "issue", "mail",
    ];
}

/// Runs the steps until it is asked to stop.
pub(crate) async fn run(file: Option<&Path>, names: &[Name]) -> Result<(), Failure> {
    let names: BTreeSet<Name> = if names.contains(&Name::All) {
        ALL.into()
    } else {
        names.iter().copied().collect()
    };
    let config = if names.contains(&Name::Issue) {
        config::load::<Issuer>(file)?
    } else {
        config::load::<Worker>(file)?
    };
    let process = Process::start("worker", &config).await?;
    let Some(ground) = Ground::open(&process, &config).await? else {
        return Ok(());
    };
    let steps = names
        .iter()
        .map(|name| step(*name, &config, &ground))
        .collect::<Result<Vec<_>>>()?;
    let context = workers::Context {
        pool: ground.pool.clone(),
        bus: ground.bus.clone(),
        incarnation: ground.incarnation,
        clock: ground.clock.clone(),
    };
    // What is begun outside is finished.
    let drain = Duration::from_millis(config.worker.effect_timeout_ms) + super::DRAIN;
    let running = workers::run(steps, context, config.worker, process.shutdown.clone());
    process.tasks.spawn("worker", running);
    Ok(ground.finish(process, drain).await?)
}

fn step(name: Name, config: &Config, ground: &Ground) -> Result<Step> {
    Ok(match name {
        Name::Reserve => Step::local(Reserve),
        Name::FraudCheck => Step::local(FraudCheck::new(config.fraud.clone())),
        Name::Pay => Step::outside(
            Pay::new(
                config.pay.clone(),
                config.fraud.clone(),
                ground.pool.clone(),
                ground.clock.clone(),
            )
            .context("cannot set up the step pay")?,
        ),
        Name::Issue => {
            let signatory = config.issue.signatory();
            Step::local(Issue::new(
                signatory.context("cannot set up the step issue")?,
            ))
        }
        Name::Notify => {
            Step::outside(Notify::new(&config.mail).context("cannot set up the step notify")?)
        }
        Name::All => anyhow::bail!("`all` is not a step"),
    })
}
