//! Signals that nobody can apply: nothing of them is kept for ever, or read again for ever.

use crate::{
    logs::{LINES, said},
    world::{World, all_done, eventually},
};
use contract::{SagaId, StepName};
use engine::{Cause, NewSignal, What};
use std::sync::LazyLock;
use uuid::Uuid;

database::statement! {
    struct Open {} -> (diesel::sql_types::Uuid, diesel::sql_types::Uuid) =
    "SELECT id, saga_id FROM signals WHERE applied_at IS NULL ORDER BY id"
}

database::statement! {
    struct WhySettled { id: Uuid => diesel::sql_types::Uuid } -> diesel::sql_types::Text =
    "SELECT payload ->> 'stray' FROM signals WHERE id = {id} AND payload ? 'stray'"
}

async fn open(world: &World) -> Vec<Uuid> {
    let mut connection = world.database.connection().await;
    let open: Vec<(Uuid, Uuid)> = diesel_async::RunQueryDsl::load(Open {}, &mut connection)
        .await
        .expect("readable");
    open.into_iter().map(|(id, _)| id).collect()
}

async fn told(world: &World, saga: SagaId, kind: i16, hours: i32) -> Uuid {
    let id = Uuid::now_v7();
    let row = format!(
        "INSERT INTO signals (id, saga_id, shard, kind, step, payload, created_at)
         VALUES ('{id}', '{saga}', 3, {kind}, 'pay', '{{\"reason\": \"x\", \"action\": \"dance\"}}',
                 now() - {hours} * interval '1 hour')"
    );
    world.execute(&row).await;
    id
}

/// Its saga is not there, or has ended without anybody's knowing what it says.
#[tokio::test]
async fn what_is_told_to_nobody_is_settled_after_a_day_and_said_once() {
    LazyLock::force(&LINES);
    let world = World::new().await;
    let _workers = world.workers(all_done()).await;
    let _orchestrator = world.orchestrator("one").await;
    let ended = world.start(1).await[0];
    world.ended(ended).await;
    let [lost, lately] = [SagaId::new(), SagaId::new()];
    let old = [
        (told(&world, lost, 2, 25).await, lost, "no_such_saga"),
        (told(&world, lost, 3, 25).await, lost, "no_such_saga"),
        (told(&world, ended, 4, 25).await, ended, "saga_ended"),
    ];
    let young = [
        told(&world, lately, 2, 23).await,
        told(&world, ended, 4, 23).await,
    ];
    eventually("what is old is settled", async || {
        (open(&world).await == young).then_some(())
    })
    .await;
    for (id, saga, why) in old {
        let mut connection = world.database.connection().await;
        let read = WhySettled { id };
        let says: Vec<String> = diesel_async::RunQueryDsl::load(read, &mut connection)
            .await
            .expect("readable");
        assert_eq!(says, [why]);
        let id = id.to_string();
        let mut lines = said(saga, "a signal is for nobody").await;
        lines.retain(|line| line.0["signal"] == id);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(lines[0].0["why"], why);
    }
}

/// The provider tells of an order that a restore has lost.
#[tokio::test]
async fn what_is_told_of_a_saga_that_there_is_not_is_counted_and_leaves_nothing() {
    LazyLock::force(&LINES);
    let world = World::new().await;
    let (known, lost) = (world.start(1).await[0], SagaId::new());
    let signals = [known, lost].map(|saga| NewSignal {
        id: Uuid::now_v7(),
        saga,
        what: What::End("customer_cancelled", None),
    });
    let nudge = NewSignal {
        id: Uuid::now_v7(),
        saga: lost,
        what: What::Nudge(StepName::PAY, Cause::Outside),
    };
    let all = [&signals[..], &[nudge]].concat();
    let mut connection = world.database.connection().await;
    let told = engine::signal(&mut connection, &all)
        .await
        .expect("written");
    let told: Vec<Uuid> = told.iter().map(|told| told.signal).collect();
    assert_eq!(told, [signals[0].id]);
    assert_eq!(open(&world).await, [signals[0].id]);
    assert_eq!(said(lost, "a signal is for nobody").await.len(), 2);
    let counted = runtime::metrics::render();
    let series = "guichet_saga_signals_stray_total{why=\"no_such_saga\"}";
    let line = counted.lines().find(|line| line.starts_with(series));
    let count: f64 = line
        .and_then(|line| line.rsplit_once(' ')?.1.parse().ok())
        .expect("a number");
    assert!(count >= 2.0, "{count}: others of this process count too");
}
