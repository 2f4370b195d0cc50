//! The private servers of `guichet up`, from outside: the real binary, the real PostgreSQL and
//! RabbitMQ, each test in a folder of its own. That the tests run side by side shows that two
//! checkouts do not collide.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, Uid},
};

/// No step of a test takes longer, not even on a machine that compiles at the same time.
const DEADLINE: Duration = Duration::from_secs(240);

/// A checkout: a folder for `.guichet`, removed at the end with whatever is linked from it.
struct Checkout(PathBuf);

impl Checkout {
    /// With `mode` 0o700 the servers' own users cannot enter it.
    fn new(mode: u32) -> Self {
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

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(".guichet").join(name)
    }

    fn up(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_guichet"));
        command
            .current_dir(&self.0)
            .arg("up")
            .args(arguments)
            .env_remove("GUICHET_DATABASE_URL")
            .env_remove("GUICHET_AMQP_URL")
            .stdin(Stdio::null());
        command
    }

    /// Runs a shell script with the servers up.
    fn exec(&self, script: &str) -> Output {
        self.up(&["--exec", "--", "sh", "-ec", script])
            .output()
            .expect("the binary runs")
    }

    /// Starts the servers and waits until they are ready.
    fn servers(&self) -> Running {
        let _ = fs::remove_file(self.path("env"));
        let child = self
            .up(&["--servers-only"])
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the binary runs");
        let mut running = Running(child);
        eventually("the servers are ready", || {
            let ended = running.0.try_wait().expect("it can be asked");
            assert!(ended.is_none(), "up ended: {ended:?}");
            self.path("env").exists()
        });
        running
    }

    fn port(&self, name: &str) -> u16 {
        let state = fs::read_to_string(self.path("state")).expect("written");
        let line = state
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name} = ")))
            .unwrap_or_else(|| panic!("no {name} in {state}"));
        line.parse().expect("a port")
    }

    fn pid_of(&self, name: &str) -> Option<Pid> {
        let record = fs::read_to_string(self.path("run").join(name)).ok()?;
        let pid = record.split_whitespace().next()?.parse().ok()?;
        Some(Pid::from_raw(pid))
    }

    /// Processes that work in one of our folders.
    fn processes(&self) -> Vec<String> {
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
struct Running(Child);

impl Running {
    fn signal(&self, signal: Signal) {
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

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(
            began.elapsed() < DEADLINE,
            "not within the deadline: {what}"
        );
        sleep(Duration::from_millis(50));
    }
}

fn greets_amqp(port: u16) -> bool {
    let greet = || -> std::io::Result<u8> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.write_all(b"AMQP\x00\x00\x09\x01")?;
        let mut frame = [0];
        stream.read_exact(&mut frame)?;
        Ok(frame[0])
    };
    matches!(greet(), Ok(1))
}

fn text(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn a_second_run_reuses_the_data_and_moves_away_from_a_taken_port() {
    let checkout = Checkout::new(0o755);
    let first = checkout.exec(
        "psql -qv ON_ERROR_STOP=1 \"$GUICHET_DATABASE_URL\" -c 'CREATE TABLE kept AS SELECT 42 AS n'; exit 7",
    );
    assert_eq!(first.status.code(), Some(7), "{}", text(&first));
    assert_eq!(checkout.processes(), Vec::<String>::new());
    let (postgres, amqp) = (checkout.port("postgres"), checkout.port("amqp"));

    let _stranger = TcpListener::bind(("127.0.0.1", postgres)).expect("nobody has it now");
    let second = checkout.exec("psql -Atq \"$GUICHET_DATABASE_URL\" -c 'SELECT n FROM kept'");
    assert!(second.status.success(), "{}", text(&second));
    assert_eq!(String::from_utf8_lossy(&second.stdout), "42\n");
    assert_ne!(checkout.port("postgres"), postgres);
    assert_eq!(checkout.port("amqp"), amqp);
    assert_eq!(checkout.processes(), Vec::<String>::new());
}

#[test]
fn nobody_gets_in_without_the_password_and_the_role_is_no_superuser() {
    let checkout = Checkout::new(0o755);
    let done = checkout.exec(
        "psql -Atq \"$GUICHET_DATABASE_URL\" -c \"SELECT rolsuper FROM pg_roles WHERE rolname = current_user\"
         for user in guichet postgres; do
           open=$(echo \"$GUICHET_DATABASE_URL\" | sed \"s|//.*@|//$user@|\")
           if psql -Atqw \"$open\" -c 'SELECT 1'; then echo \"$user got in\"; fi
         done",
    );
    assert!(done.status.success(), "{}", text(&done));
    assert_eq!(
        String::from_utf8_lossy(&done.stdout),
        "f\n",
        "{}",
        text(&done)
    );
    // The password is known to the owner only, and a lost one is made anew.
    fs::remove_file(checkout.path("secrets/postgres_password")).expect("it is there");
    fs::remove_file(checkout.path("secrets/amqp_password")).expect("it is there");
    let again = checkout.exec("psql -Atq \"$GUICHET_DATABASE_URL\" -c 'SELECT 1'");
    assert!(again.status.success(), "{}", text(&again));
}

#[test]
fn a_killed_run_leaves_no_server_behind_and_the_next_one_recovers() {
    let checkout = Checkout::new(0o700);
    let mut running = checkout.servers();
    if Uid::effective().is_root() {
        let link = fs::read_link(checkout.path("postgres")).expect("linked from elsewhere");
        assert!(link.starts_with("/var/lib/guichet"), "{}", link.display());
    }
    assert!(!checkout.processes().is_empty());
    running.signal(Signal::SIGKILL);
    running.0.wait().expect("killed");
    // No one but the kernel is left to stop them.
    eventually("the servers are gone", || checkout.processes().is_empty());

    let next = checkout.exec("psql -Atq \"$GUICHET_DATABASE_URL\" -c 'SELECT 1'");
    assert!(next.status.success(), "{}", text(&next));
    assert_eq!(checkout.processes(), Vec::<String>::new());
}

#[test]
fn a_killed_server_is_started_again_and_ctrl_c_stops_everything() {
    let checkout = Checkout::new(0o755);
    let mut running = checkout.servers();
    let second = checkout.up(&["--servers-only"]).output().expect("it runs");
    assert_eq!(second.status.code(), Some(4), "{}", text(&second));

    let (postgres, amqp) = (checkout.port("postgres"), checkout.port("amqp"));
    for (name, port) in [("postgres", postgres), ("rabbitmq", amqp)] {
        let pid = checkout.pid_of(name).expect("it runs");
        kill(pid, Signal::SIGKILL).expect("it runs");
        eventually("another process serves", || {
            checkout.pid_of(name).is_some_and(|new| new != pid)
                && TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
    }
    eventually("the broker speaks", || greets_amqp(amqp));
    running.signal(Signal::SIGINT);
    let status = running.0.wait().expect("it ends");
    assert!(status.success(), "{status}");
    assert_eq!(checkout.processes(), Vec::<String>::new());
    for port in [postgres, amqp] {
        assert!(TcpListener::bind(("127.0.0.1", port)).is_ok());
    }
}

#[test]
fn existing_servers_are_used_and_none_is_started() {
    let checkout = Checkout::new(0o755);
    let mut up = checkout.up(&["--exec", "--", "sh", "-c", "echo $GUICHET_AMQP_URL"]);
    let output = up
        .env("GUICHET_DATABASE_URL", "postgres://db.example/x")
        .env("GUICHET_AMQP_URL", "amqp://mq.example/x")
        .output()
        .expect("it runs");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "amqp://mq.example/x\n"
    );
    assert!(!checkout.path("postgres").exists());

    let half = up.env_remove("GUICHET_AMQP_URL").output().expect("it runs");
    assert_eq!(half.status.code(), Some(2), "{}", text(&half));
    assert!(text(&half).contains("GUICHET_AMQP_URL"), "{}", text(&half));
}

#[test]
fn a_failed_start_names_the_part_and_stops_the_others() {
    let checkout = Checkout::new(0o755);
    fs::create_dir_all(checkout.path("postgres/data")).expect("made");
    if Uid::effective().is_root() {
        let user = nix::unistd::User::from_name("postgres")
            .expect("users can be read")
            .expect("the package made him");
        for dir in ["postgres", "postgres/data"] {
            nix::unistd::chown(&checkout.path(dir), Some(user.uid), Some(user.gid))
                .expect("root may");
        }
    }
    // Not a cluster: PostgreSQL will say so when it is started.
    fs::create_dir_all(checkout.path("secrets")).expect("made");
    fs::write(checkout.path("secrets/postgres_password"), "known").expect("written");
    let failed = checkout.exec("true");
    assert_eq!(failed.status.code(), Some(1), "{}", text(&failed));
    let said = text(&failed);
    assert!(said.contains("postgres did not start"), "{said}");
    assert!(said.contains("log/postgres.log"), "{said}");
    assert_eq!(checkout.processes(), Vec::<String>::new());
}
