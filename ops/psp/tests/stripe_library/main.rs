//! Stripe's own Python library, unchanged, drives the simulator: `drive.py` says what it checks.
//!
//! The library is installed from PyPI into an environment below `target/`, once for each version of
//! `requirements.txt`. Where Python or the library cannot be had, this fails: what is not shown is not so.

#[path = "../api/support.rs"]
#[expect(dead_code, reason = "the other tests of the API use the rest of it")]
mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::{KEY, Sim};

const SECRET: &str = "whsec_of_these_tests";

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stripe_library")
}

fn run(what: &str, command: &mut Command) {
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{what}: cannot run {command:?}: {error}"));
    assert!(
        output.status.success(),
        "{what} ({command:?}):\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The interpreter of an environment in which the library is installed.
fn python() -> PathBuf {
    let requirements = here().join("requirements.txt");
    let wanted = fs::read_to_string(&requirements).expect("the requirements are in the checkout");
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stripe-library");
    let (interpreter, stamp) = (home.join("bin/python"), home.join("installed.txt"));
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return interpreter;
    }
    let _ = fs::remove_dir_all(&home);
    let make = "making a Python environment (Debian: apt-get install python3-venv)";
    run(
        make,
        Command::new("python3").args(["-m", "venv"]).arg(&home),
    );
    let mut install = Command::new(&interpreter);
    install.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]);
    run(
        "installing Stripe's library from PyPI",
        install.arg("-r").arg(&requirements),
    );
    fs::write(&stamp, wanted).expect("target/ is writable");
    interpreter
}

#[tokio::test(flavor = "multi_thread")]
async fn stripes_own_library_drives_the_simulator() {
    let interpreter = tokio::task::spawn_blocking(python)
        .await
        .expect("installed");
    let mut driver = Command::new(interpreter)
        .arg(here().join("drive.py"))
        // Whatever this machine's way to the outside is, the simulator is not there.
        .env("NO_PROXY", "127.0.0.1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the environment has an interpreter");
    let mut output = BufReader::new(driver.stdout.take().expect("piped"));
    let mut webhook_url = String::new();
    output.read_line(&mut webhook_url).expect("its first line");
    let sim = Sim::with(|config| {
        config.webhook_url = Some(webhook_url.trim().to_owned());
        config.webhook_secret = Some(SECRET.into());
    })
    .await;
    let mut input = driver.stdin.take().expect("piped");
    writeln!(input, "{} {KEY} {SECRET}", sim.api.base).expect("it listens");
    let told = tokio::task::spawn_blocking(move || {
        let told: Vec<String> = output.lines().map_while(Result::ok).collect();
        (told, driver.wait().expect("it ends"))
    });
    let (told, ended) = told.await.expect("it is heard");
    let told = told.join("\n");
    assert!(
        ended.success(),
        "{ended}; it came as far as:\n{told}\n(its error is above)"
    );
    assert!(told.contains(" checks passed with stripe "), "{told}");
}
