//! Every message several times: commands, replies, nudges and events, of orders that end in every way.
//! The effects happen once.

use contract::{Command, Envelope, Event, MessageId, Outcome, Reply, Signal, StepKind, StepName};
use inspector::review;
use tests::world::{
    Wish, World,
    catalogue::{DIVING, DIVING_A, SWIMMING_A},
    judge::{tell, times},
    tap::Tap,
    until,
};

/// A nudge about an order, as the gateway sends it when a shard has no owner.
async fn nudge(world: &World, order: contract::OrderId) {
    let signal = Signal {
        id: MessageId::new(),
        saga_id: order.into(),
        incarnation: world.ground.incarnation,
        traceparent: None,
    };
    let raw = world.ground.namespace.raw().await;
    let topology = world.ground.namespace.topology();
    let shard = engine::shard_of(order.into(), 8).to_string();
    let body = serde_json::to_vec(&[signal]).expect("JSON");
    raw.publish(
        &topology.sagas_exchange(),
        &shard,
        Some(Signal::TYPE.0),
        &body,
    )
    .await;
}

#[tokio::test]
async fn every_message_comes_several_times_and_every_effect_once() {
    let world = World::start().await;
    let tap = Tap::open(&world.ground.namespace).await;

    let (sold, ended) = world.shop.buy(&Wish::of(DIVING_A, 2)).await;
    assert_eq!(ended.told, ["pending", "confirmed"]);

    let declined = Wish::of(DIVING_A, 3).paid_with("pm_card_visa_chargeDeclined");
    let (declined, ended) = world.shop.buy(&declined).await;
    assert_eq!(ended.told, ["pending", "cancelling", "cancelled"]);

    let suspicious = Wish::of(SWIMMING_A, 1)
        .attended_by(&["Bo Guest"])
        .with("email", "ada@mailinator.com")
        .with("name", "Zed Quux");
    let held = world.shop.place(&suspicious).await;
    world.shop.until_status(&held, "in_review").await;
    nudge(&world, held.id).await;
    let mut connection = world.ground.database.connection().await;
    review::approve(&mut connection, held.id, "rita", "known customer")
        .await
        .expect("it is open");
    // The decision itself, twice.
    world
        .judge
        .execute(
            "INSERT INTO signals (id, saga_id, shard, kind, step, payload)
             SELECT gen_random_uuid(), saga_id, shard, kind, step, payload FROM signals",
        )
        .await;
    assert_eq!(world.shop.ended(&held).await.status(), "confirmed");

    for order in [sold.id, declined.id, held.id] {
        let saga = world.judge.at_rest(order).await;
        // Every answer was applied once; a step that waited was asked again after the decision.
        for step in StepName::OF_AN_ORDER {
            for (kind, outcome) in [
                (StepKind::Do, Outcome::Done),
                (StepKind::Do, Outcome::Rejected),
                (StepKind::Undo, Outcome::Done),
            ] {
                let applied = times(&saga, &step, kind, outcome);
                assert!(applied <= 1, "{step} {kind:?} {outcome:?}\n{}", tell(&saga));
            }
        }
    }
    for kind in [Command::TYPE, Reply::TYPE, Signal::TYPE, Event::TYPE] {
        until(&format!("copies of {}", kind.0), async || {
            (tap.copies().get(kind.0) >= Some(&2)).then_some(())
        })
        .await;
    }
    assert_eq!(world.judge.taken(DIVING_A).await, 2);
    assert_eq!(world.judge.taken(SWIMMING_A).await, 1);
    assert_eq!(world.judge.numbers(DIVING).await, [1, 2]);
    assert_eq!(world.ground.mail.mails().len(), 2);
    // Of the two sold: 2 and 1 tickets, each counted in all, by event, and by card.
    assert_eq!(world.judge.quotas().await, 3 * 3);
    world.close().await;
}
