//! The roles: long-running processes that share one way to start, show themselves and stop.

pub(crate) mod gateway;
mod ground;
pub(crate) mod orchestrator;
pub(crate) mod psp;
pub(crate) mod worker;

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, anyhow};
use runtime::{admin, health::Readiness, shutdown, supervise::Tasks, telemetry};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Config;

/// How long a role may take to finish what it has begun.
const DRAIN: Duration = Duration::from_secs(15);

/// What a role is built on.
pub(crate) struct Process {
    /// The role's name.
    pub(crate) role: &'static str,
    /// Trips when the process is asked to stop, or a task of it is gone.
    pub(crate) shutdown: CancellationToken,
    /// The long-lived tasks.
    pub(crate) tasks: Tasks,
    /// Whether it can do its work.
    pub(crate) readiness: Readiness,
    ended: CancellationToken,
}

impl Process {
    /// Begins to log, listens for signals and opens the admin listener.
    pub(crate) async fn start(role: &'static str, config: &Config) -> Result<Self> {
        telemetry::init(role, &config.log).context("cannot log")?;
        let shutdown = shutdown::signal();
        let readiness = Readiness::new(shutdown.clone());
        let ended = CancellationToken::new();
        let addr = config.admin.addr;
        admin::serve(addr, role, readiness.clone(), ended.clone())
            .await
            .with_context(|| format!("cannot listen on admin.addr {addr}"))?;
        Ok(Self {
            role,
            tasks: Tasks::new(shutdown.clone()),
            shutdown,
            readiness,
            ended,
        })
    }

    /// Waits for the end: until a stop is asked for and then at most `drain` longer.
    pub(crate) async fn finish(self, drain: Duration) -> Result<()> {
        let result = self.tasks.finish(drain).await;
        self.ended.cancel();
        result.map_err(|failure| anyhow!(failure))
    }
}

/// Listens where the key called `key` says.
pub(crate) async fn listen(key: &str, addr: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(addr)
        .await
        .with_context(|| format!("cannot listen on {key} {addr}"))
}
