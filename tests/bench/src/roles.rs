//! The processes: what each is told, and how it is started and stopped.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::connection::Connection;

const READY_WITHIN: Duration = Duration::from_secs(120);
const STOP_WITHIN: Duration = Duration::from_secs(90);
/// The pause between two questions whether a process is ready.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// Where ports are looked for: outside of the range from which outgoing connections get theirs.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// Lines of a log that a failure tells.
const LOG_LINES: usize = 15;

/// A process that is to run.
#[derive(Debug)]
pub(crate) struct Spec {
    /// Its name in messages, and of its log.
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// In this order: what comes later counts.
    pub(crate) env: Vec<(String, String)>,
}

/// A role that runs. It ends with this.
#[derive(Debug)]
pub(crate) struct Role {
    pub(crate) name: String,
    /// Where its metrics are.
    pub(crate) admin: SocketAddr,
    log: PathBuf,
    child: Child,
}

impl Role {
    /// Starts it; it is not ready yet.
    pub(crate) fn start(spec: Spec, admin: SocketAddr, logs: &Path) -> Result<Self> {
        let log = logs.join(format!("{}.log", spec.name.replace(' ', "-")));
        let file = File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
        // It must not outlive us, and it must not hear the terminal's Ctrl-C beside us.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--"])
            .arg(&spec.program)
            .args(&spec.arguments)
            .envs(spec.env)
            .env("GUICHET_ADMIN_ADDR", admin.to_string())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("no further descriptor")?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .context("cannot run setpriv (Debian package util-linux)")?;
        Ok(Self {
            name: spec.name,
            admin,
            log,
            child,
        })
    }

    /// Waits until it says that it is ready.
    pub(crate) async fn ready(&mut self) -> Result<()> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}):\n{}", self.name, self.tail());
            }
            if let Ok(mut connection) = Connection::open(self.admin).await
                && connection.text("/readyz").await.is_ok()
            {
                return Ok(());
            }
            if began.elapsed() > READY_WITHIN {
                bail!("{} is not ready in time:\n{}", self.name, self.tail());
            }
            sleep(ASK_EVERY).await;
        }
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} has ended ({status}):\n{}", self.name, self.tail()),
        }
    }

    /// Stops it in good order.
    pub(crate) async fn stop(mut self) -> Result<()> {
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            kill(Pid::from_raw(pid), Signal::SIGTERM)
                .with_context(|| format!("cannot stop {}", self.name))?;
        }
        timeout(STOP_WITHIN, self.child.wait())
            .await
            .with_context(|| format!("{} did not stop", self.name))??;
        Ok(())
    }

    fn tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

/// Runs a command of Guichet's to its end.
pub(crate) async fn complete(spec: Spec) -> Result<()> {
    let output = Command::new(&spec.program)
        .args(&spec.arguments)
        .envs(spec.env)
        .stdin(Stdio::null())
        .output()
        .await
        .with_context(|| format!("cannot run {}", spec.program.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} ended with {}: {said}", spec.name, output.status);
    }
    Ok(())
}

/// Free ports, each given out once.
#[derive(Debug, Default)]
pub(crate) struct Ports(BTreeSet<u16>);

impl Ports {
    /// One that nobody listens on.
    pub(crate) fn take(&mut self) -> Result<SocketAddr> {
        for _ in 0..PORTS.len() {
            let port = rand::random_range(PORTS);
            let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            if !self.0.contains(&port) && TcpListener::bind(addr).is_ok() {
                self.0.insert(port);
                return Ok(addr);
            }
        }
        bail!("no port is free")
    }
}
