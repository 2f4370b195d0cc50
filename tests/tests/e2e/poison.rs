//! Batches with members that nobody can use, each kind of them, between good neighbours.

use bus::testing::{RawBroker, RawMessage};
use contract::{Command, Envelope, MessageId, Reply, SagaId, StepKind, StepName, Topology};
use serde_json::{Value, json};
use std::collections::HashSet;
use tests::world::{Settings, Stands, Wish, World, catalogue::DIVING_A, shop::Placed, until};
use uuid::Uuid;

/// Some orders, whose first commands are taken out of the queue.
async fn placed(world: &World, raw: &RawBroker, count: usize) -> (Vec<Placed>, Vec<Value>) {
    let mut orders = Vec::new();
    for _ in 0..count {
        orders.push(world.shop.place(&Wish::of(DIVING_A, 1)).await);
    }
    let queue = queue(world);
    let mut commands: Vec<Value> = Vec::new();
    while commands.len() < count {
        let message = until("the commands are there", || raw.take(&queue)).await;
        commands.extend(elements(&message));
    }
    (orders, commands)
}

fn topology(world: &World) -> Topology {
    world.ground.namespace.topology()
}

fn queue(world: &World) -> String {
    topology(world).command_queue(&StepName::RESERVE, StepKind::Do)
}

fn elements(message: &RawMessage) -> Vec<Value> {
    serde_json::from_slice(&message.body).expect("an array")
}

/// The same with some fields replaced.
fn but(envelope: &Value, fields: Value) -> Value {
    let mut changed = envelope.clone();
    let Value::Object(fields) = fields else {
        panic!("fields")
    };
    for (name, value) in fields {
        changed[name] = value;
    }
    changed
}

/// A command of nobody's order.
fn stray(command: &Value) -> Value {
    let saga = SagaId::new();
    let effect_key = Command::effect_key(saga, &StepName::RESERVE);
    but(
        command,
        json!({"id": MessageId::new(), "saga_id": saga, "effect_key": effect_key}),
    )
}

/// Elements that no reader can make sense of.
fn undecodable(good: &Value) -> Vec<Value> {
    let mut without_saga = good.clone();
    without_saga
        .as_object_mut()
        .expect("an object")
        .remove("saga_id");
    vec![
        json!(7),
        json!("x"),
        json!(null),
        json!([]),
        json!({}),
        without_saga,
        but(good, json!({"saga_id": "not an id"})),
        but(good, json!({"step": "NUL\0"})),
        but(good, json!({"seq": 1_000_000_000_000_i64})),
        but(good, json!({"attempt": 1.5})),
        but(good, json!({"kind": "explode"})),
        but(good, json!({"incarnation": "xyz"})),
    ]
}

/// How many of the unusable commands are for orders that do not exist.
const GHOSTS: usize = 5;

/// Commands that can be read and must not be followed.
fn unusable(good: &Value) -> Vec<Value> {
    let nil = Uuid::nil();
    vec![
        but(good, json!({"step": "no-such-step"})),
        but(good, json!({"step": "pay"})),
        but(good, json!({"effect_key": "a\0b"})),
        but(good, json!({"reply_to": "x".repeat(300)})),
        but(good, json!({"incarnation": "0123456789abcdef"})),
        but(good, json!({"sent_at": "1970-01-01T00:00:00Z"})),
        but(
            &stray(good),
            json!({"input": {"a\0": "b\0c"}, "reply_to": "a\0b"}),
        ),
        but(
            &stray(good),
            json!({"seq": -1, "attempt": i16::MIN, "definition": i16::MAX}),
        ),
        but(
            &stray(good),
            json!({"seq": i32::MAX, "sent_at": "9999-12-31T23:59:59Z"}),
        ),
        but(&stray(good), json!({"input": "x".repeat(300 * 1024)})),
        but(
            good,
            json!({"saga_id": nil, "effect_key": format!("{nil}/reserve")}),
        ),
    ]
}

/// Puts neighbours between the members of a poisonous batch.
fn mixed(poison: Vec<Value>, good: &[Value]) -> Vec<u8> {
    let every = poison.len() / good.len() + 1;
    let mut batch = Vec::new();
    for (n, member) in poison.into_iter().enumerate() {
        if n % every == 0 {
            batch.push(good[n / every].clone());
        }
        batch.push(member);
    }
    assert!(good.iter().all(|good| batch.contains(good)));
    serde_json::to_vec(&batch).expect("JSON")
}

/// Takes this many parked envelopes, which must be all.
async fn parked(world: &World, raw: &RawBroker, count: usize) -> Vec<RawMessage> {
    let queue = topology(world).parked_queue();
    let mut parked = Vec::new();
    while parked.len() < count {
        let message = until("it is parked", || raw.take(&queue)).await;
        let reason = message.header("x-reason").unwrap_or_default();
        assert!(!reason.is_empty(), "{message:?}");
        parked.push(message);
    }
    assert_eq!(raw.take(&queue).await, None);
    parked
}

#[tokio::test]
async fn a_batch_of_commands_with_every_kind_of_poison_costs_its_neighbours_nothing() {
    let mut world = World::without_workers(Settings::default()).await;
    let raw = world.ground.namespace.raw().await;
    let (orders, good) = placed(&world, &raw, 4).await;
    // Without an owner nothing is sent again: what the neighbours get, they get from this batch.
    world.retire().await;
    let unreadable = undecodable(&good[0]);
    let mut expected = unreadable.len();
    let batch = mixed([unreadable, unusable(&good[0])].concat(), &good);
    let (exchange, key) = (topology(&world).commands_exchange(), "reserve");
    let kind = Some(Command::TYPE.0);
    raw.publish(&exchange, key, kind, &batch).await;
    // Whole messages that cannot be read, and the batch once more behind them.
    let too_long = serde_json::to_vec(&[but(&good[0], json!({"input": "x".repeat(1 << 20)}))]);
    for (kind, body) in [
        (kind, too_long.expect("JSON")),
        (kind, b"[{".to_vec()),
        (kind, b"\xff\xfe".to_vec()),
        (Some("guichet.command.v9"), batch.clone()),
        (None, batch.clone()),
    ] {
        raw.publish(&exchange, key, kind, &body).await;
        expected += 1;
    }
    world.work_on(&StepName::OF_AN_ORDER).await;
    for order in &orders {
        until("the neighbour's stock is taken", async || {
            let effect = world.judge.effect(order.id, &StepName::RESERVE).await?;
            (effect.stands == Stands::Done).then_some(())
        })
        .await;
    }
    parked(&world, &raw, expected).await;
    assert_eq!(world.judge.taken(DIVING_A).await, 4);
    world.orchestrate().await;
    for order in &orders {
        assert_eq!(world.shop.ended(order).await.status(), "confirmed");
        world.judge.at_rest(order.id).await;
    }
    // Commands for orders that do not exist are claimed, and nothing is done: `guichet check` names
    // them, and nothing else.
    let findings = world.judge.check().await.findings;
    assert!(
        findings.iter().all(|f| f.check == "effects-have-sagas"),
        "{findings:#?}"
    );
    assert_eq!(findings.len(), GHOSTS, "{findings:#?}");
    world
        .judge
        .execute(
            "DELETE FROM effects e WHERE state = 1
               AND NOT EXISTS (SELECT FROM sagas s WHERE s.id = e.saga_id)",
        )
        .await;
    world.close().await;
}

#[tokio::test]
async fn a_batch_of_replies_with_every_kind_of_poison_costs_its_neighbours_nothing() {
    let mut world = World::without_workers(Settings::default()).await;
    let raw = world.ground.namespace.raw().await;
    let (orders, commands) = placed(&world, &raw, 4).await;
    let owner = commands[0]["reply_to"]
        .as_str()
        .expect("a queue")
        .to_owned();
    // The answers are caught on their way.
    let caught = format!("{}.caught", topology(&world).namespace());
    raw.declare_queue(&caught, "classic").await;
    let redirected: Vec<Value> = commands
        .iter()
        .map(|command| but(command, json!({"reply_to": caught})))
        .collect();
    let body = serde_json::to_vec(&redirected).expect("JSON");
    let exchange = topology(&world).commands_exchange();
    raw.publish(&exchange, "reserve", Some(Command::TYPE.0), &body)
        .await;
    world.work_on(&[StepName::RESERVE]).await;
    let mut replies: Vec<Value> = Vec::new();
    while replies.len() < commands.len() {
        let message = until("the answers are there", || raw.take(&caught)).await;
        replies.extend(elements(&message));
    }
    raw.delete_queue(&caught).await;
    // The last order's answers are all strange; the others are the good neighbours.
    let victim = replies.pop().expect("four");
    let unreadable = undecodable(&replies[0]);
    let stray = SagaId::new();
    let strange = vec![
        but(
            &replies[0],
            json!({"incarnation": "0123456789abcdef", "outcome": "rejected"}),
        ),
        but(&replies[0], json!({"seq": -1, "outcome": "rejected"})),
        but(&replies[0], json!({"seq": i32::MAX, "outcome": "rejected"})),
        but(
            &replies[0],
            json!({"seq": 0, "output": "x".repeat(300 * 1024)}),
        ),
        but(&replies[0], json!({"saga_id": stray})),
        but(&replies[0], json!({"saga_id": Uuid::nil()})),
        but(
            &victim,
            json!({
                "id": MessageId::new(),
                "outcome": "retry",
                "output": {"a\0": ["b\0"]},
                "error": {"code": format!("NUL\0 {}", "c".repeat(200)), "message": "d\0e",
                          "retry_after_ms": 1},
            }),
        ),
    ];
    let strays = 2;
    let expected = unreadable.len() + strays;
    let batch = mixed([unreadable, strange].concat(), &replies);
    raw.publish("", &owner, Some(Reply::TYPE.0), &batch).await;
    let others: Vec<StepName> = StepName::OF_AN_ORDER[1..].to_vec();
    world.work_on(&others).await;
    for order in &orders {
        assert_eq!(world.shop.ended(order).await.status(), "confirmed");
    }
    // The neighbours went on by the very answers of that batch.
    let ids: HashSet<&str> = replies
        .iter()
        .filter_map(|reply| reply["id"].as_str())
        .collect();
    let mut applied = 0;
    for order in &orders {
        let saga = world.judge.at_rest(order.id).await;
        let second = saga.timeline[1].message_id.map(|id| id.to_string());
        applied += usize::from(second.is_some_and(|id| ids.contains(&*id)));
    }
    assert_eq!(applied, replies.len());
    parked(&world, &raw, expected).await;
    world.close().await;
}
