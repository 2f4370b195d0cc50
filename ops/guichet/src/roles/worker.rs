//! `guichet worker STEP…`: does the work of some steps.

use std::{collections::BTreeSet, path::Path, time::Duration};

use anyhow::{Context, Result};
use clap::ValueEnum;
use database::Pool;
use workers::{
    Pools, Step, capture::Capture, fraud_check::FraudCheck, issue::Issue, notify::Notify, pay::Pay,
    reserve::Reserve,
};

use super::{Process, ground::Ground};
use crate::{
    config::{self, Config},
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
    /// Take what `pay` authorised
    Capture,
    /// Every step
    All,
}

const ALL: [Name; 6] = [
    Name::Reserve,
    Name::FraudCheck,
    Name::Pay,
    Name::Issue,
    Name::Notify,
    Name::Capture,
];

/// What every worker uses, and what its steps use beside it. The key that signs tickets is for `issue`
/// alone: no other worker should have it.
fn sections(names: &BTreeSet<Name>) -> Vec<&'static str> {
    let of_steps = names.iter().flat_map(|name| -> &[&str] {
        match name {
            Name::Reserve => &[],
            Name::FraudCheck => &["fraud"],
            Name::Pay => &["fraud", "pay"],
            Name::Issue => &["issue"],
            Name::Notify => &["mail"],
            Name::Capture => &["pay"],
            Name::All => &["fraud", "pay", "issue", "mail"],
        }
    });
    ["database", "amqp", "worker"]
        .iter()
        .chain(of_steps)
        .copied()
        .collect()
}

/// Runs the steps until it is asked to stop.
pub(crate) async fn run(file: Option<&Path>, names: &[Name]) -> Result<(), Failure> {
    let names: BTreeSet<Name> = if names.contains(&Name::All) {
        ALL.into()
    } else {
        names.iter().copied().collect()
    };
    let config = config::load(file, &sections(&names))?;
    let process = Process::start("worker", &config).await?;
    let database = config.database.named(process.role);
    let Some(ground) = Ground::open(&process, &config, &database).await? else {
        return Ok(());
    };
    let pools = Pools {
        acts: ground.pool.clone(),
        undos: undo_pool(&config, &ground)?,
    };
    let steps = names
        .iter()
        .map(|name| step(*name, &config, &ground, &pools))
        .collect::<Result<Vec<_>>>()?;
    let context = workers::Context {
        pools,
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

/// Connections that no new work can take.
fn undo_pool(config: &Config, ground: &Ground) -> Result<Pool> {
    let config = database::Config {
        pool_max: config.worker.undo_pool_max,
        ..config.database.named("worker undo")
    };
    database::pool_of(&config, &ground.life)
        .context("cannot make the pool of connections for undos")
}

fn step(name: Name, config: &Config, ground: &Ground, pools: &Pools) -> Result<Step> {
    Ok(match name {
        Name::Reserve => Step::local(Reserve),
        Name::FraudCheck => Step::local(FraudCheck::new(config.fraud.clone())),
        Name::Pay => Step::outside(
            Pay::new(
                config.pay.clone(),
                config.fraud.clone(),
                pools.clone(),
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
        Name::Capture => {
            Step::outside(Capture::new(&config.pay).context("cannot set up the step capture")?)
        }
        Name::All => anyhow::bail!("`all` is not a step"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::problems_of;

    /// Sound but for one value of each step's section; the key of `issue` is missing by default.
    const ENVIRONMENT: [(&str, &str); 4] = [
        ("GUICHET_DATABASE_URL", "postgres://u:p@h/d"),
        ("GUICHET_FRAUD_LIMIT_TOTAL", "0"),
        ("GUICHET_PAY_PROVIDER_URL", "nowhere"),
        ("GUICHET_MAIL_CONNECTIONS_MAX", "0"),
    ];

    #[test]
    fn a_worker_is_judged_by_what_its_steps_use() {
        let problems_of_steps = |steps: &[Name]| -> Vec<String> {
            let sections = sections(&steps.iter().copied().collect());
            let problems = problems_of(&sections, &ENVIRONMENT)
                .err()
                .unwrap_or_default();
            problems.lines().map(str::to_owned).collect()
        };
        let (fraud, pay, mail) = (
            "FRAUD_LIMIT_TOTAL",
            "PAY_PROVIDER_URL",
            "MAIL_CONNECTIONS_MAX",
        );
        for (steps, wrong) in [
            (&[Name::Reserve][..], &[][..]),
            (&[Name::FraudCheck], &[fraud]),
            (&[Name::Pay], &[fraud, pay]),
            (&[Name::Issue], &["signing_key"]),
            (&[Name::Notify], &[mail]),
            (&[Name::Capture], &[pay]),
            (&[Name::Reserve, Name::Notify], &[mail]),
            (&ALL, &[fraud, pay, "signing_key", mail]),
        ] {
            let told = problems_of_steps(steps);
            assert_eq!(told.len(), wrong.len(), "{steps:?}: {told:?}");
            for (problem, key) in told.iter().zip(wrong) {
                assert!(problem.contains(key), "{steps:?}: {problem}");
            }
        }
    }
}
