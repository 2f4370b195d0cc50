//! A private RabbitMQ: one node, or several that are joined.

use super::{Child, child::Spec, folder, user_of, write};
use ::tests::world::{
    broker::{Node, script},
    free_port,
};
use anyhow::{Context, Result, bail};
use lapin::{Connection, ConnectionProperties};
use nix::{sys::signal::Signal, unistd::User};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// On a busy machine a start takes 20 s.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// So long a server may be without its port and not end.
const DEAF: Duration = Duration::from_secs(3);
const STOP_WITHIN: Duration = Duration::from_secs(60);

/// A node.
pub(crate) struct RabbitMq {
    name: String,
    dir: PathBuf,
    amqp: u16,
    dist: u16,
    epmd: u16,
    password: String,
    user: Option<User>,
    child: Option<Child>,
    /// Whether it has listened since its start, and since when it does no more.
    listened: bool,
    deaf_since: Option<Instant>,
    /// The port mapper, of the first node.
    _mapper: Option<Child>,
}

impl RabbitMq {
    /// Makes a node and starts it.
    pub(crate) async fn create(root: &Path, name: &str) -> Result<Self> {
        let epmd = free_port();
        let mut node = Self::new(root, name, epmd, uuid::Uuid::now_v7().simple().to_string())?;
        let mapper = vec!["epmd".to_owned(), "-port".to_owned(), epmd.to_string()];
        node._mapper = Some(Child::start(&Spec {
            name: "epmd",
            command: mapper,
            environment: vec![
                ("PATH".to_owned(), PATH.to_owned()),
                ("ERL_EPMD_ADDRESS".to_owned(), "127.0.0.1".to_owned()),
            ],
            folder: &node.dir,
            user: node.user.as_ref(),
            log: node.dir.join("epmd.log"),
        })?);
        node.start().await?;
        Ok(node)
    }

    fn new(root: &Path, name: &str, epmd: u16, password: String) -> Result<Self> {
        let user = user_of("rabbitmq")?;
        let dir = root.join(name);
        folder(&dir, user.as_ref())?;
        for part in ["mnesia", "log", "generated"] {
            folder(&dir.join(part), user.as_ref())?;
        }
        let node = Self {
            name: name.to_owned(),
            dir,
            amqp: free_port(),
            dist: free_port(),
            epmd,
            password,
            user,
            child: None,
            listened: false,
            deaf_since: None,
            _mapper: None,
        };
        let settings = format!(
            "listeners.tcp.local = 127.0.0.1:{}\ndefault_user = guichet\ndefault_pass = {}\n\
             vm_memory_high_watermark.relative = 0.2\ndisk_free_limit.absolute = 16MB\n\
             cluster_partition_handling = pause_minority\nlog.file = false\nlog.console = true\n\
             log.console.level = warning\n",
            node.amqp, node.password
        );
        let user = node.user.as_ref();
        write(&node.dir.join("rabbitmq.conf"), &settings, user)?;
        write(&node.dir.join("enabled_plugins"), "[].\n", user)?;
        let cookie = node.dir.join(".erlang.cookie");
        write(&cookie, &node.password, user)?;
        fs::set_permissions(&cookie, fs::Permissions::from_mode(0o400))?;
        Ok(node)
    }

    /// Two more nodes, joined to this one.
    pub(crate) async fn join_two(&self, root: &Path) -> Result<Vec<Self>> {
        let mut nodes = Vec::new();
        for name in ["rabbitmq-2", "rabbitmq-3"] {
            let mut node = Self::new(root, name, self.epmd, self.password.clone())?;
            node.start().await?;
            node.tool().ctl(&["stop_app"]).await?;
            node.tool().ctl(&["join_cluster", &self.node()]).await?;
            node.tool().ctl(&["start_app"]).await?;
            nodes.push(node);
        }
        Ok(nodes)
    }

    fn node(&self) -> String {
        format!("{}@localhost", self.name)
    }

    /// Where clients find it.
    pub(crate) fn url(&self) -> String {
        format!(
            "amqp://guichet:{}@127.0.0.1:{}/%2f",
            self.password, self.amqp
        )
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join("mnesia")
    }

    fn begin(&self) -> Result<Child> {
        Child::start(&Spec {
            name: &self.name,
            command: vec![script("rabbitmq-server")?],
            environment: self.environment(),
            folder: &self.dir,
            user: self.user.as_ref(),
            log: self.dir.join("console.log"),
        })
    }

    /// Starts it and waits until it lets clients in.
    pub(crate) async fn start(&mut self) -> Result<()> {
        let mut child = self.begin()?;
        let deadline = Instant::now() + READY_WITHIN;
        while self.connect().await.is_err() {
            if child.ended().is_some() || Instant::now() > deadline {
                bail!("{} is not ready:\n{}", self.name, child.tail());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.child = Some(child);
        (self.listened, self.deaf_since) = (true, None);
        Ok(())
    }

    /// A connection of our own.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        let url = self.url();
        let connecting = Connection::connect(&url, ConnectionProperties::default());
        Ok(tokio::time::timeout(Duration::from_secs(5), connecting).await??)
    }

    /// Its orderly stop.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        match self.child.take() {
            Some(child) => child.stop(Signal::SIGTERM, STOP_WITHIN).await.map(drop),
            None => Ok(()),
        }
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(child) = self.child.take() {
            child.kill();
        }
    }

    /// Sends a signal to it and each of its processes.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            child.signal_all(signal);
        }
    }

    /// Whether a signal holds it.
    pub(crate) fn is_asleep(&self) -> bool {
        self.child.as_ref().is_some_and(Child::is_asleep)
    }

    /// Starts it again if it has ended by itself, without waiting for it; whether it had. One that has let go of
    /// its port and does not end is ended: it may write down for minutes why it cannot go on.
    pub(crate) fn start_if_ended(&mut self) -> Result<bool> {
        if !self.is_listening() && self.listened {
            let since = *self.deaf_since.get_or_insert_with(Instant::now);
            if since.elapsed() > DEAF
                && let Some(child) = &self.child
            {
                child.signal_all(Signal::SIGKILL);
            }
        } else {
            self.listened |= self.is_listening();
            self.deaf_since = None;
        }
        let ended = self.has_ended();
        if ended {
            self.child = Some(self.begin()?);
            (self.listened, self.deaf_since) = (false, None);
        }
        Ok(ended)
    }

    fn is_listening(&self) -> bool {
        let address = (std::net::Ipv4Addr::LOCALHOST, self.amqp);
        std::net::TcpStream::connect(address).is_ok()
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        let child = self.child.as_mut();
        child.is_some_and(|child| child.ended().is_some())
    }

    /// Whether nobody answers on its port any more.
    pub(crate) async fn refuses(&self) -> bool {
        let address = ("127.0.0.1", self.amqp);
        tokio::net::TcpStream::connect(address).await.is_err()
    }

    /// Deletes all that it has stored, and says how many files that were. It must not run.
    pub(crate) fn delete_data(&self) -> Result<usize> {
        let files = files(&self.data());
        fs::remove_dir_all(self.data()).context("cannot delete the broker's data")?;
        folder(&self.data(), self.user.as_ref())?;
        Ok(files)
    }

    /// Asks it by its own command-line tool.
    pub(crate) fn tool(&self) -> Node {
        let user = self.user.as_ref();
        let user = user.map(|user| (user.uid.as_raw(), user.gid.as_raw()));
        Node::new(&self.node(), self.environment(), &self.dir, user)
    }

    fn environment(&self) -> Vec<(String, String)> {
        let inside = |name: &str| self.dir.join(name).display().to_string();
        let pairs = [
            ("PATH", PATH.to_owned()),
            ("LANG", "C.UTF-8".to_owned()),
            ("HOME", self.dir.display().to_string()),
            // The script becomes the node instead of staying as its parent.
            ("RUNNING_UNDER_SYSTEMD", "true".to_owned()),
            ("RABBITMQ_NODENAME", self.node()),
            ("RABBITMQ_NODE_PORT", self.amqp.to_string()),
            ("RABBITMQ_DIST_PORT", self.dist.to_string()),
            ("ERL_EPMD_PORT", self.epmd.to_string()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
            ("RABBITMQ_MNESIA_BASE", inside("mnesia")),
            ("RABBITMQ_LOG_BASE", inside("log")),
            ("RABBITMQ_GENERATED_CONFIG_DIR", inside("generated")),
            ("RABBITMQ_PID_FILE", inside("pid")),
            ("RABBITMQ_CONFIG_FILE", inside("rabbitmq.conf")),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", inside("advanced.config")),
            ("RABBITMQ_CONF_ENV_FILE", "/dev/null".to_owned()),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", inside("enabled_plugins")),
            (
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false".to_owned(),
            ),
        ];
        pairs.map(|(key, value)| (key.to_owned(), value)).to_vec()
    }
}

/// How many files are below a folder.
fn files(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let count = entries.map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => files(&entry.path()),
        _ => 1,
    });
    count.sum()
}
