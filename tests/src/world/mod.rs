//! Everything that sells a ticket, around one test: a database, a namespace on the broker, a payment
//! simulator, a mail server, and every role.
//!
//! [`World`] runs the roles as tasks of the test's process: quick to start, and any part can be left
//! out. [`Processes`] runs those of the real binary, which can be killed.

pub mod broker;
pub mod catalogue;
pub mod crashes;
pub mod evidence;
pub mod ground;
pub mod judge;
pub mod processes;
pub mod roles;
pub mod shop;
pub mod tap;
pub mod tcp;

pub use ground::{Ground, Settings};
pub use judge::{Judge, Stands};
pub use processes::Processes;
pub use shop::{Placed, Shop, Wish};

use crate::provider::Provider;
use contract::StepName;
use roles::Role;
use std::{
    process::Command,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::net::TcpListener;

/// How long anything may take that should happen soon.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Asks until there is an answer.
///
/// # Panics
/// When there is none within [`PATIENCE`].
pub async fn until<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A free port to listen on, and its address.
///
/// # Panics
/// When there is none.
pub async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    (listener, url)
}

/// A port that nobody listens on, outside of the range that outgoing connections take theirs from. Of the
/// tests in one program no two get the same: whoever gets one listens on it only later.
#[must_use]
pub fn free_port() -> u16 {
    const PORTS: std::ops::Range<u16> = 20_000..32_000;
    static GIVEN: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(rand::random()));
    loop {
        let given = GIVEN.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + given % (PORTS.end - PORTS.start);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A whole Guichet in this process.
pub struct World {
    /// What it stands on.
    pub ground: Ground,
    /// The payment simulator.
    pub provider: Arc<Provider>,
    /// A customer's view.
    pub shop: Shop,
    /// The books.
    pub judge: Judge,
    roles: Vec<Role>,
}

impl World {
    /// What an operator types, and what he is told: the real command, on this database.
    ///
    /// # Panics
    /// When the binary is missing.
    pub async fn types(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = std::process::Command::new(processes::binary());
        command
            .args(arguments)
            .env("GUICHET_DATABASE_URL", self.ground.database.url());
        let typed = tokio::task::spawn_blocking(move || command.output());
        typed
            .await
            .expect("nobody stops it")
            .expect("the binary runs")
    }

    /// All of it.
    pub async fn start() -> Self {
        Self::with(Settings::default()).await
    }

    /// All of it, with settings of its own.
    pub async fn with(settings: Settings) -> Self {
        let mut world = Self::without_workers(settings).await;
        world.work_on(&StepName::OF_AN_ORDER).await;
        world
    }

    /// All but the workers.
    pub async fn without_workers(settings: Settings) -> Self {
        let mut world = Self::closed(settings).await;
        let orchestrator = roles::orchestrator(&world.ground, "orchestrator").await;
        world.roles.push(orchestrator);
        world
    }

    /// A gateway, and nobody behind it.
    pub async fn closed(settings: Settings) -> Self {
        let (listener, url) = listener().await;
        let provider = Arc::new(Provider::telling(&url).await);
        let ground = Ground::lay(settings, provider.url().to_owned()).await;
        let pool = ground.database.pool();
        let gateway = roles::gateway(&ground, pool.clone(), listener).await;
        Self {
            shop: Shop::at(&url),
            judge: Judge::new(pool, Arc::clone(&provider), ground.definitions()),
            roles: vec![gateway],
            provider,
            ground,
        }
    }

    /// Adds a gateway whose orders run by another version: a customer's view of it.
    pub async fn sell_by(&mut self, version: i16) -> Shop {
        let (listener, url) = listener().await;
        let pool = self.ground.database.pool();
        let gateway = roles::gateway_by(&self.ground, pool, listener, version).await;
        self.roles.push(gateway);
        Shop::at(&url)
    }

    /// Adds a worker of these steps.
    pub async fn work_on(&mut self, steps: &[StepName]) {
        let worker = roles::worker(&self.ground, steps).await;
        self.roles.push(worker);
    }

    /// The same, with these connections to the database.
    pub async fn work_with(&mut self, steps: &[StepName], pools: workers::Pools) {
        let worker = roles::worker_with(&self.ground, steps, pools).await;
        self.roles.push(worker);
    }

    /// Adds an orchestrator.
    pub async fn orchestrate(&mut self) {
        let orchestrator = roles::orchestrator(&self.ground, "orchestrator").await;
        self.roles.push(orchestrator);
    }

    /// Runs a command of the operator's, of the real binary, on this database: its exit code, and what it
    /// writes.
    ///
    /// # Panics
    /// When the binary cannot be run.
    pub async fn operator(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(processes::binary());
        command
            .args(arguments)
            .env("GUICHET_DATABASE_URL", self.ground.database.url());
        // Not on this thread, on which the roles run that the command waits for.
        let run = tokio::task::spawn_blocking(move || command.output());
        let output = run.await.expect("no panic").expect("the binary runs");
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            said += &String::from_utf8_lossy(&output.stderr);
        }
        (output.status.code(), said)
    }

    /// Stops the role that was added last, in good order.
    ///
    /// # Panics
    /// When it does not stop.
    pub async fn retire(&mut self) {
        let role = self.roles.pop().expect("the gateway is there");
        role.stop().await;
    }

    /// Waits until every order is at rest, judges, and stops everything in good order.
    ///
    /// # Panics
    /// When a promise is broken, or a role does not stop.
    pub async fn close(mut self) {
        self.judge.verdict().await;
        for role in self.roles.drain(..) {
            role.stop().await;
        }
    }
}
