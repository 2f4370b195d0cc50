//! What goes wrong around the engine, and that nothing is lost by it.

use crate::world::{World, all_done, eventually};
use bus::testing::Proxy;
use contract::{MessageId, Outcome, SagaId, StepKind, StepName};
use saga::State;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

#[tokio::test]
async fn sagas_whose_first_command_was_never_sent_are_found() {
    let world = World::new().await;
    let _orchestrator = world.orchestrator("one").await;
    let _workers = world.workers(all_done()).await;
    let (ids, _never_sent) = world.start_unsent(3).await;
    for id in ids {
        assert_eq!(world.ended(id).await.instance.state, State::Completed);
    }
}

#[tokio::test]
async fn sagas_started_without_any_orchestrator_run_once_one_comes() {
    let world = World::new().await;
    let _workers = world.workers(all_done()).await;
    let ids = world.start(3).await;
    let _orchestrator = world.orchestrator("one").await;
    for id in ids {
        assert_eq!(world.ended(id).await.instance.state, State::Completed);
    }
}

#[tokio::test]
async fn an_orchestrator_that_dies_is_taken_over_after_its_lease() {
    let world = World::new().await;
    let first = world.orchestrator("first").await;
    let answer = Arc::new(AtomicBool::new(false));
    let answering = Arc::clone(&answer);
    let script = Arc::new(move |command: &contract::Command, _| {
        // The first orchestrator never hears of its payments.
        if command.step != StepName::PAY || answering.load(Ordering::SeqCst) {
            vec![command.reply(Outcome::Done)]
        } else {
            Vec::new()
        }
    });
    let _workers = world.workers(script).await;
    let ids = world.start(20).await;
    eventually("all are at pay", async || {
        let at_pay = ids
            .iter()
            .filter(|id| world.seen(**id, &StepName::PAY, StepKind::Do) > 0);
        (at_pay.count() == ids.len()).then_some(())
    })
    .await;
    first.task.abort(); // dead: no release, no sign-off
    answer.store(true, Ordering::SeqCst);
    let _second = world.orchestrator("second").await;
    for id in ids {
        assert_eq!(world.ended(id).await.instance.state, State::Completed);
    }
}

#[tokio::test]
async fn two_orchestrators_share_the_shards_and_one_that_stops_hands_over() {
    let world = World::new().await;
    let first = world.orchestrator("first").await;
    let _second = world.orchestrator("second").await;
    let _workers = world.workers(all_done()).await;
    let owners = async || {
        let mut connection = world.database.connection().await;
        let rows: Vec<(Option<String>, i64)> =
            diesel_async::RunQueryDsl::load(Owners {}, &mut connection)
                .await
                .expect("readable");
        rows
    };
    eventually("four shards each", async || {
        let owners = owners().await;
        (owners.len() == 2 && owners.iter().all(|(_, shards)| *shards == 4)).then_some(())
    })
    .await;
    let mut ids = world.start(50).await;
    first.stop.cancel();
    first.task.await.expect("no panic").expect("no error");
    ids.extend(world.start(50).await);
    for id in ids {
        assert_eq!(world.ended(id).await.instance.state, State::Completed);
    }
    eventually("the second has all", async || {
        let owners = owners().await;
        (owners == [(Some("second".to_owned()), 8)]).then_some(())
    })
    .await;
}

database::statement! {
    struct Owners {} -> (
        diesel::sql_types::Nullable<diesel::sql_types::Text>,
        diesel::sql_types::BigInt,
    ) = "SELECT owner, count(*) FROM shards GROUP BY owner ORDER BY owner"
}

#[tokio::test]
async fn of_two_with_one_name_the_elder_stops_and_the_younger_goes_on() {
    let world = World::new().await;
    let elder = world.orchestrator("twin").await;
    let _workers = world.workers(all_done()).await;
    let mut ids = world.start(20).await;
    let _younger = world.orchestrator("twin").await;
    let stopped = elder.task.await.expect("no panic");
    assert!(
        matches!(&stopped, Err(engine::Error::Fenced(node)) if node == "twin"),
        "{stopped:?}"
    );
    ids.extend(world.start(20).await);
    for id in ids {
        assert_eq!(world.ended(id).await.instance.state, State::Completed);
    }
}

#[tokio::test]
async fn a_lost_session_with_the_broker_loses_no_saga() {
    let world = World::new().await;
    let mut config = world.namespace.config();
    let proxy = Proxy::to(&config).await;
    config = proxy.through(&config);
    config.node = "cut".to_owned();
    let orchestrator = world.orchestrator_on("cut", config).await;
    let cut = Arc::new(AtomicBool::new(false));
    let is_cut = Arc::clone(&cut);
    let script = Arc::new(move |command: &contract::Command, _| {
        // Replies to the first session's payments go to a queue that is no more.
        if command.step == StepName::PAY && !is_cut.load(Ordering::SeqCst) {
            return Vec::new();
        }
        vec![command.reply(Outcome::Done)]
    });
    let _workers = world.workers(script).await;
    let ids = world.start(20).await;
    eventually("all are at pay", async || {
        let at_pay = ids
            .iter()
            .filter(|id| world.seen(**id, &StepName::PAY, StepKind::Do) > 0);
        (at_pay.count() == ids.len()).then_some(())
    })
    .await;
    cut.store(true, Ordering::SeqCst);
    proxy.cut();
    for id in &ids {
        assert_eq!(world.ended(*id).await.instance.state, State::Completed);
    }
    assert!(
        orchestrator.bus.state().borrow().session > 1,
        "the session was another one"
    );
}

/// Each kind of poison stands alone; the saga beside it goes on.
#[tokio::test]
async fn poison_does_not_disturb_its_neighbours() {
    let world = World::new().await;
    let _orchestrator = world.orchestrator("one").await;
    let script = Arc::new(|command: &contract::Command, _| {
        let good = command.reply(Outcome::Done);
        let mut stray = good.clone();
        stray.saga_id = SagaId::new();
        stray.id = MessageId::new();
        let mut odd = good
            .clone()
            .with_output(serde_json::json!({"text": "a\0b", "n\0": [1, "\0"]}));
        odd.error = Some(contract::ReplyError {
            code: "ÄÖÜ \0 far too long a code with characters that nobody allowed at all"
                .to_owned(),
            message: "x\0".repeat(10_000),
            retry_after_ms: Some(u32::MAX),
        });
        let mut other_kind = good;
        other_kind.seq = i32::MAX;
        vec![stray, other_kind, odd]
    });
    let _workers = world.workers(script).await;
    let ids = world.start(10).await;
    for id in ids {
        assert_eq!(world.ended(id).await.instance.state, State::Completed);
    }
    let raw = world.namespace.raw().await;
    eventually("strays are parked", async || {
        let parked = raw
            .waiting(&world.namespace.topology().parked_queue())
            .await;
        parked.is_some_and(|count| count >= 50).then_some(())
    })
    .await;
}

/// PostgreSQL refuses what one of them would become: the batch is halved until it stands alone.
#[tokio::test]
async fn a_saga_whose_change_the_database_refuses_is_held_and_the_others_complete() {
    let world = World::new().await;
    // Every answer twice: the second one of the culprit finds it held.
    let script = Arc::new(|command: &contract::Command, _| {
        vec![command.reply(Outcome::Done), command.reply(Outcome::Done)]
    });
    let _workers = world.workers(script).await;
    // All twenty wait for an owner, who sends their commands together and gets one batch of answers.
    let ids = world.start(20).await;
    let culprit = ids[7];
    world
        .execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
               'BEGIN RAISE EXCEPTION ''refused''; END'",
        )
        .await;
    world
        .execute(&format!(
            "CREATE TRIGGER refuse BEFORE INSERT ON history FOR EACH ROW
               WHEN (new.saga_id = '{culprit}') EXECUTE FUNCTION refuse()"
        ))
        .await;
    let _orchestrator = world.orchestrator("one").await;
    for id in ids.iter().filter(|id| **id != culprit) {
        let view = world.ended(*id).await;
        assert_eq!(view.instance.state, State::Completed);
        let revs: Vec<i32> = view.timeline.iter().map(|moment| moment.rev).collect();
        assert_eq!(revs, [1, 2, 3, 4, 5, 6]);
    }
    let held = eventually("the culprit is held", async || {
        let view = world.view(culprit).await;
        view.instance.flags.held.then_some(view)
    })
    .await;
    assert!(held.instance.flagged_at.is_some(), "since when is said");
    // Nothing of the refused change is there, and nothing is sent for a saga that is set aside.
    assert_eq!(held.instance.state, State::Running);
    assert_eq!(held.timeline.len(), 1);
    assert_eq!(world.seen(culprit, &StepName::RESERVE, StepKind::Do), 1);
    assert_eq!(world.seen(culprit, &StepName::FRAUD_CHECK, StepKind::Do), 0);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_held_and_the_others_go_on() {
    let world = World::new().await;
    let _workers = world.workers(all_done()).await;
    let ids = world.start(4).await;
    let (held, good) = ids.split_at(1);
    world
        .execute(&format!(
            "UPDATE sagas SET definition = 77 WHERE id = '{}'",
            held[0]
        ))
        .await;
    let _orchestrator = world.orchestrator("one").await;
    for id in good {
        assert_eq!(world.ended(*id).await.instance.state, State::Completed);
    }
    eventually("it is marked as held", async || {
        let mut connection = world.database.connection().await;
        let flags: Vec<i16> = diesel_async::RunQueryDsl::load(HeldFlags {}, &mut connection)
            .await
            .expect("readable");
        (flags == [2]).then_some(())
    })
    .await;
}

database::statement! {
    struct HeldFlags {} -> diesel::sql_types::SmallInt =
    "SELECT flags FROM sagas WHERE definition = 77"
}

/// A write by somebody else between our read and our write: ours changes nothing, and the saga goes
/// on from what is stored.
#[tokio::test]
async fn a_stale_owner_changes_nothing() {
    let world = World::new().await;
    let _orchestrator = world.orchestrator("one").await;
    let script = Arc::new(|command: &contract::Command, nth: usize| {
        if nth == 1 {
            Vec::new()
        } else {
            vec![command.reply(Outcome::Done)]
        }
    });
    let _workers = world.workers(script).await;
    let id = world.start(1).await[0];
    eventually("the worker has it", async || {
        (world.seen(id, &StepName::RESERVE, StepKind::Do) == 1).then_some(())
    })
    .await;
    world
        .execute(&format!("UPDATE sagas SET rev = rev + 5 WHERE id = '{id}'"))
        .await;
    let view = world.ended(id).await;
    assert_eq!(view.instance.state, State::Completed);
    // One more if the owner had read it before, and its write of a resend found out.
    assert!(
        view.instance.rev >= 11,
        "it went on from the other's revision: {}",
        view.instance.rev
    );
    let revs: Vec<i32> = view.timeline.iter().map(|moment| moment.rev).collect();
    assert!(
        revs.iter().all(|rev| *rev == 1 || *rev > 6),
        "no row of the write that failed: {revs:?}"
    );
}

/// What PostgreSQL ends for another's sake (a deadlock, a transaction that cannot be serialised) is settled
/// again, and nobody is held for it.
#[tokio::test]
async fn a_batch_that_is_ended_for_anothers_sake_is_settled_again() {
    let world = World::new().await;
    world.execute("CREATE SEQUENCE nth").await;
    world
        .execute(
            "CREATE FUNCTION end_it() RETURNS trigger LANGUAGE plpgsql AS
               'DECLARE n bigint := nextval(''nth'');
                BEGIN
                  IF n % 3 = 1 THEN RAISE ''deadlock detected'' USING ERRCODE = ''40P01''; END IF;
                  IF n % 3 = 2 THEN RAISE ''deadlock detected'' USING ERRCODE = ''40001''; END IF;
                  RETURN NULL;
                END'",
        )
        .await;
    world
        .execute(
            "CREATE TRIGGER end_it AFTER UPDATE ON sagas FOR EACH STATEMENT EXECUTE FUNCTION end_it()",
        )
        .await;
    let _workers = world.workers(all_done()).await;
    let ids = world.start(5).await;
    let _orchestrator = world.orchestrator("one").await;
    for id in ids {
        let view = world.ended(id).await;
        assert_eq!(view.instance.state, State::Completed);
        let revs = view.timeline.iter().map(|moment| moment.rev);
        // A command may have been sent again meanwhile, which is a row too; there is no gap.
        assert!(revs.eq(1..=view.instance.rev), "{:#?}", view.timeline);
        assert_eq!(view.instance.flagged_at, None, "nobody was held");
    }
}
