//! How it is asked what became of a step.

use crate::world::{World, all_done, definitions_with};
use contract::{StepKind, StepName};
use saga::{ProbeMode, State};

/// Nobody gets round to the queue of new work of one step.
#[tokio::test]
async fn what_stands_for_a_probe_goes_by_the_queue_of_probes() {
    let definitions = definitions_with(|order| {
        let reserve = &mut order.steps[0];
        assert_eq!(reserve.probe_mode, ProbeMode::Redo);
        reserve.do_policy.budget_ms = Some(500);
    });
    let world = World::with(definitions).await;
    let _orchestrator = world.orchestrator("one").await;
    let queues = StepName::OF_AN_ORDER
        .into_iter()
        .flat_map(|step| [(step.clone(), StepKind::Do), (step, StepKind::Undo)])
        .filter(|queue| *queue != (StepName::RESERVE, StepKind::Do));
    let _workers = world.workers_at(queues.collect(), all_done()).await;
    let id = world.start(1).await[0];
    let view = world.ended(id).await;
    assert_eq!(view.instance.state, State::Completed);
    assert!(world.seen(id, &StepName::RESERVE, StepKind::Do) > 0);
}
