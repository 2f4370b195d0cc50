//! All of `guichet up`: the servers and every role.

use std::fs;

use nix::sys::signal::{Signal, kill};

use crate::{
    checkout::{Checkout, eventually, text},
    http,
    operator::{self, Desk},
};

const ROLES: [&str; 4] = ["psp", "worker", "orchestrator", "gateway"];

#[test]
fn everything_starts_is_kept_running_and_stops() {
    let checkout = Checkout::new(0o755);
    let wrong = checkout
        .up(&[])
        .env("GUICHET_GATEWAY_BODY_MAX_BYTES", "1")
        .output()
        .expect("the binary runs");
    let said = text(&wrong);
    assert_eq!(wrong.status.code(), Some(1), "{said}");
    for part in ["gateway did not start", "GUICHET_GATEWAY_BODY_MAX_BYTES"] {
        assert!(said.contains(part), "{part} is missing in: {said}");
    }
    assert_eq!(checkout.processes(), Vec::<String>::new());

    let (mut running, table) = checkout.everything();
    assert!(
        table.contains("DEMO ORDER") && !table.contains("WRONG"),
        "{table}"
    );
    let row = table.lines().find(|line| line.starts_with("gateway"));
    let mut words = row.expect("printed").split_whitespace().skip(1);
    let address = words.next().expect("an address");
    let address = address.strip_prefix("http://").expect("a URL").to_owned();
    let fine =
        || http::status(&address, "/v1/sports").is_some_and(|status| status.contains(" 200 "));
    eventually("the catalogue is served", fine);
    let desk = Desk::new(&checkout, &address);
    operator::looking_changes_nothing(&desk);
    operator::what_makes_no_sense_is_refused_with_its_exit_code(&desk);
    operator::a_review_is_decided_once(&desk);
    operator::what_asks_for_a_person_is_taken_on_and_given_back(&desk);
    operator::a_broken_promise_is_found_and_named(&desk);
    let pid = checkout.pid_of("gateway").expect("it runs");
    kill(pid, Signal::SIGKILL).expect("it runs");
    eventually("another gateway serves", || {
        checkout.pid_of("gateway").is_some_and(|new| new != pid) && fine()
    });

    let pids: Vec<_> = ROLES
        .iter()
        .filter_map(|role| checkout.pid_of(role))
        .collect();
    assert_eq!(pids.len(), ROLES.len());
    running.signal(Signal::SIGTERM);
    let status = running.0.wait().expect("it ends");
    assert!(status.success(), "{status}");
    for pid in pids {
        assert!(kill(pid, None).is_err(), "{pid} must be gone");
    }
    assert_eq!(checkout.processes(), Vec::<String>::new());
    let left = fs::read_dir(checkout.path("run")).expect("there").count();
    assert_eq!(left, 0);
}
