//! A worker process: some steps, each with its two lanes.

use super::{
    LocalStep, OutsideStep,
    batch::Stopped,
    letter::{Letter, Outbox},
    local::Local,
    outside::{InFlight, Outside},
    runner::{Lane, Process, Ticket, run as run_lane},
};
use crate::{Config, Error, ledger::Ledger};
use bus::Bus;
use contract::{Incarnation, StepKind, StepName};
use database::{Clock, Pool};
use futures_util::future::{BoxFuture, FutureExt};
use std::sync::Arc;
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What every step of a process shares.
#[derive(Clone)]
pub struct Context {
    /// PostgreSQL.
    pub pools: Pools,
    /// RabbitMQ.
    pub bus: Bus,
    /// This life of the database; commands of another are dropped.
    pub incarnation: Incarnation,
    /// The database's clock.
    pub clock: Clock,
}

/// Connections to PostgreSQL, by what they are for: new work may take all of its own, and a refund still
/// finds one.
#[derive(Clone)]
pub struct Pools {
    /// For the `do` of every step.
    pub acts: Pool,
    /// For undos and probes, and for whatever gives back what was taken.
    pub undos: Pool,
}

impl Pools {
    fn of(&self, kind: StepKind) -> &Pool {
        match kind {
            StepKind::Do => &self.acts,
            StepKind::Undo | StepKind::Probe => &self.undos,
        }
    }
}

type Start =
    dyn FnOnce(&Context, &Config, &CancellationToken) -> [BoxFuture<'static, ()>; 2] + Send;

/// A step, ready to be run.
pub struct Step {
    name: StepName,
    start: Box<Start>,
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Step").field(&self.name).finish()
    }
}

impl Step {
    /// A step whose effect is in our own database.
    #[must_use]
    pub fn local(step: impl LocalStep) -> Self {
        let name = step.name();
        let start = move |context: &Context, config: &Config, stop: &CancellationToken| {
            let step = Arc::new(step);
            [StepKind::Do, StepKind::Undo].map(|kind| {
                let local = Local {
                    name: step.name(),
                    step: Arc::clone(&step),
                    pool: context.pools.of(kind).clone(),
                    incarnation: context.incarnation,
                    clock: context.clock.clone(),
                };
                let lane = lane(&local.name, kind, config);
                run_lane(lane, local, context.bus.clone(), stop.clone()).boxed()
            })
        };
        Self {
            name,
            start: Box::new(start),
        }
    }

    /// A step whose effect is outside.
    #[must_use]
    pub fn outside(step: impl OutsideStep) -> Self {
        let name = step.name();
        let start = move |context: &Context, config: &Config, stop: &CancellationToken| {
            let name = step.name();
            let step = Arc::new(step);
            [
                (StepKind::Do, config.permits),
                (StepKind::Undo, config.undo_permits),
            ]
            .map(|(kind, permits)| {
                let (pool, clock) = (context.pools.of(kind), &context.clock);
                let outside = Outside {
                    step: Arc::clone(&step),
                    name: name.clone(),
                    pool: pool.clone(),
                    incarnation: context.incarnation,
                    clock: clock.clone(),
                    ledger: Ledger::start(name.clone(), pool.clone(), clock.clone()),
                    permits: Arc::new(Semaphore::new(permits.min(step.at_once_max()))),
                    timeout: config.effect_timeout(),
                    running: TaskTracker::new(),
                    in_flight: InFlight::default(),
                };
                let lane = lane(&name, kind, config);
                run_lane(lane, outside, context.bus.clone(), stop.clone()).boxed()
            })
        };
        Self {
            name,
            start: Box::new(start),
        }
    }

    /// The step's name.
    #[must_use]
    pub fn name(&self) -> &StepName {
        &self.name
    }
}

fn lane(step: &StepName, kind: StepKind, config: &Config) -> Lane {
    Lane {
        step: step.clone(),
        kind,
        batch_max: config.batch_max,
        prefetch: config.prefetch,
    }
}

/// Runs steps until `shutdown` is cancelled: then consuming stops, what is begun is finished and
/// answered, and this returns. The bus must outlive that, so give it a token of its own, cancelled
/// afterwards (or bound it by `amqp.drain_timeout_ms`). The configuration must have no
/// [`Config::problems`].
///
/// # Errors
/// [`Error::Ended`] when a lane ends before it is asked to; the process should then be started
/// anew.
pub async fn run(
    steps: Vec<Step>,
    context: Context,
    config: Config,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    // A lane that dies takes the others down in good order.
    let stop = shutdown.child_token();
    let mut lanes = JoinSet::new();
    for step in steps {
        tracing::info!(step = %step.name, "a step is worked on");
        for lane in (step.start)(&context, &config, &stop) {
            lanes.spawn(lane);
        }
    }
    let mut failure = None;
    while let Some(ended) = lanes.join_next().await {
        if !stop.is_cancelled() {
            let why = ended.err().map(|error| error.to_string());
            let why = why.unwrap_or_else(|| "the bus delivers no more".to_owned());
            failure = Some(Error::Ended(why));
            stop.cancel();
        }
    }
    failure.map_or(Ok(()), Err)
}

impl<S: LocalStep> Process for Local<S> {
    async fn process(
        &self,
        letters: Vec<Letter<Ticket>>,
        outbox: &Outbox<Ticket>,
        stop: &CancellationToken,
    ) -> Result<(), Stopped> {
        Local::process(self, letters, outbox, stop).await
    }

    async fn finish(&self) {}
}

impl<S: OutsideStep> Process for Outside<S, Ticket> {
    async fn process(
        &self,
        letters: Vec<Letter<Ticket>>,
        outbox: &Outbox<Ticket>,
        stop: &CancellationToken,
    ) -> Result<(), Stopped> {
        Outside::process(self, letters, outbox, stop).await
    }

    async fn finish(&self) {
        self.running.close();
        self.running.wait().await;
    }
}
