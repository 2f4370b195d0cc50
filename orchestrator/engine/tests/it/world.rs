//! A database, a namespace on the broker, orchestrators and scripted workers.

use bus::{Acker, Bus, testing::TestNamespace};
use contract::{Command, Incarnation, Outcome, Reply, SagaId, StepKind, StepName};
use database::{Pool, testing::TestDatabase};
use diesel_async::AsyncConnection;
use engine::{
    Client, Config, NewSaga, NewSignal, Parts, Told, What, definitions::Definitions, view::SagaView,
};
use runtime::health::Readiness;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What a worker answers to a command; the number counts the commands it has seen.
pub(crate) type Script = Arc<dyn Fn(&Command, usize) -> Vec<Reply> + Send + Sync>;

pub(crate) struct World {
    pub(crate) database: TestDatabase,
    pub(crate) namespace: TestNamespace,
    pub(crate) pool: Pool,
    pub(crate) client: Client,
    pub(crate) incarnation: Incarnation,
    pub(crate) seen: Arc<Mutex<Vec<Command>>>,
    definitions: Definitions,
    stop: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// An orchestrator that runs.
pub(crate) struct Running {
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<Result<(), engine::Error>>,
    pub(crate) bus: Bus,
    pub(crate) readiness: Readiness,
}

/// An orchestrator's section of the configuration: leases that end soon, and many rounds.
pub(crate) fn config() -> Config {
    Config {
        lease_ms: 2_000,
        housekeeping_ms: 200,
        ..Config::default()
    }
}

pub(crate) fn definitions() -> Definitions {
    definitions_with(|_| {})
}

/// The same with a change.
pub(crate) fn definitions_with(change: impl FnOnce(&mut saga::Definition)) -> Definitions {
    let mut order = saga::order::v1();
    for step in &mut order.steps {
        step.resend_ms = 1_000; // so that a test of resending takes no five seconds
    }
    order.version = 99;
    order.id = 99;
    change(&mut order);
    Definitions::of([order])
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(definitions()).await
    }

    pub(crate) async fn with(definitions: Definitions) -> Self {
        let database = TestDatabase::create().await;
        let mut connection = database.connection().await;
        engine::definitions::register(&mut connection, &definitions)
            .await
            .expect("registered");
        let number = database::incarnation(&mut connection)
            .await
            .expect("readable");
        let incarnation = Incarnation(number);
        let namespace = TestNamespace::new();
        let stop = CancellationToken::new();
        let bus = Bus::start(namespace.config(), incarnation, stop.clone());
        let pool = database.pool();
        let client = Client::new(&pool, bus.clone(), &definitions, 99)
            .await
            .expect("a client");
        bus.ready().await;
        Self {
            database,
            namespace,
            pool,
            client,
            incarnation,
            seen: Arc::default(),
            definitions,
            stop,
        }
    }

    /// Starts an orchestrator and waits until it is ready.
    pub(crate) async fn orchestrator(&self, node: &str) -> Running {
        let mut config = self.namespace.config();
        config.node = node.to_owned();
        self.orchestrator_on(node, config).await
    }

    pub(crate) async fn orchestrator_on(&self, node: &str, bus_config: bus::Config) -> Running {
        let running = self.begin_orchestrator(node, bus_config, config());
        eventually("the orchestrator is ready", async || {
            running.readiness.report().ready.then_some(())
        })
        .await;
        running
    }

    /// Starts one, which may never be ready.
    pub(crate) fn begin_orchestrator(
        &self,
        node: &str,
        bus_config: bus::Config,
        config: Config,
    ) -> Running {
        let stop = CancellationToken::new();
        let bus = Bus::start(bus_config, self.incarnation, self.stop.child_token());
        let readiness = Readiness::new(stop.clone());
        let database = config.pool(database::Config::new(self.database.url(), node));
        let parts = Parts {
            config,
            node: node.to_owned(),
            pool: database::pool(&database).expect("the pool's settings are sound"),
            bus: bus.clone(),
            definitions: self.definitions.clone(),
            ready: readiness.check("orchestrator"),
        };
        let task = tokio::spawn(engine::run(parts, stop.clone()));
        Running {
            stop,
            task,
            bus,
            readiness,
        }
    }

    /// Workers for every step that answer by the script.
    pub(crate) async fn workers(&self, script: Script) -> Bus {
        let both = |step: StepName| [(step.clone(), StepKind::Do), (step, StepKind::Undo)];
        let queues = StepName::OF_AN_ORDER.into_iter().flat_map(both);
        self.workers_at(queues.collect(), script).await
    }

    /// The same for some queues.
    pub(crate) async fn workers_at(
        &self,
        queues: Vec<(StepName, StepKind)>,
        script: Script,
    ) -> Bus {
        let bus = Bus::start(
            self.namespace.config(),
            self.incarnation,
            self.stop.child_token(),
        );
        let mut deliveries = bus.consume_commands(&queues, 16);
        let (answering, seen) = (bus.clone(), Arc::clone(&self.seen));
        tokio::spawn(async move {
            while let Some(delivery) = deliveries.recv().await {
                let mut replies = Vec::new();
                for command in delivery.envelopes {
                    let nth = {
                        let mut seen = seen.lock().expect("no panic holds it");
                        seen.push(command.clone());
                        seen.len()
                    };
                    let to = command.reply_to.clone();
                    replies.extend(script(&command, nth).into_iter().map(|r| (to.clone(), r)));
                }
                let _ = answering.publish_replies(replies).await;
                Acker::ack_all([delivery.acker]).await;
            }
        });
        bus.ready().await;
        bus
    }

    /// Starts sagas as a gateway does: in a transaction, then sends.
    pub(crate) async fn start(&self, count: usize) -> Vec<SagaId> {
        let ids = self.start_unsent(count).await;
        self.client.send_first(ids.1).await;
        ids.0
    }

    /// Starts sagas as a gateway that dies before it sends anything.
    pub(crate) async fn start_unsent(&self, count: usize) -> (Vec<SagaId>, engine::Started) {
        let ids: Vec<SagaId> = (0..count).map(|_| SagaId::new()).collect();
        let started = self.insert(&ids).await;
        (ids, started)
    }

    /// Starts sagas with these ids.
    pub(crate) async fn start_these(&self, ids: &[SagaId]) {
        let started = self.insert(ids).await;
        self.client.send_first(started).await;
    }

    async fn insert(&self, ids: &[SagaId]) -> engine::Started {
        let new: Vec<NewSaga> = ids
            .iter()
            .map(|id| NewSaga {
                id: *id,
                trace_id: trace_of(*id),
            })
            .collect();
        let mut connection = self.pool.get().await.expect("a connection");
        let client = self.client.clone();
        connection
            .transaction::<_, engine::Error, _>(async move |connection| {
                client.start(connection, &new).await
            })
            .await
            .expect("inserted")
    }

    pub(crate) async fn view(&self, id: SagaId) -> SagaView {
        let mut connection = self.pool.get().await.expect("a connection");
        engine::view::read(&mut connection, &self.definitions, id)
            .await
            .expect("readable")
            .expect("the saga exists")
    }

    /// Waits until the saga has ended, and shows it.
    pub(crate) async fn ended(&self, id: SagaId) -> SagaView {
        eventually("the saga ends", async || {
            let view = self.view(id).await;
            view.instance.state.is_end().then_some(view)
        })
        .await
    }

    /// How many commands of this kind the workers saw for a saga's step.
    pub(crate) fn seen(&self, saga: SagaId, step: &StepName, kind: StepKind) -> usize {
        let seen = self.seen.lock().expect("no panic holds it");
        seen.iter()
            .filter(|c| c.saga_id == saga && c.step == *step && c.kind == kind)
            .count()
    }

    /// The steps that the workers were told to undo, in that order.
    pub(crate) fn undone(&self) -> Vec<StepName> {
        let seen = self.seen.lock().expect("no panic holds it");
        let undos = seen.iter().filter(|c| c.kind == StepKind::Undo);
        undos.map(|c| c.step.clone()).collect()
    }

    /// Waits until an order's status is this.
    pub(crate) async fn until_status(&self, id: SagaId, status: &str) {
        eventually(status, async || {
            (self.view(id).await.status.name() == status).then_some(())
        })
        .await;
    }

    /// Tells a saga something, and nudges its owner; what was written.
    pub(crate) async fn tell(&self, saga: SagaId, what: What) -> Vec<Told> {
        let signal = NewSignal {
            id: Uuid::now_v7(),
            saga,
            what,
        };
        let mut connection = self.database.connection().await;
        let told = engine::signal(&mut connection, &[signal]).await;
        let told = told.expect("written");
        self.client.nudge(told.iter().copied());
        told
    }

    pub(crate) async fn every_signal_is_applied(&self) {
        eventually("every signal is applied", async || {
            let mut connection = self.database.connection().await;
            let open = diesel_async::RunQueryDsl::get_result(OpenSignals {}, &mut connection);
            (open.await == Ok(0_i64)).then_some(())
        })
        .await;
    }

    pub(crate) async fn execute(&self, sql: &str) {
        let mut connection = self.pool.get().await.expect("a connection");
        diesel_async::RunQueryDsl::execute(diesel::sql_query(sql), &mut connection)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

database::statement! {
    struct OpenSignals {} -> diesel::sql_types::BigInt =
    "SELECT count(*) FROM signals WHERE applied_at IS NULL"
}

/// The trace of the request that [`World::start`] pretends to have had.
pub(crate) fn trace_of(saga: SagaId) -> u128 {
    !saga.0.as_u128()
}

/// Polls until `ready` gives something, for at most 30 seconds.
pub(crate) async fn eventually<T>(what: &str, ready: impl AsyncFn() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(value) = ready().await {
            return value;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "not within 30 s: {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Everything succeeds.
pub(crate) fn all_done() -> Script {
    Arc::new(|command, _| vec![command.reply(Outcome::Done)])
}

/// The customer cancels.
pub(crate) fn cancels() -> What {
    What::End("customer_cancelled", None)
}

/// Payments are refused with this message, and everything else succeeds.
pub(crate) fn pay_is_refused(message: &'static str) -> Script {
    Arc::new(move |command, _| {
        let refuse = command.step == StepName::PAY && command.kind == StepKind::Do;
        let outcome = match refuse {
            true => Outcome::Rejected,
            false => Outcome::Done,
        };
        vec![command.reply(outcome).with_error("card_declined", message)]
    })
}

/// A review waits for its decision, as long as this says so, and everything else succeeds.
pub(crate) fn reviewed_while(waits: impl Fn(&Command) -> bool + Send + Sync + 'static) -> Script {
    Arc::new(move |command, _| {
        let review = command.step == StepName::FRAUD_CHECK && command.kind == StepKind::Do;
        vec![command.reply(match review && waits(command) {
            true => Outcome::Waiting,
            false => Outcome::Done,
        })]
    })
}
