//! What processes leave behind.

use crate::world::{World, eventually};
use diesel::sql_types::Text;

database::statement! {
    struct Nodes {} -> Text = "SELECT node FROM orchestrators ORDER BY node"
}

#[tokio::test]
async fn a_process_that_died_is_forgotten_after_a_day() {
    let world = World::new().await;
    world
        .execute(
            "INSERT INTO orchestrators (node, seen_until)
             VALUES ('dead', now() - interval '25 hours'), ('away', now() - interval '23 hours')",
        )
        .await;
    let _orchestrator = world.orchestrator("one").await;
    eventually("the dead one is forgotten", async || {
        let mut connection = world.database.connection().await;
        let nodes = diesel_async::RunQueryDsl::load(Nodes {}, &mut connection).await;
        let nodes: Vec<String> = nodes.expect("readable");
        (nodes == ["away", "one"]).then_some(())
    })
    .await;
}
