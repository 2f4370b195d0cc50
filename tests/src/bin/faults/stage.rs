//! Everything that one run needs: private servers, the roles as processes, a mail server, and a line with
//! a fault proxy between all of them.

use crate::{
    clock,
    customers::wish::BOUNCES,
    role::{Kind, Lines, Role, To},
    servers::{Postgres, RabbitMq},
    supervisor::Supervisor,
};
use anyhow::{Context, Result, ensure};
use checker::{collect::Reader, journal};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
};
use tests::{
    smtp_sink::SmtpSink,
    world::{free_port, tcp::TcpProxy},
};
use uuid::Uuid;

/// The first part of every name on the broker.
pub(crate) const NAMESPACE: &str = "guichet";
/// Seed of the key that signs the tickets of a run that is thrown away.
const SIGNING_KEY: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
const WEBHOOK_SECRET: &str = "whsec_of_a_run_that_is_thrown_away";
const SHARED_WITHIN: std::time::Duration = std::time::Duration::from_secs(60);
/// So many of each role but the provider.
const OF_EACH: usize = 2;

/// How a stage differs from the usual one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Setting {
    /// Three nodes of RabbitMQ with quorum queues.
    pub(crate) cluster: bool,
    /// PostgreSQL has a synchronous standby.
    pub(crate) standby: bool,
    /// The servers' folders are small file systems.
    pub(crate) small_disks: bool,
    /// So many orders before their pivot are taken at most, if not as many as by default.
    pub(crate) live_max: Option<u32>,
    /// So many effects outside a worker has under way at once for each step, if not as many as by default.
    pub(crate) permits: Option<u32>,
    /// Everybody's clock can be set, but the broker's.
    pub(crate) clocks: bool,
}

impl Setting {
    /// Nothing special.
    pub(crate) const USUAL: Self = Self {
        cluster: false,
        standby: false,
        small_disks: false,
        live_max: None,
        permits: None,
        clocks: false,
    };
}

/// The stage.
pub(crate) struct Stage {
    pub(crate) setting: Setting,
    pub(crate) root: PathBuf,
    pub(crate) binary: PathBuf,
    pub(crate) postgres: Postgres,
    pub(crate) standby: Option<Postgres>,
    /// By it the standby follows.
    pub(crate) replication: TcpProxy,
    pub(crate) rabbitmq: RabbitMq,
    pub(crate) nodes: Vec<RabbitMq>,
    pub(crate) roles: Vec<Role>,
    pub(crate) mail: SmtpSink,
    /// Leads people who look and decide to the database, wherever it is.
    pub(crate) operators: TcpProxy,
    /// Where the provider sends its events if they go to this gateway.
    events_to: Vec<String>,
    /// The gateways as customers reach them.
    pub(crate) gateways: Vec<String>,
    /// The provider as the checker and payers reach it.
    pub(crate) provider: String,
    pub(crate) journal: Arc<Mutex<Vec<journal::Entry>>>,
    /// What customers were shown of their orders once everything had come to rest, in all runs on it.
    pub(crate) shown: BTreeMap<Uuid, String>,
    /// Unreadable things that were put on the broker on purpose.
    pub(crate) garbage: u64,
    /// Whether anything was ever done to it.
    pub(crate) touched: bool,
    pub(crate) supervisor: Supervisor,
}

impl Stage {
    /// Builds it and waits until every role is ready.
    pub(crate) async fn build(root: &Path, binary: &Path, setting: Setting) -> Result<Self> {
        fs::create_dir_all(root).with_context(|| format!("cannot make {}", root.display()))?;
        fs::set_permissions(root, fs::Permissions::from_mode(0o755))?;
        if setting.small_disks {
            for name in ["postgres", "rabbitmq"] {
                crate::disk::mount(&root.join(name))?;
            }
        }
        let (postgres, rabbitmq) = tokio::join!(
            Postgres::create(
                root,
                "postgres",
                clock::of(setting.clocks, root, "postgres")?
            ),
            RabbitMq::create(root, "rabbitmq")
        );
        let (mut postgres, rabbitmq) = (postgres?, rabbitmq?);
        let replication = TcpProxy::to(&postgres.url()).await;
        let standby = match setting.standby {
            true => Some(postgres.standby(root, &replication).await?),
            false => None,
        };
        let nodes = match setting.cluster {
            true => rabbitmq.join_two(root).await?,
            false => Vec::new(),
        };
        let mail = SmtpSink::start().await;
        mail.bounce(BOUNCES);
        let operators = TcpProxy::to(&postgres.url()).await;
        let mut stage = Self {
            setting,
            root: root.to_owned(),
            binary: binary.to_owned(),
            postgres,
            standby,
            replication,
            rabbitmq,
            nodes,
            roles: Vec::new(),
            mail,
            operators,
            events_to: Vec::new(),
            gateways: Vec::new(),
            provider: String::new(),
            journal: Arc::default(),
            shown: BTreeMap::new(),
            garbage: 0,
            touched: false,
            supervisor: Supervisor::default(),
        };
        stage.guichet(&["migrate"]).await?;
        stage.guichet(&["catalogue", "load"]).await?;
        stage.cast().await?;
        for role in &mut stage.roles {
            role.environment
                .extend(clock::of(setting.clocks, root, &role.name)?);
            role.start()?;
        }
        for role in &mut stage.roles {
            role.ready().await?;
        }
        stage.shared_fairly().await?;
        Ok(stage)
    }

    /// Waits until each orchestrator has its share: a shard that changes hands has its commands sent again,
    /// which is right, and not what is to be seen where nothing is wrong.
    async fn shared_fairly(&mut self) -> Result<()> {
        let deadline = std::time::Instant::now() + SHARED_WITHIN;
        loop {
            let mut shares = Vec::new();
            for role in self.of(Kind::Orchestrator) {
                shares.push(role.counted("guichet_saga_shards_owned").await);
            }
            if shares.iter().all(|share| *share == shares[0] && *share > 0) {
                return Ok(());
            }
            ensure!(
                std::time::Instant::now() < deadline,
                "the shards are not shared fairly: {shares:?}"
            );
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }

    /// Decides who is there and where, and draws the lines.
    async fn cast(&mut self) -> Result<()> {
        let psp = free_port();
        self.provider = format!("http://127.0.0.1:{psp}");
        let ports: Vec<u16> = (0..OF_EACH).map(|_| free_port()).collect();
        let gateways = ports.iter().map(|port| format!("http://127.0.0.1:{port}"));
        self.events_to = gateways.collect();
        let hooks = TcpProxy::to(&self.events_to[0]).await;
        let binary = self.binary.clone();
        let root = self.root.clone();
        let places = (binary.as_path(), root.as_path());
        let mut environment = self.common();
        environment.extend(named(&[
            ("PSP_ADDR", format!("127.0.0.1:{psp}")),
            (
                "PSP_LEDGER_PATH",
                root.join("psp-ledger.jsonl").display().to_string(),
            ),
            (
                "PSP_WEBHOOK_URL",
                hooks.through(&format!("http://127.0.0.1:{}/v1/psp/webhook", ports[0])),
            ),
            ("PSP_WEBHOOK_SECRET", WEBHOOK_SECRET.to_owned()),
            ("PSP_FAULT_HOLD_MS", "3000".to_owned()),
        ]));
        let lines = Lines {
            webhooks: Some(hooks),
            ..Lines::default()
        };
        self.roles
            .push(Role::new("psp", Kind::Provider, lines, environment, places));
        for kind in [Kind::Worker, Kind::Orchestrator, Kind::Gateway] {
            for (number, &port) in ports.iter().enumerate() {
                let broker = match number {
                    1 if !self.nodes.is_empty() => self.nodes[0].url(),
                    _ => self.rabbitmq.url(),
                };
                let database = self.postgres.url();
                let mut lines = Lines {
                    database: Some(TcpProxy::to(&database).await),
                    broker: Some(TcpProxy::to(&broker).await),
                    ..Lines::default()
                };
                let through = |proxy: &Option<TcpProxy>, url: &str| {
                    proxy
                        .as_ref()
                        .map(|proxy| proxy.through(url))
                        .unwrap_or_default()
                };
                let mut environment = self.common();
                environment.extend(named(&[
                    ("DATABASE_URL", through(&lines.database, &database)),
                    ("AMQP_URL", through(&lines.broker, &broker)),
                ]));
                let name = match kind {
                    Kind::Worker => {
                        lines.provider = Some(TcpProxy::to(&self.provider).await);
                        lines.mail = Some(TcpProxy::to(&self.mail.url()).await);
                        let mail = through(&lines.mail, &self.mail.url());
                        environment.extend(named(&[
                            (
                                "PAY_PROVIDER_URL",
                                without_slash(&through(&lines.provider, &self.provider)),
                            ),
                            // Whoever comes back from his bank's page comes to a gateway, which looks at his
                            // payment: the provider's word may never come.
                            (
                                "PAY_RETURN_URL",
                                format!("http://127.0.0.1:{}/v1/orders/{{order_id}}", ports[1]),
                            ),
                            ("MAIL_TRANSPORT", "smtp".to_owned()),
                            ("MAIL_SMTP_URL", without_slash(&mail)),
                        ]));
                        "worker"
                    }
                    Kind::Gateway => {
                        let address = format!("http://127.0.0.1:{port}");
                        let customers = TcpProxy::to(&address).await;
                        self.gateways
                            .push(without_slash(&customers.through(&address)));
                        lines.customers = Some(customers);
                        environment.extend(named(&[
                            ("GATEWAY_ADDR", format!("127.0.0.1:{port}")),
                            // Both versions run side by side.
                            ("GATEWAY_ORDER_DEFINITION", format!("order@{}", number + 1)),
                        ]));
                        "gateway"
                    }
                    Kind::Orchestrator | Kind::Provider => "orchestrator",
                };
                let name = format!("{name}-{}", number + 1);
                self.roles
                    .push(Role::new(&name, kind, lines, environment, places));
            }
        }
        Ok(())
    }

    /// What every role is told.
    fn common(&self) -> Vec<(String, String)> {
        let queues = if self.setting.cluster {
            "quorum"
        } else {
            "classic"
        };
        let told = [
            ("AMQP_NAMESPACE", NAMESPACE.to_owned()),
            ("AMQP_COMMAND_QUEUE_TYPE", queues.to_owned()),
            (
                "GATEWAY_ORDER_TOKEN_SECRET",
                "a secret of a run that is thrown away".to_owned(),
            ),
            ("GATEWAY_RATE_LIMIT_EXEMPT", "127.0.0.0/8".to_owned()),
            ("GATEWAY_PSP_WEBHOOK_SECRET", WEBHOOK_SECRET.to_owned()),
            ("FRAUD_EXEMPT_NETWORKS", "127.0.0.0/8".to_owned()),
            ("ISSUE_SIGNING_KEY", SIGNING_KEY.to_owned()),
        ];
        let most = self
            .setting
            .live_max
            .map(|most| ("GATEWAY_LIVE_SAGAS_MAX", most.to_string()));
        let permits = self.setting.permits;
        let permits = permits.map(|permits| ("WORKER_PERMITS", permits.to_string()));
        named(
            &told
                .into_iter()
                .chain(most)
                .chain(permits)
                .collect::<Vec<_>>(),
        )
    }

    /// Runs an operator's command, which reaches the servers directly; answers what it printed.
    pub(crate) async fn guichet(&self, arguments: &[&str]) -> Result<String> {
        let urls = named(&[
            ("DATABASE_URL", self.database_url()),
            ("AMQP_URL", self.rabbitmq.url()),
        ]);
        guichet(&self.binary, &self.root, &urls, arguments).await
    }

    /// The database as it is now.
    pub(crate) fn database_url(&self) -> String {
        self.postgres.url()
    }

    /// The database as people reach it, wherever it will be.
    pub(crate) fn operators_url(&self) -> String {
        self.operators.through(&self.database_url())
    }

    /// The checker's own connection.
    pub(crate) async fn reader(&self) -> Result<Reader> {
        Ok(Reader::connect(&self.database_url()).await?)
    }

    /// The processes of a kind.
    pub(crate) fn of(&mut self, kind: Kind) -> impl Iterator<Item = &mut Role> {
        self.roles.iter_mut().filter(move |role| role.kind == kind)
    }

    /// Sets somebody's clock ahead of the true time by so many seconds, or behind it.
    pub(crate) fn set_clock(&self, name: &str, seconds: i64) -> Result<()> {
        clock::set(&self.root, name, seconds)
    }

    /// What a role's clock says, in milliseconds since 1970.
    pub(crate) async fn clock_of(&self, name: &str) -> Result<i64> {
        let role = self.roles.iter().find(|role| role.name == name);
        role.context("there is such a role")?.clock_ms().await
    }

    /// From now on the provider tells this gateway what happens.
    pub(crate) fn tell(&self, gateway: usize) -> Result<()> {
        let mut lines = self.roles.iter();
        let line = lines.find_map(|role| role.lines.to(To::Webhooks));
        let line = line.context("the provider has a line for its events")?;
        line.lead_to(
            self.events_to
                .get(gateway)
                .context("there is that gateway")?,
        );
        // Connections are kept open.
        line.cut();
        Ok(())
    }

    /// The sum of a counter over all roles.
    pub(crate) async fn counted(&self, name: &str) -> u64 {
        let mut sum = 0;
        for role in &self.roles {
            sum += role.counted(name).await;
        }
        sum
    }

    /// Whether every process says that it is ready.
    pub(crate) async fn is_ready(&self) -> bool {
        let asking = self.roles.iter().map(Role::is_ready);
        futures_util::future::join_all(asking)
            .await
            .into_iter()
            .all(|ready| ready)
    }

    /// Stops everything and removes what it wrote, unless that is to be looked at.
    pub(crate) async fn close(mut self, keep: bool) -> Result<()> {
        for role in &mut self.roles {
            role.kill();
        }
        for node in self.nodes.iter_mut().chain([&mut self.rabbitmq]) {
            node.kill();
        }
        for server in self.standby.iter_mut().chain([&mut self.postgres]) {
            server.kill();
        }
        if self.setting.small_disks {
            for name in ["postgres", "rabbitmq"] {
                crate::disk::unmount(&self.root.join(name));
            }
        }
        if !keep {
            fs::remove_dir_all(&self.root).context("cannot remove what the run wrote")?;
        }
        Ok(())
    }
}

/// Runs a command of the binary.
pub(crate) async fn guichet(
    binary: &Path,
    folder: &Path,
    environment: &[(String, String)],
    arguments: &[&str],
) -> Result<String> {
    let output = tokio::process::Command::new(binary)
        .args(arguments)
        .env_clear()
        .envs(environment.iter().map(|(key, value)| (key, value)))
        .current_dir(folder)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("cannot run {}", binary.display()))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "guichet {arguments:?}: {said}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Variables of Guichet.
pub(crate) fn named(pairs: &[(&str, String)]) -> Vec<(String, String)> {
    let pairs = pairs.iter();
    pairs
        .map(|(key, value)| (format!("GUICHET_{key}"), value.clone()))
        .collect()
}

fn without_slash(url: &str) -> String {
    url.trim_end_matches('/').to_owned()
}
