//! `guichet psp`: the payment-provider simulator.

use std::path::Path;

use super::{DRAIN, Process, listen};
use crate::{config, failure::Failure};

const SECTIONS: [&str; 1] = ["psp"];

/// Runs it until it is asked to stop.
pub(crate) async fn run(file: Option<&Path>) -> Result<(), Failure> {
    let config = config::load(file, &SECTIONS)?;
    let process = Process::start("psp", &config).await?;
    let listener = listen("psp.addr", config.psp.addr).await?;
    process.readiness.check("http").ready();
    let serving = psp::run(config.psp, listener, process.shutdown.clone());
    process.tasks.spawn("psp", serving);
    Ok(process.finish(DRAIN).await?)
}
