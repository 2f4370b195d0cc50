//! An owner that has read its sagas, and another one that stalled and moves them once more: what is
//! remembered is not what is stored. The stalled one is played by a write as it would have made it.

use crate::world::{Script, World, eventually};
use contract::{Outcome, SagaId, StepKind, StepName};
use engine::{Act, ActionName, Cause, What};
use saga::State;
use std::sync::Arc;

/// Workers who answer a payment in one way, an undo or a look in another, and do everything else.
fn workers(pay: Option<Outcome>) -> Script {
    Arc::new(move |command, _| {
        let pays = command.step == StepName::PAY && command.kind == StepKind::Do;
        let outcome = if pays { pay } else { Some(Outcome::Done) };
        outcome.map(|it| command.reply(it)).into_iter().collect()
    })
}

/// The stalled owner's write.
async fn moved_behind_its_back(world: &World, saga: SagaId, set: &str) {
    let stays = format!("UPDATE sagas SET rev = rev + 1, {set} WHERE id = '{saga}' AND NOT ended");
    world.execute(&stays).await;
}

/// Its undo of the payment had failed, and somebody has it tried again: to the saga as it is remembered
/// that makes no sense.
#[tokio::test]
async fn what_a_person_tells_is_not_settled_by_an_owner_that_was_overtaken() {
    let world = World::new().await;
    let _owner = world.orchestrator("one").await;
    let _workers = world.workers(workers(None)).await;
    let id = world.start(1).await[0];
    eventually("it is at its payment, for all that is known", async || {
        (world.seen(id, &StepName::PAY, StepKind::Do) > 0).then_some(())
    })
    .await;
    let stuck = "state = 3, done = 4, maybe_in_force = 4, failed_undo = 4, flags = 4,
                 flagged_at = now(), step = NULL, kind = NULL, outstanding = false, wake_at = NULL,
                 budget_until = NULL, reason = 'step_failed'";
    moved_behind_its_back(&world, id, stuck).await;
    let what = What::Act(Act {
        action: ActionName::Retry,
        by: "ann".to_owned(),
        reason: "the bank is back".to_owned(),
        audit: 1,
    });
    world.tell(id, what).await;
    let ended = world.ended(id).await;
    assert_eq!(ended.instance.state, State::Compensated);
    assert_eq!(world.seen(id, &StepName::PAY, StepKind::Undo), 1);
    let told = ended
        .timeline
        .iter()
        .find(|moment| moment.input == "operator");
    assert_eq!(told.expect("it is told").code.as_deref(), Some("retry"));
}

/// It waits for its customer, for all that is known, and may do so for minutes; the stalled owner had heard
/// of him and has asked the provider, whose answer went to nobody.
#[tokio::test]
async fn a_successor_does_not_sleep_on_what_a_stalled_owner_changed() {
    let world = World::new().await;
    let _owner = world.orchestrator("one").await;
    let _workers = world.workers(workers(Some(Outcome::Waiting))).await;
    let id = world.start(1).await[0];
    eventually("it waits", async || {
        let waits = world.view(id).await.instance.state == State::Waiting;
        waits.then_some(())
    })
    .await;
    let asks = "seq = seq + 1, state = 1, kind = 3, attempt = 1, outstanding = true,
                wake_at = now() + interval '1 hour', budget_until = now() + interval '2 hours'";
    moved_behind_its_back(&world, id, asks).await;
    let ended = world.ended(id).await;
    assert_eq!(ended.instance.state, State::Completed);
    assert_eq!(world.seen(id, &StepName::PAY, StepKind::Probe), 1);
}

/// Nobody sees what is in an owner's memory; what is there is not found by a write behind its back that keeps
/// the revision, and what is not there is read as it is stored.
#[tokio::test]
async fn a_saga_that_waits_for_long_comes_back_when_its_time_is_near_and_when_it_is_told() {
    let world = World::new().await;
    let _owner = world.orchestrator("one").await;
    let _workers = world.workers(workers(Some(Outcome::Waiting))).await;
    let ids = world.start(2).await;
    for id in &ids {
        eventually("it waits", async || {
            let view = world.view(*id).await.instance;
            (view.state == State::Waiting).then_some(())
        })
        .await;
    }
    // From now on the time of the first is near.
    asleep(&world, 2).await;
    let near = "UPDATE sagas SET waiting_since = waiting_since - interval '13 minutes',
                wake_at = now() + interval '1 second' WHERE id = ";
    world.execute(&format!("{near} '{}'", ids[0])).await;
    let ended = world.ended(ids[0]).await;
    assert_eq!(ended.instance.state, State::Completed);
    let warned = ended
        .timeline
        .iter()
        .filter(|moment| moment.code.as_deref() == Some(saga::DEADLINE_NEAR));
    assert_eq!(warned.count(), 1);
    world
        .tell(ids[1], What::Nudge(StepName::PAY, Cause::Outside))
        .await;
    assert_eq!(world.ended(ids[1]).await.instance.state, State::Completed);
}

/// Who takes the shards next counts those that were asleep before it came.
#[tokio::test]
async fn sagas_that_sleep_are_told_for_admission_by_each_owner() {
    let world = World::new().await;
    let first = world.orchestrator("one").await;
    let _workers = world.workers(workers(Some(Outcome::Waiting))).await;
    world.start(3).await;
    asleep(&world, 3).await;
    first.stop.cancel();
    first.task.await.expect("no panic").expect("it stops");
    world.execute("UPDATE shards SET asleep = 0").await;
    let _second = world.orchestrator("two").await;
    asleep(&world, 3).await;
}

/// Waits until the owners say that so many sleep.
async fn asleep(world: &World, sagas: i64) {
    eventually("so many sleep", async || {
        let mut connection = world.database.connection().await;
        let count = diesel_async::RunQueryDsl::get_result(Asleep {}, &mut connection).await;
        (count == Ok(sagas)).then_some(())
    })
    .await;
}

database::statement! {
    struct Asleep {} -> diesel::sql_types::BigInt = "SELECT sum(asleep) FROM shards"
}
