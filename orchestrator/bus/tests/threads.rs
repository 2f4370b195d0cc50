//! Alone in its process, since it counts threads: a broker that accepts and says nothing must not
//! cost a thread for each attempt to connect.

use bus::{
    Bus, Config,
    testing::{INCARNATION, Proxy, TestNamespace},
};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

fn driver_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| name.starts_with("lapin-io-loop"))
        .count()
}

async fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let patience = Duration::from_secs(20);
    tokio::time::timeout(patience, async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("not within {patience:?}: {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_broker_costs_no_thread_for_each_attempt() {
    let namespace = TestNamespace::new();
    let proxy = Proxy::to(&namespace.config()).await;
    let config = Config {
        confirm_timeout_ms: 100,
        connect_timeout_ms: 100,
        reconnect_max_ms: 100,
        ..proxy.through(&namespace.config())
    };
    let stop = CancellationToken::new();
    // The first session needs its time.
    let bus = Bus::start(
        Config {
            connect_timeout_ms: 5_000,
            ..config.clone()
        },
        INCARNATION,
        stop.clone(),
    );
    bus.ready().await;
    assert_eq!(driver_threads(), 2, "one for each connection");
    stop.cancel();
    bus.stopped().await;
    eventually("an orderly stop leaves none", || driver_threads() == 0).await;

    proxy.stall(true);
    let stop = CancellationToken::new();
    let bus = Bus::start(config, INCARNATION, stop.clone());
    let failures = || counter("guichet_bus_session_failures_total");
    eventually("twenty attempts were given up", || failures() >= 20.0).await;
    let threads = driver_threads();
    assert!(
        threads <= 6,
        "{threads} threads of the driver after twenty attempts"
    );
    stop.cancel();
    bus.stopped().await;
    eventually("a stop leaves none", || driver_threads() == 0).await;
    proxy.stall(false);
}

fn counter(name: &str) -> f64 {
    prometheus::gather()
        .iter()
        .filter(|family| family.name() == name)
        .flat_map(|family| family.get_metric())
        .map(|metric| metric.get_counter().get_value())
        .sum()
}
