//! Everything as `guichet up` starts it: a database of this run's own, and each role a process.

use std::{
    env,
    ffi::OsString,
    fs,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use database::{Connection, testing::TestDatabase};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

use uuid::Uuid;

use crate::observer::Observer;

const DATABASE_URL: &str = "GUICHET_DATABASE_URL";
const AMQP_URL: &str = "GUICHET_AMQP_URL";
/// Apart from whatever else uses the broker. Queues of an earlier run are used again, and what may be
/// left in them is of another database and dropped.
const NAMESPACE: &str = "guichet-bench";
/// What the folders of the runs are called, before a number.
const FOLDER: &[u8] = b"roles-";
const READY_WITHIN: Duration = Duration::from_secs(300);
const STOP_WITHIN: Duration = Duration::from_secs(90);

/// A role's process.
#[derive(Debug, Clone)]
pub(crate) struct Role {
    pub(crate) name: String,
    /// Where its metrics are.
    pub(crate) metrics: String,
}

/// All of it.
pub(crate) struct World {
    pub(crate) gateway: SocketAddr,
    pub(crate) roles: Vec<Role>,
    pub(crate) observer: Observer,
    pub(crate) http: reqwest::Client,
    pub(crate) connection: Connection,
    program: PathBuf,
    up: Child,
    dir: PathBuf,
    database: TestDatabase,
}

impl World {
    /// Starts it, with a folder of its own in `dir`. What an earlier run left there is removed.
    pub(crate) async fn start(dir: &Path) -> Result<Self> {
        for name in [DATABASE_URL, AMQP_URL] {
            env::var_os(name)
                .ok_or_else(|| anyhow!("{name} is not set: run ./ops/bench, which sets it"))?;
        }
        let amqp_url = env::var(AMQP_URL).context("GUICHET_AMQP_URL is not text")?;
        let program = env::current_exe()?.with_file_name("guichet");
        let dir = folder(dir).await?;
        let database = TestDatabase::create().await;
        let (up, addresses) = up(&program, &dir, &database.url()).await?;
        let gateway = addresses
            .iter()
            .find(|address| address.role.name == "gateway")
            .and_then(|address| {
                address
                    .url
                    .as_deref()?
                    .strip_prefix("http://")?
                    .parse()
                    .ok()
            })
            .context("`guichet up` did not say where the gateway is")?;
        let mut connection = database.connection().await;
        let observer = Observer::start(&amqp_url, NAMESPACE, &mut connection).await?;
        Ok(Self {
            gateway,
            roles: addresses.into_iter().map(|address| address.role).collect(),
            observer,
            http: reqwest::Client::new(),
            connection,
            program,
            up,
            dir,
            database,
        })
    }

    /// Asks whether each promise holds; the offending rows if not.
    ///
    /// # Errors
    /// It could not be asked.
    pub(crate) async fn check(&self) -> Result<Result<(), String>> {
        let output = Command::new(&self.program)
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

    /// Stops everything and drops the database; with `clean` what the roles wrote goes too: mails, the
    /// provider's ledger, logs.
    pub(crate) async fn stop(mut self, clean: bool) -> Result<()> {
        self.observer.stop().await;
        if let Some(pid) = self.up.id().and_then(|pid| i32::try_from(pid).ok()) {
            kill(Pid::from_raw(pid), Signal::SIGTERM).context("cannot stop `guichet up`")?;
        }
        timeout(STOP_WITHIN, self.up.wait())
            .await
            .context("`guichet up` did not stop")??;
        if clean {
            fs::remove_dir_all(&self.dir)
                .with_context(|| format!("cannot remove {}", self.dir.display()))?;
        }
        Ok(())
    }
}

/// A new folder for what the roles write.
///
/// Thousands of mails are files, and a run ends by removing them. For some minutes ext4 does not give
/// out removed inodes again, and looks at each of them for every new file nearby: of runs in close
/// succession the second one would spend a third of the worker's time there. So folders are asked to
/// lie apart on the disk, each where nothing was removed. Other file systems refuse, and need it not.
async fn folder(parent: &Path) -> Result<PathBuf> {
    let cannot = || format!("cannot make a folder in {}", parent.display());
    fs::create_dir_all(parent).with_context(cannot)?;
    for entry in fs::read_dir(parent).with_context(cannot)? {
        let old = entry?;
        if old.file_name().as_encoded_bytes().starts_with(FOLDER) {
            let old = old.path();
            fs::remove_dir_all(&old).with_context(|| format!("cannot remove {}", old.display()))?;
        }
    }
    let apart = Command::new("chattr").arg("+T").arg(parent).output().await;
    if !apart.is_ok_and(|output| output.status.success()) {
        let _ =
            std::io::stderr().write_all(b"chattr +T is refused here: repeated runs may differ\n");
    }
    let name = format!("{}{}", FOLDER.escape_ascii(), Uuid::now_v7().simple());
    let dir = parent.join(name);
    fs::create_dir(&dir).with_context(cannot)?;
    Ok(dir)
}

struct Address {
    role: Role,
    url: Option<String>,
}

/// Starts the roles through `guichet up` and waits until it says where they are.
async fn up(program: &Path, dir: &Path, database_url: &str) -> Result<(Child, Vec<Address>)> {
    let signal = OsString::from("TERM");
    // It must not outlive us, and it must not hear the terminal's Ctrl-C beside us.
    let mut up = Command::new("setpriv")
        .arg("--pdeathsig")
        .arg(signal)
        .arg("--")
        .arg(program)
        .args(["up", "--no-demo", "--dir"])
        .arg(dir)
        .env(DATABASE_URL, database_url)
        .env("GUICHET_AMQP_NAMESPACE", NAMESPACE)
        .env("GUICHET_MAIL_TRANSPORT", "file")
        .env("GUICHET_PSP_WEBHOOK_URL", "")
        .env_remove("GUICHET_PSP_WEBHOOK_URL")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot run setpriv (Debian package util-linux)")?;
    let stdout = up.stdout.take().context("its output is piped")?;
    let mut lines = BufReader::new(stdout).lines();
    let mut addresses = Vec::new();
    let listening = async {
        while let Some(line) = lines.next_line().await? {
            let Some(address) = address(&line) else {
                continue;
            };
            let last = address.role.name == "gateway";
            addresses.push(address);
            if last {
                return Ok(());
            }
        }
        bail!("`guichet up` ended before it was up")
    };
    timeout(READY_WITHIN, listening)
        .await
        .context("`guichet up` was not up in time")??;
    // Nobody reads it further, but a full pipe would block it.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok((up, addresses))
}

/// A row of the table that `guichet up` prints: role, its address if it has one, its metrics.
fn address(line: &str) -> Option<Address> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let metrics = words.last().filter(|word| word.ends_with("/metrics"))?;
    Some(Address {
        role: Role {
            name: (*words.first()?).to_owned(),
            metrics: (*metrics).to_owned(),
        },
        url: (words.len() > 2).then(|| words[1].to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_the_table_are_read_and_nothing_else() {
        let gateway = address("gateway  http://127.0.0.1:8080  http://127.0.0.1:9/metrics");
        let gateway = gateway.expect("a row");
        assert_eq!(gateway.url.as_deref(), Some("http://127.0.0.1:8080"));
        let worker = address("worker     http://127.0.0.1:7/metrics").expect("a row");
        assert_eq!((worker.role.name.as_str(), worker.url), ("worker", None));
        assert!(address("ROLE  ADDRESS  METRICS").is_none());
    }
}
