//! A checkout of a test's own.

use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// No step of a test takes longer, not even on a machine that compiles at the same time.
const DEADLINE: Duration = Duration::from_secs(240);

/// A checkout: a folder for `.guichet`, removed at the end with whatever is linked from it.
pub(crate) struct Checkout(PathBuf);

impl Checkout {
    /// With `mode` 0o700 the servers' own users cannot enter it.
    pub(crate) fn new(mode: u32) -> Self {
        let name = format!("guichet-up-{:016x}", rand::random::<u64>());
        let path = std::env::temp_dir().join(name);
        fs::DirBuilder::new()
            .mode(mode)
            .create(&path)
            .expect("the temporary folder is writable");
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode))
            .expect("it is ours");
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(".guichet").join(name)
    }

    /// The program, without the servers that the tests themselves have.
    pub(crate) fn guichet(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_guichet"));
        command
            .current_dir(&self.0)
            .args(arguments)
            .env_remove("GUICHET_DATABASE_URL")
            .env_remove("GUICHET_AMQP_URL")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn up(&self, arguments: &[&str]) -> Command {
        let mut command = self.guichet(&["up"]);
        command.args(arguments);
        command
    }

    /// Runs a shell script with the servers up.
    pub(crate) fn exec(&self, script: &str) -> Output {
        self.up(&["--exec", "--", "sh", "-ec", script])
            .output()
            .expect("the binary runs")
    }

    /// Starts the servers and waits until they are ready.
    pub(crate) fn servers(&self) -> Running {
        let _ = fs::remove_file(self.path("env"));
        let mut command = self.up(&["--servers-only"]);
        self.until(command.stderr(Stdio::inherit()), || {
            self.path("env").exists()
        })
    }

    /// Starts everything and waits until `up` has nothing more to do but to keep it running. Returns
    /// the table it has printed.
    pub(crate) fn everything(&self) -> (Running, String) {
        let (table, said) = (self.0.join("table"), self.0.join("said"));
        let file = |path: &Path| fs::File::create(path).expect("the folder is ours");
        let mut command = self.up(&[]);
        command.stdout(file(&table)).stderr(file(&said));
        let read = |path: &Path| fs::read_to_string(path).expect("it is there");
        let running = self.until(&mut command, || read(&said).contains("Ctrl-C stops"));
        (running, read(&table))
    }

    fn until(&self, command: &mut Command, ready: impl Fn() -> bool) -> Running {
        let mut running = Running(command.spawn().expect("the binary runs"));
        eventually("what was started is ready", || {
            let ended = running.0.try_wait().expect("it can be asked");
            assert!(ended.is_none(), "up ended: {ended:?}");
            ready()
        });
        running
    }

    pub(crate) fn port(&self, name: &str) -> u16 {
        let state = fs::read_to_string(self.path("state")).expect("written");
        let line = state
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name} = ")))
            .unwrap_or_else(|| panic!("no {name} in {state}"));
        line.parse().expect("a port")
    }

    pub(crate) fn pid_of(&self, name: &str) -> Option<Pid> {
        let record = fs::read_to_string(self.path("run").join(name)).ok()?;
        let pid = record.split_whitespace().next()?.parse().ok()?;
        Some(Pid::from_raw(pid))
    }

    /// Processes that work in one of our folders.
    pub(crate) fn processes(&self) -> Vec<String> {
        let homes: Vec<PathBuf> = ["postgres", "rabbitmq"]
            .iter()
            .filter_map(|name| self.path(name).canonicalize().ok())
            .collect();
        let inside = |dir: &Path| homes.iter().any(|home| dir.starts_with(home));
        fs::read_dir("/proc")
            .expect("Linux has it")
            .flatten()
            .filter(|entry| fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| inside(&cwd)))
            .map(|entry| {
                let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
                format!("{} {}", entry.file_name().to_string_lossy(), name.trim())
            })
            .collect()
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        for name in ["postgres", "rabbitmq"] {
            if let Ok(target) = fs::read_link(self.path(name))
                && let Some(elsewhere) = target.parent()
            {
                let _ = fs::remove_dir_all(elsewhere);
            }
        }
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `up`, told to stop when the test ends early.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.0.id()).expect("ids are small");
        kill(Pid::from_raw(pid), signal).expect("it runs");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            self.signal(Signal::SIGTERM);
            let _ = self.0.wait();
        }
    }
}

pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(
            began.elapsed() < DEADLINE,
            "not within the deadline: {what}"
        );
        sleep(Duration::from_millis(50));
    }
}

pub(crate) fn text(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
