//! Publishing: batches, confirms, blame; and what is not confirmed.

use crate::fixture::{Fixture, eventually, ids, next, pay, pays, receive, within};
use bus::{
    Config, Parked, PublishError,
    testing::{INCARNATION, TestNamespace, sample_command},
};
use contract::{Event, MessageId, Outcome, SagaId, Signal, StepKind, StepName};

#[tokio::test(flavor = "multi_thread")]
async fn commands_travel_in_batches_and_arrive_in_order() {
    let fixture = Fixture::new().await;
    let kinds = [(StepName::PAY, StepKind::Do)];
    let mut receiver = fixture.bus.consume_commands(&kinds, 8);
    let sent = pays(250);
    fixture.publish_all(sent.clone()).await;
    let (received, sizes) = receive(&mut receiver, 250).await;
    assert_eq!(received, sent);
    assert_eq!(sizes, [100, 100, 50]);
    fixture.stopped().await;
    fixture
        .waiting(&fixture.command_queue(&StepName::PAY), 0)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_publish_at_once_share_messages() {
    let fixture = Fixture::new().await;
    let kinds = [(StepName::PAY, StepKind::Do)];
    let mut receiver = fixture.bus.consume_commands(&kinds, 50);
    fixture.ready().await;
    let sent = pays(300);
    let publishing = sent.iter().map(|command| {
        let (bus, command) = (fixture.bus.clone(), command.clone());
        tokio::spawn(async move { bus.publish_commands(vec![command]).await })
    });
    for verdicts in publishing.collect::<Vec<_>>() {
        assert_eq!(
            within("published", verdicts).await.expect("no panic"),
            [Ok(())]
        );
    }
    let (received, sizes) = receive(&mut receiver, 300).await;
    assert_eq!(ids(&received), ids(&sent));
    assert!(
        sizes.len() < 150,
        "300 callers took {} messages",
        sizes.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn undo_and_probe_have_a_queue_apart_from_do() {
    let fixture = Fixture::new().await;
    let step = StepName::RESERVE;
    let mut undos = fixture.bus.consume_commands(
        &[
            (step.clone(), StepKind::Undo),
            (step.clone(), StepKind::Probe),
        ],
        8,
    );
    let mut dos = fixture
        .bus
        .consume_commands(&[(step.clone(), StepKind::Do)], 8);
    let of = |kind| sample_command(&step, kind);
    let sent = vec![
        of(StepKind::Do),
        of(StepKind::Undo),
        of(StepKind::Probe),
        of(StepKind::Do),
    ];
    fixture.publish_all(sent.clone()).await;
    assert_eq!(
        receive(&mut dos, 2).await.0,
        [sent[0].clone(), sent[3].clone()]
    );
    assert_eq!(receive(&mut undos, 2).await.0, sent[1..3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_persistent_and_name_their_type() {
    let fixture = Fixture::new().await;
    fixture.publish_all(pays(2)).await;
    let raw = fixture.namespace.raw().await;
    let message = raw
        .take(&fixture.command_queue(&StepName::PAY))
        .await
        .expect("published");
    assert_eq!(message.delivery_mode, Some(2));
    assert_eq!(message.kind.as_deref(), Some("guichet.command.v1"));
    assert_eq!(
        contract::decode_batch::<contract::Command>(&message.body)
            .envelopes
            .len(),
        2
    );
}

/// The driver hangs a return on any confirm; with hundreds in flight the blame must still be right,
/// and a queue that was deleted must come back.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_unroutable_fail_among_many_in_flight() {
    let one_each = |config| Config {
        batch_max_envelopes: 1,
        publish_window: 1_000,
        ..config
    };
    let fixture = Fixture::with(TestNamespace::new(), one_each).await;
    fixture.bus.declare_steps(&StepName::OF_AN_ORDER);
    fixture.ready().await;
    let raw = fixture.namespace.raw().await;
    let mixed = || -> Vec<_> {
        let step = |n: usize| &StepName::OF_AN_ORDER[n % 5];
        (0..500)
            .map(|n| sample_command(step(n), StepKind::Do))
            .collect()
    };
    for missing in [StepName::PAY, StepName::RESERVE, StepName::NOTIFY] {
        raw.delete_queue(&fixture.command_queue(&missing)).await;
        let commands = mixed();
        let expected: Vec<_> = commands
            .iter()
            .map(|command| match command.step == missing {
                true => Err(PublishError::Returned),
                false => Ok(()),
            })
            .collect();
        let verdicts = within("published", fixture.bus.publish_commands(commands)).await;
        assert_eq!(verdicts, expected);
        fixture.publish_all(mixed()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_and_nudges_reach_the_owner_of_the_shard() {
    let owner = Fixture::new().await;
    let worker = owner.second().await;
    let mut inbox = owner.bus.consume_replies(8);
    owner.bus.bind_shards(&[3, 4]);
    let queue = owner
        .ready()
        .await
        .reply_queue
        .expect("replies are consumed");

    let replies: Vec<_> = (0..150).map(|_| pay().reply(Outcome::Done)).collect();
    let addressed = replies
        .iter()
        .map(|reply| (queue.clone(), reply.clone()))
        .collect();
    within("sent", worker.publish_replies(addressed))
        .await
        .expect("written");
    let mut received = Vec::new();
    while received.len() < 150 {
        let delivery = next(&mut inbox).await;
        assert!(delivery.signals.is_empty() && !delivery.replies.is_empty());
        received.extend(delivery.replies);
        delivery.acker.ack().await;
    }
    assert_eq!(received, replies);

    let signal = || Signal {
        id: MessageId::new(),
        saga_id: SagaId::new(),
        incarnation: INCARNATION,
        traceparent: None,
    };
    let (lost, mine) = (signal(), signal());
    worker.nudge(5, vec![lost]);
    worker.nudge(4, vec![mine.clone()]);
    let delivery = next(&mut inbox).await;
    assert_eq!((delivery.signals, delivery.replies), (vec![mine], vec![]));
    delivery.acker.ack().await;

    owner.bus.bind_shards(&[5]);
    owner.ready().await;
    let (gone, moved) = (signal(), signal());
    worker.nudge(4, vec![gone]);
    worker.nudge(5, vec![moved.clone()]);
    assert_eq!(next(&mut inbox).await.signals, [moved]);
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_without_a_queue_are_counted_and_hurt_nobody() {
    let fixture = Fixture::new().await;
    let mut inbox = fixture.bus.consume_replies(8);
    let queue = fixture
        .ready()
        .await
        .reply_queue
        .expect("replies are consumed");
    let before = counter("guichet_bus_returned_total", "replies");
    let good = pay().reply(Outcome::Done);
    let sent = fixture.bus.publish_replies(vec![
        ("no.such.queue".to_owned(), pay().reply(Outcome::Done)),
        ("x".repeat(300), pay().reply(Outcome::Done)),
        (queue, good.clone()),
    ]);
    within("sent", sent).await.expect("written");
    assert_eq!(next(&mut inbox).await.replies, [good]);
    eventually("the return is counted", async || {
        counter("guichet_bus_returned_total", "replies") > before
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_consumer_of_events_gets_them_all() {
    let fixture = Fixture::new().await;
    let other = fixture.second().await;
    let (mut one, mut two) = (fixture.bus.consume_events(), other.consume_events());
    fixture.ready().await;
    within("ready", other.ready()).await;
    let event = |status: &str| Event {
        id: MessageId::new(),
        saga_id: SagaId::new(),
        rev: 1,
        status: status.to_owned(),
        at: chrono::DateTime::UNIX_EPOCH,
        incarnation: INCARNATION,
        traceparent: None,
    };
    let events = vec![event("confirmed"), event("confirmed"), event("confirmed")];
    fixture.bus.publish_events(events.clone());
    for receiver in [&mut one, &mut two] {
        for event in &events {
            assert_eq!(next(receiver).await, *event);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_owner_parks_waits_with_its_reason() {
    let fixture = Fixture::new().await;
    let parked = Parked {
        body: b"[\0]".to_vec(),
        reason: format!("no such saga\0{}", "x".repeat(1_000)),
        source: "replies".to_owned(),
        kind: Some("guichet.reply.v1".to_owned()),
    };
    within("parked", fixture.bus.park(vec![parked]))
        .await
        .expect("parked");
    let raw = fixture.namespace.raw().await;
    let message = raw
        .take(&fixture.namespace.topology().parked_queue())
        .await
        .expect("is there");
    assert_eq!(message.body, b"[\0]");
    assert_eq!(message.delivery_mode, Some(2));
    assert_eq!(message.header("x-source"), Some("replies"));
    assert_eq!(message.header("x-type"), Some("guichet.reply.v1"));
    let reason = message.header("x-reason").expect("a reason");
    assert!(
        reason.starts_with("no such sagax") && reason.len() == 500,
        "{reason}"
    );
}

fn counter(name: &str, label: &str) -> f64 {
    prometheus::gather()
        .iter()
        .filter(|family| family.name() == name)
        .flat_map(|family| family.get_metric())
        .filter(|metric| metric.get_label().iter().any(|pair| pair.value() == label))
        .map(|metric| metric.get_counter().get_value())
        .sum()
}
