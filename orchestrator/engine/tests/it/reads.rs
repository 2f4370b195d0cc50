//! What statements cost, by the rows they read: nothing of it may grow with the sagas that there ever were.

use crate::world::World;
use contract::{SagaId, StepName};
use database::testing::rows_read;
use engine::{Cause, NewSignal, What};
use uuid::Uuid;

/// Planned on an empty table, a statement would read the whole of it for ever.
#[tokio::test]
async fn telling_a_saga_something_reads_no_other_saga() {
    let world = World::new().await;
    let mut connection = world.pool.get().await.expect("a connection");
    let nudge = |saga| {
        [NewSignal {
            id: Uuid::now_v7(),
            saga,
            what: What::Nudge(StepName::PAY, Cause::Outside),
        }]
    };
    engine::signal(&mut connection, &nudge(SagaId::new()))
        .await
        .expect("planned");
    world
        .execute(
            "INSERT INTO sagas (id, deadline, updated_at, trace_id, rev, seq, done, pivot, shard, definition,
                                state, ended)
             SELECT gen_random_uuid(), now(), now(), gen_random_uuid(), 9, 5, 1, 1, n % 8, 99, 4, true
             FROM generate_series(1, 3000) AS n",
        )
        .await;
    let saga = world.start(1).await[0];
    let before = rows_read(&mut connection, "sagas").await;
    engine::signal(&mut connection, &nudge(saga))
        .await
        .expect("written");
    let read = rows_read(&mut connection, "sagas").await - before;
    assert!(
        (1..=10).contains(&read),
        "{read} rows were read for one saga"
    );
}
