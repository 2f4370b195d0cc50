//! Losing the session in every way, and getting another.

use crate::fixture::{Fixture, eventually, next, pay, pays, receive, within};
use bus::{
    AmqpUrl, Config, PublishError, QueueType,
    testing::{INCARNATION, Proxy, TestNamespace},
};
use contract::{MessageId, Outcome, SagaId, Signal, StepKind, StepName, TraceParent};
use std::time::{Duration, Instant};

const DO_PAY: [(StepName, StepKind); 1] = [(StepName::PAY, StepKind::Do)];

async fn proxied(change: impl FnOnce(Config) -> Config) -> (Fixture, Proxy) {
    let namespace = TestNamespace::new();
    let proxy = Proxy::to(&namespace.config()).await;
    let fixture = Fixture::with(namespace, |config| proxy.through(&change(config))).await;
    (fixture, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_cut_everything_resumes_under_a_new_reply_queue() {
    let (fixture, proxy) = proxied(|config| config).await;
    let mut commands = fixture.bus.consume_commands(&DO_PAY, 8);
    let mut inbox = fixture.bus.consume_replies(8);
    let mut events = fixture.bus.consume_events();
    fixture.bus.bind_shards(&[1]);
    let first = fixture.ready().await;
    assert_eq!(first.session, 1);

    for session in 2..5 {
        let before = fixture
            .bus
            .state()
            .borrow()
            .reply_queue
            .clone()
            .expect("consumed");
        proxy.cut();
        let state = fixture
            .state("a new session", |state| {
                state.session == session && state.connected
            })
            .await;
        let queue = state.reply_queue.expect("replies are consumed");
        assert_ne!(queue, before);

        fixture.publish_all(pays(3)).await;
        receive(&mut commands, 3).await;

        let reply = pay().reply(Outcome::Done);
        let sent = fixture.bus.publish_replies(vec![(queue, reply.clone())]);
        within("sent", sent).await.expect("written");
        let delivery = next(&mut inbox).await;
        assert_eq!(delivery.replies, [reply]);
        delivery.acker.ack().await;

        let signal = Signal {
            id: MessageId::new(),
            saga_id: SagaId::new(),
            incarnation: INCARNATION,
            traceparent: Some(TraceParent::new(7, 7, true)),
        };
        fixture.bus.nudge(1, vec![signal.clone()]);
        let delivery = next(&mut inbox).await;
        assert_eq!(delivery.signals, [signal]);
        delivery.acker.ack().await;

        let event = contract::Event {
            id: MessageId::new(),
            saga_id: SagaId::new(),
            rev: 1,
            status: "confirmed".to_owned(),
            at: chrono::DateTime::UNIX_EPOCH,
            incarnation: INCARNATION,
            traceparent: Some(TraceParent::new(7, 8, true)),
        };
        fixture.bus.publish_events(vec![event.clone()]);
        assert_eq!(next(&mut events).await, event);
    }
}

/// A peer that accepts and says nothing: no confirm comes, no error either.
#[tokio::test(flavor = "multi_thread")]
async fn confirms_that_never_come_time_out_and_publishing_is_refused_until_it_works_again() {
    let quick = |config| Config {
        confirm_timeout_ms: 500,
        connect_timeout_ms: 500,
        reconnect_max_ms: 200,
        ..config
    };
    let (fixture, proxy) = proxied(quick).await;
    fixture.publish_all(pays(1)).await;

    proxy.stall(true);
    let began = Instant::now();
    let commands = pays(3);
    let verdicts = within("answered", fixture.bus.publish_commands(commands)).await;
    assert_eq!(verdicts, vec![Err(PublishError::TimedOut); 3]);
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "took {:?}",
        began.elapsed()
    );
    fixture
        .state("the session is given up", |state| !state.connected)
        .await;

    let began = Instant::now();
    assert_eq!(
        fixture.publish_one(pay()).await,
        Err(PublishError::Disconnected)
    );
    assert!(
        began.elapsed() < Duration::from_millis(400),
        "refused at once"
    );

    // Attempts to connect hang in the handshake; each is given up, and leaves no thread behind.
    eventually("an attempt to connect is given up", async || {
        fixture
            .bus
            .state()
            .borrow()
            .problem
            .as_ref()
            .is_some_and(|p| p.contains("not connected"))
    })
    .await;

    proxy.stall(false);
    fixture
        .state("connected again", |state| state.connected)
        .await;
    fixture.publish_all(pays(1)).await;
}

/// A flight in the air when the connection dies is answered, not left hanging.
#[tokio::test(flavor = "multi_thread")]
async fn a_flight_cut_in_the_air_fails_and_the_next_succeeds() {
    let (fixture, proxy) = proxied(|config| config).await;
    fixture.publish_all(pays(1)).await;
    proxy.stall(true);
    let bus = fixture.bus.clone();
    let flight = tokio::spawn(async move { bus.publish_commands(pays(2)).await });
    // Another caller's request is answered only after the flight before it.
    let bus = fixture.bus.clone();
    let behind = tokio::spawn(async move { bus.publish_commands(pays(1)).await });
    proxy.cut();
    for flight in [flight, behind] {
        for verdict in within("answered", flight).await.expect("no panic") {
            assert!(
                matches!(
                    verdict,
                    Err(PublishError::Lost | PublishError::Disconnected)
                ),
                "{verdict:?}"
            );
        }
    }
    proxy.stall(false);
    fixture
        .state("a new session", |state| {
            state.session == 2 && state.connected
        })
        .await;
    fixture.publish_all(pays(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_broker_is_a_quick_refusal_not_a_stuck_task() {
    let (fixture, proxy) = proxied(|config| config).await;
    let mut commands = fixture.bus.consume_commands(&DO_PAY, 8);
    fixture.ready().await;

    // One flight is in the air when the broker says it.
    proxy.stall(true);
    let bus = fixture.bus.clone();
    let flight = tokio::spawn(async move { bus.publish_commands(pays(2)).await });
    let bus = fixture.bus.clone();
    let began = Instant::now();
    proxy.say_blocked(true);
    fixture.state("blocked", |state| state.blocked).await;
    for verdict in within("answered", flight).await.expect("no panic") {
        assert_eq!(verdict, Err(PublishError::Blocked));
    }
    assert_eq!(fixture.publish_one(pay()).await, Err(PublishError::Blocked));
    let reply = (String::from("q"), pay().reply(Outcome::Done));
    assert_eq!(
        bus.publish_replies(vec![reply]).await,
        Err(PublishError::Blocked)
    );
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "took {:?}",
        began.elapsed()
    );

    proxy.stall(false);
    proxy.say_blocked(false);
    let state = fixture.state("unblocked", |state| !state.blocked).await;
    assert_eq!(
        (state.session, state.connected),
        (1, true),
        "the session survives it"
    );
    let after = pay();
    fixture.publish_all(vec![after.clone()]).await;
    eventually("what follows arrives", async || {
        let delivery = next(&mut commands).await;
        let found = delivery.envelopes.contains(&after);
        delivery.acker.ack().await;
        found
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_deleted_under_a_consumer_comes_back() {
    let fixture = Fixture::new().await;
    let mut commands = fixture.bus.consume_commands(&DO_PAY, 8);
    fixture.ready().await;
    let raw = fixture.namespace.raw().await;
    raw.delete_queue(&fixture.command_queue(&StepName::PAY))
        .await;
    fixture
        .state("a new session", |state| {
            state.session == 2 && state.connected
        })
        .await;
    fixture.publish_all(pays(1)).await;
    receive(&mut commands, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_of_another_type_is_refused_by_name() {
    for (exists, configured) in [
        ("quorum", QueueType::Classic),
        ("classic", QueueType::Quorum),
    ] {
        let namespace = TestNamespace::new();
        let queue = namespace
            .topology()
            .command_queue(&StepName::PAY, StepKind::Do);
        let raw = namespace.raw().await;
        raw.declare_queue(&queue, exists).await;
        let fixture = Fixture::unready(namespace, |config| Config {
            command_queue_type: configured,
            reconnect_max_ms: 200,
            ..config
        });
        fixture.bus.declare_steps(&[StepName::PAY]);
        let state = fixture
            .state("it is told", |state| {
                state.problem.as_ref().is_some_and(|p| p.contains(&queue))
            })
            .await;
        let problem = state.problem.expect("just seen");
        assert!(
            problem.contains(exists) && problem.contains(configured.as_str()),
            "{problem}"
        );
        assert!(!state.connected);
        assert_eq!(
            fixture.publish_one(pay()).await,
            Err(PublishError::Disconnected)
        );

        raw.delete_queue(&queue).await;
        assert_eq!(fixture.ready().await.problem, None);
        fixture.publish_all(pays(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn quorum_queues_carry_commands_too() {
    let quorum = |config| Config {
        command_queue_type: QueueType::Quorum,
        ..config
    };
    let fixture = Fixture::with(TestNamespace::new(), quorum).await;
    let mut commands = fixture.bus.consume_commands(&DO_PAY, 8);
    fixture.publish_all(pays(120)).await;
    receive(&mut commands, 120).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_broker_is_a_refusal_and_no_secret_is_told() {
    let fixture = Fixture::unready(TestNamespace::new(), |config| Config {
        url: AmqpUrl::new("amqp://guichet:hunter2@127.0.0.1:1/%2f"),
        ..config
    });
    assert_eq!(
        fixture.publish_one(pay()).await,
        Err(PublishError::Disconnected)
    );
    let state = fixture
        .state("it is told", |state| state.problem.is_some())
        .await;
    assert!(!format!("{state:?} {:?}", fixture.bus).contains("hunter2"));
    assert!(!state.connected && state.session == 0);
    fixture.stopped().await;
    assert_eq!(fixture.publish_one(pay()).await, Err(PublishError::Closed));
}
