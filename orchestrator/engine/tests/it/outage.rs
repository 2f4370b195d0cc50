//! A broker that is away, for all or for one, and what owners do with their shards meanwhile.

use crate::world::{Running, World, all_done, config, definitions_with, eventually};
use bus::{AmqpUrl, testing::Proxy};
use contract::{Command, Outcome, SagaId, StepKind, StepName};
use engine::Config;
use saga::State;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Longer than a payment's time, the time in which it is asked about, and an undo's time together.
const OUTAGE: Duration = Duration::from_secs(12);

/// Half of the sagas wait for their payment, the others were refused it and wait for an undo.
async fn in_mid_flight() -> (World, Proxy, Running, Arc<AtomicBool>, Vec<SagaId>) {
    let world = World::with(definitions_with(|order| {
        for step in &mut order.steps {
            if step.name == StepName::PAY {
                step.do_policy.budget_ms = Some(5_000);
                step.probe_policy.budget_ms = Some(5_000);
            }
            if step.name == StepName::FRAUD_CHECK {
                step.undo_policy.budget_ms = Some(5_000);
            }
        }
    }))
    .await;
    let proxy = Proxy::to(&world.namespace.config()).await;
    let mut config = proxy.through(&world.namespace.config());
    config.node = "cut".to_owned();
    let orchestrator = world.orchestrator_on("cut", config).await;
    let answers = Arc::new(AtomicBool::new(false));
    let answering = Arc::clone(&answers);
    let script = Arc::new(move |command: &Command, _| {
        let answers = answering.load(Ordering::SeqCst);
        match (&command.step, command.kind) {
            (step, StepKind::Do) if *step == StepName::PAY && is_refused(command.saga_id) => {
                vec![command.reply(Outcome::Rejected)]
            }
            (step, StepKind::Do) if *step != StepName::PAY => vec![command.reply(Outcome::Done)],
            _ if answers => vec![command.reply(Outcome::Done)],
            _ => Vec::new(),
        }
    });
    world.workers(script).await;
    let mut ids = world.start(8).await;
    while ids.iter().all(|id| is_refused(*id)) || !ids.iter().any(|id| is_refused(*id)) {
        ids.extend(world.start(1).await);
    }
    eventually("all wait", async || {
        let waits = |id: &&SagaId| match is_refused(**id) {
            true => world.seen(**id, &StepName::FRAUD_CHECK, StepKind::Undo) > 0,
            false => world.seen(**id, &StepName::PAY, StepKind::Do) > 0,
        };
        (ids.iter().filter(waits).count() == ids.len()).then_some(())
    })
    .await;
    (world, proxy, orchestrator, answers, ids)
}

fn is_refused(id: SagaId) -> bool {
    id.0.as_u128() % 2 == 1
}

/// Nothing passes, and what was connected is not any more.
fn take_away(proxy: &Proxy) {
    proxy.stall(true);
    proxy.cut();
}

async fn nothing_was_in_vain(world: &World, ids: &[SagaId]) {
    for id in ids {
        let view = world.ended(*id).await;
        let state = match is_refused(*id) {
            true => State::Compensated,
            false => State::Completed,
        };
        assert_eq!(view.instance.state, state, "{:#?}", view.timeline);
        assert_eq!(view.instance.flagged_at, None, "no person was asked");
    }
}

#[tokio::test]
async fn an_outage_of_the_broker_cancels_nothing_and_fails_no_undo() {
    let (world, proxy, orchestrator, answers, ids) = in_mid_flight().await;
    take_away(&proxy);
    answers.store(true, Ordering::SeqCst);
    tokio::time::sleep(OUTAGE).await; // the outage itself
    proxy.stall(false);
    nothing_was_in_vain(&world, &ids).await;
    assert!(orchestrator.bus.state().borrow().session > 1);
}

/// Nobody remembers how long it was: whoever comes reads it in the rows.
#[tokio::test]
async fn an_outage_in_which_the_orchestrator_dies_cancels_nothing_either() {
    let (world, proxy, orchestrator, answers, ids) = in_mid_flight().await;
    take_away(&proxy);
    answers.store(true, Ordering::SeqCst);
    tokio::time::sleep(OUTAGE).await; // the outage itself
    orchestrator.task.abort();
    let _other = world.orchestrator("other").await;
    nothing_was_in_vain(&world, &ids).await;
}

#[tokio::test]
async fn an_orchestrator_that_has_no_broker_has_no_share() {
    let world = World::new().await;
    let _first = world.orchestrator("first").await;
    let _workers = world.workers(all_done()).await;
    let mut nowhere = world.namespace.config();
    nowhere.node = "second".to_owned();
    nowhere.url = AmqpUrl::new("amqp://127.0.0.1:1".to_owned());
    let second = world.begin_orchestrator("second", nowhere, config());
    for _ in 0..10 {
        for id in world.start(10).await {
            assert_eq!(world.ended(id).await.instance.state, State::Completed);
        }
        // A round of either.
        tokio::time::sleep(Duration::from_millis(config().housekeeping_ms)).await;
    }
    assert!(!second.readiness.report().ready);
    assert_eq!(owners(&world).await, [(Some("first".to_owned()), 8)]);
}

#[tokio::test]
async fn the_shards_of_one_that_is_cut_off_go_to_one_that_is_not_and_come_back() {
    let world = World::new().await;
    let _first = world.orchestrator("first").await;
    let proxy = Proxy::to(&world.namespace.config()).await;
    let mut through = proxy.through(&world.namespace.config());
    through.node = "second".to_owned();
    let second = world.orchestrator_on("second", through).await;
    let _workers = world.workers(all_done()).await;
    let each = [("first", 4), ("second", 4)].map(|(node, shards)| (Some(node.to_owned()), shards));
    let shared = async || (owners(&world).await == each).then_some(());
    eventually("four shards each", shared).await;
    take_away(&proxy);
    for id in world.start(50).await {
        assert_eq!(world.ended(id).await.instance.state, State::Completed);
    }
    eventually("the first has all", async || {
        (owners(&world).await == [(Some("first".to_owned()), 8)]).then_some(())
    })
    .await;
    assert!(!second.readiness.report().ready, "it can do nothing");
    proxy.stall(false);
    eventually("four shards each once more", shared).await;
    assert!(second.readiness.report().ready);
}

/// Neither looks at its leases again while the elder stops.
#[tokio::test]
async fn an_elder_that_stops_gives_back_nothing_of_the_younger() {
    let world = World::new().await;
    let mut bus = world.namespace.config();
    bus.node = "twin".to_owned();
    let elder = world.begin_orchestrator("twin", bus.clone(), seldom());
    is_ready(&elder).await;
    let younger = world.begin_orchestrator("twin", bus, seldom());
    is_ready(&younger).await;
    elder.stop.cancel();
    // On a slow day it has seen before that it is the elder.
    let _stopped_or_fenced = elder.task.await.expect("no panic");
    assert_eq!(owners(&world).await, [(Some("twin".to_owned()), 8)]);
    let mut connection = world.database.connection().await;
    let alive: i64 = diesel_async::RunQueryDsl::get_result(Alive {}, &mut connection)
        .await
        .expect("readable");
    assert_eq!(alive, 1, "the younger one");
}

/// Somebody else moves a saga whenever its owner does, and its reply is dropped. It is not forgotten, though
/// it is too old for the look at new ones, and the next scan is far.
#[tokio::test]
async fn a_saga_whose_inputs_were_dropped_wakes() {
    let world = World::new().await;
    let mut bus = world.namespace.config();
    bus.node = "one".to_owned();
    let orchestrator = world.begin_orchestrator("one", bus, seldom());
    is_ready(&orchestrator).await;
    world.execute("CREATE SEQUENCE nth").await;
    world
        .execute(
            "CREATE FUNCTION overtake() RETURNS trigger LANGUAGE plpgsql AS
               'BEGIN IF nextval(''nth'') <= 4 THEN RETURN NULL; END IF; RETURN NEW; END'",
        )
        .await;
    world
        .execute(
            "CREATE TRIGGER overtake BEFORE UPDATE ON sagas
             FOR EACH ROW EXECUTE FUNCTION overtake()",
        )
        .await;
    let _workers = world.workers(all_done()).await;
    let born_ms = SagaId::new().0.as_u128() >> 80;
    let id = SagaId(uuid::Uuid::from_u128(
        (born_ms - 120_000) << 80 | 0x7000 << 64 | 1 << 63,
    ));
    world.start_these(&[id]).await;
    assert_eq!(world.ended(id).await.instance.state, State::Completed);
}

/// Rounds so far apart that none comes in between.
fn seldom() -> Config {
    Config {
        lease_ms: 60_000,
        housekeeping_ms: 12_000,
        ..Config::default()
    }
}

async fn is_ready(orchestrator: &Running) {
    eventually("it is ready", async || {
        orchestrator.readiness.report().ready.then_some(())
    })
    .await;
}

async fn owners(world: &World) -> Vec<(Option<String>, i64)> {
    let mut connection = world.database.connection().await;
    diesel_async::RunQueryDsl::load(Owners {}, &mut connection)
        .await
        .expect("readable")
}

database::statement! {
    struct Owners {} -> (
        diesel::sql_types::Nullable<diesel::sql_types::Text>,
        diesel::sql_types::BigInt,
    ) = "SELECT owner, count(*) FROM shards GROUP BY owner ORDER BY owner"
}

database::statement! {
    struct Alive {} -> diesel::sql_types::BigInt = "SELECT count(*) FROM orchestrators"
}
