//! A process that ends with us, with its log, to which every signal can be sent.

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User},
};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child as Process, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// What is started.
pub(crate) struct Spec<'a> {
    pub(crate) name: &'a str,
    pub(crate) command: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) folder: &'a Path,
    pub(crate) user: Option<&'a User>,
    pub(crate) log: PathBuf,
}

/// A running process.
#[derive(Debug)]
pub(crate) struct Child {
    name: String,
    process: Process,
    log: PathBuf,
}

/// A command that ends with us, run as somebody.
pub(crate) fn command(user: Option<&User>, command: &[String]) -> Command {
    let mut setpriv = Command::new("setpriv");
    if let Some(user) = user {
        setpriv.args([
            "--reuid",
            &user.uid.to_string(),
            "--regid",
            &user.gid.to_string(),
        ]);
        setpriv.args(["--clear-groups", "--no-new-privs"]);
    }
    setpriv.args(["--pdeathsig", "KILL", "--"]).args(command);
    setpriv
}

impl Child {
    /// Starts it.
    pub(crate) fn start(spec: &Spec<'_>) -> Result<Self> {
        let log = File::options().create(true).append(true).open(&spec.log);
        let log = log.with_context(|| format!("cannot write {}", spec.log.display()))?;
        let process = command(spec.user, &spec.command)
            .env_clear()
            .envs(spec.environment.iter().map(|(key, value)| (key, value)))
            .current_dir(spec.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot run setpriv (Debian package util-linux)")?;
        Ok(Self {
            name: spec.name.to_owned(),
            process,
            log: spec.log.clone(),
        })
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.process.id()).unwrap_or(i32::MAX)
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.pid()), signal)
            .with_context(|| format!("cannot send {signal} to {}", self.name))
    }

    /// Sends a signal to it and to all that it has started.
    pub(crate) fn signal_all(&self, signal: Signal) {
        let mut all = vec![self.pid()];
        let parents = parents();
        let mut at = 0;
        while let Some(parent) = all.get(at).copied() {
            all.extend(
                parents
                    .iter()
                    .filter(|(_, of)| *of == parent)
                    .map(|(pid, _)| *pid),
            );
            at += 1;
        }
        for pid in all {
            // It may have ended since.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// `kill -9` of it and all that it has started; how it ended.
    pub(crate) fn kill(mut self) -> Option<ExitStatus> {
        self.signal_all(Signal::SIGKILL);
        self.process.wait().ok()
    }

    /// Whether it was stopped by a signal and has not gone on since.
    pub(crate) fn is_asleep(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
        state.is_some_and(|state| state.starts_with('T'))
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().ok().flatten()
    }

    /// Asks it to stop and waits until it has; how it ended.
    pub(crate) async fn stop(mut self, signal: Signal, within: Duration) -> Result<ExitStatus> {
        self.signal(signal)?;
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            if Instant::now() > deadline {
                let name = self.name.clone();
                self.kill();
                bail!("{name} did not stop within {within:?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The end of its log.
    pub(crate) fn tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.signal_all(Signal::SIGKILL);
            let _ = self.process.wait();
        }
    }
}

/// Each process with its parent.
fn parents() -> Vec<(i32, i32)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let parent = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, rest) = stat.rsplit_once(')')?;
        let parent = rest.split_whitespace().nth(1)?.parse().ok()?;
        Some((pid, parent))
    };
    entries
        .filter_map(|entry| parent(entry.file_name().to_str()?.parse().ok()?))
        .collect()
}
