//! A private PostgreSQL.
//!
//! It listens on the loopback address only, and only for the role `guichet` with a generated
//! password (SCRAM); that role may create databases and read statistics, and is not a superuser. The
//! superuser has no password and no line in `pg_hba.conf`: nobody can log in as him. What needs him
//! (making the role) is done in single-user mode, where there is no network at all.

use std::{
    fmt::Write,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::Signal;
use tokio::{io::AsyncWriteExt, process::Command};

use crate::up::{
    home::{Home, random_secret},
    leftover,
    narrator::Narrator,
    place::Place,
    probe::Probe,
    process::{Spec, bound_to_us},
};

/// Where Debian installs it, one folder per major version.
const DEBIAN: &str = "/usr/lib/postgresql";
/// The role that everything of ours logs in as, and its database.
const ROLE: &str = "guichet";
/// Counts statements, where Debian's package has it.
const STATISTICS: &str = "pg_stat_statements";
/// Crash recovery replays at most `max_wal_size`, well below this on any disk.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// A fast shutdown writes a checkpoint.
const STOP_WITHIN: Duration = Duration::from_secs(60);

/// A server whose data exists.
pub(crate) struct Server {
    place: Place,
    programs: PathBuf,
    data: PathBuf,
    password: String,
}

/// How to start it and reach it.
pub(crate) struct Configured {
    pub(crate) spec: Spec,
    pub(crate) addr: SocketAddr,
    pub(crate) url: String,
}

impl Server {
    /// Makes the data if there is none, and sees to it that we know the password.
    pub(crate) async fn prepare(home: &Home, narrator: Narrator) -> Result<Self> {
        let place = Place::prepare(home, "postgres", "postgres", narrator)?;
        let data = place.dir.join("data");
        leftover::stop_postmaster(&data, narrator)?;
        let programs = programs(Path::new(DEBIAN), &data)?;
        let (password, known) = home.secret("postgres_password", random_secret)?;
        let server = Self {
            place,
            programs,
            data,
            password,
        };
        if !server.data.exists() {
            narrator.say("postgres", "making a database cluster");
            server.create().await?;
        } else if !known {
            let sql = format!("ALTER ROLE {ROLE} PASSWORD '{}'", server.password);
            server
                .as_superuser(&server.data, "postgres", &[sql])
                .await?;
        }
        Ok(server)
    }

    /// Writes the configuration for `port`.
    pub(crate) fn configure(&self, port: u16) -> Result<Configured> {
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let text = settings(port, memory_mb(&memory), self.counts_statements());
        self.place.write("data/guichet.conf", &text)?;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let spec = Spec {
            name: "postgres".into(),
            command: vec![
                self.programs.join("postgres").into(),
                "-D".into(),
                self.data.clone().into(),
            ],
            dir: self.place.dir.clone(),
            env: environment(),
            inherit_env: false,
            user: self.place.user.clone(),
            // Its "fast" shutdown: end the sessions, write everything, stop.
            stop: Signal::SIGINT,
            stop_within: STOP_WITHIN,
            ready: Probe::Postmaster(self.data.join("postmaster.pid")),
            ready_within: READY_WITHIN,
        };
        let url = format!("postgres://{ROLE}:{}@{addr}/{ROLE}", self.password);
        Ok(Configured { spec, addr, url })
    }

    /// Everything happens beside the final folder, which appears by one rename: a run that is killed
    /// in the middle leaves nothing that looks finished.
    async fn create(&self) -> Result<()> {
        let new = self.place.dir.join("data.new");
        if new.exists() {
            fs::remove_dir_all(&new).with_context(|| format!("cannot remove {}", new.display()))?;
        }
        let mut initdb = self.program("initdb");
        initdb.push("-D".into());
        initdb.push(new.clone().into());
        // Byte order sorts fastest and never changes with the C library; what people read is sorted
        // by a named collation. Letters are still known as letters, so that `lower('É')` works.
        let options = [
            "--username=postgres",
            // Nobody until we say who.
            "--auth=reject",
            "--encoding=UTF8",
            "--lc-collate=C",
            "--lc-ctype=C.UTF-8",
            "--lc-messages=C",
        ];
        initdb.extend(options.map(Into::into));
        self.run(&initdb, "").await?;
        // Loopback, one role, a password. No line for the superuser, none for replication.
        let hba = format!("host all {ROLE} 127.0.0.1/32 scram-sha-256\n");
        self.place.write("data.new/pg_hba.conf", &hba)?;
        let conf = new.join("postgresql.conf");
        let mut text =
            fs::read_to_string(&conf).with_context(|| format!("cannot read {}", conf.display()))?;
        text.push_str("\ninclude_if_exists = 'guichet.conf'\n");
        self.place.write("data.new/postgresql.conf", &text)?;
        let sql = [
            format!(
                "CREATE ROLE {ROLE} LOGIN CREATEDB PASSWORD '{}'",
                self.password
            ),
            format!("GRANT pg_monitor TO {ROLE}"),
            format!("CREATE DATABASE {ROLE} OWNER {ROLE}"),
        ];
        self.as_superuser(&new, "postgres", &sql).await?;
        if self.counts_statements() {
            let sql = [format!("CREATE EXTENSION {STATISTICS}")];
            self.as_superuser(&new, ROLE, &sql).await?;
        }
        fs::rename(&new, &self.data)
            .with_context(|| format!("cannot rename {} to data", new.display()))
    }

    /// Whether the library that counts statements is installed: a server does not start without what it is
    /// to load.
    fn counts_statements(&self) -> bool {
        let library = format!("../lib/{STATISTICS}.so");
        self.programs.join(library).is_file()
    }

    /// Runs statements in single-user mode. That mode ends with success whatever the statements
    /// did, so its messages decide.
    async fn as_superuser(&self, data: &Path, database: &str, statements: &[String]) -> Result<()> {
        let mut single = self.program("postgres");
        single.extend(["--single".into(), "-D".into(), data.into(), database.into()]);
        let said = self.run(&single, &(statements.join("\n") + "\n")).await?;
        match said.lines().find(|line| line.contains("ERROR:")) {
            Some(error) => bail!("PostgreSQL refused what its superuser asked for: {error}"),
            None => Ok(()),
        }
    }

    fn program(&self, name: &str) -> Vec<std::ffi::OsString> {
        vec![self.programs.join(name).into()]
    }

    /// Runs a program of PostgreSQL to its end as the server's user; answers what it wrote to
    /// standard error.
    async fn run(&self, command: &[std::ffi::OsString], input: &str) -> Result<String> {
        let program = Path::new(&command[0]).display().to_string();
        let mut command: Command = bound_to_us(self.place.user.as_ref(), Signal::SIGTERM, command);
        command
            .env_clear()
            .envs(environment())
            .current_dir(&self.place.dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command
            .spawn()
            .context("cannot run setpriv (Debian package util-linux)")?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that ended early says why on standard error.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        let output = child
            .wait_with_output()
            .await
            .with_context(|| format!("cannot wait for {program}"))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            bail!("{program} failed ({}): {}", output.status, said.trim());
        }
        Ok(said)
    }
}

fn environment() -> Vec<(String, std::ffi::OsString)> {
    [
        ("PATH", "/usr/bin:/bin"),
        ("LC_ALL", "C.UTF-8"),
        ("TZ", "UTC"),
        // What a statement needs beside is kept for the next one, and not given back to the kernel in between.
        ("MALLOC_TOP_PAD_", "4194304"),
        ("MALLOC_TRIM_THRESHOLD_", "67108864"),
        ("MALLOC_MMAP_THRESHOLD_", "33554432"),
    ]
    .map(|(name, value)| (name.to_owned(), value.into()))
    .to_vec()
}

/// The folder with the programs: of the version that made the data, else of the newest.
fn programs(installed: &Path, data: &Path) -> Result<PathBuf> {
    let made_by = fs::read_to_string(data.join("PG_VERSION")).ok();
    let made_by = made_by.and_then(|text| text.trim().parse::<u32>().ok());
    let mut versions: Vec<u32> = fs::read_dir(installed)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().join("bin/initdb").exists())
        .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
        .collect();
    versions.sort_unstable();
    let newest = *versions.last().ok_or_else(|| {
        anyhow!(
            "PostgreSQL is not installed (nothing in {}): install the Debian package `postgresql`",
            installed.display()
        )
    })?;
    let wanted = made_by.unwrap_or(newest);
    if !versions.contains(&wanted) {
        bail!(
            "{} was made by PostgreSQL {wanted}, but installed is {newest}: install postgresql-{wanted}, or remove the folder to start afresh",
            data.display()
        );
    }
    Ok(installed.join(wanted.to_string()).join("bin"))
}

/// Total memory in MiB; a small machine if that cannot be read.
fn memory_mb(meminfo: &str) -> u64 {
    let total = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let kb = total.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kb.map_or(1024, |kb| kb / 1024)
}

/// `guichet.conf`, rewritten at every start.
fn settings(port: u16, memory_mb: u64, counts_statements: bool) -> String {
    let shared_mb = (memory_mb / 8).clamp(64, 1024);
    let cache_mb = (memory_mb / 2).max(128);
    let settings: &[(&str, &str, String)] = &[
        ("our machine only", "listen_addresses", "'127.0.0.1'".into()),
        ("", "port", port.to_string()),
        (
            "one way in is enough, and a socket's path may be too long",
            "unix_socket_directories",
            "''".into(),
        ),
        ("", "password_encryption", "'scram-sha-256'".into()),
        (
            "roles have small pools; the tests have many databases at once",
            "max_connections",
            "300".into(),
        ),
        ("the promises rest on these three", "fsync", "on".into()),
        ("", "synchronous_commit", "on".into()),
        ("", "full_page_writes", "on".into()),
        (
            "full pages after a checkpoint are most of the log; they compress well, and this way cheaply",
            "wal_compression",
            "lz4".into(),
        ),
        (
            "checkpoints by time and not by volume, so that pages are logged in full less often",
            "checkpoint_timeout",
            "'15min'".into(),
        ),
        ("", "max_wal_size", "'2GB'".into()),
        ("", "min_wal_size", "'256MB'".into()),
        ("", "checkpoint_completion_target", "0.9".into()),
        (
            "an eighth of the memory: the roles and the broker live here too",
            "shared_buffers",
            format!("'{shared_mb}MB'"),
        ),
        ("", "effective_cache_size", format!("'{cache_mb}MB'")),
        ("the disks of today", "random_page_cost", "1.1".into()),
        (
            "statements take microseconds; compiling one takes milliseconds",
            "jit",
            "off".into(),
        ),
        (
            "sagas update few rows very often: clean early, in small portions",
            "autovacuum_naptime",
            "'15s'".into(),
        ),
        ("", "autovacuum_vacuum_scale_factor", "0.05".into()),
        ("", "autovacuum_analyze_scale_factor", "0.05".into()),
        (
            "a session that forgot its transaction holds locks and keeps vacuum from cleaning",
            "idle_in_transaction_session_timeout",
            "'60s'".into(),
        ),
        ("", "timezone", "'UTC'".into()),
        ("", "log_timezone", "'UTC'".into()),
        (
            "our supervisor keeps the log",
            "logging_collector",
            "off".into(),
        ),
        ("", "log_line_prefix", "'%m [%p] %q%a %d '".into()),
        (
            "details of an error hold values of rows, which may be personal",
            "log_error_verbosity",
            "terse".into(),
        ),
        ("", "log_checkpoints", "off".into()),
        ("", "log_lock_waits", "on".into()),
        ("", "cluster_name", "'guichet'".into()),
    ];
    let statistics = (
        "what runs how often: for operators, and for the benchmark of an idle installation",
        "shared_preload_libraries",
        format!("'{STATISTICS}'"),
    );
    let statistics = counts_statements.then_some(&statistics);
    let mut text = String::from("# Written at every start by `guichet up`; changes are lost.\n");
    for (why, name, value) in settings.iter().chain(statistics) {
        if !why.is_empty() {
            let _ = writeln!(text, "\n# {why}");
        }
        let _ = writeln!(text, "{name} = {value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;

    fn installed(temp: &TempDir, versions: &[&str]) {
        for version in versions {
            let bin = temp.path().join(version).join("bin");
            fs::create_dir_all(&bin).expect("made");
            fs::write(bin.join("initdb"), "").expect("written");
        }
    }

    #[test]
    fn new_data_is_made_by_the_newest_version() {
        let temp = TempDir::new();
        installed(&temp, &["9", "15", "17"]);
        let found = programs(temp.path(), Path::new("/nonexistent")).expect("some");
        assert_eq!(found, temp.path().join("17/bin"));
    }

    #[test]
    fn existing_data_wants_the_version_that_made_it() {
        let temp = TempDir::new();
        installed(&temp, &["15", "17"]);
        let data = TempDir::new();
        let made_by = |version: &str| fs::write(data.path().join("PG_VERSION"), version);
        made_by("15\n").expect("written");
        let found = programs(temp.path(), data.path()).expect("some");
        assert_eq!(found, temp.path().join("15/bin"));
        made_by("13\n").expect("written");
        let refused = programs(temp.path(), data.path()).expect_err("not installed");
        assert!(
            refused.to_string().contains("install postgresql-13"),
            "{refused}"
        );
    }

    #[test]
    fn a_machine_without_it_is_told_what_to_install() {
        let refused = programs(Path::new("/nonexistent"), Path::new("/nonexistent"));
        let text = refused.expect_err("nothing there").to_string();
        assert!(text.contains("Debian package `postgresql`"), "{text}");
    }

    #[test]
    fn memory_is_read_or_assumed_small() {
        assert_eq!(
            memory_mb("MemTotal:       24674512 kB\nMemFree: 1 kB\n"),
            24096
        );
        assert_eq!(memory_mb(""), 1024);
    }
}
