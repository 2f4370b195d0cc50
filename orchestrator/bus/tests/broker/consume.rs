//! Consuming: what is unreadable is parked, what is foreign is dropped, what is not acknowledged
//! comes again.

use crate::fixture::{Fixture, eventually, ids, next, pay, pays, receive, within};
use bus::{
    Config,
    testing::{INCARNATION, Proxy, RawBroker, RawMessage, TestNamespace},
};
use contract::{
    Command, Envelope, Event, Incarnation, MessageId, Outcome, SagaId, Signal, StepKind, StepName,
};

const DO_PAY: [(StepName, StepKind); 1] = [(StepName::PAY, StepKind::Do)];
const COMMAND: Option<&str> = Some("guichet.command.v1");

async fn parked(fixture: &Fixture, raw: &RawBroker) -> RawMessage {
    let queue = fixture.namespace.topology().parked_queue();
    let mut taken = None;
    eventually("something is parked", async || {
        taken = raw.take(&queue).await;
        taken.is_some()
    })
    .await;
    taken.expect("just taken")
}

fn json(command: &Command) -> String {
    serde_json::to_string(command).expect("serialises")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_envelope_is_parked_and_its_neighbours_go_on() {
    let fixture = Fixture::new().await;
    let mut receiver = fixture.bus.consume_commands(&DO_PAY, 8);
    fixture.ready().await;
    let raw = fixture.namespace.raw().await;
    let (one, two) = (pay(), pay());
    let body = format!(r#"[{},{{"id":"poison"}},{}]"#, json(&one), json(&two));
    let exchange = fixture.namespace.topology().commands_exchange();
    raw.publish(&exchange, "pay", COMMAND, body.as_bytes())
        .await;

    let delivery = next(&mut receiver).await;
    assert_eq!(delivery.envelopes, [one, two]);
    // It is parked before the message can be acknowledged.
    let poison = raw
        .take(&fixture.namespace.topology().parked_queue())
        .await
        .expect("parked");
    assert_eq!(poison.body, br#"{"id":"poison"}"#);
    assert_eq!(poison.header("x-source"), Some("pay"));
    assert_eq!(poison.header("x-type"), COMMAND);
    assert!(
        poison
            .header("x-reason")
            .expect("a reason")
            .contains("guichet.command.v1")
    );
    delivery.acker.ack().await;
    fixture.stopped().await;
    fixture
        .waiting(&fixture.command_queue(&StepName::PAY), 0)
        .await;
}

/// A good envelope, one that nobody can read, and another good one.
fn around<T: Envelope>(poison: &str, good: &[T; 2]) -> Vec<u8> {
    let [one, two] = good
        .each_ref()
        .map(|good| serde_json::to_string(good).expect("serialises"));
    format!("[{one},{poison},{two}]").into_bytes()
}

/// What is neither a nudge nor an event, one more subtly than the other.
const POISON: [&str; 7] = [
    "7",
    "null",
    r#""x""#,
    "[]",
    "{}",
    r#"{"id":"poison"}"#,
    r#"{"id":"0190e209-a000-7357-9056-b569f59fe897","saga_id":7,"incarnation":"0000000000000007"}"#,
];

/// The poison, and nothing else, is parked before its message can be acknowledged.
async fn assert_parked<T: Envelope>(
    fixture: &Fixture,
    raw: &RawBroker,
    poison: &str,
    source: &str,
) {
    let queue = fixture.namespace.topology().parked_queue();
    let parked = raw.take(&queue).await.expect("parked");
    assert_eq!(parked.body, poison.as_bytes());
    assert_eq!(parked.header("x-source"), Some(source));
    assert_eq!(parked.header("x-type"), Some(T::TYPE.0));
    let reason = parked.header("x-reason").expect("a reason");
    assert!(reason.contains(T::TYPE.0), "{reason}");
    assert_eq!(raw.take(&queue).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_nudge_is_parked_and_its_neighbours_go_on() {
    let fixture = Fixture::new().await;
    let mut inbox = fixture.bus.consume_replies(8);
    fixture.bus.bind_shards(&[3]);
    fixture.ready().await;
    let raw = fixture.namespace.raw().await;
    let exchange = fixture.namespace.topology().sagas_exchange();
    let signal = || Signal {
        id: MessageId::new(),
        saga_id: SagaId::new(),
        incarnation: INCARNATION,
        traceparent: None,
    };
    for poison in POISON {
        let good = [signal(), signal()];
        let kind = Some(Signal::TYPE.0);
        raw.publish(&exchange, "3", kind, &around(poison, &good))
            .await;
        let delivery = next(&mut inbox).await;
        assert_eq!(delivery.signals, good, "{poison}");
        assert_eq!(delivery.replies, []);
        assert_parked::<Signal>(&fixture, &raw, poison, "replies").await;
        delivery.acker.ack().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_event_is_parked_and_its_neighbours_go_on() {
    let fixture = Fixture::new().await;
    let mut events = fixture.bus.consume_events();
    fixture.ready().await;
    let raw = fixture.namespace.raw().await;
    let exchange = fixture.namespace.topology().events_exchange();
    let event = |status: &str| Event {
        id: MessageId::new(),
        saga_id: SagaId::new(),
        rev: 5,
        status: status.to_owned(),
        at: chrono::DateTime::UNIX_EPOCH,
        incarnation: INCARNATION,
        traceparent: None,
    };
    for poison in POISON {
        let good = [event("confirmed"), event("cancelled")];
        let kind = Some(Event::TYPE.0);
        raw.publish(&exchange, "order.changed", kind, &around(poison, &good))
            .await;
        for good in good {
            assert_eq!(next(&mut events).await, good, "{poison}");
        }
        assert_parked::<Event>(&fixture, &raw, poison, "events").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_another_kind_are_parked_whole() {
    let fixture = Fixture::new().await;
    let mut receiver = fixture.bus.consume_commands(&DO_PAY, 8);
    fixture.ready().await;
    let raw = fixture.namespace.raw().await;
    let exchange = fixture.namespace.topology().commands_exchange();
    let good = format!("[{}]", json(&pay()));
    let huge = vec![b' '; 1024 * 1024 + 1];
    let long_type = "x".repeat(255);
    for (kind, body, reason) in [
        (None, good.as_bytes(), "type is none"),
        (
            Some("guichet.command.v2"),
            good.as_bytes(),
            "type is guichet.command.v2",
        ),
        (
            Some("guichet.reply.v1"),
            good.as_bytes(),
            "expected guichet.command.v1",
        ),
        (Some(long_type.as_str()), good.as_bytes(), "type is xxx"),
        (COMMAND, b"", "not a JSON array"),
        (COMMAND, b"\xff\xfe\x00", "not a JSON array"),
        (COMMAND, b"{}", "not a JSON array"),
        (COMMAND, huge.as_slice(), "1048577 bytes"),
    ] {
        raw.publish(&exchange, "pay", kind, body).await;
        let parked = parked(&fixture, &raw).await;
        let found = parked.header("x-reason").expect("a reason");
        assert!(found.contains(reason), "{found:?} does not say {reason:?}");
        assert_eq!(parked.body, body);
    }
    // The consumer is alive and nothing is left behind.
    fixture.publish_all(pays(1)).await;
    receive(&mut receiver, 1).await;
    fixture.stopped().await;
    fixture
        .waiting(&fixture.command_queue(&StepName::PAY), 0)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reply_queue_parks_what_is_neither_reply_nor_signal() {
    let fixture = Fixture::new().await;
    let mut inbox = fixture.bus.consume_replies(8);
    let queue = fixture
        .ready()
        .await
        .reply_queue
        .expect("replies are consumed");
    let raw = fixture.namespace.raw().await;
    for kind in [None, COMMAND, Some("guichet.signal.v1")] {
        raw.publish("", &queue, kind, br#"[{"x":1}]"#).await;
        assert_eq!(
            parked(&fixture, &raw).await.header("x-source"),
            Some("replies")
        );
    }
    let reply = pay().reply(Outcome::Done);
    let sent = fixture.bus.publish_replies(vec![(queue, reply.clone())]);
    within("sent", sent).await.expect("written");
    assert_eq!(next(&mut inbox).await.replies, [reply]);
}

#[tokio::test(flavor = "multi_thread")]
async fn envelopes_of_another_incarnation_are_dropped() {
    let fixture = Fixture::new().await;
    let mut receiver = fixture.bus.consume_commands(&DO_PAY, 8);
    let mut commands = pays(4);
    commands[0].incarnation = Incarnation(8);
    commands[2].incarnation = Incarnation(8);
    fixture.publish_all(commands.clone()).await;
    // A message that holds nothing else is settled by the bus itself.
    fixture.publish_all(commands[..1].to_vec()).await;
    fixture.publish_all(commands[3..].to_vec()).await;
    let delivery = next(&mut receiver).await;
    assert_eq!(
        delivery.envelopes,
        [commands[1].clone(), commands[3].clone()]
    );
    delivery.acker.ack().await;
    let delivery = next(&mut receiver).await;
    assert_eq!(delivery.envelopes, commands[3..]);
    delivery.acker.ack().await;
    fixture.stopped().await;
    fixture
        .waiting(&fixture.command_queue(&StepName::PAY), 0)
        .await;
    fixture
        .waiting(&fixture.namespace.topology().parked_queue(), 0)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_acknowledged_comes_again_with_the_next_session() {
    let namespace = TestNamespace::new();
    let proxy = Proxy::to(&namespace.config()).await;
    let fixture = Fixture::with(namespace, |config| proxy.through(&config)).await;
    // With a prefetch of 2 the third message proves that the broker has the first one's ack.
    let mut receiver = fixture.bus.consume_commands(&DO_PAY, 2);
    fixture.publish_all(pays(1)).await;
    fixture.publish_all(pays(1)).await;
    fixture.publish_all(pays(1)).await;

    let acked = next(&mut receiver).await;
    acked.acker.ack().await;
    let dropped = next(&mut receiver).await;
    let kept = next(&mut receiver).await;
    assert!(!dropped.redelivered);
    let expected = ids(dropped.envelopes.iter().chain(&kept.envelopes));
    drop(dropped.acker);

    proxy.cut();
    fixture
        .state("a new session", |state| {
            state.session == 2 && state.connected
        })
        .await;
    // Its session is gone: this acknowledges nothing, and above all no message of the new session.
    kept.acker.ack().await;
    let again = [next(&mut receiver).await, next(&mut receiver).await];
    assert!(again.iter().all(|delivery| delivery.redelivered));
    assert_eq!(
        ids(again.iter().flat_map(|delivery| &delivery.envelopes)),
        expected
    );
    for delivery in again {
        delivery.acker.ack().await;
    }
    fixture.stopped().await;
    fixture
        .waiting(&fixture.command_queue(&StepName::PAY), 0)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_prefetch_bounds_what_is_in_hand() {
    let one_each = |config| Config {
        batch_max_envelopes: 1,
        ..config
    };
    let fixture = Fixture::with(TestNamespace::new(), one_each).await;
    let mut receiver = fixture.bus.consume_commands(&DO_PAY, 3);
    fixture.ready().await;
    fixture.publish_all(pays(10)).await;
    fixture
        .waiting(&fixture.command_queue(&StepName::PAY), 7)
        .await;
    let delivery = next(&mut receiver).await;
    delivery.acker.ack().await;
    fixture
        .waiting(&fixture.command_queue(&StepName::PAY), 6)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_lets_go_gives_everything_back() {
    let one_each = |config| Config {
        batch_max_envelopes: 1,
        ..config
    };
    let fixture = Fixture::with(TestNamespace::new(), one_each).await;
    let mut receiver = fixture.bus.consume_commands(&DO_PAY, 8);
    fixture.ready().await;
    fixture.publish_all(pays(5)).await;
    let in_hand = next(&mut receiver).await;
    drop(receiver);
    fixture
        .waiting(&fixture.command_queue(&StepName::PAY), 5)
        .await;
    in_hand.acker.ack().await;
    assert_eq!(
        fixture.bus.state().borrow().session,
        1,
        "the session is untouched"
    );
    let mut receiver = fixture.bus.consume_commands(&DO_PAY, 8);
    receive(&mut receiver, 5).await;
}
