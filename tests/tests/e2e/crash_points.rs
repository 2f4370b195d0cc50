//! Roles that die at a named place, once at its first and once at its second passing: some of each kind.
//! All of them: `./ops/faults crash-points`.

use tests::world::crashes::{Stage, places};

async fn each_of(version: i16, some: &[(&str, u64)]) {
    let known = places();
    let mut stage = Stage::set(version).await;
    for (place, passing) in some {
        assert!(known.iter().any(|one| one == place), "there is no {place}");
        Box::pin(stage.hit(place, *passing)).await;
    }
    stage.strike().await;
}

#[tokio::test]
async fn a_worker_dies_on_the_way_of_a_do() {
    each_of(
        1,
        &[
            ("worker.reserve.do.before_commit", 1),
            ("worker.fraud-check.do.after_publish", 2),
            ("worker.pay.do.after_effect", 1),
            ("worker.issue.do.after_commit", 2),
            ("worker.notify.do.before_ack", 1),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_worker_dies_on_the_way_of_an_undo_and_of_a_probe() {
    each_of(
        1,
        &[
            ("worker.pay.undo.after_effect", 1),
            ("worker.pay.undo.before_publish", 2),
            ("worker.reserve.undo.after_commit", 1),
            ("worker.pay.probe.after_effect", 1),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_worker_dies_around_a_request_to_the_provider() {
    each_of(
        1,
        &[
            ("provider.create.after_answer", 1),
            ("provider.create.id_stored", 2),
            ("provider.confirm.after_answer", 1),
            ("provider.cancel.after_answer", 2),
            ("provider.refund.after_answer", 1),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_worker_dies_on_the_way_of_a_capture_and_of_what_undoes_it() {
    each_of(
        2,
        &[
            ("worker.capture.do.after_effect", 1),
            ("worker.capture.probe.before_publish", 1),
            ("worker.capture.undo.after_effect", 1),
            ("worker.issue.undo.before_commit", 1),
            ("provider.capture.after_answer", 2),
        ],
    )
    .await;
}

#[tokio::test]
async fn an_orchestrator_dies_anywhere() {
    each_of(
        1,
        &[
            ("orchestrator.fraud-check.do.decided", 2),
            ("orchestrator.pay.do.before_commit", 1),
            ("orchestrator.issue.do.before_publish", 1),
            ("orchestrator.pay.undo.after_confirm", 2),
            ("orchestrator.reserve.undo.after_commit", 2),
            ("orchestrator.notify.do.before_ack", 1),
            ("orchestrator.lease.acquired", 2),
            ("orchestrator.lease.loaded", 1),
            ("orchestrator.signal.applied", 1),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_gateway_dies_anywhere() {
    each_of(
        1,
        &[
            ("gateway.before_commit", 1),
            ("gateway.before_answer", 2),
            ("gateway.before_first_command", 1),
            ("gateway.signal.after_commit", 1),
        ],
    )
    .await;
}
