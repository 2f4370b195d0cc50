//! Sagas of five steps that do nothing, and the processes that run them.
//!
//! The engine takes its definitions, and the worker kit its steps, from whoever starts them: `guichet` gives
//! them those of an order, this program those below, in processes of its own (`bench role orchestrator`,
//! `bench role worker all`). So the product has no way in that only a benchmark would use, and no definition
//! that nobody orders by; what runs is its engine, its bus, its kit and its ledger, with its defaults and
//! the same settings.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result, bail};
use bus::Bus;
use chrono::{DateTime, Utc};
use contract::{Incarnation, StepName};
use database::{Clock, Connection, Pool};
use engine::{Parts, definitions::Definitions};
use runtime::{
    Secret, admin,
    config::{self, Sections},
    health::Readiness,
    shutdown, telemetry,
};
use saga::{Class, Definition, ProbeMode, RetryPolicy, StepDefinition};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use workers::{
    Error, Step,
    kit::{Claim, LocalStep, Verdict},
};

use crate::mails;

/// The number of the definition in its database.
pub(crate) const DEFINITION: i16 = 1;
const STEPS: u8 = 5;
const DEADLINE_MS: u32 = 600_000;
const CLOSING: Duration = Duration::from_secs(10);
/// What of the environment concerns these processes: the rest is of roles that are not played here.
const SECTIONS: [&str; 6] = ["LOG", "ADMIN", "DATABASE", "AMQP", "ORCHESTRATOR", "WORKER"];

/// The names of the steps.
pub(crate) fn steps() -> Vec<StepName> {
    let names = (1..=STEPS).map(|number| format!("noop-{number}").parse());
    names.map(|name| name.expect("a step's name")).collect()
}

/// The only definition of that database.
pub(crate) fn definitions() -> Definitions {
    let policy = |budget_ms| RetryPolicy {
        initial_ms: 100,
        max_ms: 5_000,
        max_attempts: None,
        budget_ms: Some(budget_ms),
    };
    let step = |(number, name): (u8, StepName)| StepDefinition {
        number,
        name,
        class: match number + 1 {
            STEPS => Class::Pivot,
            _ => Class::Compensatable,
        },
        // As the steps of an order whose effect is in our own database.
        probe_mode: ProbeMode::Redo,
        do_policy: policy(30_000),
        probe_policy: policy(30_000),
        undo_policy: policy(DEADLINE_MS),
        resend_ms: 5_000,
        ttl_ms: 30_000,
        waiting: None,
        attention_after: None,
        input: None,
    };
    let definition = Definition {
        id: DEFINITION,
        name: "noop".to_owned(),
        version: 1,
        deadline_ms: DEADLINE_MS,
        steps: (0..).zip(steps()).map(step).collect(),
    };
    Definitions::of([definition.checked().expect("the test below checks it")])
}

/// Migrates an empty database, and writes the definition.
pub(crate) async fn prepare(url: &str) -> Result<()> {
    let config = database::Config::new(url, "bench");
    database::migrate(&config).await?;
    let mut connection = database::connect(&config).await?;
    engine::definitions::register(&mut connection, &definitions()).await?;
    database::incarnation(&mut connection).await?;
    Ok(())
}

/// A step whose effect is that it is recorded.
struct NoOp(StepName);

impl LocalStep for NoOp {
    fn name(&self) -> StepName {
        self.0.clone()
    }

    async fn act(
        &self,
        _: &mut Connection,
        claims: &[Claim],
        _: DateTime<Utc>,
    ) -> Result<Vec<Verdict>, Error> {
        Ok(vec![Verdict::done(); claims.len()])
    }

    async fn undo(
        &self,
        _: &mut Connection,
        claims: &[Claim],
        _: DateTime<Utc>,
    ) -> Result<Vec<Verdict>, Error> {
        Ok(vec![Verdict::done(); claims.len()])
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    log: telemetry::Config,
    admin: admin::Config,
    database: DatabaseSection,
    amqp: bus::Config,
    orchestrator: engine::Config,
    worker: workers::Config,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct DatabaseSection {
    url: Secret,
    pool_max: usize,
    statement_timeout_ms: u64,
    wait_timeout_ms: u64,
}

impl Default for DatabaseSection {
    fn default() -> Self {
        let ours = database::Config::new("", "");
        Self {
            url: Secret::default(),
            pool_max: ours.pool_max,
            statement_timeout_ms: ours.statement_timeout_ms,
            wait_timeout_ms: ours.wait_timeout_ms,
        }
    }
}

impl Sections for Config {
    fn problems(&self) -> Vec<(&'static str, Vec<String>)> {
        vec![
            ("amqp", self.amqp.problems()),
            ("orchestrator", self.orchestrator.problems()),
            ("worker", self.worker.problems()),
        ]
    }
}

/// `bench role …`: plays it until it is asked to stop.
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let played = runtime.context("no runtime").and_then(|runtime| {
        runtime.block_on(async {
            match words.as_slice() {
                ["mails", port] => mails::serve(port.parse()?).await,
                ["orchestrator"] => orchestrator().await,
                ["worker", step] => worker(step).await,
                _ => bail!("there is no role {words:?}"),
            }
        })
    });
    match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::world::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn orchestrator() -> Result<()> {
    let ground = Ground::open("orchestrator").await?;
    let parts = Parts {
        node: ground.config.amqp.node.clone(),
        config: ground.config.orchestrator.clone(),
        pool: ground.pool.clone(),
        bus: ground.bus.clone(),
        definitions: definitions(),
        ready: ground.readiness.check("orchestrator"),
    };
    engine::run(parts, ground.stop.clone()).await?;
    ground.close().await
}

async fn worker(step: &str) -> Result<()> {
    let ground = Ground::open("worker").await?;
    let ours = steps().into_iter();
    let ours = ours.filter(|name| step == "all" || name.as_str() == step);
    let ours = ours.map(|name| Step::local(NoOp(name))).collect();
    let context = workers::Context {
        // Nothing here is undone.
        pools: workers::Pools {
            acts: ground.pool.clone(),
            undos: ground.pool.clone(),
        },
        bus: ground.bus.clone(),
        incarnation: ground.bus.incarnation(),
        clock: Clock::new(Utc::now().timestamp_millis()),
    };
    let (config, stop) = (ground.config.worker.clone(), ground.stop.clone());
    let check = ground.readiness.check("bus");
    let mut state = ground.bus.state();
    tokio::spawn(async move {
        if state.wait_for(|state| state.connected).await.is_ok() {
            check.ready();
        }
    });
    workers::run(ours, context, config, stop).await?;
    ground.close().await
}

/// What both stand on.
struct Ground {
    config: Config,
    pool: Pool,
    bus: Bus,
    readiness: Readiness,
    stop: CancellationToken,
    bus_stop: CancellationToken,
}

impl Ground {
    async fn open(role: &'static str) -> Result<Self> {
        let ours = |name: &String| {
            let section = name.strip_prefix("GUICHET_").unwrap_or_default();
            SECTIONS.iter().any(|ours| section.starts_with(ours))
        };
        let env = config::environment().filter(|(name, _)| ours(name));
        let config: Config = config::load(None, env, &[], |_| true)?;
        telemetry::init(role, &config.log)?;
        let stop = shutdown::signal();
        let readiness = Readiness::new(stop.clone());
        let ended = CancellationToken::new();
        admin::serve(config.admin.addr, role, readiness.clone(), ended).await?;
        let section = &config.database;
        let database = database::Config {
            pool_max: section.pool_max,
            statement_timeout_ms: section.statement_timeout_ms,
            wait_timeout_ms: section.wait_timeout_ms,
            ..database::Config::new(section.url.expose(), format!("guichet {role}"))
        };
        let pool = database::pool(&database)?;
        let mut connection = pool.get().await.context("cannot reach the database")?;
        let incarnation = Incarnation(database::incarnation(&mut connection).await?);
        drop(connection);
        let bus_stop = CancellationToken::new();
        let bus = Bus::start(config.amqp.clone(), incarnation, bus_stop.clone());
        Ok(Self {
            config,
            pool,
            bus,
            readiness,
            stop,
            bus_stop,
        })
    }

    async fn close(self) -> Result<()> {
        self.bus_stop.cancel();
        tokio::time::timeout(CLOSING, self.bus.stopped())
            .await
            .context("the bus did not close in time")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound_and_ends_with_its_pivot() {
        let definitions = definitions();
        let noop = definitions.get(DEFINITION).expect("it is there");
        assert_eq!(noop.steps.len(), 5);
        let last = noop.steps.last().expect("five");
        assert_eq!((last.class, last.name.as_str()), (Class::Pivot, "noop-5"));
    }
}
