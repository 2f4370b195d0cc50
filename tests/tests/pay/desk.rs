//! A worker of `pay` with everything around it: a database, a simulator, orders.

use contract::{Outcome, Reply, StepKind, StepName};
use database::testing::TestDatabase;
use diesel::sql_types::{BigInt, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use runtime::Secret;
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tests::{
    eventually::eventually,
    orders::Order,
    provider::{Balance, Provider},
};
use workers::{
    Pools,
    capture::Capture,
    fraud_check,
    kit::testing::{OutsideBench, clock, command},
    pay::{self, Pay},
};

/// How long a worker waits for the provider; well below the simulator's own holding of 3 s.
const TIMEOUT_MS: u64 = 300;

/// How long an order may take to an end.
const PATIENCE: Duration = Duration::from_secs(30);

/// The faults of a request, with and without effect.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    RateLimit,
    ServerError,
    ServerErrorAfter,
    TimeoutBefore,
    TimeoutAfter,
    ResetAfter,
    TooSlow,
}

/// All of them.
pub(crate) const FAULTS: [Fault; 7] = [
    Fault::RateLimit,
    Fault::ServerError,
    Fault::ServerErrorAfter,
    Fault::TimeoutBefore,
    Fault::TimeoutAfter,
    Fault::ResetAfter,
    Fault::TooSlow,
];

impl Fault {
    /// As a plan names it.
    pub(crate) fn json(self) -> Value {
        match self {
            Self::RateLimit => json!("429"),
            Self::ServerError => json!("500"),
            Self::ServerErrorAfter => json!("500_after"),
            Self::TimeoutBefore => json!("timeout_before"),
            Self::TimeoutAfter => json!("timeout_after"),
            Self::ResetAfter => json!("reset_after"),
            Self::TooSlow => json!({ "slow": { "ms": TIMEOUT_MS + 200 } }),
        }
    }
}

/// A worker, and what it works with.
pub(crate) struct Desk {
    pub(crate) provider: Arc<Provider>,
    database: Arc<TestDatabase>,
    pub(crate) pool: database::Pool,
    worker: OutsideBench<Pay>,
    capturer: OutsideBench<Capture>,
}

impl Desk {
    pub(crate) async fn open() -> Self {
        Self::open_faulty(0.0).await
    }

    /// With this share of requests meeting a fault.
    pub(crate) async fn open_faulty(rate: f64) -> Self {
        let database = Arc::new(TestDatabase::create().await);
        let provider = Arc::new(Provider::start(rate).await);
        let pool = database.pool();
        let config = config(provider.url(), "sk_test_guichet", TIMEOUT_MS);
        Self {
            provider,
            database,
            worker: worker(config.clone(), &pool),
            capturer: capturer(&config, &pool),
            pool,
        }
    }

    /// Another process, with connections of its own.
    pub(crate) fn another_worker(&self) -> Self {
        self.worker_with(self.provider.url(), "sk_test_guichet")
    }

    /// The same at another provider or with another key.
    pub(crate) fn worker_with(&self, url: &str, key: &str) -> Self {
        self.worker_of(url, key, TIMEOUT_MS)
    }

    /// Another process that waits 5 s for the provider.
    pub(crate) fn patient_worker(&self) -> Self {
        self.worker_of(self.provider.url(), "sk_test_guichet", 5_000)
    }

    fn worker_of(&self, url: &str, key: &str, timeout_ms: u64) -> Self {
        let (pool, config) = (self.database.pool(), config(url, key, timeout_ms));
        Self {
            provider: Arc::clone(&self.provider),
            database: Arc::clone(&self.database),
            worker: worker(config.clone(), &pool),
            capturer: capturer(&config, &pool),
            pool,
        }
    }

    /// A new order of one ticket at 125 €.
    pub(crate) async fn order(&self, payment_method: &str) -> Order {
        let order = Order::new(payment_method);
        order.insert(&self.pool).await;
        order
    }

    /// One command.
    pub(crate) async fn ask(&self, order: &Order, kind: StepKind) -> Reply {
        self.worker
            .one(command(&StepName::PAY, order.id, kind))
            .await
    }

    /// One command of `pay` under `order@2`: an authorisation is enough.
    pub(crate) async fn ask_to_authorise(&self, order: &Order, kind: StepKind) -> Reply {
        let mut asked = command(&StepName::PAY, order.id, kind);
        asked.input = Some(json!({ "capture_method": "manual" }));
        self.worker.one(asked).await
    }

    /// One command of `capture`.
    pub(crate) async fn ask_to_capture(&self, order: &Order, kind: StepKind) -> Reply {
        let asked = command(&StepName::CAPTURE, order.id, kind);
        self.capturer.one(asked).await
    }

    /// The same command many times in one batch: sent again and again.
    pub(crate) async fn ask_often(
        &self,
        order: &Order,
        kind: StepKind,
        times: usize,
    ) -> Vec<Reply> {
        let once = command(&StepName::PAY, order.id, kind);
        let replies = self.worker.process(vec![once; times]).await;
        replies.into_iter().flatten().collect()
    }

    /// As the saga does: `retry` is tried again after a pause, `unknown` is probed.
    pub(crate) async fn until_definite(&self, order: &Order) -> Reply {
        let mut kind = StepKind::Do;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let reply = self.ask(order, kind).await;
            kind = match reply.outcome {
                Outcome::Done | Outcome::Rejected | Outcome::Waiting => return reply,
                Outcome::Unknown if kind == StepKind::Do => StepKind::Probe,
                Outcome::Retry | Outcome::Unknown => StepKind::Do,
            };
            backoff(deadline, &reply).await;
        }
    }

    /// Undoes, again and again until it is done or refused.
    pub(crate) async fn undo(&self, order: &Order) -> Reply {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let reply = self.ask(order, StepKind::Undo).await;
            if matches!(reply.outcome, Outcome::Done | Outcome::Rejected) {
                return reply;
            }
            backoff(deadline, &reply).await;
        }
    }

    /// What the simulator's ledger says.
    pub(crate) async fn balance(&self, order: &Order) -> Balance {
        self.provider.balance(order.id.0).await
    }

    /// After an undo, a late `do` and a late probe find a refusal.
    pub(crate) async fn assert_fenced(&self, order: &Order) {
        for kind in [StepKind::Do, StepKind::Probe] {
            let reply = self.ask(order, kind).await;
            assert_eq!(reply.outcome, Outcome::Rejected, "{kind:?}: {reply:?}");
        }
        assert_eq!(self.ask(order, StepKind::Undo).await.outcome, Outcome::Done);
    }

    /// Waits until whatever was slow or without an answer has had its effect at the simulator.
    pub(crate) async fn settle_down(&self, order: &Order) {
        for operation in ["create", "confirm"] {
            for generation in 0..pay::stripe::GENERATIONS_MAX {
                let key = format!("{}/pay/{operation}/{generation}", order.id);
                let idle = async || !self.provider.in_flight(&key).await;
                eventually("the simulator is through with the request", idle).await;
            }
        }
    }

    /// The intent that the worker's ledger knows.
    pub(crate) async fn outside_id(&self, order: &Order) -> Option<String> {
        #[derive(diesel::QueryableByName)]
        struct Row {
            #[diesel(sql_type = Nullable<Text>)]
            outside_id: Option<String>,
        }
        let mut connection = self.pool.get().await.expect("a connection");
        let row: Row =
            diesel::sql_query("SELECT outside_id FROM effects WHERE saga_id = $1 AND step = 'pay'")
                .bind::<SqlUuid, _>(order.id.0)
                .get_result(&mut *connection)
                .await
                .expect("a row of the ledger");
        row.outside_id
    }

    /// Has a twin store an intent in the worker's ledger, if nobody has.
    pub(crate) async fn twin_stores(&self, order: &Order, intent: &str) {
        let mut connection = self.pool.get().await.expect("a connection");
        diesel::sql_query(
            "UPDATE effects SET outside_id = $2
             WHERE saga_id = $1 AND step = 'pay' AND state = 1 AND outside_id IS NULL",
        )
        .bind::<SqlUuid, _>(order.id.0)
        .bind::<Text, _>(intent)
        .execute(&mut *connection)
        .await
        .expect("the ledger can be written");
    }

    /// The ledger knows the payment by this id.
    pub(crate) async fn knows(&self, order: &Order, intent: &str) {
        let mut connection = self.pool.get().await.expect("a connection");
        diesel::sql_query("UPDATE effects SET outside_id = $2 WHERE saga_id = $1 AND step = 'pay'")
            .bind::<SqlUuid, _>(order.id.0)
            .bind::<Text, _>(intent)
            .execute(&mut *connection)
            .await
            .expect("the ledger can be written");
    }

    /// Tickets taken by all cards.
    pub(crate) async fn taken(&self) -> i64 {
        #[derive(diesel::QueryableByName)]
        struct Row {
            #[diesel(sql_type = BigInt)]
            taken: i64,
        }
        let mut connection = self.pool.get().await.expect("a connection");
        let row: Row = diesel::sql_query(
            "SELECT coalesce(sum(taken), 0)::bigint AS taken FROM quotas WHERE kind = 'fingerprint'",
        )
        .get_result(&mut *connection)
        .await
        .expect("the counters can be read");
        row.taken
    }
}

/// The pause of a retry policy, shorter than any in production.
async fn backoff(deadline: Instant, last: &Reply) {
    assert!(Instant::now() < deadline, "no end; at last {last:?}");
    tokio::time::sleep(Duration::from_millis(20)).await;
}

fn config(url: &str, key: &str, timeout_ms: u64) -> pay::Config {
    pay::Config {
        provider_url: url.to_owned(),
        secret_key: Secret::new(key),
        timeout_ms,
        ..pay::Config::default()
    }
}

fn capturer(config: &pay::Config, pool: &database::Pool) -> OutsideBench<Capture> {
    let step = Capture::new(config).expect("a sound configuration");
    OutsideBench::new(step, pool.clone(), 64)
}

fn worker(config: pay::Config, pool: &database::Pool) -> OutsideBench<Pay> {
    let mut fraud = fraud_check::Config::default();
    // The limit of tickets is to be met here, not that of orders in a window.
    fraud.rules.velocity_fingerprint.weight = 0;
    let pools = Pools {
        acts: pool.clone(),
        undos: pool.clone(),
    };
    let step = Pay::new(config, fraud, pools, clock()).expect("a sound configuration");
    OutsideBench::new(step, pool.clone(), 64)
}
