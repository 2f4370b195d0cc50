//! What is done to the roles' processes.

use super::CALM;
use crate::{fault::Fault, role::Kind, run::Run};
use anyhow::Result;
use nix::sys::signal::Signal;

const ONE: &str = "Another of its kind takes over, and what it held comes again.";
const ALL: &str = "What they were at is in the database, and goes on when they are back.";

pub(crate) const FAULTS: &[Fault] = &[
    Fault::new(
        CALM,
        "Where nothing is wrong nothing is sent twice.",
        |_| Box::pin(async { Ok(()) }),
        |_| Box::pin(async { Ok(()) }),
    )
    .ci(),
    Fault::new(
        "kill-worker",
        ONE,
        |run| Box::pin(kill(run, Kind::Worker, 1)),
        |run| Box::pin(back(run)),
    )
    .ci(),
    Fault::new(
        "kill-orchestrator",
        ONE,
        |run| Box::pin(kill(run, Kind::Orchestrator, 1)),
        |run| Box::pin(back(run)),
    )
    .lease()
    .ci(),
    Fault::new(
        "kill-gateway",
        "Orders that were answered are sold; the others can be sent again.",
        |run| Box::pin(kill(run, Kind::Gateway, 1)),
        |run| Box::pin(back(run)),
    )
    .ci(),
    Fault::new(
        "kill-provider",
        "A payment is captured once, whatever was heard of it.",
        |run| Box::pin(kill(run, Kind::Provider, 1)),
        |run| Box::pin(back(run)),
    )
    .ci(),
    Fault::new(
        "kill-all",
        ALL,
        |run| Box::pin(kill_all(run)),
        |run| Box::pin(back(run)),
    )
    .lease(),
    Fault::new(
        "stop-worker",
        "A worker that wakes up late changes nothing that was decided.",
        |run| Box::pin(signal(run, Kind::Worker, Signal::SIGSTOP)),
        |run| Box::pin(signal(run, Kind::Worker, Signal::SIGCONT)),
    ),
    Fault::new(
        "stop-orchestrator",
        "An owner that wakes up late finds that it is none any more.",
        |run| Box::pin(signal(run, Kind::Orchestrator, Signal::SIGSTOP)),
        |run| Box::pin(signal(run, Kind::Orchestrator, Signal::SIGCONT)),
    )
    .lease(),
    Fault::new(
        "stop-gateway",
        "Whoever is not answered asks another gateway with the same key.",
        |run| Box::pin(signal(run, Kind::Gateway, Signal::SIGSTOP)),
        |run| Box::pin(signal(run, Kind::Gateway, Signal::SIGCONT)),
    ),
    Fault::new(
        "stop-provider",
        "A provider that is silent leaves what is unknown, which is asked about.",
        |run| Box::pin(signal(run, Kind::Provider, Signal::SIGSTOP)),
        |run| Box::pin(signal(run, Kind::Provider, Signal::SIGCONT)),
    ),
    Fault::new(
        "restart-worker",
        "It finishes what it has begun.",
        |run| Box::pin(restart(run, Kind::Worker)),
        |run| Box::pin(back(run)),
    ),
    Fault::new(
        "restart-orchestrator",
        "It gives its shards back, and nobody waits for a lease.",
        |run| Box::pin(restart(run, Kind::Orchestrator)),
        |run| Box::pin(back(run)),
    ),
    Fault::new(
        "restart-gateway",
        "Open requests are answered before it goes.",
        |run| Box::pin(restart(run, Kind::Gateway)),
        |run| Box::pin(back(run)),
    ),
];

async fn kill(run: &mut Run, kind: Kind, count: usize) -> Result<()> {
    run.stage
        .of(kind)
        .take(count)
        .for_each(crate::role::Role::kill);
    Ok(())
}

async fn kill_all(run: &mut Run) -> Result<()> {
    run.stage.roles.iter_mut().for_each(crate::role::Role::kill);
    Ok(())
}

/// Starts again what does not run.
async fn back(run: &mut Run) -> Result<()> {
    let gone = run.stage.roles.iter_mut().filter(|role| !role.is_wanted());
    for role in gone {
        role.start()?;
    }
    Ok(())
}

async fn signal(run: &mut Run, kind: Kind, signal: Signal) -> Result<()> {
    if let Some(role) = run.stage.of(kind).next() {
        role.signal(signal);
    }
    Ok(())
}

async fn restart(run: &mut Run, kind: Kind) -> Result<()> {
    if let Some(role) = run.stage.of(kind).next() {
        role.stop().await?;
        role.start()?;
    }
    Ok(())
}
