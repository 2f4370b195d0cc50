//! `guichet orchestrator`: drives the sagas of the shards it owns.

use std::path::Path;

use engine::{Parts, definitions::Definitions};

use super::{DRAIN, Process, ground::Ground};
use crate::{config, failure::Failure};

const SECTIONS: [&str; 3] = ["database", "amqp", "orchestrator"];

/// Runs it until it is asked to stop.
pub(crate) async fn run(file: Option<&Path>) -> Result<(), Failure> {
    let config = config::load(file, &SECTIONS)?;
    let process = Process::start("orchestrator", &config).await?;
    let ready = process.readiness.check("orchestrator");
    let database = config
        .orchestrator
        .pool(config.database.named(process.role));
    let Some(ground) = Ground::open(&process, &config, &database).await? else {
        return Ok(());
    };
    let parts = Parts {
        config: config.orchestrator,
        node: ground.node.clone(),
        pool: ground.pool.clone(),
        bus: ground.bus.clone(),
        definitions: Definitions::ours(),
        ready,
    };
    let running = engine::run(parts, process.shutdown.clone());
    process.tasks.spawn("orchestrator", running);
    Ok(ground.finish(process, DRAIN).await?)
}
