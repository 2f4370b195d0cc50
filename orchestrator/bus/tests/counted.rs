//! Alone in its process, since it counts: what could not be sent and is lost, and what only waits.

use bus::{
    AmqpUrl, Bus, Config, PublishError,
    testing::{INCARNATION, sample_command},
};
use contract::{Event, MessageId, Outcome, SagaId, Signal, StepKind, StepName};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Nobody is there to take anything; each message goes by itself, in a flight of its own.
fn alone() -> Config {
    Config {
        url: AmqpUrl::new("amqp://127.0.0.1:1".to_owned()),
        publish_window: 1,
        batch_max_envelopes: 1,
        ..Config::default()
    }
}

#[tokio::test]
async fn what_is_lost_without_a_broker_is_counted_and_what_is_kept_is_not() {
    let stop = CancellationToken::new();
    let bus = Bus::start(alone(), INCARNATION, stop.clone());
    let saga_id = SagaId::new();
    bus.publish_events(
        (0..5)
            .map(|rev| Event {
                id: MessageId::new(),
                saga_id,
                rev,
                status: "confirmed".to_owned(),
                at: chrono::DateTime::UNIX_EPOCH,
                incarnation: INCARNATION,
                traceparent: None,
            })
            .collect(),
    );
    let signal = || Signal {
        id: MessageId::new(),
        saga_id,
        incarnation: INCARNATION,
        traceparent: None,
    };
    bus.nudge(1, vec![signal(), signal(), signal()]);
    // A worker keeps its replies and offers them again, as often as it takes.
    for _ in 0..4 {
        let reply = sample_command(&StepName::PAY, StepKind::Do).reply(Outcome::Done);
        let sent = bus.publish_replies(vec![("somebody".to_owned(), reply)]);
        let sent = tokio::time::timeout(Duration::from_secs(20), sent).await;
        assert_eq!(sent.expect("answered"), Err(PublishError::Disconnected));
    }
    // They were handed over after the others, so those have been seen to.
    let lost = ["events", "signals", "replies"].map(|queue| counter("dropped", queue));
    assert_eq!(lost, [5.0, 3.0, 0.0]);
    assert_eq!(counter("publish_failures", "bus_disconnected"), 4.0);
    stop.cancel();
    bus.stopped().await;
}

fn counter(name: &str, label: &str) -> f64 {
    let name = format!("guichet_bus_{name}_total");
    prometheus::gather()
        .iter()
        .filter(|family| family.name() == name)
        .flat_map(|family| family.get_metric())
        .filter(|metric| metric.get_label().iter().any(|pair| pair.value() == label))
        .map(|metric| metric.get_counter().get_value())
        .sum()
}
