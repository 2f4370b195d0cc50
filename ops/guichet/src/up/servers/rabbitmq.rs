//! A private RabbitMQ.
//!
//! A node of its own beside any other on the machine: its own AMQP port, its own port for Erlang's
//! distribution, and its own port mapper (`epmd`), all on the loopback address. `epmd` is a child of
//! ours in the foreground; left to itself the node would start one as a daemon that outlives it. No
//! plugins, and readiness is asked over AMQP: `rabbitmqctl` starts a whole Erlang system per call.

use std::{
    ffi::OsString,
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::Signal;

use crate::up::{
    home::{Home, random_secret},
    narrator::Narrator,
    place::Place,
    probe::Probe,
    process::Spec,
};

/// Where the package puts its releases. The wrapper in `/usr/sbin` is not used: it changes to the
/// package's own folders and user.
const DEBIAN: &str = "/usr/lib/rabbitmq/lib";
const USER: &str = "guichet";
const NODE: &str = "guichet@localhost";
/// The first start on a busy machine of two cores takes 15 s.
const READY_WITHIN: Duration = Duration::from_secs(180);
const STOP_WITHIN: Duration = Duration::from_secs(60);
/// The same of its port mapper, which has next to nothing to do.
const EPMD_READY_WITHIN: Duration = Duration::from_secs(20);
const EPMD_STOP_WITHIN: Duration = Duration::from_secs(5);

/// A node whose folders exist.
pub(crate) struct Server {
    place: Place,
    program: PathBuf,
    password: String,
}

/// The three ports of a node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) amqp: u16,
    pub(crate) dist: u16,
    pub(crate) epmd: u16,
}

/// How to start it and reach it.
pub(crate) struct Configured {
    pub(crate) epmd: Spec,
    pub(crate) spec: Spec,
    pub(crate) addr: SocketAddr,
    pub(crate) url: String,
}

impl Server {
    /// Makes the folders if there are none, and sees to it that we know the password.
    pub(crate) async fn prepare(home: &Home, narrator: Narrator) -> Result<Self> {
        let program = newest(Path::new(DEBIAN))?;
        let place = Place::prepare(home, "rabbitmq", "rabbitmq", narrator)?;
        let (password, known) = home.secret("amqp_password", random_secret)?;
        let data = place.dir.join("mnesia");
        if !known && data.exists() {
            // The node takes its user from the configuration only when its data is new. It holds
            // nothing that the database cannot rebuild.
            narrator.say(
                "rabbitmq",
                "its password is gone, so it starts with new data",
            );
            fs::remove_dir_all(&data)
                .with_context(|| format!("cannot remove {}", data.display()))?;
        }
        for part in ["mnesia", "log", "generated"] {
            place.make(part)?;
        }
        cookie(&place)?;
        Ok(Self {
            place,
            program,
            password,
        })
    }

    /// Writes the configuration for `ports`.
    pub(crate) fn configure(&self, ports: Ports) -> Result<Configured> {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.amqp));
        let config = self
            .place
            .write("rabbitmq.conf", &settings(addr, &self.password))?;
        let plugins = self.place.write("enabled_plugins", "[].\n")?;
        let spec = Spec {
            name: "rabbitmq".into(),
            command: vec![self.program.clone().into()],
            dir: self.place.dir.clone(),
            env: self.environment(ports, config, plugins),
            inherit_env: false,
            user: self.place.user.clone(),
            stop: Signal::SIGTERM,
            stop_within: STOP_WITHIN,
            ready: Probe::Amqp(addr),
            ready_within: READY_WITHIN,
        };
        let epmd = Spec {
            name: "epmd".into(),
            command: vec!["epmd".into(), "-port".into(), ports.epmd.to_string().into()],
            env: vec![
                ("PATH".into(), PATH.into()),
                ("ERL_EPMD_ADDRESS".into(), "127.0.0.1".into()),
            ],
            ready: Probe::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, ports.epmd))),
            ready_within: EPMD_READY_WITHIN,
            stop_within: EPMD_STOP_WITHIN,
            ..spec.clone()
        };
        let url = format!("amqp://{USER}:{}@{addr}/%2f", self.password);
        Ok(Configured {
            epmd,
            spec,
            addr,
            url,
        })
    }

    fn environment(
        &self,
        ports: Ports,
        config: PathBuf,
        plugins: PathBuf,
    ) -> Vec<(String, OsString)> {
        let inside = |name: &str| self.place.dir.join(name).into_os_string();
        let pairs: [(&str, OsString); 18] = [
            ("PATH", PATH.into()),
            ("LANG", "C.UTF-8".into()),
            // Here it looks for its cookie.
            ("HOME", self.place.dir.clone().into()),
            // Makes the script become the node instead of staying as its parent, so that the process
            // we start, watch and stop is the node itself.
            ("RUNNING_UNDER_SYSTEMD", "true".into()),
            ("RABBITMQ_NODENAME", NODE.into()),
            ("RABBITMQ_NODE_PORT", ports.amqp.to_string().into()),
            ("RABBITMQ_DIST_PORT", ports.dist.to_string().into()),
            ("ERL_EPMD_PORT", ports.epmd.to_string().into()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".into()),
            ("RABBITMQ_MNESIA_BASE", inside("mnesia")),
            ("RABBITMQ_LOG_BASE", inside("log")),
            ("RABBITMQ_GENERATED_CONFIG_DIR", inside("generated")),
            ("RABBITMQ_PID_FILE", inside("pid")),
            ("RABBITMQ_CONFIG_FILE", config.into()),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", inside("advanced.config")),
            // The machine's own /etc/rabbitmq/rabbitmq-env.conf must not redirect us.
            ("RABBITMQ_CONF_ENV_FILE", "/dev/null".into()),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", plugins.into()),
            (
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false".into(),
            ),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }
}

const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// `rabbitmq.conf`, rewritten at every start.
fn settings(addr: SocketAddr, password: &str) -> String {
    format!(
        "# Written at every start by `guichet up`; changes are lost.

# our machine only
listeners.tcp.local = {addr}

# made when the node starts on new data
default_user = {USER}
default_pass = {password}

# the database and the roles live here too
vm_memory_high_watermark.relative = 0.2
# below this publishers are blocked while there is still room for the database's log
disk_free_limit.absolute = 256MB

# our supervisor keeps the log
log.file = false
log.console = true
log.console.use_colors = off
log.console.level = info
# one line for each connection that opens or closes helps nobody
log.connection.level = warning
"
    )
}

/// Erlang wants the cookie readable by its owner only.
fn cookie(place: &Place) -> Result<()> {
    let path = place.dir.join(".erlang.cookie");
    if path.exists() {
        return Ok(());
    }
    // Written under another name and renamed, so that a kill leaves no empty cookie.
    let path = place.write(".erlang.cookie", &random_secret())?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400))
        .with_context(|| format!("cannot protect {}", path.display()))
}

/// The start script of the newest release.
fn newest(installed: &Path) -> Result<PathBuf> {
    let mut found: Vec<(Vec<u32>, PathBuf)> = fs::read_dir(installed)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let version = name.strip_prefix("rabbitmq_server-")?;
            let numbers = version.split('.').filter_map(|part| part.parse().ok());
            Some((numbers.collect(), entry.path().join("sbin/rabbitmq-server")))
        })
        .filter(|(_, script)| script.exists())
        .collect();
    found.sort();
    found.pop().map(|(_, script)| script).ok_or_else(|| {
        anyhow!(
            "RabbitMQ is not installed (nothing in {}): install the Debian package `rabbitmq-server`",
            installed.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;

    #[test]
    fn the_newest_release_is_taken_by_number() {
        let temp = TempDir::new();
        for version in ["3.9.1", "3.10.8", "3.10.25"] {
            let sbin = temp.path().join(format!("rabbitmq_server-{version}/sbin"));
            fs::create_dir_all(&sbin).expect("made");
            fs::write(sbin.join("rabbitmq-server"), "").expect("written");
        }
        let script = newest(temp.path()).expect("some");
        assert!(script.starts_with(temp.path().join("rabbitmq_server-3.10.25")));
    }

    #[test]
    fn a_machine_without_it_is_told_what_to_install() {
        let text = newest(Path::new("/nonexistent"))
            .expect_err("nothing there")
            .to_string();
        assert!(text.contains("Debian package `rabbitmq-server`"), "{text}");
    }
}
