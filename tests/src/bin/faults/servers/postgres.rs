//! A private PostgreSQL, and a standby of it.

use super::{
    Child,
    child::{Spec, command},
    folder, user_of, write,
};
use anyhow::{Context, Result, bail, ensure};
use nix::{sys::signal::Signal, unistd::User};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};
use tests::world::{free_port, tcp::TcpProxy};
use tokio_postgres::{Client, NoTls};

const DEBIAN: &str = "/usr/lib/postgresql";
const READY_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(60);
/// Connections that it takes; roles have 48, and each look one.
pub(crate) const CONNECTIONS: usize = 120;

/// A server.
pub(crate) struct Postgres {
    name: String,
    dir: PathBuf,
    port: u16,
    password: String,
    user: Option<User>,
    /// What it is told beside the usual.
    told: Vec<(String, String)>,
    child: Option<Child>,
}

impl Postgres {
    /// Makes one with an empty database and starts it. `data` may be a file system of its own.
    pub(crate) async fn create(
        root: &Path,
        name: &str,
        told: Vec<(String, String)>,
    ) -> Result<Self> {
        let mut server = Self::new(root, name, free_port(), uuid::Uuid::now_v7().to_string())?;
        server.told = told;
        let secret = server.dir.join("password");
        write(&secret, &server.password, server.user.as_ref())?;
        server.run(
            "initdb",
            &[
                "--username=postgres",
                "--auth=scram-sha-256",
                &format!("--pwfile={}", secret.display()),
                "--encoding=UTF8",
                "--lc-collate=C",
                "--lc-ctype=C.UTF-8",
                "--lc-messages=C",
                "-D",
                &server.data().display().to_string(),
            ],
        )?;
        server.configure("")?;
        server.start().await?;
        let superuser = server.superuser("postgres").await?;
        let password = &server.password;
        for sql in [
            &format!("CREATE ROLE guichet LOGIN PASSWORD '{password}'"),
            "GRANT pg_monitor TO guichet",
            "CREATE DATABASE guichet OWNER guichet",
        ] {
            superuser.batch_execute(sql).await?;
        }
        Ok(server)
    }

    fn new(root: &Path, name: &str, port: u16, password: String) -> Result<Self> {
        let user = user_of("postgres")?;
        let dir = root.join(name);
        folder(&dir, user.as_ref())?;
        Ok(Self {
            name: name.to_owned(),
            dir,
            port,
            password,
            user,
            told: Vec::new(),
            child: None,
        })
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Settings beyond the usual ones take effect with the next start.
    pub(crate) fn configure(&self, more: &str) -> Result<()> {
        let text = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = ''\n\
             max_connections = {CONNECTIONS}\nshared_buffers = '128MB'\nfsync = on\nsynchronous_commit = on\n\
             full_page_writes = on\nmax_wal_size = '512MB'\njit = off\nlog_error_verbosity = terse\n\
             timezone = 'UTC'\nlog_timezone = 'UTC'\nlog_line_prefix = '%m [%p] %q%a '\n{more}\n",
            self.port
        );
        write(
            &self.data().join("postgresql.auto.conf"),
            &text,
            self.user.as_ref(),
        )
    }

    fn begin(&self) -> Result<Child> {
        Child::start(&Spec {
            name: &self.name,
            command: self.command()?,
            environment: environment(),
            folder: &self.dir,
            user: self.user.as_ref(),
            log: self.dir.join("log"),
        })
    }

    /// Starts it and waits until it answers.
    pub(crate) async fn start(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let mut child = self.begin()?;
            loop {
                if self.superuser("postgres").await.is_ok() {
                    self.child = Some(child);
                    return Ok(());
                }
                // After a kill the last of its children may still be there.
                if child.ended().is_some() && Instant::now() < deadline {
                    break;
                }
                if Instant::now() > deadline {
                    bail!("{} is not ready in time:\n{}", self.name, child.tail());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// What it is told beside the usual is told to nobody else, least of all to who becomes its user:
    /// libfaketime makes things that only the one who made them may use.
    fn command(&self) -> Result<Vec<String>> {
        let mut command = vec!["env".to_owned()];
        command.extend(
            self.told
                .iter()
                .map(|(key, value)| format!("{key}={value}")),
        );
        let data = self.data().display().to_string();
        command.extend([program("postgres")?, "-D".to_owned(), data]);
        Ok(command)
    }

    /// Its fast and orderly stop.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        match self.child.take() {
            Some(child) => child.stop(Signal::SIGINT, STOP_WITHIN).await.map(drop),
            None => Ok(()),
        }
    }

    /// `kill -9` of it and each of its processes.
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

    /// Whether nobody answers on its port any more.
    pub(crate) async fn refuses(&self) -> bool {
        let address = ("127.0.0.1", self.port);
        tokio::net::TcpStream::connect(address).await.is_err()
    }

    /// Starts it again if it has ended by itself, without waiting for it; whether it had.
    pub(crate) fn start_if_ended(&mut self) -> Result<bool> {
        let child = self.child.as_mut();
        let ended = child.is_some_and(|child| child.ended().is_some());
        if ended {
            self.child = Some(self.begin()?);
        }
        Ok(ended)
    }

    /// How often its log says this.
    pub(crate) fn complaints(&self, of: &str) -> Result<usize> {
        let log = fs::read(self.dir.join("log"))?;
        Ok(String::from_utf8_lossy(&log).matches(of).count())
    }

    /// Where the roles find it.
    pub(crate) fn url(&self) -> String {
        format!(
            "postgres://guichet:{}@127.0.0.1:{}/guichet",
            self.password, self.port
        )
    }

    /// A connection of the one who may do everything.
    pub(crate) async fn superuser(&self, database: &str) -> Result<Client> {
        let url = format!(
            "postgres://postgres:{}@127.0.0.1:{}/{database}?connect_timeout=2",
            self.password, self.port
        );
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
        // It ends with the client.
        tokio::spawn(connection);
        Ok(client)
    }

    /// A standby that follows it by this line, and that it waits for from now on before it calls anything committed.
    pub(crate) async fn standby(&mut self, root: &Path, line: &TcpProxy) -> Result<Self> {
        let hba = self.data().join("pg_hba.conf");
        let text =
            fs::read_to_string(&hba)? + "host replication postgres 127.0.0.1/32 scram-sha-256\n";
        write(&hba, &text, self.user.as_ref())?;
        let superuser = self.superuser("postgres").await?;
        superuser.batch_execute("SELECT pg_reload_conf()").await?;
        let mut standby = Self::new(root, "standby", free_port(), self.password.clone())?;
        let source = format!(
            "host=127.0.0.1 port={} user=postgres password={} application_name=standby sslmode=disable \
             gssencmode=disable",
            line.port(),
            self.password
        );
        let data = standby.data().display().to_string();
        standby.run(
            "pg_basebackup",
            &[
                "-d",
                &source,
                "-D",
                &data,
                "-X",
                "stream",
                "--checkpoint=fast",
            ],
        )?;
        standby.configure(&format!("primary_conninfo = '{source}'\nhot_standby = on"))?;
        write(
            &standby.data().join("standby.signal"),
            "",
            standby.user.as_ref(),
        )?;
        standby.start().await?;
        self.configure("synchronous_standby_names = 'standby'")?;
        superuser.batch_execute("SELECT pg_reload_conf()").await?;
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let rows = superuser
                .query(
                    "SELECT FROM pg_stat_replication WHERE sync_state = 'sync'",
                    &[],
                )
                .await?;
            if !rows.is_empty() {
                return Ok(standby);
            }
            ensure!(Instant::now() < deadline, "the standby does not follow");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// How many wait for their commit to be on the standby.
    pub(crate) async fn waiting_for_standby(&self) -> Result<i64> {
        let superuser = self.superuser("postgres").await?;
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        Ok(superuser.query_one(waiting, &[]).await?.get(0))
    }

    /// Makes a standby the server.
    pub(crate) async fn promote(&self) -> Result<()> {
        let superuser = self.superuser("postgres").await?;
        let row = superuser
            .query_one("SELECT pg_promote(true, 30)", &[])
            .await?;
        ensure!(row.get::<_, bool>(0), "the standby does not take over");
        Ok(())
    }

    fn run(&self, name: &str, arguments: &[&str]) -> Result<()> {
        let mut whole = vec![program(name)?];
        whole.extend(arguments.iter().map(|one| (*one).to_owned()));
        let output = command(self.user.as_ref(), &whole)
            .env_clear()
            .envs(environment())
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run {name}"))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{name} failed: {said}");
        Ok(())
    }
}

fn environment() -> Vec<(String, String)> {
    [
        ("PATH", "/usr/bin:/bin"),
        ("LC_ALL", "C.UTF-8"),
        ("TZ", "UTC"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .to_vec()
}

/// A program of the newest version.
fn program(name: &str) -> Result<String> {
    let versions = fs::read_dir(DEBIAN).context("PostgreSQL is not installed")?;
    let versions = versions
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let newest = versions.max().context("PostgreSQL is not installed")?;
    Ok(format!("{DEBIAN}/{newest}/bin/{name}"))
}
