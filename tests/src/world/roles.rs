//! The roles as tasks of the test's own process, each with a bus and connections of its own.

use super::{ground::Ground, until};
use crate::provider::WEBHOOK_SECRET;
use bus::Bus;
use contract::StepName;
use database::{Clock, Pool};
use engine::{Client, Parts};
use gateway::App;
use runtime::health::Readiness;
use std::{future::Future, time::Duration};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use workers::{
    Pools, Step, capture::Capture, fraud_check::FraudCheck, issue::Issue, notify::Notify, pay::Pay,
    reserve::Reserve,
};

/// How long an orderly stop may take.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// A role that runs. Dropped, it stops as well, but nobody waits for it.
#[derive(Debug)]
pub struct Role {
    stop: CancellationToken,
    bus: Bus,
    bus_stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Role {
    fn start(
        bus: Bus,
        bus_stop: CancellationToken,
        run: impl FnOnce(CancellationToken) -> BoxedRun,
    ) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(stop.clone()));
        Self {
            stop,
            bus,
            bus_stop,
            task,
        }
    }

    /// Stops it in good order.
    ///
    /// # Panics
    /// When it does not stop, or died.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(STOP_WITHIN, &mut self.task).await;
        ended
            .expect("the role stops in time")
            .expect("the role does not panic");
        self.bus_stop.cancel();
        let stopped = tokio::time::timeout(STOP_WITHIN, self.bus.stopped()).await;
        stopped.expect("the bus stops in time");
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        self.stop.cancel();
        self.bus_stop.cancel();
    }
}

type BoxedRun = futures_util::future::BoxFuture<'static, ()>;

fn boxed(run: impl Future<Output = ()> + Send + 'static) -> BoxedRun {
    Box::pin(run)
}

fn bus(ground: &Ground, node: &str) -> (Bus, CancellationToken) {
    let mut config = ground.namespace.config();
    node.clone_into(&mut config.node);
    let stop = CancellationToken::new();
    let bus = Bus::start(config, ground.incarnation, stop.clone());
    (bus, stop)
}

/// A gateway that listens there, and whose orders run by the version of the world's settings.
///
/// # Panics
/// When it cannot be started.
pub async fn gateway(ground: &Ground, pool: Pool, listener: TcpListener) -> Role {
    gateway_by(ground, pool, listener, ground.settings.version).await
}

/// The same, by this version.
///
/// # Panics
/// When it cannot be started.
pub async fn gateway_by(ground: &Ground, pool: Pool, listener: TcpListener, version: i16) -> Role {
    let (bus, bus_stop) = bus(ground, "gateway");
    let definitions = ground.definitions();
    let client = Client::new(&pool, bus.clone(), &definitions, version).await;
    let client = client.expect("the definitions are there");
    let config = gateway::Config {
        order_token_secret: ground.token_secret.clone().into(),
        psp_webhook_secret: WEBHOOK_SECRET.into(),
        rate_limit_exempt: vec!["127.0.0.0/8".parse().expect("a network")],
        access_log: false,
        ..gateway::Config::default()
    };
    let role = Role::start(bus.clone(), bus_stop, |stop| {
        let app = App::new(config, pool, client, definitions, stop.clone());
        boxed(gateway::run(app, listener, stop))
    });
    bus.ready().await;
    role
}

/// An orchestrator that owns its shards.
///
/// # Panics
/// When it is not ready in time.
pub async fn orchestrator(ground: &Ground, node: &str) -> Role {
    let (bus, bus_stop) = bus(ground, node);
    let stop = CancellationToken::new();
    let readiness = Readiness::new(stop);
    let config = engine::Config {
        lease_ms: 2_000,
        housekeeping_ms: 200,
        ..engine::Config::default()
    };
    let database = config.pool(database::Config::new(ground.database.url(), node));
    let parts = Parts {
        config,
        node: node.to_owned(),
        pool: database::pool(&database).expect("the pool's settings are sound"),
        bus: bus.clone(),
        definitions: ground.definitions(),
        ready: readiness.check("orchestrator"),
    };
    let role = Role::start(bus, bus_stop, |stop| {
        boxed(async move {
            engine::run(parts, stop)
                .await
                .expect("the orchestrator runs");
        })
    });
    until("the orchestrator is ready", async || {
        readiness.report().ready.then_some(())
    })
    .await;
    role
}

/// A worker of these steps.
///
/// # Panics
/// When it cannot be started.
pub async fn worker(ground: &Ground, steps: &[StepName]) -> Role {
    let pools = Pools {
        acts: ground.database.pool(),
        undos: ground.database.pool(),
    };
    worker_with(ground, steps, pools).await
}

/// The same, with these connections.
///
/// # Panics
/// When it cannot be started.
pub async fn worker_with(ground: &Ground, steps: &[StepName], pools: Pools) -> Role {
    let (bus, bus_stop) = bus(ground, "worker");
    let clock = Clock::new(chrono::Utc::now().timestamp_millis());
    let steps = steps
        .iter()
        .map(|name| step(name, ground, &pools, &clock))
        .collect();
    let context = workers::Context {
        pools,
        bus: bus.clone(),
        incarnation: ground.incarnation,
        clock,
    };
    let config = ground.settings.worker.clone();
    let role = Role::start(bus.clone(), bus_stop, |stop| {
        boxed(async move {
            let ran = workers::run(steps, context, config, stop).await;
            ran.expect("the worker runs");
        })
    });
    bus.ready().await;
    role
}

fn step(name: &StepName, ground: &Ground, pools: &Pools, clock: &Clock) -> Step {
    let (pay, mail) = (ground.pay_config(), ground.mail_config());
    let fraud = ground.fraud_config();
    match name.as_str() {
        "reserve" => Step::local(Reserve),
        "fraud-check" => Step::local(FraudCheck::new(fraud)),
        "pay" => {
            let pay = Pay::new(pay, fraud, pools.clone(), clock.clone());
            Step::outside(pay.expect("a sound configuration"))
        }
        "issue" => Step::local(Issue::new(ground.signatory())),
        "capture" => Step::outside(Capture::new(&pay).expect("a sound configuration")),
        "notify" => Step::outside(Notify::new(&mail).expect("a sound configuration")),
        other => panic!("there is no step {other}"),
    }
}
