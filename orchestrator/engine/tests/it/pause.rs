//! Sagas that a person stops for a while, on real servers.

use crate::world::{Script, World, cancels, eventually};
use contract::{Outcome, SagaId, StepKind, StepName};
use engine::{Act, ActionName, What};
use saga::State;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

async fn tell(world: &World, saga: SagaId, what: What) {
    let told = world.tell(saga, what).await;
    assert_eq!(told.len(), 1, "it has not ended");
}

fn act(action: ActionName, audit: i64) -> What {
    let (by, reason) = ("ann".to_owned(), "case 7".to_owned());
    What::Act(Act {
        action,
        by,
        reason,
        audit,
    })
}

async fn paused(world: &World, saga: SagaId) {
    eventually("it is paused", async || {
        world.view(saga).await.instance.flags.paused.then_some(())
    })
    .await;
}

/// Workers who say nothing of a payment until they may.
fn silent_until(may: &Arc<AtomicBool>) -> Script {
    let may = Arc::clone(may);
    Arc::new(move |command, _| {
        let silent = command.step == StepName::PAY && !may.load(Ordering::SeqCst);
        match silent {
            true => Vec::new(),
            false => vec![command.reply(Outcome::Done)],
        }
    })
}

/// It survives its owner, a new owner sends nothing, what is told meanwhile waits, and all of it is
/// applied when it goes on.
#[tokio::test]
async fn a_paused_saga_is_left_alone_by_every_owner_and_nothing_it_was_told_is_lost() {
    let world = World::new().await;
    let first = world.orchestrator("first").await;
    let may = Arc::new(AtomicBool::new(false));
    let _workers = world.workers(silent_until(&may)).await;
    let ids = world.start(2).await;
    for id in &ids {
        eventually("it is at pay", async || {
            (world.seen(*id, &StepName::PAY, StepKind::Do) == 1).then_some(())
        })
        .await;
        tell(&world, *id, act(ActionName::Pause, 1)).await;
        paused(&world, *id).await;
    }
    let before = world.view(ids[0]).await;
    tell(&world, ids[1], cancels()).await;
    let asked: Vec<usize> = ids
        .iter()
        .map(|id| world.seen(*id, &StepName::PAY, StepKind::Do))
        .collect();
    first.task.abort(); // dead: no release, no sign-off
    let _second = world.orchestrator("second").await;
    // Another saga, whose command is decided later and has no answer either, shows that the second one has
    // taken over, and sends again what has none.
    let witness = world.start(1).await[0];
    eventually("the witness is sent again", async || {
        (world.seen(witness, &StepName::PAY, StepKind::Do) == 2).then_some(())
    })
    .await;
    may.store(true, Ordering::SeqCst);
    assert_eq!(world.ended(witness).await.instance.state, State::Completed);
    for (id, asked) in ids.iter().zip(asked) {
        let view = world.view(*id).await;
        assert!(view.instance.flags.paused);
        assert_eq!(world.seen(*id, &StepName::PAY, StepKind::Do), asked);
        assert_eq!(view.status.name(), "pending", "the customer sees no pause");
    }
    for id in &ids {
        tell(&world, *id, act(ActionName::Resume, 2)).await;
    }
    let on = world.ended(ids[0]).await;
    assert_eq!(on.instance.state, State::Completed);
    assert!(on.instance.deadline >= before.instance.deadline + 1_000);
    let people: Vec<_> = on
        .timeline
        .iter()
        .filter(|moment| moment.input == "operator")
        .map(|moment| {
            let detail = moment.detail.as_ref().expect("who and why");
            let text = |name: &str| detail[name].as_str().expect("a text").to_owned();
            (
                moment.code.clone().expect("what"),
                text("by"),
                text("reason"),
            )
        })
        .collect();
    let by_ann = |what: &str| (what.to_owned(), "ann".to_owned(), "case 7".to_owned());
    assert_eq!(people, [by_ann("pause"), by_ann("resume")]);
    let ended = world.ended(ids[1]).await;
    assert_eq!(ended.instance.state, State::Compensated);
    assert_eq!(ended.instance.reason.as_deref(), Some("customer_cancelled"));
}

/// An answer that comes during the pause is dropped, and so is every timer; neither costs a try.
#[tokio::test]
async fn an_answer_that_comes_during_a_pause_comes_again_after_it() {
    let world = World::new().await;
    let _orchestrator = world.orchestrator("one").await;
    let may = Arc::new(AtomicBool::new(false));
    let _workers = world.workers(silent_until(&may)).await;
    let id = world.start(1).await[0];
    eventually("it is at pay", async || {
        (world.seen(id, &StepName::PAY, StepKind::Do) == 1).then_some(())
    })
    .await;
    tell(&world, id, act(ActionName::Pause, 1)).await;
    paused(&world, id).await;
    let stopped = world.view(id).await.instance;
    // The worker answers the command of before, now.
    let command = {
        let seen = world.seen.lock().expect("no panic");
        let pay = seen.iter().find(|command| command.step == StepName::PAY);
        pay.expect("it was sent").clone()
    };
    let late = command.reply(Outcome::Done);
    let workers = world.workers(silent_until(&may)).await;
    let published = workers
        .publish_replies(vec![(command.reply_to.clone(), late)])
        .await;
    drop(published);
    // One that is answered after it shows that it was heard.
    may.store(true, Ordering::SeqCst);
    let other = world.start(1).await[0];
    assert_eq!(world.ended(other).await.instance.state, State::Completed);
    assert_eq!(
        world.view(id).await.instance,
        stopped,
        "nothing was decided"
    );
    tell(&world, id, act(ActionName::Resume, 2)).await;
    let view = world.ended(id).await;
    assert_eq!(view.instance.state, State::Completed);
    let tries = view.timeline.iter().filter_map(|moment| moment.attempt);
    assert_eq!(tries.max(), Some(1), "no try was spent");
}
