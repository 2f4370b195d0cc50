//! The private servers of `guichet up`: the real PostgreSQL and RabbitMQ.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Uid,
};

use crate::checkout::{Checkout, eventually, text};

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
fn statements_are_counted() {
    let checkout = Checkout::new(0o755);
    let counted = checkout.exec(
        "ask() { psql -Atq \"$GUICHET_DATABASE_URL\" -c \"$1\"; }
         ask 'SELECT 4745003' >/dev/null
         ask \"SELECT sum(calls) FROM pg_stat_statements WHERE query = 'SELECT \\$1'\"",
    );
    assert_eq!(
        String::from_utf8_lossy(&counted.stdout),
        "1\n",
        "{}",
        text(&counted)
    );
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
