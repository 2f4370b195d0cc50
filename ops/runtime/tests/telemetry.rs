//! Logging of a real process: this test binary, started again as the child.

use std::process::Command;

use runtime::telemetry::{self, Config, Format};

const CHILD: &str = "RUNTIME_TELEMETRY_CHILD";

fn child(format: Format) {
    let config = Config {
        format,
        ..Config::default()
    };
    telemetry::init("gateway", &config).expect("the first time");
    telemetry::init("gateway", &config).expect_err("the second time");
    tracing::info!(trace_id = "t1", "started");
    let ended = std::thread::Builder::new()
        .name("doomed".to_owned())
        .spawn(|| panic!("planted"));
    ended.expect("started").join().expect_err("it panicked");
}

fn run(format: &str) -> String {
    let output = Command::new(std::env::current_exe().expect("a test binary"))
        .args([
            "--exact",
            "events_and_panics_go_to_standard_error",
            "--nocapture",
        ])
        .env(CHILD, format)
        .env("RUST_BACKTRACE", "0")
        .output()
        .expect("started");
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(output.status.success(), "{text}");
    text
}

#[test]
fn events_and_panics_go_to_standard_error() {
    match std::env::var(CHILD).as_deref() {
        Ok("auto") => return child(Format::Auto),
        Ok(_) => return child(Format::Text),
        Err(_) => {}
    }
    // Not a terminal, so JSON.
    let json = run("auto");
    let events: Vec<serde_json::Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    assert_eq!(events.len(), 2, "{json}");
    assert_eq!(events[0]["trace_id"], "t1");
    assert_eq!(events[0]["role"], "gateway");
    assert_eq!(events[1]["panic"], "planted");
    assert_eq!(events[1]["thread"], "doomed");
    let location = events[1]["location"].as_str().expect("a location");
    assert!(location.contains("telemetry.rs:"), "{location}");

    let text = run("text");
    assert!(text.contains("gateway      20"), "{text}");
    assert!(text.contains("panic=\"planted\""), "{text}");
    assert!(!text.contains('\u{1b}'), "not a terminal: {text}");
}
