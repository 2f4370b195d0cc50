//! The same world with the roles of the real binary as processes, which can be killed.

use super::{Judge, PATIENCE, Settings, Shop, free_port, ground, ground::Ground, tcp::TcpProxy};
use crate::provider::{Provider, WEBHOOK_SECRET};
use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

/// A role of the binary.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Name {
    /// The payment simulator.
    Psp,
    /// A worker of all steps.
    Worker,
    /// Drives the sagas.
    Orchestrator,
    /// The HTTP API.
    Gateway,
}

impl Name {
    /// All of them, in the order in which they are started.
    pub const ALL: [Self; 4] = [Self::Psp, Self::Worker, Self::Orchestrator, Self::Gateway];

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Psp => &["psp"],
            Self::Worker => &["worker", "all"],
            Self::Orchestrator => &["orchestrator"],
            Self::Gateway => &["gateway"],
        }
    }

    fn as_str(self) -> &'static str {
        self.arguments()[0]
    }
}

/// A whole Guichet as processes.
pub struct Processes {
    /// What it stands on.
    pub ground: Ground,
    /// The payment simulator, over HTTP.
    pub provider: Arc<Provider>,
    /// A customer's view.
    pub shop: Shop,
    /// The books.
    pub judge: Judge,
    ports: HashMap<Name, u16>,
    environment: BTreeMap<String, String>,
    running: BTreeMap<Name, Child>,
}

impl Processes {
    /// Starts every role and waits until all are ready.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same, with some of the configuration replaced: role, variable, value.
    pub async fn start_with(special: &[(Name, &str, String)]) -> Self {
        Self::prepare(Settings::default()).await.run(special).await
    }

    /// The same, with orders of this version.
    pub async fn start_selling(version: i16) -> Self {
        let settings = Settings {
            version,
            ..Settings::default()
        };
        Self::prepare(settings).await.run(&[]).await
    }

    /// The same, with some of the roles reaching the database through a proxy, and some of the configuration
    /// of all of them replaced: variable, value.
    pub async fn start_behind(lines: &[(Name, &TcpProxy)], of_all: &[(&str, String)]) -> Self {
        let mut processes = Self::prepare(Settings::default()).await;
        let of_all = of_all.iter();
        let of_all = of_all.map(|(key, value)| ((*key).to_owned(), value.clone()));
        processes.environment.extend(of_all);
        let url = processes.ground.database.url();
        let through =
            |(name, line): &(Name, &TcpProxy)| (*name, "GUICHET_DATABASE_URL", line.through(&url));
        let special: Vec<_> = lines.iter().map(through).collect();
        processes.run(&special).await
    }

    /// The same, with its database on another server than that of the environment.
    pub async fn start_on(server: &str) -> Self {
        let settings = Settings {
            server: Some(server.to_owned()),
            ..Settings::default()
        };
        Self::prepare(settings).await.run(&[]).await
    }

    async fn run(mut self, special: &[(Name, &str, String)]) -> Self {
        for name in Name::ALL {
            let of_role = special.iter().filter(|(role, ..)| *role == name);
            let special: Vec<_> = of_role
                .map(|(_, key, value)| (*key, value.clone()))
                .collect();
            self.spawn(name, &special);
        }
        for name in Name::ALL {
            self.ready(name).await;
        }
        self
    }

    async fn prepare(settings: Settings) -> Self {
        let (gateway, psp) = (free_port(), free_port());
        let psp_url = format!("http://127.0.0.1:{psp}");
        let ground = Ground::lay(settings, psp_url.clone()).await;
        let provider = Arc::new(Provider::at(&psp_url));
        let environment = environment(&ground, gateway, psp);
        std::fs::create_dir(ground.path("mail")).expect("the folder is writable");
        Self {
            shop: Shop::at(&format!("http://127.0.0.1:{gateway}")),
            judge: Judge::new(
                ground.database.pool(),
                Arc::clone(&provider),
                ground.definitions(),
            ),
            ports: Name::ALL.map(|name| (name, free_port())).into(),
            environment,
            running: BTreeMap::new(),
            provider,
            ground,
        }
    }

    fn spawn(&mut self, name: Name, special: &[(&str, String)]) {
        let log = self.ground.path(&format!("{}.log", name.as_str()));
        let log = File::options().create(true).append(true).open(log);
        let log = log.expect("the folder is writable");
        let child = Command::new(binary())
            .args(name.arguments())
            .env_clear()
            .envs(&self.environment)
            .env("GUICHET_ADMIN_ADDR", self.admin(name))
            .env("GUICHET_AMQP_NODE", name.as_str())
            .envs(special.iter().map(|(key, value)| (*key, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .spawn()
            .expect("the binary can be started");
        self.running.insert(name, child);
    }

    fn admin(&self, name: Name) -> String {
        format!("127.0.0.1:{}", self.ports[&name])
    }

    async fn ready(&mut self, name: Name) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self
                .readyz(name)
                .await
                .is_some_and(|answer| answer.0 == 200)
            {
                return;
            }
            let child = self.running.get_mut(&name).expect("it was started");
            let status = child.try_wait().expect("it is our child");
            assert!(status.is_none(), "{name:?} ended: {status:?}");
            assert!(Instant::now() < deadline, "{name:?} is not ready in time");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// `kill -9`: at once, without a chance to finish anything.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self, name: Name) {
        let mut child = self.running.remove(&name).expect("it runs");
        child.kill().expect("it runs");
        child.wait().expect("it is our child");
    }

    /// Starts a role that was killed, as a supervisor would, and waits until it is ready.
    pub async fn restart(&mut self, name: Name) {
        self.restart_with(name, &[]).await;
    }

    /// The same, with some of its configuration replaced: variable, value.
    pub async fn restart_with(&mut self, name: Name, special: &[(&str, String)]) {
        self.spawn(name, special);
        self.ready(name).await;
    }

    /// The same, without waiting: it may be about to die.
    pub fn launch(&mut self, name: Name, special: &[(&str, String)]) {
        self.spawn(name, special);
    }

    /// How a role has ended; `None` while it runs.
    ///
    /// # Panics
    /// When it was never started.
    pub fn ended(&mut self, name: Name) -> Option<ExitStatus> {
        let child = self.running.get_mut(&name).expect("it was started");
        child.try_wait().expect("it is our child")
    }

    /// What a role answers at `/readyz`: status and report; `None` when it does not answer.
    ///
    /// # Panics
    /// When the report is no JSON.
    pub async fn readyz(&self, name: Name) -> Option<(u16, serde_json::Value)> {
        let url = format!("http://{}/readyz", self.admin(name));
        let answer = reqwest::get(url).await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.json().await.expect("a report")))
    }

    /// What a role has counted: each series, with its labels, and its value.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn metrics(&self, name: Name) -> BTreeMap<String, f64> {
        let url = format!("http://{}/metrics", self.admin(name));
        let answer = reqwest::get(url).await.expect("an answer");
        let text = answer.text().await.expect("a text");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let pairs = lines.filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        });
        pairs.collect()
    }

    /// What a role has logged, line by line.
    ///
    /// # Panics
    /// When a whole line is not JSON.
    #[must_use]
    pub fn log(&self, name: Name) -> Vec<serde_json::Value> {
        let path = self.ground.path(&format!("{}.log", name.as_str()));
        let text = std::fs::read_to_string(path).expect("it was started");
        // The last one may still be being written.
        let whole = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        whole
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{name:?}: {line}")))
            .collect()
    }

    /// The last line that a role has written: where it failed, why.
    ///
    /// # Panics
    /// When it was never started.
    #[must_use]
    pub fn last_words(&self, name: Name) -> String {
        let path = self.ground.path(&format!("{}.log", name.as_str()));
        let text = std::fs::read_to_string(path).expect("it was started");
        text.lines().last().unwrap_or_default().to_owned()
    }

    /// Whether a role has written this, ever.
    ///
    /// # Panics
    /// When it was never started.
    #[must_use]
    pub fn has_said(&self, name: Name, text: &str) -> bool {
        let path = self.ground.path(&format!("{}.log", name.as_str()));
        let said = std::fs::read_to_string(path).expect("it was started");
        said.contains(text)
    }

    /// The mails that were sent, by the file transport: one file each.
    ///
    /// # Panics
    /// When the folder cannot be read.
    #[must_use]
    pub fn mails(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.ground.path("mail")).expect("it is there");
        let texts = files.map(|file| {
            let path = file.expect("it is there").path();
            std::fs::read_to_string(path).expect("a text")
        });
        texts.collect()
    }

    /// Waits until every order is at rest, judges, and stops every role in good order.
    ///
    /// # Panics
    /// When a promise is broken, or a role does not stop well.
    pub async fn close(mut self) {
        self.judge.verdict().await;
        for child in self.running.values() {
            let pid = i32::try_from(child.id()).expect("a process id");
            let pid = nix::unistd::Pid::from_raw(pid);
            nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).expect("it runs");
        }
        let deadline = Instant::now() + PATIENCE;
        for (name, child) in &mut self.running {
            loop {
                if let Some(status) = child.try_wait().expect("it is our child") {
                    assert!(status.success(), "{name:?}: {status}");
                    break;
                }
                assert!(Instant::now() < deadline, "{name:?} does not stop");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        self.running.clear();
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            // One that has ended already is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            for name in Name::ALL {
                let log = self.ground.path(&format!("{}.log", name.as_str()));
                let text = std::fs::read_to_string(log).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let from = lines.len().saturating_sub(30);
                eprintln!("--- {name:?} ---\n{}", lines[from..].join("\n"));
            }
        }
    }
}

/// What all roles are told.
fn environment(ground: &Ground, gateway: u16, psp: u16) -> BTreeMap<String, String> {
    let amqp = std::env::var("GUICHET_AMQP_URL").expect("the namespace has read it");
    let path = |name: &str| ground.path(name).to_string_lossy().into_owned();
    let pairs = [
        ("DATABASE_URL", ground.database.url()),
        ("AMQP_URL", amqp),
        ("AMQP_NAMESPACE", ground.namespace.config().namespace),
        ("ORCHESTRATOR_LEASE_MS", "2000".to_owned()),
        ("ORCHESTRATOR_HOUSEKEEPING_MS", "200".to_owned()),
        ("GATEWAY_ADDR", format!("127.0.0.1:{gateway}")),
        (
            "GATEWAY_ORDER_DEFINITION",
            format!("order@{}", ground.settings.version),
        ),
        ("GATEWAY_ORDER_TOKEN_SECRET", ground.token_secret.clone()),
        ("GATEWAY_RATE_LIMIT_EXEMPT", "127.0.0.0/8".to_owned()),
        ("FRAUD_EXEMPT_NETWORKS", "127.0.0.0/8".to_owned()),
        ("GATEWAY_PSP_WEBHOOK_SECRET", WEBHOOK_SECRET.to_owned()),
        (
            "PSP_WEBHOOK_URL",
            format!("http://127.0.0.1:{gateway}/v1/psp/webhook"),
        ),
        ("PSP_WEBHOOK_SECRET", WEBHOOK_SECRET.to_owned()),
        ("ISSUE_SIGNING_KEY", ground::SIGNING_KEY.to_owned()),
        ("PAY_PROVIDER_URL", ground.provider_url.clone()),
        ("MAIL_DIRECTORY", path("mail")),
        ("PSP_ADDR", format!("127.0.0.1:{psp}")),
        ("PSP_LEDGER_PATH", path("psp-ledger.jsonl")),
        ("PSP_FAULT_HOLD_MS", "2000".to_owned()),
    ];
    pairs
        .into_iter()
        .map(|(key, value)| (format!("GUICHET_{key}"), value))
        .collect()
}

/// The binary of the same build as the tests.
///
/// # Panics
/// When it is missing.
#[must_use]
pub fn binary() -> PathBuf {
    let program = std::env::current_exe().expect("this program has a file");
    let folder = program.parent().expect("in a folder");
    // A test stands in target/PROFILE/deps, a program beside the binary.
    let built = match folder.ends_with("deps") {
        true => folder.parent().expect("target/PROFILE/deps"),
        false => folder,
    };
    let binary = built.join("guichet");
    assert!(
        binary.is_file(),
        "{} is missing: run ./ops/test, or cargo build -p guichet first",
        binary.display()
    );
    binary
}
