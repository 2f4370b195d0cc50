//! Sagas that cannot be read: each is set aside wherever it is met, and the others go on.

use crate::world::{World, all_done, cancels, eventually, reviewed_while};
use contract::{Outcome, SagaId, StepKind, StepName};
use diesel::sql_types::{SmallInt, Uuid as SqlUuid};
use engine::{NewSignal, Person, What};
use saga::State;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use uuid::Uuid;

database::statement! {
    struct Flags { id: Uuid => SqlUuid } -> SmallInt =
    "SELECT flags FROM sagas WHERE id = {id}"
}

database::statement! {
    struct Held {} -> SqlUuid = "SELECT id FROM sagas WHERE flags & 2 <> 0 ORDER BY id"
}

/// What makes a saga unreadable: a definition that nobody has here, a number that is no step's, a step
/// that its definition does not have.
const POISONS: [&str; 3] = [
    "definition = 77",
    "step = 300",
    "step = 29, wake_at = now()",
];
/// The same of a saga that is at its first step.
const CURE: &str = "definition = 99, step = 0";

async fn poison(world: &World, ids: &[SagaId]) {
    for (id, poison) in ids.iter().zip(POISONS) {
        let sql = format!("UPDATE sagas SET rev = rev + 1, {poison} WHERE id = '{id}'");
        world.execute(&sql).await;
    }
}

async fn flags(world: &World, id: SagaId) -> i16 {
    let mut connection = world.database.connection().await;
    let flags = diesel_async::RunQueryDsl::get_result(Flags { id: id.0 }, &mut connection).await;
    flags.expect("it is there")
}

async fn are_held(world: &World, ids: &[SagaId]) {
    for id in ids {
        eventually("it is held", async || {
            (flags(world, *id).await == 2).then_some(())
        })
        .await;
    }
}

async fn complete(world: &World, ids: &[SagaId]) {
    for id in ids {
        assert_eq!(world.ended(*id).await.instance.state, State::Completed);
    }
}

async fn release(world: &World, id: SagaId) -> bool {
    let mut connection = world.database.connection().await;
    let ann = Person {
        by: "ann".to_owned(),
        audit: 7,
    };
    let told = engine::release(&mut connection, id, &ann)
        .await
        .expect("written");
    world.client.nudge(told);
    told.is_some()
}

#[tokio::test]
async fn what_cannot_be_read_is_held_at_a_take_over_and_goes_on_when_it_is_released() {
    let world = World::new().await;
    let _workers = world.workers(all_done()).await;
    let ids = world.start(6).await;
    let (bad, good) = ids.split_at(3);
    poison(&world, bad).await;
    let _orchestrator = world.orchestrator("one").await;
    complete(&world, good).await;
    are_held(&world, bad).await;
    assert!(!release(&world, good[0]).await, "it is not held");
    // Nobody has mended it: it is held again, and says so.
    assert!(release(&world, bad[0]).await);
    world.every_signal_is_applied().await;
    assert_eq!(flags(&world, bad[0]).await, 2);
    for id in bad {
        world
            .execute(&format!("UPDATE sagas SET {CURE} WHERE id = '{id}'"))
            .await;
        assert!(release(&world, *id).await);
    }
    complete(&world, bad).await;
    let view = world.view(bad[1]).await;
    let released = view
        .timeline
        .iter()
        .find(|moment| moment.input == "operator");
    let released = released.expect("it is in its timeline");
    assert_eq!(released.code.as_deref(), Some("release"));
    let detail = released.detail.as_ref().expect("who");
    assert_eq!(
        (detail["by"].as_str(), detail["audit"].as_i64()),
        (Some("ann"), Some(7))
    );
    assert_eq!(view.instance.flagged_at, None, "it asks no more");
}

/// They are born while their owner is there, which reads them because it was told of them, or because
/// their first answers come.
#[tokio::test]
async fn what_cannot_be_read_is_held_when_it_is_loaded() {
    let world = World::new().await;
    let _orchestrator = world.orchestrator("one").await;
    let _workers = world.workers(all_done()).await;
    world
        .execute("CREATE SEQUENCE nth MINVALUE 0 START 0")
        .await;
    world
        .execute(
            "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS 'DECLARE n bigint := nextval(''nth'');
             BEGIN
               IF n % 5 = 0 THEN NEW.definition := 77; END IF;
               IF n % 5 = 1 THEN NEW.step := 300; END IF;
               IF n % 5 = 2 THEN NEW.step := 29; NEW.wake_at := now(); END IF;
               RETURN NEW;
             END'",
        )
        .await;
    world
        .execute(
            "CREATE TRIGGER spoil BEFORE INSERT ON sagas FOR EACH ROW EXECUTE FUNCTION spoil()",
        )
        .await;
    let (ids, _never_sent) = world.start_unsent(20).await;
    let held = eventually("twelve are held", async || {
        let mut connection = world.database.connection().await;
        let held: Vec<Uuid> = diesel_async::RunQueryDsl::load(Held {}, &mut connection)
            .await
            .expect("readable");
        (held.len() == 12).then_some(held)
    })
    .await;
    let good: Vec<SagaId> = ids.into_iter().filter(|id| !held.contains(&id.0)).collect();
    assert_eq!(good.len(), 8);
    complete(&world, &good).await;
}

/// They are in memory, and somebody else makes them unreadable: the scan of what is live finds that they
/// are not as they are known.
#[tokio::test]
async fn what_cannot_be_read_is_held_at_the_scan() {
    let world = World::new().await;
    let _orchestrator = world.orchestrator("one").await;
    let answers = Arc::new(AtomicBool::new(false));
    let answering = Arc::clone(&answers);
    let script =
        Arc::new(
            move |command: &contract::Command, _| match answering.load(Ordering::SeqCst) {
                true => vec![command.reply(Outcome::Done)],
                false => Vec::new(),
            },
        );
    let _workers = world.workers(script).await;
    let ids = world.start(6).await;
    let (bad, good) = ids.split_at(3);
    eventually("all are at their first step", async || {
        let at = |id: &SagaId| world.seen(*id, &StepName::RESERVE, StepKind::Do) > 0;
        ids.iter().all(at).then_some(())
    })
    .await;
    poison(&world, bad).await;
    are_held(&world, bad).await;
    answers.store(true, Ordering::SeqCst);
    complete(&world, good).await;
    let cure = format!("UPDATE sagas SET {CURE} WHERE id = '{}'", bad[1]);
    world.execute(&cure).await;
    assert!(release(&world, bad[1]).await);
    complete(&world, &bad[1..2]).await;
}

/// A signal that says nothing that this program knows stays for one that does; those beside it are applied.
#[tokio::test]
async fn a_signal_that_cannot_be_read_stays_and_those_beside_it_are_applied() {
    let world = World::new().await;
    let _orchestrator = world.orchestrator("one").await;
    let _workers = world.workers(reviewed_while(|_| true)).await;
    let ids = world.start(6).await;
    for id in &ids {
        world.until_status(*id, "in_review").await;
    }
    let payloads = [
        "3, '', '{}'",
        "4, '', '{\"action\": \"dance\"}'",
        "4, '', '[7]'",
        "1, 'no-such-step', '{}'",
    ];
    for (id, payload) in ids.iter().zip(payloads) {
        let odd = format!(
            "INSERT INTO signals (id, saga_id, shard, kind, step, payload)
             SELECT gen_random_uuid(), id, shard, {payload} FROM sagas WHERE id = '{id}'"
        );
        world.execute(&odd).await;
    }
    for id in &ids {
        assert_eq!(world.tell(*id, cancels()).await.len(), 1);
    }
    for id in &ids {
        assert_eq!(world.ended(*id).await.instance.state, State::Compensated);
    }
}

/// More than one look reads.
#[tokio::test]
async fn what_a_held_saga_was_told_does_not_hide_what_others_are_told() {
    let world = World::new().await;
    let ids = world.start(2).await;
    let (held, other) = (ids[0], ids[1]);
    world
        .execute(&format!(
            "UPDATE sagas SET flags = 2, flagged_at = now() WHERE id = '{held}'"
        ))
        .await;
    world
        .execute(&format!(
            "INSERT INTO signals (id, saga_id, shard, kind, step, payload)
             SELECT lpad(n::text, 32, '0')::uuid, id, shard, 3, '', '{{\"reason\": \"told\"}}'
             FROM sagas, generate_series(1, 5000) AS n WHERE id = '{held}'"
        ))
        .await;
    let end = NewSignal {
        id: Uuid::now_v7(),
        saga: other,
        what: What::End("cancelled", None),
    };
    let mut connection = world.database.connection().await;
    let told = engine::signal(&mut connection, &[end]).await;
    assert_eq!(told.expect("written").len(), 1);
    // No worker answers, so nothing but the signal can end it.
    let _orchestrator = world.orchestrator("one").await;
    eventually("the other one is ending", async || {
        let reason = world.view(other).await.instance.reason;
        (reason.as_deref() == Some("cancelled")).then_some(())
    })
    .await;
    // It is told all of that as soon as it goes on.
    assert!(release(&world, held).await);
    world.every_signal_is_applied().await;
}
