//! What a saga is told before it waits.

use crate::world::{World, eventually};
use contract::{Command, Outcome, SagaId, StepKind, StepName};
use engine::{Cause, Person, What};
use saga::State;
use std::sync::Arc;

database::statement! {
    struct Open {} -> diesel::sql_types::BigInt =
    "SELECT count(*) FROM signals WHERE applied_at IS NULL"
}

impl World {
    async fn open(&self) -> i64 {
        let mut connection = self.database.connection().await;
        diesel_async::RunQueryDsl::get_result(Open {}, &mut connection)
            .await
            .expect("readable")
    }

    /// Waits until a worker has the step's `do`, which it does not answer.
    async fn asked(&self, saga: SagaId, step: &StepName) -> Command {
        eventually("the step is asked for", async || {
            let seen = self.seen.lock().expect("no panic holds it");
            let mut seen = seen.iter();
            seen.find(|c| c.saga_id == saga && c.step == *step).cloned()
        })
        .await
    }
}

/// A worker that keeps the first `do` of a step to itself, and does all else.
fn silent_at(step: StepName) -> crate::world::Script {
    Arc::new(move |command: &Command, _| {
        let first = command.step == step && command.kind == StepKind::Do && command.attempt == 1;
        match first && command.seq == i32::from(step == StepName::PAY) + 2 {
            true => Vec::new(),
            false => vec![command.reply(Outcome::Done)],
        }
    })
}

/// A bank's word comes while the worker's, that the payment waits for it, is still on its way. It is kept
/// until the saga waits, and then it is looked at once.
#[tokio::test]
async fn a_nudge_before_the_wait_is_kept_and_looked_at_once_when_it_begins() {
    let world = World::new().await;
    let _orchestrator = world.orchestrator("one").await;
    let workers = world.workers(silent_at(StepName::PAY)).await;
    let id = world.start(1).await[0];
    let command = world.asked(id, &StepName::PAY).await;
    let own = What::Nudge(StepName::PAY, Cause::OwnRequest);
    assert_eq!(
        world.tell(id, own).await,
        [],
        "whoever made the request knows"
    );
    let elsewhere = What::Nudge(StepName::NOTIFY, Cause::Outside);
    assert_eq!(world.tell(id, elsewhere).await, []);
    let early = What::Nudge(StepName::PAY, Cause::Outside);
    let told = world.tell(id, early).await;
    assert_eq!((told.len(), told[0].waits), (1, false));
    // Rounds pass, and it stays open.
    for _ in 0..2 {
        let sent = world.seen(id, &StepName::PAY, StepKind::Do);
        eventually("the command is sent again", async || {
            (world.seen(id, &StepName::PAY, StepKind::Do) > sent).then_some(())
        })
        .await;
    }
    assert_eq!(world.open().await, 1);
    let waits = (command.reply_to.clone(), command.reply(Outcome::Waiting));
    let _ = workers.publish_replies(vec![waits]).await;
    let view = world.ended(id).await;
    assert_eq!(view.instance.state, State::Completed);
    let of = |input: &str| view.timeline.iter().filter(|m| m.input == input).count();
    assert_eq!(of("signal"), 1);
    let probe = |m: &&engine::view::Moment| m.input == "reply" && m.kind == Some(StepKind::Probe);
    assert_eq!(view.timeline.iter().filter(probe).count(), 1);
    world.every_signal_is_applied().await;
}

/// A step that is done without waiting has no use for what was told before: it is settled, and causes nothing.
#[tokio::test]
async fn a_nudge_to_a_saga_that_goes_on_without_waiting_is_settled() {
    let world = World::new().await;
    let _orchestrator = world.orchestrator("one").await;
    let workers = world.workers(silent_at(StepName::PAY)).await;
    let id = world.start(1).await[0];
    let command = world.asked(id, &StepName::PAY).await;
    let early = What::Nudge(StepName::PAY, Cause::Outside);
    assert_eq!(world.tell(id, early).await.len(), 1);
    let done = (command.reply_to.clone(), command.reply(Outcome::Done));
    let _ = workers.publish_replies(vec![done]).await;
    let view = world.ended(id).await;
    assert_eq!(view.instance.state, State::Completed);
    assert_eq!(world.seen(id, &StepName::PAY, StepKind::Probe), 0);
    assert!(view.timeline.iter().all(|moment| moment.input != "signal"));
    world.every_signal_is_applied().await;
}

/// A reviewer is quicker than the word that he is waited for.
#[tokio::test]
async fn a_decision_before_the_wait_is_kept_and_applied_once_when_it_begins() {
    let world = World::new().await;
    let _orchestrator = world.orchestrator("one").await;
    let workers = world.workers(silent_at(StepName::FRAUD_CHECK)).await;
    let id = world.start(1).await[0];
    let command = world.asked(id, &StepName::FRAUD_CHECK).await;
    let reviewer = Person {
        by: "ada".to_owned(),
        audit: 1,
    };
    let decided = What::Decision(StepName::FRAUD_CHECK, "approved", reviewer);
    assert_eq!(world.tell(id, decided).await.len(), 1);
    assert_eq!(world.open().await, 1);
    let waits = (command.reply_to.clone(), command.reply(Outcome::Waiting));
    let _ = workers.publish_replies(vec![waits]).await;
    let view = world.ended(id).await;
    assert_eq!(view.instance.state, State::Completed);
    let signals = view.timeline.iter().filter(|m| m.input == "signal");
    assert_eq!(signals.count(), 1);
    world.every_signal_is_applied().await;
}

/// What PostgreSQL keeps is what [`engine::is_kept`] says, which is what the simulation runs by.
#[tokio::test]
async fn what_is_kept_is_what_the_rule_says() {
    let world = World::new().await;
    let mut kept = 0;
    for state in 1..=6 {
        for step in ["0, 1", "2, 1", "2, 3", "3, 1", "NULL, NULL"] {
            for waits in ["NULL", "now()"] {
                let id = SagaId::new();
                world
                    .execute(&format!(
                        "INSERT INTO sagas (id, deadline, updated_at, trace_id, rev, seq, pivot, shard,
                                            definition, state, ended, done, reason, approver,
                                            step, kind, waiting_since)
                         VALUES ('{id}', now(), now(), '{id}', 4, 3, 8, 5,
                                 99, {state}, {state} >= 4, 8, 'step_failed', 'ada', {step}, {waits})"
                    ))
                    .await;
                let saga = world.view(id).await.instance;
                for cause in [Cause::Outside, Cause::OwnRequest] {
                    let told = world.tell(id, What::Nudge(StepName::PAY, cause)).await;
                    let expected = engine::is_kept(&saga, 2, cause);
                    assert_eq!(told.len() == 1, expected, "{cause:?}, {saga:?}");
                    kept += told.len();
                }
            }
        }
    }
    // At the step by `do` or probe, running or waiting: whatever caused it if a wait has begun, else not
    // what our own request did.
    assert_eq!(kept, 2 * 2 * 3);
}
