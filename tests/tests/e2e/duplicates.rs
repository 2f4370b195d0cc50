//! Every message several times: every command there is, its answers, nudges and events, of orders that
//! end in every way. The effects happen once.

use contract::{Envelope, MessageId, OrderId, Outcome, Signal, StepKind, StepName};
use inspector::review;
use serde_json::json;
use tests::{
    provider::Balance,
    world::{
        Placed, Wish, World,
        catalogue::{DIVING, DIVING_A, DIVING_B, SWIMMING_A},
        judge::{tell, times},
        tap::{Kind, Tap},
        until,
    },
};

/// Each kind of message that an order can lead to.
fn every_kind() -> Vec<Kind> {
    let statuses = [
        "pending",
        "in_review",
        "action_required",
        "confirmed",
        "cancelling",
        "cancelled",
    ];
    let mut kinds: Vec<Kind> = statuses.map(|status| Kind::Event(status.to_owned())).into();
    kinds.push(Kind::Signal);
    for step in saga::order::v1().steps {
        for kind in step.kinds() {
            kinds.push(Kind::Command(step.name.clone(), kind));
            kinds.push(Kind::Reply(step.name.clone(), kind));
        }
    }
    kinds
}

/// Repeats every signal of an order, as another happening.
async fn tell_again(world: &World, order: OrderId) {
    world
        .judge
        .execute(&format!(
            "INSERT INTO signals (id, saga_id, shard, kind, step, payload)
             SELECT gen_random_uuid(), saga_id, shard, kind, step, payload FROM signals
             WHERE saga_id = '{order}'"
        ))
        .await;
}

/// A nudge about an order, as whoever tells its saga something sends it.
async fn nudge(world: &World, order: OrderId) {
    let signal = Signal {
        id: MessageId::new(),
        saga_id: order.into(),
        incarnation: world.ground.incarnation,
        traceparent: None,
    };
    let body = serde_json::to_vec(&[signal]).expect("JSON");
    let exchange = world.ground.namespace.topology().sagas_exchange();
    let shard = engine::shard_of(order.into(), 8).to_string();
    let raw = world.ground.namespace.raw().await;
    raw.publish(&exchange, &shard, Some(Signal::TYPE.0), &body)
        .await;
}

/// An order that a person lets pass, and says so twice.
async fn reviewed(world: &World) -> Placed {
    let suspicious = Wish::of(SWIMMING_A, 1)
        .attended_by(&["Bo Guest"])
        .with("email", "ada@mailinator.com")
        .with("name", "Zed Quux");
    let held = world.shop.place(&suspicious).await;
    world.shop.until_status(&held, "in_review").await;
    let mut connection = world.ground.database.connection().await;
    review::approve(&mut connection, held.id, "rita", "known customer")
        .await
        .expect("it is open");
    tell_again(world, held.id).await;
    nudge(world, held.id).await;
    assert_eq!(world.shop.ended(&held).await.status(), "confirmed");
    held
}

/// An order whose customer authenticates; the provider says so several times.
async fn authenticated(world: &World) -> Placed {
    let wish = Wish::of(DIVING_A, 1).paid_with("pm_card_authenticationRequired");
    let of = json!({ "receipt_email": wish.email() });
    let twice = json!("duplicate");
    world.provider.plan_for(&of, "webhook", &twice, 20).await;
    let placed = world.shop.place(&wish).await;
    let order = world.shop.until_status(&placed, "action_required").await;
    let page = order["next_action"]["redirect_url"].as_str();
    let page = page.expect("the order names the page");
    world.provider.authenticate(page, "approve").await;
    tell_again(world, placed.id).await;
    assert_eq!(world.shop.ended(&placed).await.status(), "confirmed");
    placed
}

/// An order that is paid, whose tickets the database refuses, and whose customer gives up: everything
/// is undone, from the issuing on.
async fn taken_back(world: &World) -> Placed {
    world
        .judge
        .execute(&format!(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
               'BEGIN RAISE EXCEPTION ''refused''; END';
             CREATE TRIGGER refuse BEFORE INSERT ON tickets FOR EACH ROW
               WHEN (new.offer_id = '{}') EXECUTE FUNCTION refuse()",
            DIVING_B.id
        ))
        .await;
    let placed = world.shop.place(&Wish::of(DIVING_B, 2)).await;
    until("its tickets were tried in vain", async || {
        let saga = world.judge.saga(placed.id).await;
        let tried = times(&saga, &StepName::ISSUE, StepKind::Do, Outcome::Retry);
        (tried > 0).then_some(())
    })
    .await;
    assert_eq!(world.shop.cancel(&placed).await.status, 202);
    let ended = world.shop.ended(&placed).await;
    let end = (ended.status(), ended.reason());
    assert_eq!(end, ("cancelled", "customer_cancelled"));
    let saga = world.judge.at_rest(placed.id).await;
    let undone = saga.timeline.iter().filter_map(|moment| {
        let undo = moment.kind == Some(StepKind::Undo);
        moment.step.clone().filter(|_| undo)
    });
    let reverse = [
        StepName::ISSUE,
        StepName::PAY,
        StepName::FRAUD_CHECK,
        StepName::RESERVE,
    ];
    assert_eq!(undone.collect::<Vec<_>>(), reverse, "{}", tell(&saga));
    placed
}

/// Each answer was applied once, and the provider's books have this many captures and refunds.
async fn assert_once(world: &World, order: &Placed, captures: usize, refunds: usize) {
    let saga = world.judge.at_rest(order.id).await;
    for step in StepName::OF_AN_ORDER {
        for (kind, outcome) in [
            (StepKind::Do, Outcome::Done),
            (StepKind::Do, Outcome::Rejected),
            (StepKind::Probe, Outcome::Done),
            (StepKind::Undo, Outcome::Done),
        ] {
            let applied = times(&saga, &step, kind, outcome);
            assert!(applied <= 1, "{step} {kind:?} {outcome:?}\n{}", tell(&saga));
        }
    }
    let entries = world.provider.entries(order.id.0).await;
    let count = |kind: &str| entries.iter().filter(|entry| entry.kind == kind).count();
    let made = (count("captured"), count("refunded"));
    assert_eq!(made, (captures, refunds), "{entries:?}\n{}", tell(&saga));
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
    let reviewed = reviewed(&world).await;
    let authenticated = authenticated(&world).await;
    let taken_back = taken_back(&world).await;

    for order in [&sold, &reviewed, &authenticated] {
        assert_once(&world, order, 1, 0).await;
    }
    assert_once(&world, &declined, 0, 0).await;
    assert_once(&world, &taken_back, 1, 1).await;
    let given_back = Balance {
        captures: 1,
        captured_minor: 2 * DIVING_B.amount_minor,
        refunded_minor: 2 * DIVING_B.amount_minor,
    };
    let balance = world.provider.balance(taken_back.id.0).await;
    assert_eq!(balance, given_back);
    for kind in every_kind() {
        until(&format!("copies of {kind:?}"), async || {
            (tap.copies().get(&kind) >= Some(&2)).then_some(())
        })
        .await;
    }
    assert_eq!(world.judge.taken(DIVING_A).await, 3);
    assert_eq!(world.judge.taken(DIVING_B).await, 0);
    assert_eq!(world.judge.taken(SWIMMING_A).await, 1);
    assert_eq!(world.judge.numbers(DIVING).await, [1, 2, 3]);
    assert_eq!(world.ground.mail.mails().len(), 3);
    // Of the three sold: 2, 1 and 1 tickets, each counted in all, by event, and by card.
    assert_eq!(world.judge.quotas().await, 3 * 4);
    world.close().await;
}
