//! `guichet gateway`: the public HTTP API.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, anyhow};
use engine::{Client, definitions::Definitions};
use gateway::App;

use super::{Process, ground::Ground, listen};
use crate::{config, failure::Failure};

/// The accept loop has its own deadline; so much longer has what it leaves behind.
const AFTER_DRAIN: Duration = Duration::from_secs(5);

const SECTIONS: [&str; 3] = ["database", "amqp", "gateway"];

/// Runs it until it is asked to stop.
pub(crate) async fn run(file: Option<&Path>) -> Result<(), Failure> {
    let config = config::load(file, &SECTIONS)?;
    let process = Process::start("gateway", &config).await?;
    let listener = listen("gateway.addr", config.gateway.addr).await?;
    let (http, loaded) = (
        process.readiness.check("http"),
        process.readiness.check("catalogue"),
    );
    let database = config.database.named(process.role);
    let Some(ground) = Ground::open(&process, &config, &database).await? else {
        return Ok(());
    };
    let definitions = Definitions::ours();
    let client = client(&ground, &definitions, &config.gateway.order_definition).await?;
    let drain = Duration::from_millis(config.gateway.drain_deadline_ms);
    let stop = process.shutdown.clone();
    let pool = ground.pool.clone();
    let app = App::new(config.gateway, pool, client, definitions, stop.clone());
    let catalogue = Arc::clone(&app.catalogue);
    process
        .tasks
        .spawn("http", gateway::run(app, listener, stop.clone()));
    http.ready();
    tokio::spawn(stop.run_until_cancelled_owned(async move {
        catalogue.loaded().await;
        loaded.ready();
    }));
    Ok(ground.finish(process, drain + AFTER_DRAIN).await?)
}

/// Starts orders by the version that the configuration names.
async fn client(ground: &Ground, definitions: &Definitions, label: &str) -> Result<Client> {
    let definition = definitions
        .labelled(label)
        .ok_or_else(|| anyhow!("this program has no definition {label}"))?;
    Client::new(&ground.pool, ground.bus.clone(), definitions, definition.id)
        .await
        .context("cannot start orders")
}
