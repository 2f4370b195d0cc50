//! The roles: each a process of the real binary, with a line of its own to each server it talks to.

use crate::servers::{Child, child::Spec};
use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use std::{
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::{Duration, Instant},
};
use tests::world::{
    free_port,
    tcp::{Line, TcpProxy},
};

const READY_WITHIN: Duration = Duration::from_secs(60);
/// A worker finishes what it has begun outside.
const STOP_WITHIN: Duration = Duration::from_secs(60);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What a process does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Provider,
    Worker,
    Orchestrator,
    Gateway,
}

impl Kind {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Provider => &["psp"],
            Self::Worker => &["worker", "all"],
            Self::Orchestrator => &["orchestrator"],
            Self::Gateway => &["gateway"],
        }
    }
}

/// The lines of one process.
#[derive(Default)]
pub(crate) struct Lines {
    pub(crate) database: Option<TcpProxy>,
    pub(crate) broker: Option<TcpProxy>,
    pub(crate) provider: Option<TcpProxy>,
    pub(crate) mail: Option<TcpProxy>,
    /// From the provider to a gateway.
    pub(crate) webhooks: Option<TcpProxy>,
    /// From its customers.
    pub(crate) customers: Option<TcpProxy>,
}

/// Which of a process's lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum To {
    Database,
    Broker,
    Provider,
    Mail,
    Webhooks,
    Customers,
}

impl Lines {
    /// The line, if the process has one.
    pub(crate) fn to(&self, to: To) -> Option<&TcpProxy> {
        match to {
            To::Database => self.database.as_ref(),
            To::Broker => self.broker.as_ref(),
            To::Provider => self.provider.as_ref(),
            To::Mail => self.mail.as_ref(),
            To::Webhooks => self.webhooks.as_ref(),
            To::Customers => self.customers.as_ref(),
        }
    }
}

/// A process.
pub(crate) struct Role {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) lines: Lines,
    /// What it is told; changes take effect with its next start.
    pub(crate) environment: Vec<(String, String)>,
    binary: PathBuf,
    folder: PathBuf,
    admin: u16,
    child: Option<Child>,
    /// How it ended when it was last killed or stopped by us.
    end: Option<ExitStatus>,
}

impl Role {
    pub(crate) fn new(
        name: &str,
        kind: Kind,
        lines: Lines,
        environment: Vec<(String, String)>,
        (binary, folder): (&Path, &Path),
    ) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            lines,
            environment,
            binary: binary.to_owned(),
            folder: folder.to_owned(),
            admin: free_port(),
            child: None,
            end: None,
        }
    }

    /// Starts it, with something more in its environment this time.
    pub(crate) fn start_with(&mut self, more: &[(String, String)]) -> Result<()> {
        let mut command = vec![self.binary.display().to_string()];
        command.extend(self.kind.arguments().iter().map(|one| (*one).to_owned()));
        let mut environment = self.environment.clone();
        environment.push((
            "GUICHET_ADMIN_ADDR".to_owned(),
            format!("127.0.0.1:{}", self.admin),
        ));
        environment.push(("GUICHET_AMQP_NODE".to_owned(), self.name.clone()));
        environment.extend(more.iter().cloned());
        self.child = Some(Child::start(&Spec {
            name: &self.name,
            command,
            environment,
            folder: &self.folder,
            user: None,
            log: self.folder.join(format!("{}.log", self.name)),
        })?);
        Ok(())
    }

    /// Starts it.
    pub(crate) fn start(&mut self) -> Result<()> {
        self.start_with(&[])
    }

    /// Waits until it says that it is ready.
    pub(crate) async fn ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        while !self.is_ready().await {
            if let Some(status) = self.ended() {
                bail!("{} ended by itself: {status}\n{}", self.name, self.tail());
            }
            if Instant::now() > deadline {
                bail!("{} is not ready in time\n{}", self.name, self.tail());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Whether it says so now.
    pub(crate) async fn is_ready(&self) -> bool {
        let asking = reqwest::get(self.admin_url("readyz"));
        let answer = tokio::time::timeout(ANSWER_WITHIN, asking).await;
        matches!(answer, Ok(Ok(answer)) if answer.status().is_success())
    }

    /// The sum of a counter over its labels.
    pub(crate) async fn counted(&self, name: &str) -> u64 {
        let Ok(answer) = reqwest::get(self.admin_url("metrics")).await else {
            return 0;
        };
        let text = answer.text().await.unwrap_or_default();
        let series = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        let values = series.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        values.sum::<f64>() as u64
    }

    /// Its clock, by the date of an answer, in milliseconds since 1970: whole seconds only.
    pub(crate) async fn clock_ms(&self) -> Result<i64> {
        let answer = reqwest::get(self.admin_url("readyz")).await?;
        let date = answer.headers().get("date").context("no date")?.to_str()?;
        Ok(chrono::DateTime::parse_from_rfc2822(date)?.timestamp_millis())
    }

    fn admin_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.admin)
    }

    /// How it ended, if it has and nobody wanted it to.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(Child::ended)
    }

    /// Whether it was started and not stopped or killed by us.
    pub(crate) fn is_wanted(&self) -> bool {
        self.child.is_some()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(child) = self.child.take() {
            self.end = child.kill();
        }
    }

    /// Forgets how it ended.
    pub(crate) fn forget_end(&mut self) {
        self.end = None;
    }

    /// Whether it died of `kill -9` since that was forgotten.
    pub(crate) fn was_killed(&self) -> bool {
        let signal = self.end.and_then(|end| end.signal());
        signal == Some(Signal::SIGKILL as i32)
    }

    /// Whether it ended as it was asked to since that was forgotten.
    pub(crate) fn was_stopped(&self) -> bool {
        self.end.is_some_and(|end| end.success())
    }

    /// Whether a signal holds it.
    pub(crate) fn is_asleep(&self) -> bool {
        self.child.as_ref().is_some_and(Child::is_asleep)
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            child.signal_all(signal);
        }
    }

    /// Its orderly stop.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        match self.child.take() {
            Some(child) => {
                self.end = Some(child.stop(Signal::SIGTERM, STOP_WITHIN).await?);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The end of its log.
    pub(crate) fn tail(&self) -> String {
        self.child.as_ref().map(Child::tail).unwrap_or_default()
    }

    /// What one of its lines does from now on.
    pub(crate) fn set(&self, to: To, line: Line) {
        if let Some(proxy) = self.lines.to(to) {
            proxy.set(line);
        }
    }
}
