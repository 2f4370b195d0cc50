//! What somebody else holds locked, or only reads, delays nobody but whom it is about.

use crate::{
    logs::LINES,
    world::{Running, World, all_done, eventually},
};
use contract::{Command, Outcome, SagaId, StepKind, StepName};
use database::Connection;
use diesel::sql_types::{BigInt, Integer, Nullable};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use engine::Config;
use saga::State;
use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

database::statement! {
    struct Epochs {} -> BigInt = "SELECT DISTINCT epoch FROM shards"
}

database::statement! {
    struct MakePartitions { months: i32 => Integer } -> Nullable<Integer> =
    "SELECT make_partitions(clock_timestamp(), {months})"
}

database::statement! {
    /// Of the partitions that have rows of the months to come: how many tables, and how many of their indices
    /// belong to the parents' keys.
    struct Leaves {} -> (BigInt, BigInt) =
    "SELECT (SELECT count(*) FROM pg_partition_tree('history') WHERE isleaf)
          + (SELECT count(*) FROM pg_partition_tree('effects') WHERE isleaf),
            (SELECT count(*) FROM pg_partition_tree('history_pkey') WHERE isleaf)
          + (SELECT count(*) FROM pg_partition_tree('effects_pkey') WHERE isleaf)"
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

/// Its leases cannot be renewed, and others may own its sagas by now, though it could still read and write each
/// of them: what is not answered it does not send again.
#[tokio::test]
async fn an_owner_whose_leases_are_over_sends_nothing_any_more() {
    LazyLock::force(&LINES);
    let world = World::new().await;
    let answers = Arc::new(AtomicBool::new(false));
    let answering = Arc::clone(&answers);
    let script = move |command: &Command, _| match AtomicBool::load(&answering, Ordering::SeqCst) {
        true => vec![command.reply(Outcome::Done)],
        false => Vec::new(),
    };
    let _workers = world.workers(Arc::new(script)).await;
    let _orchestrator = world.orchestrator("locked out").await;
    let lock = "BEGIN; LOCK TABLE shards IN ACCESS EXCLUSIVE MODE";
    let ids = world.start(3).await;
    let sent = || {
        let of = |id: &SagaId| world.seen(*id, &StepName::RESERVE, StepKind::Do);
        ids.iter().map(of).sum::<usize>()
    };
    eventually("its commands are there", async || {
        (sent() >= ids.len()).then_some(())
    })
    .await;
    let mut holder = somebody(&world, lock).await;
    eventually("it gives up what it had", async || {
        let lines = LINES.lock().expect("no panic holds it");
        let mut lines = lines.iter().map(|line| &line.0);
        let over = lines.any(|line| {
            line["message"] == "the leases are over"
                && line.get("node").is_some_and(|node| node == "locked out")
        });
        over.then_some(())
    })
    .await;
    let before = sent();
    // Each would be sent again after 4 s or after 8 s: the time in which it is not.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(sent(), before, "it sends what may be another's");
    answers.store(true, Ordering::SeqCst);
    holder.batch_execute("ROLLBACK").await.expect("released");
    completed(&world, &ids).await;
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

#[tokio::test]
async fn a_partition_that_is_missing_makes_nobody_wait_for_a_reader_of_the_history() {
    let world = World::new().await;
    let _workers = world.workers(all_done()).await;
    let mut connection = world.database.connection().await;
    let before: (i64, i64) = Leaves {}.get_result(&mut connection).await.expect("there");
    somebody(
        &world,
        "DO $$ DECLARE month text := to_char(
                 date_trunc('month', now() AT TIME ZONE 'UTC') + interval '2 months', 'YYYYMM');
             BEGIN EXECUTE format('DROP TABLE history_%s, effects_%s', month, month); END $$",
    )
    .await;
    let reads = "BEGIN; SELECT count(*) FROM history; SELECT count(*) FROM effects";
    let mut reader = somebody(&world, reads).await;
    let made = MakePartitions { months: 3 }.get_result::<Option<i32>>(&mut connection);
    let made = tokio::time::timeout(std::time::Duration::from_secs(30), made).await;
    let made = made.expect("it does not wait").expect("no error");
    assert_eq!(made, None, "somebody was in the way");
    let _orchestrator = orchestrator(&world).await;
    let ids = world.start(20).await;
    completed(&world, &ids).await;
    all_are_of_the_first_epoch(&world).await;
    reader.batch_execute("COMMIT").await.expect("gone");
    eventually("the partitions are made", async || {
        let mut connection = world.database.connection().await;
        let now: (i64, i64) = Leaves {}.get_result(&mut connection).await.expect("there");
        (now == before).then_some(())
    })
    .await;
}

/// Who writes into the history all the time is not in the way.
#[tokio::test]
async fn a_partition_is_made_beside_writers() {
    let world = World::new().await;
    let mut connection = world.database.connection().await;
    somebody(
        &world,
        "DO $$ DECLARE month text := to_char(
                 date_trunc('month', now() AT TIME ZONE 'UTC') + interval '2 months', 'YYYYMM');
             BEGIN EXECUTE format('DROP TABLE history_%s, effects_%s', month, month); END $$",
    )
    .await;
    let id = world.start(1).await[0];
    let writes = format!(
        "BEGIN; INSERT INTO history (saga_id, at, rev, seq, input, state)
                VALUES ('{id}', now(), 999, 1, 3, 1)"
    );
    let _writer = somebody(&world, &writes).await;
    let made: Option<i32> = MakePartitions { months: 3 }
        .get_result(&mut connection)
        .await
        .expect("no error");
    assert_eq!(made, Some(2));
}

/// A clock far ahead made an id of a month that has no partition yet: it stays where it is, and the months
/// around it are made.
#[tokio::test]
async fn a_row_from_the_future_keeps_no_other_month_from_its_partition() {
    let world = World::new().await;
    let mut connection = world.database.connection().await;
    somebody(
        &world,
        "INSERT INTO history (saga_id, at, rev, seq, input, state)
           VALUES (uuid7_floor(date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
             + interval '100 days'), now(), 1, 1, 3, 1)",
    )
    .await;
    let (before, _): (i64, i64) = Leaves {}.get_result(&mut connection).await.expect("there");
    let made: Option<i32> = MakePartitions { months: 6 }
        .get_result(&mut connection)
        .await
        .expect("no error");
    // Three months more of each table, but for the one.
    assert_eq!(made, Some(5));
    let (after, _): (i64, i64) = Leaves {}.get_result(&mut connection).await.expect("there");
    assert_eq!(after - before, 5);
}
