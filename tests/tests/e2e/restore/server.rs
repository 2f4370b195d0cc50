//! A PostgreSQL of the test's own that keeps an archive of its log, and backups of it.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use database::testing::TestDatabase;
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, Uid, User},
};
use tests::world::{PATIENCE, free_port};
use tokio_postgres::{Client, NoTls};
use url::Url;

const DEBIAN: &str = "/usr/lib/postgresql";

/// A server, or what is left of one.
pub(crate) struct Server {
    folder: PathBuf,
    /// Where its files are.
    pub(crate) data: PathBuf,
    /// Where its log is kept.
    pub(crate) archive: PathBuf,
    /// A backup of its files.
    pub(crate) backup: PathBuf,
    port: u16,
    password: String,
    user: Option<User>,
    /// In which it says what goes wrong.
    language: &'static str,
    running: Option<Child>,
}

impl Server {
    /// A new one, started.
    pub(crate) async fn create() -> Self {
        Self::create_speaking("en").await
    }

    /// The same, that says in this language what goes wrong.
    pub(crate) async fn create_speaking(language: &'static str) -> Self {
        let root = Uid::effective().is_root();
        let user = root.then(|| User::from_name("postgres").expect("readable"));
        let folder = std::env::temp_dir().join(format!("guichet-restore-{}", uuid::Uuid::now_v7()));
        let mut server = Self {
            data: folder.join("data"),
            archive: folder.join("archive"),
            backup: folder.join("backup"),
            folder,
            port: free_port(),
            password: uuid::Uuid::now_v7().to_string(),
            user: user.map(|user| user.expect("its Debian package has made one")),
            language,
            running: None,
        };
        server.make(&server.folder);
        server.make(&server.archive);
        let secret = server.folder.join("password");
        fs::write(&secret, &server.password).expect("writable");
        server.own(&secret);
        let (data, secret) = (server.data.display(), secret.display());
        server.sh(&format!(
            "{}/initdb --username=postgres --auth=scram-sha-256 --pwfile={secret} --encoding=UTF8 \
             --locale=C.UTF-8 -D {data} >&2",
            programs().display()
        ));
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = ''\n\
             max_connections = 80\nshared_buffers = '64MB'\narchive_mode = on\n\
             archive_command = 'test ! -f \"{archive}/%f\" && cp \"%p\" \"{archive}/%f.new\" \
             && mv \"{archive}/%f.new\" \"{archive}/%f\"'\n",
            server.port,
            archive = server.archive.display(),
        );
        let auto = server.data.join("postgresql.auto.conf");
        fs::write(&auto, settings).expect("writable");
        server.own(&auto);
        server.start().await;
        server
    }

    /// Where it is found.
    pub(crate) fn url(&self) -> String {
        format!(
            "postgres://postgres:{}@127.0.0.1:{}/postgres",
            self.password, self.port
        )
    }

    /// Starts it and waits until it is no longer replaying its log.
    pub(crate) async fn start(&mut self) {
        self.launch();
        let deadline = Instant::now() + PATIENCE;
        while !self.is_primary().await {
            assert!(Instant::now() < deadline, "{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts it.
    pub(crate) fn launch(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("log"))
            .expect("writable");
        let mut command = self.command(&[&programs().join("postgres").display().to_string()]);
        command.arg("-D").arg(&self.data).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a descriptor"));
        self.running = Some(command.stderr(log).spawn().expect("setpriv (util-linux)"));
    }

    /// Ends it at once, as a machine that fails.
    pub(crate) fn fail(&mut self) {
        let mut child = self.running.take().expect("it runs");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
        kill(pid, Signal::SIGQUIT).expect("it runs"); // without a last checkpoint
        child.wait().expect("it is our child");
    }

    /// A copy of its files while it runs.
    pub(crate) fn back_up(&self) {
        let source = format!(
            "host=127.0.0.1 port={} user=postgres password={}",
            self.port, self.password
        );
        let (program, backup) = (programs().join("pg_basebackup"), self.backup.display());
        self.sh(&format!(
            "{} -d '{source}' -D {backup} -X stream --checkpoint=fast",
            program.display()
        ));
    }

    /// Names this moment, and waits until the archive has it.
    pub(crate) async fn name_this_moment(&self, name: &str) {
        let client = client(&self.url()).await.expect("it answers");
        let named = "SELECT pg_walfile_name(pg_create_restore_point($1))";
        let row = client.query_one(named, &[&name]).await.expect("it does");
        let segment: String = row.get(0);
        let switched = client.query_one("SELECT pg_switch_wal()", &[]).await;
        switched.expect("it does");
        let deadline = Instant::now() + PATIENCE;
        while !self.archive.join(&segment).is_file() {
            assert!(Instant::now() < deadline, "{segment} is not archived");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Another machine with nothing but the backup and a copy of the archive, not started yet.
    pub(crate) fn clone_of_its_backup(&self, name: &str) -> Self {
        let folder = self.folder.join(name);
        let (port, user) = (free_port(), self.user.clone());
        let clone = Self {
            data: folder.join("data"),
            archive: folder.join("archive"),
            backup: self.backup.clone(),
            folder,
            port,
            password: self.password.clone(),
            user,
            language: self.language,
            running: None,
        };
        clone.make(&clone.folder);
        clone.make(&clone.data); // what is to be put aside
        let (archive, theirs) = (clone.archive.display(), self.archive.display());
        self.sh(&format!("cp -a {theirs} {archive}"));
        clone
    }

    /// With the backup's settings it would listen and archive where the first one does.
    pub(crate) fn stand_alone(&self) {
        let auto = self.data.join("postgresql.auto.conf");
        let (port, auto) = (self.port, auto.display());
        self.sh(&format!(
            "printf 'port = {port}\\narchive_mode = off\\n' >> {auto}"
        ));
    }

    /// Where it has a database of the server that it is a clone of.
    pub(crate) fn url_of(&self, database: &TestDatabase) -> String {
        let mut url: Url = database.url().parse().expect("a URL");
        url.set_port(Some(self.port)).expect("it has a host");
        url.into()
    }

    /// The place that this life of a database has noted.
    pub(crate) async fn place(&self, database: &TestDatabase) -> String {
        let client = client(&self.url_of(database)).await.expect("it answers");
        let row = client.query_one("SELECT place FROM incarnation", &[]).await;
        row.expect("there is a row").get(0)
    }

    /// Has a shell do something in the name of the server's user.
    pub(crate) fn sh(&self, script: &str) {
        self.sh_with(script, &[]);
    }

    /// The same, with something in its environment.
    pub(crate) fn sh_with(&self, script: &str, environment: &[(String, String)]) {
        let output = self
            .command(&["timeout", "60", "sh", "-euc", script])
            .envs(environment.iter().cloned())
            .stdin(Stdio::null())
            .output()
            .expect("setpriv (util-linux)");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}\n{said}\n{}", self.log());
    }

    /// A command as the server's user, that ends with us.
    fn command(&self, words: &[&str]) -> Command {
        let mut setpriv = Command::new("setpriv");
        if let Some(user) = &self.user {
            setpriv.args(["--reuid", &user.uid.to_string(), "--regid"]);
            setpriv.args([&user.gid.to_string(), "--clear-groups"]);
        }
        setpriv.args(["--pdeathsig", "KILL", "--"]).args(words);
        setpriv.current_dir(&self.folder).env_clear();
        setpriv.envs([
            ("PATH", "/usr/bin:/bin"),
            ("LC_ALL", "C.UTF-8"),
            ("TZ", "UTC"),
            ("LANGUAGE", self.language),
        ]);
        setpriv
    }

    async fn is_primary(&self) -> bool {
        let Some(client) = client(&self.url()).await else {
            return false;
        };
        let row = client.query_one("SELECT pg_is_in_recovery()", &[]).await;
        row.is_ok_and(|row| !row.get::<_, bool>(0))
    }

    fn make(&self, folder: &Path) {
        fs::create_dir(folder).expect("the temporary folder is writable");
        fs::set_permissions(folder, Permissions::from_mode(0o700)).expect("it is ours");
        self.own(folder);
    }

    fn own(&self, path: &Path) {
        if let Some(user) = &self.user {
            let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
            chown(path, Some(uid), Some(gid)).expect("we are root");
        }
    }

    fn log(&self) -> String {
        let text = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.running.is_some() {
            self.fail();
        }
        // It is in the temporary directory; whatever stays there harms nobody.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The newest version's programs.
fn programs() -> PathBuf {
    let versions = fs::read_dir(DEBIAN).expect("PostgreSQL is installed");
    let versions = versions.flatten();
    let numbers = versions.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let newest = numbers.max().expect("PostgreSQL is installed");
    Path::new(DEBIAN).join(newest.to_string()).join("bin")
}

async fn client(url: &str) -> Option<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.ok()?;
    tokio::spawn(connection); // it ends with the client
    Some(client)
}
