//! What somebody else holds locked delays nobody but whom it is about.

use crate::world::{Running, World, all_done, eventually};
use contract::SagaId;
use database::Connection;
use diesel::sql_types::BigInt;
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use engine::Config;
use saga::State;

database::statement! {
    struct Epochs {} -> BigInt = "SELECT DISTINCT epoch FROM shards"
}

async fn somebody(world: &World, sql: &str) -> Connection {
    let mut connection = world.database.connection().await;
    let done = connection.batch_execute(sql).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    connection
}

/// With a lease that a busy machine does not lose by itself.
async fn orchestrator(world: &World) -> Running {
    let config = Config {
        housekeeping_ms: 200,
        ..Config::default()
    };
    let mut bus = world.namespace.config();
    bus.node = "one".to_owned();
    let running = world.begin_orchestrator("one", bus, config);
    eventually("the orchestrator is ready", async || {
        running.readiness.report().ready.then_some(())
    })
    .await;
    running
}

async fn completed(world: &World, ids: &[SagaId]) {
    for id in ids {
        assert_eq!(world.ended(*id).await.instance.state, State::Completed);
    }
}

/// No lease was lost: each shard was acquired once.
async fn all_are_of_the_first_epoch(world: &World) {
    let mut connection = world.database.connection().await;
    let epochs: Vec<i64> = Epochs {}.load(&mut connection).await.expect("readable");
    assert_eq!(epochs, [1]);
}

#[tokio::test]
async fn a_saga_whose_row_is_locked_waits_alone() {
    let world = World::new().await;
    let _workers = world.workers(all_done()).await;
    // All wait for an owner, who sends their commands together and gets one batch of answers.
    let ids = world.start(20).await;
    let (locked, others) = ids.split_at(2);
    let lock = format!(
        "BEGIN; SELECT FROM sagas WHERE id IN ('{}', '{}') FOR UPDATE",
        locked[0], locked[1]
    );
    let mut holder = somebody(&world, &lock).await;
    let _orchestrator = orchestrator(&world).await;
    completed(&world, others).await;
    let later = world.start(20).await;
    completed(&world, &later).await;
    all_are_of_the_first_epoch(&world).await;
    for id in locked {
        assert_eq!(world.view(*id).await.instance.rev, 1);
    }
    holder.batch_execute("ROLLBACK").await.expect("released");
    completed(&world, locked).await;
    for id in locked {
        let view = world.view(*id).await;
        assert_eq!(view.instance.flagged_at, None, "nobody was held");
    }
}

/// What is waited for is not the saga's row, so nobody can say whose fault it is.
#[tokio::test]
async fn a_saga_whose_change_cannot_be_written_now_is_found_and_waits_alone() {
    let world = World::new().await;
    let _workers = world.workers(all_done()).await;
    let ids = world.start(20).await;
    let (culprit, others) = ids.split_at(1);
    somebody(
        &world,
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
               'BEGIN PERFORM pg_advisory_xact_lock(7); RETURN new; END'",
    )
    .await;
    somebody(
        &world,
        &format!(
            "CREATE TRIGGER wait BEFORE INSERT ON history FOR EACH ROW
               WHEN (new.saga_id = '{}') EXECUTE FUNCTION wait()",
            culprit[0]
        ),
    )
    .await;
    let mut holder = somebody(&world, "SELECT pg_advisory_lock(7)").await;
    let _orchestrator = orchestrator(&world).await;
    completed(&world, others).await;
    let later = world.start(20).await;
    completed(&world, &later).await;
    all_are_of_the_first_epoch(&world).await;
    let unlock = "SELECT pg_advisory_unlock(7)";
    holder.batch_execute(unlock).await.expect("released");
    completed(&world, culprit).await;
    assert_eq!(world.view(culprit[0]).await.instance.flagged_at, None);
}
