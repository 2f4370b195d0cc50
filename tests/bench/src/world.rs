//! Everything that is measured: a database of this run's own, and each role a process.

use std::{
    env,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, anyhow, bail};
use bus::testing::TestNamespace;
use contract::StepName;
use diesel_async::AsyncPgConnection;
use tokio::process::Command;

use crate::{
    db::Database,
    folder, noop,
    observer::Observer,
    roles::{Ports, Role, Spec, complete},
    setup::{Cast, Mail, Setup, Workers},
};

const DATABASE_URL: &str = "GUICHET_DATABASE_URL";
const AMQP_URL: &str = "GUICHET_AMQP_URL";
const QUEUE_TYPE: &str = "GUICHET_AMQP_COMMAND_QUEUE_TYPE";

/// All of it.
pub(crate) struct World {
    /// Where orders go; nobody listens there when no orders are taken.
    pub(crate) gateway: SocketAddr,
    pub(crate) roles: Vec<Role>,
    pub(crate) observer: Observer,
    pub(crate) connection: AsyncPgConnection,
    pub(crate) database: Database,
    pub(crate) setup: Setup,
    dir: PathBuf,
    // Its queues go with it.
    _namespace: TestNamespace,
}

impl World {
    /// Starts it, with a folder of its own in `dir`. What an earlier run left there is removed.
    pub(crate) async fn start(dir: &Path, setup: Setup) -> Result<Self> {
        let server = variable(DATABASE_URL)?;
        let amqp = variable(AMQP_URL)?;
        let dir = folder::make(dir).await?;
        let database = Database::create(&server).await?;
        let namespace = TestNamespace::new().with_steps(&noop::steps());
        let bus = bus_config(&namespace, &setup)?;
        let mut ports = Ports::default();
        let (gateway, provider) = (ports.take()?, ports.take()?);
        let stage = Stage {
            setup: &setup,
            dir: &dir,
            gateway,
            provider,
            mails: ports.take()?,
            common: vec![
                (DATABASE_URL.to_owned(), database.url()),
                (AMQP_URL.to_owned(), amqp),
                ("GUICHET_AMQP_NAMESPACE".to_owned(), bus.namespace.clone()),
            ],
            secret: secret(),
        };
        stage.prepare(&database).await?;
        let mut roles = Vec::new();
        for spec in stage.specs() {
            roles.push(Role::start(spec, ports.take()?, &dir)?);
        }
        for role in &mut roles {
            role.ready().await?;
        }
        let mut connection = database.connection().await?;
        let observer = Observer::start(bus, &mut connection).await?;
        Ok(Self {
            gateway,
            roles,
            observer,
            connection,
            database,
            setup,
            dir,
            _namespace: namespace,
        })
    }

    /// Asks whether each promise holds; the offending rows if not.
    ///
    /// # Errors
    /// It could not be asked, or a role died meanwhile.
    pub(crate) async fn check(&mut self) -> Result<Result<(), String>> {
        for role in &mut self.roles {
            role.runs()?;
        }
        let output = Command::new(&self.setup.side.guichet)
            .arg("check")
            .env(DATABASE_URL, self.database.url())
            .stdin(Stdio::null())
            .output()
            .await
            .context("cannot run `guichet check`")?;
        match output.status.code() {
            Some(0) => Ok(Ok(())),
            Some(1) => Ok(Err(String::from_utf8_lossy(&output.stdout).into_owned())),
            _ => bail!(
                "`guichet check` ended with {}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            ),
        }
    }

    /// Stops everything, those who take orders first, and removes the database. With `clean` what the
    /// roles wrote goes too: mails, the provider's ledger, logs.
    pub(crate) async fn stop(mut self, clean: bool) -> Result<()> {
        self.observer.stop().await;
        while let Some(role) = self.roles.pop() {
            role.stop().await?;
        }
        drop(self.connection);
        self.database.remove().await?;
        if clean {
            folder::remove(&self.dir)?;
        }
        Ok(())
    }
}

/// The bus of this process. It declares nothing of another type than the roles do.
fn bus_config(namespace: &TestNamespace, setup: &Setup) -> Result<bus::Config> {
    let set = setup.side.settings.iter().rev();
    let mut set = set.filter(|(name, _)| name == QUEUE_TYPE);
    let value = set.next().map(|(_, value)| value.clone());
    let command_queue_type = match value.or_else(|| env::var(QUEUE_TYPE).ok()) {
        Some(name) => serde_json::from_value(name.into()).context(QUEUE_TYPE)?,
        None => bus::QueueType::Classic,
    };
    Ok(bus::Config {
        node: "bench".to_owned(),
        command_queue_type,
        ..namespace.config()
    })
}

fn variable(name: &str) -> Result<String> {
    env::var(name).map_err(|_| anyhow!("{name} is not set: run ./ops/bench, which sets it"))
}

/// 32 bytes of chance in hexadecimal.
fn secret() -> String {
    let bytes: [u8; 32] = rand::random();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the processes are told.
struct Stage<'a> {
    setup: &'a Setup,
    dir: &'a Path,
    gateway: SocketAddr,
    provider: SocketAddr,
    mails: SocketAddr,
    common: Vec<(String, String)>,
    secret: String,
}

impl Stage<'_> {
    /// The schema, and what is sold.
    async fn prepare(&self, database: &Database) -> Result<()> {
        if self.setup.cast == Cast::NoOps {
            return noop::prepare(&database.url()).await;
        }
        for arguments in [&["migrate"][..], &["catalogue", "load"]] {
            complete(self.guichet(arguments, &[])).await?;
        }
        Ok(())
    }

    /// Those who are asked first come first, so that the reverse order stops those who ask first.
    fn specs(&self) -> Vec<Spec> {
        let mut specs = Vec::new();
        let selling = self.setup.cast == Cast::Selling;
        if selling {
            specs.push(self.guichet(&["psp"], &[]));
        }
        if selling && self.setup.mail == Mail::Server {
            let port = self.mails.port().to_string();
            specs.push(self.bench(&["role", "mails", &port], &[]));
        }
        specs.extend(self.workers(selling));
        for number in 1..=self.setup.orchestrators {
            let node = [("GUICHET_AMQP_NODE", format!("orchestrator-{number}"))];
            let spec = match selling {
                true => self.guichet(&["orchestrator"], &node),
                false => self.bench(&["role", "orchestrator"], &node),
            };
            let name = format!("orchestrator {number}");
            specs.push(Spec { name, ..spec });
        }
        if selling {
            specs.push(self.guichet(&["gateway"], &[]));
        }
        specs
    }

    fn workers(&self, selling: bool) -> Vec<Spec> {
        let steps = match selling {
            true => StepName::OF_AN_ORDER.to_vec(),
            false => noop::steps(),
        };
        let one = |step: &str, number: usize| {
            let spec = match selling {
                true => self.guichet(&["worker", step], &[]),
                false => self.bench(&["role", "worker", step], &[]),
            };
            let name = format!("worker {step} {number}");
            Spec { name, ..spec }
        };
        match self.setup.workers {
            Workers::AllInOne => vec![one("all", 1)],
            Workers::OfEachStep(each) => steps
                .iter()
                .flat_map(|step| (1..=each).map(move |number| (step, number)))
                .map(|(step, number)| one(step.as_str(), number))
                .collect(),
        }
    }

    fn guichet(&self, arguments: &[&str], more: &[(&str, String)]) -> Spec {
        self.spec(&self.setup.side.guichet, arguments, more)
    }

    fn bench(&self, arguments: &[&str], more: &[(&str, String)]) -> Spec {
        self.spec(&self.setup.side.bench, arguments, more)
    }

    fn spec(&self, program: &Path, arguments: &[&str], more: &[(&str, String)]) -> Spec {
        let mut env = self.common.clone();
        env.extend(self.environment());
        env.extend(
            more.iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone())),
        );
        // What the caller set goes before what is chosen here, and what a side sets before both.
        env.retain(|(name, _)| {
            env::var_os(name).is_none() || [DATABASE_URL, AMQP_URL].contains(&&**name)
        });
        env.extend(self.setup.side.settings.iter().cloned());
        Spec {
            name: arguments.join(" "),
            program: program.to_owned(),
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
            env,
        }
    }

    fn environment(&self) -> Vec<(String, String)> {
        let Self {
            gateway, provider, ..
        } = self;
        let file = |name: &str| self.dir.join(name).to_string_lossy().into_owned();
        let webhooks = match self.setup.webhooks {
            true => format!("http://{gateway}/v1/psp/webhook"),
            false => String::new(),
        };
        let webhook_secret = format!("whsec_{}", self.secret);
        let key = format!("sk_test_{}", self.secret);
        let mut pairs = vec![
            ("GATEWAY_ADDR", gateway.to_string()),
            ("GATEWAY_ORDER_TOKEN_SECRET", self.secret.clone()),
            ("GATEWAY_PSP_WEBHOOK_SECRET", webhook_secret.clone()),
            ("GATEWAY_RATE_LIMIT_EXEMPT", "127.0.0.0/8".to_owned()),
            ("FRAUD_EXEMPT_NETWORKS", "127.0.0.0/8".to_owned()),
            ("ISSUE_SIGNING_KEY", self.secret.clone()),
            ("PAY_PROVIDER_URL", format!("http://{provider}")),
            ("PAY_SECRET_KEY", key.clone()),
            ("PSP_ADDR", provider.to_string()),
            ("PSP_SECRET_KEY", key),
            ("PSP_WEBHOOK_URL", webhooks),
            ("PSP_WEBHOOK_SECRET", webhook_secret),
            ("PSP_LATENCY_MS", self.setup.provider_ms.to_string()),
            ("PSP_LEDGER_PATH", file("psp-ledger.jsonl")),
            // Half an hour of orders is more than it takes by default.
            ("PSP_LEDGER_RECORDS_MAX", u32::MAX.to_string()),
            ("MAIL_DIRECTORY", file("mail")),
        ];
        if self.setup.mail == Mail::Server {
            pairs.push(("MAIL_TRANSPORT", "smtp".to_owned()));
            pairs.push(("MAIL_SMTP_URL", format!("smtp://{}", self.mails)));
        }
        let pairs = pairs.into_iter();
        pairs
            .map(|(key, value)| (format!("GUICHET_{key}"), value))
            .collect()
    }
}

/// Says something that is no result.
pub(crate) fn say(text: &str) {
    // Standard error may be closed.
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}
