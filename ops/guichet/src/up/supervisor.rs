//! Keeps processes running, and stops them in reverse order.
//!
//! Each process has a keeper: a task that owns it, starts it again when it dies
//! ([`super::restart`] decides) and stops it when told to. A process is known here before its start
//! has succeeded, so that a Ctrl-C in the middle of a start finds and stops it like any other.

use std::time::Instant;

use anyhow::{Result, anyhow, bail};
use futures_util::future::try_join_all;
use tokio::{
    select,
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    narrator::Narrator,
    process::{Files, Process, Spec},
    restart::{self, Life, Verdict},
};

/// What a keeper knows about its process.
#[derive(Debug, Clone)]
enum Status {
    Starting,
    Ready,
    /// The start failed for good; this is the whole message.
    Failed(String),
}

/// The processes of this `up`.
#[derive(Debug)]
pub(crate) struct Supervisor {
    files: Files,
    narrator: Narrator,
    kept: Vec<Kept>,
}

#[derive(Debug)]
struct Kept {
    name: String,
    stop: CancellationToken,
    status: watch::Receiver<Status>,
    keeper: JoinHandle<()>,
}

impl Supervisor {
    /// Keeps nothing yet.
    pub(crate) fn new(files: Files, narrator: Narrator) -> Self {
        Self {
            files,
            narrator,
            kept: Vec::new(),
        }
    }

    /// Starts processes side by side and waits until all of them work.
    ///
    /// # Errors
    /// The first start that failed: which, why, and the end of its log. What did start stays, until
    /// [`Self::stop_all`].
    pub(crate) async fn start(&mut self, specs: Vec<Spec>) -> Result<()> {
        let first = self.kept.len();
        for spec in specs {
            let name = spec.name.clone();
            let stop = CancellationToken::new();
            let (sender, status) = watch::channel(Status::Starting);
            let keeper = Keeper {
                spec,
                files: self.files.clone(),
                narrator: self.narrator,
                stop: stop.clone(),
                status: sender,
            };
            self.kept.push(Kept {
                name,
                stop,
                status,
                keeper: tokio::spawn(keeper.keep()),
            });
        }
        let started = self.kept[first..].iter().map(|kept| {
            let mut status = kept.status.clone();
            async move {
                let settled = status
                    .wait_for(|status| !matches!(status, Status::Starting))
                    .await;
                match settled.as_deref() {
                    Ok(Status::Failed(why)) => Err(anyhow!(why.clone())),
                    Ok(_) => Ok(()),
                    Err(_) => Err(anyhow!("{} was stopped while it started", kept.name)),
                }
            }
        });
        try_join_all(started).await.map(|_| ())
    }

    /// Runs a process to its end.
    ///
    /// # Errors
    /// It did not end with success: why, and the end of its log.
    pub(crate) async fn complete(&self, spec: &Spec) -> Result<()> {
        let mut process = Process::spawn(spec, &self.files)?;
        let status = match timeout(spec.ready_within, process.ended()).await {
            Ok(status) => status?,
            Err(_) => bail!(
                "{} did not end within {} s (log: {})",
                spec.name,
                spec.ready_within.as_secs(),
                self.files.log(&spec.name).display()
            ),
        };
        if !status.success() {
            let tail = process.tail.lines().join("\n  | ");
            bail!("{} failed ({status}):\n  | {tail}", spec.name);
        }
        Ok(())
    }

    /// Stops one process and forgets it.
    pub(crate) async fn stop(&mut self, name: &str) {
        while let Some(index) = self.kept.iter().rposition(|kept| kept.name == name) {
            self.kept.remove(index).stop().await;
        }
    }

    /// Stops everything, last started first, each when the one before it has ended.
    pub(crate) async fn stop_all(&mut self) {
        while let Some(kept) = self.kept.pop() {
            kept.stop().await;
        }
    }
}

impl Kept {
    async fn stop(self) {
        self.stop.cancel();
        // A keeper that panicked has dropped its process, which killed it.
        let _ = self.keeper.await;
    }
}

struct Keeper {
    spec: Spec,
    files: Files,
    narrator: Narrator,
    stop: CancellationToken,
    status: watch::Sender<Status>,
}

/// How one life went.
enum End {
    /// We were told to stop, and it has stopped.
    Stopped,
    /// It ended by itself, or did not become ready in time.
    Died { why: String, tail: Vec<String> },
}

impl Keeper {
    async fn keep(self) {
        let (mut ever_ready, mut failures) = (false, 0);
        loop {
            let began = Instant::now();
            let (why, tail) = match self.live(&mut ever_ready).await {
                End::Stopped => return,
                End::Died { why, tail } => (why, tail),
            };
            let life = Life {
                ever_ready,
                lasted: began.elapsed(),
                failures,
            };
            match restart::after(life) {
                Verdict::GiveUp => {
                    let message = self.failed_start(&why, &tail);
                    self.status.send_replace(Status::Failed(message));
                    return;
                }
                Verdict::Restart { delay, failures: f } => {
                    failures = f;
                    self.narrator.warn(
                        &self.spec.name,
                        &format!(
                            "{why}; starting it again in {:.1} s (log: {})",
                            delay.as_secs_f64(),
                            self.files.log(&self.spec.name).display()
                        ),
                    );
                    select! {
                        () = sleep(delay) => {}
                        () = self.stop.cancelled() => return,
                    }
                }
            }
        }
    }

    /// One life, from start to end.
    async fn live(&self, ever_ready: &mut bool) -> End {
        let mut process = match Process::spawn(&self.spec, &self.files) {
            Ok(process) => process,
            Err(e) => {
                return End::Died {
                    why: format!("{e:#}"),
                    tail: Vec::new(),
                };
            }
        };
        let first = !*ever_ready;
        let ready = timeout(self.spec.ready_within, self.spec.ready.until_ready());
        let unready = select! {
            ended = process.ended() => return died(&process, ended),
            () = self.stop.cancelled() => return self.end(&mut process).await,
            ready = ready => ready.is_err(),
        };
        if unready && first {
            let within = self.spec.ready_within.as_secs();
            let tail = process.tail.lines();
            let why = format!("it was not ready within {within} s");
            return match process.stop(&self.spec).await {
                Ok(_) => End::Died { why, tail },
                Err(e) => End::Died {
                    why: format!("{why}, and {e:#}"),
                    tail,
                },
            };
        }
        if unready {
            // It has worked before, so it waits for something outside; killing it mends nothing.
            self.narrator
                .warn(&self.spec.name, "runs again but is not ready yet");
        } else {
            *ever_ready = true;
            if !first {
                let text = format!("ready again (process {})", process.pid());
                self.narrator.say(&self.spec.name, &text);
            }
            self.status.send_replace(Status::Ready);
        }
        select! {
            ended = process.ended() => died(&process, ended),
            () = self.stop.cancelled() => self.end(&mut process).await,
        }
    }

    async fn end(&self, process: &mut Process) -> End {
        let name = &self.spec.name;
        match process.stop(&self.spec).await {
            Ok(false) => {}
            Ok(true) => self.narrator.warn(
                name,
                &format!(
                    "did not stop within {} s and was killed",
                    self.spec.stop_within.as_secs()
                ),
            ),
            Err(e) => self.narrator.warn(name, &format!("{e:#}")),
        }
        End::Stopped
    }

    fn failed_start(&self, why: &str, tail: &[String]) -> String {
        let name = &self.spec.name;
        let log = self.files.log(name);
        if tail.is_empty() {
            return format!(
                "{name} did not start: {why} (it wrote nothing to {})",
                log.display()
            );
        }
        format!(
            "{name} did not start: {why}. The end of {}:\n  | {}",
            log.display(),
            tail.join("\n  | ")
        )
    }
}

fn died(process: &Process, ended: Result<std::process::ExitStatus>) -> End {
    let why = match ended {
        Ok(status) => format!("it ended ({status})"),
        Err(e) => format!("{e:#}"),
    };
    End::Died {
        why,
        tail: process.tail.lines(),
    }
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsString, fs, net::SocketAddr, path::Path, time::Duration};

    use nix::sys::signal::{Signal, kill};

    use super::*;
    use crate::{
        testing::TempDir,
        up::{home::Home, probe::Probe},
    };

    fn shell(script: &str, dir: &Path, ready: Probe) -> Spec {
        Spec {
            name: "part".into(),
            command: ["sh", "-c", script].map(OsString::from).to_vec(),
            dir: dir.to_owned(),
            env: Vec::new(),
            inherit_env: true,
            user: None,
            stop: Signal::SIGTERM,
            stop_within: Duration::from_secs(10),
            ready,
            ready_within: Duration::from_secs(10),
        }
    }

    fn supervisor(dir: &Path) -> Supervisor {
        let home = Home::open(dir).expect("a fresh folder");
        Supervisor::new(Files::of(&home), Narrator::new())
    }

    /// A port on which somebody listens, so that a process counts as ready at once.
    async fn listening() -> (tokio::net::TcpListener, SocketAddr) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("the loopback address exists");
        let addr = listener.local_addr().expect("it is bound");
        (listener, addr)
    }

    async fn eventually(mut holds: impl FnMut() -> bool) {
        let look = async {
            while !holds() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(20), look)
            .await
            .expect("it holds within the deadline");
    }

    #[tokio::test]
    async fn a_failed_start_says_which_part_why_and_shows_the_end_of_its_log() {
        let temp = TempDir::new();
        let mut supervisor = supervisor(temp.path());
        let nobody = Probe::Postmaster(temp.path().join("never"));
        let spec = shell("echo a reason >&2; exit 3", temp.path(), nobody);
        let why = supervisor.start(vec![spec]).await.expect_err("it ends");
        let why = why.to_string();
        for part in [
            "part did not start",
            "exit status: 3",
            "a reason",
            "part.log",
        ] {
            assert!(why.contains(part), "{part} is missing in: {why}");
        }
        supervisor.stop_all().await;
    }

    #[tokio::test]
    async fn a_process_that_dies_is_started_again_until_it_is_stopped() {
        let temp = TempDir::new();
        let mut supervisor = supervisor(temp.path());
        let (_listener, addr) = listening().await;
        let pids = temp.path().join("pids");
        let script = "echo $$ >> pids; exec sleep 600";
        let spec = shell(script, temp.path(), Probe::Tcp(addr));
        supervisor.start(vec![spec]).await.expect("it starts");
        let lives = || {
            let text = fs::read_to_string(&pids).unwrap_or_default();
            text.lines()
                .filter_map(|line| line.parse().ok())
                .map(nix::unistd::Pid::from_raw)
                .collect::<Vec<_>>()
        };
        eventually(|| lives().len() == 1).await;
        kill(lives()[0], Signal::SIGKILL).expect("it runs");
        eventually(|| lives().len() == 2).await;
        supervisor.stop_all().await;
        assert!(kill(lives()[1], None).is_err(), "it must be gone");
        assert_eq!(
            fs::read_dir(temp.path().join("run"))
                .expect("there")
                .count(),
            0
        );
    }

    #[tokio::test]
    async fn what_started_last_stops_first() {
        let temp = TempDir::new();
        let mut supervisor = supervisor(temp.path());
        for name in ["first", "second", "third"] {
            let script = format!(
                "trap 'sleep 0.1; echo {name} >> order; exit' TERM; touch {name}; while :; do sleep 0.05; done"
            );
            // Ready when its trap is set.
            let (_listener, addr) = listening().await;
            let mut spec = shell(&script, temp.path(), Probe::Tcp(addr));
            spec.name = name.into();
            supervisor.start(vec![spec]).await.expect("it starts");
            eventually(|| temp.path().join(name).exists()).await;
        }
        supervisor.stop_all().await;
        let order = fs::read_to_string(temp.path().join("order")).expect("written");
        assert_eq!(order, "third\nsecond\nfirst\n");
    }

    #[tokio::test]
    async fn what_does_not_stop_in_time_is_killed() {
        let temp = TempDir::new();
        let mut supervisor = supervisor(temp.path());
        let (_listener, addr) = listening().await;
        let script = "trap '' TERM; echo $$ > pid; while :; do sleep 0.05; done";
        let mut spec = shell(script, temp.path(), Probe::Tcp(addr));
        spec.stop_within = Duration::from_millis(200);
        supervisor.start(vec![spec]).await.expect("it starts");
        let pid = || {
            let text = fs::read_to_string(temp.path().join("pid")).ok()?;
            text.trim().parse().ok().map(nix::unistd::Pid::from_raw)
        };
        eventually(|| pid().is_some()).await;
        supervisor.stop_all().await;
        assert!(
            kill(pid().expect("written"), None).is_err(),
            "it must be gone"
        );
    }
}
