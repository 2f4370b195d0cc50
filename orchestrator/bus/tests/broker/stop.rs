//! The orderly stop: what is in hand is finished, for a bounded time.

use crate::fixture::{Fixture, next, pay, pays, within};
use bus::{Config, PublishError, testing::TestNamespace};
use contract::{Outcome, StepKind, StepName};

const DO_PAY: [(StepName, StepKind); 1] = [(StepName::PAY, StepKind::Do)];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_hand_can_be_answered_and_acknowledged() {
    let one_each = |config| Config {
        batch_max_envelopes: 1,
        ..config
    };
    let fixture = Fixture::with(TestNamespace::new(), one_each).await;
    let mut receiver = fixture.bus.consume_commands(&DO_PAY, 2);
    fixture.ready().await;
    fixture.publish_all(pays(5)).await;
    let in_hand = next(&mut receiver).await;
    fixture.stop.cancel();

    // The receiver still hands out what had been fetched, then it ends.
    let mut fetched = vec![in_hand];
    while let Some(delivery) = within("the receiver ends", receiver.recv()).await {
        fetched.push(delivery);
    }
    let count = u32::try_from(fetched.len()).expect("few");
    assert!(count <= 2);
    fixture.publish_all(pays(1)).await;
    let reply = (String::from("nobody"), pay().reply(Outcome::Done));
    within("sent", fixture.bus.publish_replies(vec![reply]))
        .await
        .expect("written");
    for delivery in fetched {
        delivery.acker.ack().await;
    }
    within("the bus stops", fixture.bus.stopped()).await;
    fixture
        .waiting(&fixture.command_queue(&StepName::PAY), 6 - count)
        .await;
    assert_eq!(fixture.publish_one(pay()).await, Err(PublishError::Closed));
    assert!(!fixture.bus.state().borrow().connected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_is_never_settled_does_not_hold_up_the_stop_and_comes_again() {
    let hasty = |config| Config {
        drain_timeout_ms: 200,
        ..config
    };
    let fixture = Fixture::with(TestNamespace::new(), hasty).await;
    let mut receiver = fixture.bus.consume_commands(&DO_PAY, 2);
    fixture.publish_all(pays(1)).await;
    let held = next(&mut receiver).await;
    fixture.stopped().await;
    fixture
        .waiting(&fixture.command_queue(&StepName::PAY), 1)
        .await;
    held.acker.ack().await;
    fixture
        .waiting(&fixture.command_queue(&StepName::PAY), 1)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_namespace_leaves_nothing_behind() {
    let fixture = Fixture::new().await;
    fixture.bus.declare_steps(&StepName::OF_AN_ORDER);
    fixture.ready().await;
    let queues = [
        fixture.command_queue(&StepName::NOTIFY),
        fixture.namespace.topology().parked_queue(),
    ];
    let observer = TestNamespace::new();
    let raw = observer.raw().await;
    for queue in &queues {
        assert_eq!(raw.waiting(queue).await, Some(0));
    }
    drop(fixture);
    for queue in &queues {
        assert_eq!(raw.waiting(queue).await, None, "{queue}");
    }
}
