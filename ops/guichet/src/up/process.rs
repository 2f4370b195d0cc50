//! One child process: started so that it cannot outlive us, stopped in an orderly way.
//!
//! The scenarios this is about:
//! - **Ctrl-C.** The terminal sends SIGINT to the whole foreground process group. If the children
//!   were in it, broker and database would go down together with the roles that still need them. So
//!   each child leads a process group of its own, and only we hear the terminal.
//! - **We are killed with SIGKILL.** Nobody is left to stop anybody. `setpriv --pdeathsig` asks the
//!   kernel to send the child its stop signal when its parent dies, which holds for servers that know
//!   nothing of us. (The system call itself would need `unsafe`.) The kernel takes "parent" to be the
//!   *thread* that forked, so `up` runs on the main thread alone.
//! - **The machine lost power, or that signal came in the instant before it was armed.** Each child
//!   is written to `run/` with its start time, so the next run recognises what is still alive
//!   ([`super::leftover`]).

use std::{
    ffi::OsString,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::{Pid, User},
};
use tokio::{
    process::{Child, Command},
    task::JoinHandle,
    time::timeout,
};

use super::{
    home::Home,
    leftover::Record,
    log::{self, Tail},
    probe::Probe,
};

/// How long the last lines of a process that has ended are waited for: a grandchild may hold the pipe
/// open.
const LAST_WORDS_WITHIN: Duration = Duration::from_millis(500);

/// What to run and how to treat it.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    /// Its name in messages and in the names of its files.
    pub(crate) name: String,
    /// Program and arguments.
    pub(crate) command: Vec<OsString>,
    /// The working directory.
    pub(crate) dir: PathBuf,
    /// Variables set for it.
    pub(crate) env: Vec<(String, OsString)>,
    /// Whether it also sees our own environment. Servers do not: a stray `PGDATA` or `RABBITMQ_…`
    /// would redirect them.
    pub(crate) inherit_env: bool,
    /// The user to run as; none for ourselves.
    pub(crate) user: Option<User>,
    /// The signal that asks it to stop in order.
    pub(crate) stop: Signal,
    /// How long it may take to stop before it is killed.
    pub(crate) stop_within: Duration,
    /// How to see that it works.
    pub(crate) ready: Probe,
    /// How long it may take until it works for the first time.
    pub(crate) ready_within: Duration,
}

/// The arguments of `setpriv` that make a process run as `user`, unable to gain rights.
pub(crate) fn as_user(user: &User) -> [String; 6] {
    [
        "--reuid".into(),
        user.uid.to_string(),
        "--regid".into(),
        user.gid.to_string(),
        "--clear-groups".into(),
        "--no-new-privs".into(),
    ]
}

/// A command that receives `stop` when we die.
pub(crate) fn bound_to_us(user: Option<&User>, stop: Signal, command: &[OsString]) -> Command {
    let mut setpriv = Command::new("setpriv");
    if let Some(user) = user {
        setpriv.args(as_user(user));
    }
    let signal = stop.as_str();
    setpriv.args(["--pdeathsig", signal.strip_prefix("SIG").unwrap_or(signal)]);
    setpriv.arg("--").args(command);
    setpriv
}

/// A running child.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pid: Pid,
    pump: JoinHandle<()>,
    record: PathBuf,
    /// The last lines it wrote.
    pub(crate) tail: Tail,
}

impl Process {
    /// Starts what `spec` says.
    pub(crate) fn spawn(spec: &Spec, files: &Files) -> Result<Self> {
        let (writer, reader) = log::pipe().context("cannot make a pipe")?;
        let mut command = bound_to_us(spec.user.as_ref(), spec.stop, &spec.command);
        if !spec.inherit_env {
            command.env_clear();
        }
        command
            .envs(spec.env.iter().map(|(k, v)| (k, v)))
            .current_dir(&spec.dir)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(writer.try_clone().context("cannot copy a pipe")?)
            .stderr(writer)
            .kill_on_drop(true);
        let child = command
            .spawn()
            .context("cannot run setpriv (Debian package util-linux)")?;
        // The command keeps the write end of the pipe until it is dropped.
        drop(command);
        let pid = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .map(Pid::from_raw)
            .ok_or_else(|| anyhow!("the process ended before it had begun"))?;
        let record = files.record(&spec.name);
        Record::of(pid, spec.stop).save(&record)?;
        let tail = Tail::default();
        let pump = tokio::spawn(log::pump(reader, files.log(&spec.name), tail.clone()));
        Ok(Self {
            child,
            pid,
            pump,
            record,
            tail,
        })
    }

    /// The process id.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits until it ends, however that comes. May be dropped and called again.
    pub(crate) async fn ended(&mut self) -> Result<ExitStatus> {
        let status = self.child.wait().await.context("cannot wait for it")?;
        let _ = timeout(LAST_WORDS_WITHIN, &mut self.pump).await;
        let _ = std::fs::remove_file(&self.record);
        Ok(status)
    }

    /// Asks it to stop, and kills its whole group if it has not within `spec.stop_within`.
    /// Returns whether it had to be killed.
    pub(crate) async fn stop(&mut self, spec: &Spec) -> Result<bool> {
        // It may have ended by itself in the meantime, which is what we want.
        let _ = kill(self.pid, spec.stop);
        if let Ok(ended) = timeout(spec.stop_within, self.ended()).await {
            ended?;
            return Ok(false);
        }
        let _ = killpg(self.pid, Signal::SIGKILL);
        self.ended().await?;
        Ok(true)
    }
}

/// Where the files of supervised processes are.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    dir: PathBuf,
}

impl Files {
    /// Those of `home`.
    pub(crate) fn of(home: &Home) -> Self {
        Self {
            dir: home.dir().to_owned(),
        }
    }

    /// The log of the process `name`.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.dir.join("log").join(format!("{name}.log"))
    }

    fn record(&self, name: &str) -> PathBuf {
        self.dir.join("run").join(name)
    }
}
