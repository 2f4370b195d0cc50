//! Signals, sent to a real process: this test binary, started again as the child.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const CHILD: &str = "RUNTIME_SHUTDOWN_CHILD";

/// What the child runs: it reports on standard output and, if told to, never finishes its drain.
fn child(behaviour: &str) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let token = runtime::shutdown::signal();
        say("waiting");
        token.cancelled().await;
        say("stopping");
        if behaviour == "stubborn" {
            std::future::pending::<()>().await;
        }
    });
}

/// Past the test harness, which would capture it.
fn say(line: &str) {
    use std::io::Write;
    writeln!(std::io::stdout(), "child: {line}").expect("the parent reads");
}

fn start(behaviour: &str) -> (Child, impl FnMut(&str)) {
    let mut child = Command::new(std::env::current_exe().expect("a test binary"))
        .args(["--exact", "signals_stop_once_and_exit_twice", "--nocapture"])
        .env(CHILD, behaviour)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("started");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let wait_for = move |line: &str| wait_for(&mut lines, line);
    (child, wait_for)
}

fn wait_for(lines: &mut std::io::Lines<BufReader<ChildStdout>>, line: &str) {
    let expected = format!("child: {line}");
    let found = lines.any(|line| line.expect("UTF-8").ends_with(&expected));
    assert!(found, "the child ended before it said {line:?}");
}

fn send(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).expect("a pid");
    kill(Pid::from_raw(pid), signal).expect("sent");
}

#[test]
fn signals_stop_once_and_exit_twice() {
    if let Ok(behaviour) = std::env::var(CHILD) {
        return child(&behaviour);
    }
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let (mut process, mut wait_for) = start("orderly");
        wait_for("waiting");
        send(&process, signal);
        wait_for("stopping");
        assert_eq!(process.wait().expect("ended").code(), Some(0));
    }
    for (signal, status) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let (mut process, mut wait_for) = start("stubborn");
        wait_for("waiting");
        send(&process, Signal::SIGTERM);
        wait_for("stopping");
        send(&process, signal);
        assert_eq!(process.wait().expect("ended").code(), Some(status));
    }
}
