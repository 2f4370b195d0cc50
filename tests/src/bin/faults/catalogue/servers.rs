//! What is done to PostgreSQL and RabbitMQ.

use super::seen;
use crate::{
    fault::{Fault, OUTLASTS_LEASES, OUTLASTS_STATEMENTS},
    run::Run,
    stage::NAMESPACE,
};
use anyhow::{Result, ensure};
use contract::{StepKind, StepName, Topology};
use lapin::{
    options::{QueueDeclareOptions, QueueDeleteOptions},
    types::FieldTable,
};
use nix::sys::signal::Signal;

const BROKER: &str = "Whatever the broker loses is sent again from the database.";
const DATABASE: &str = "What was committed is there, what was not is done again.";

pub(crate) const FAULTS: &[Fault] = &[
    Fault::new(
        "broker-restart",
        BROKER,
        |run| Box::pin(broker_stops(run)),
        |run| Box::pin(seen::broker_gone(run)),
        |run| Box::pin(broker_back(run)),
    ),
    Fault::new(
        "broker-kill",
        BROKER,
        |run| Box::pin(broker_dies(run)),
        |run| Box::pin(seen::broker_gone(run)),
        |run| Box::pin(broker_back(run)),
    ),
    Fault::new(
        "broker-data-deleted",
        BROKER,
        |run| Box::pin(broker_forgets(run)),
        |run| Box::pin(seen::broker_gone(run)),
        |run| Box::pin(broker_back(run)),
    )
    .ci(),
    Fault::new(
        "broker-memory-alarm",
        "A blocked publisher is no lost order.",
        |run| Box::pin(memory(run, "0")),
        |run| Box::pin(seen::blocked(run)),
        |run| Box::pin(memory(run, "0.2")),
    ),
    Fault::new(
        "broker-queues-deleted",
        BROKER,
        |run| Box::pin(queues_deleted(run)),
        |run| Box::pin(seen::noted(run)),
        |_| Box::pin(async { Ok(()) }),
    )
    .at_once(),
    Fault::new(
        "postgres-restart",
        DATABASE,
        |run| Box::pin(database_stops(run)),
        |run| Box::pin(seen::database_gone(run)),
        |run| Box::pin(database_back(run)),
    ),
    Fault::new(
        "postgres-kill",
        DATABASE,
        |run| Box::pin(database_dies(run)),
        |run| Box::pin(seen::database_gone(run)),
        |run| Box::pin(database_back(run)),
    )
    .ci(),
    Fault::new(
        "stop-broker",
        "A broker that stands still holds up and loses nothing.",
        |run| Box::pin(broker_signal(run, Signal::SIGSTOP)),
        |run| Box::pin(seen::broker_asleep(run)),
        |run| Box::pin(broker_signal(run, Signal::SIGCONT)),
    )
    .lasting(OUTLASTS_LEASES),
    Fault::new(
        "stop-postgres",
        DATABASE,
        |run| Box::pin(database_signal(run, Signal::SIGSTOP)),
        |run| Box::pin(seen::database_asleep(run)),
        |run| Box::pin(database_signal(run, Signal::SIGCONT)),
    )
    .lasting(OUTLASTS_STATEMENTS)
    .lease(),
];

async fn broker_signal(run: &mut Run, signal: Signal) -> Result<()> {
    run.stage.rabbitmq.signal(signal);
    Ok(())
}

async fn database_signal(run: &mut Run, signal: Signal) -> Result<()> {
    run.stage.postgres.signal(signal);
    Ok(())
}

async fn broker_stops(run: &mut Run) -> Result<()> {
    run.stage.rabbitmq.stop().await
}

async fn broker_dies(run: &mut Run) -> Result<()> {
    run.stage.rabbitmq.kill();
    Ok(())
}

async fn broker_forgets(run: &mut Run) -> Result<()> {
    run.stage.rabbitmq.kill();
    let files = run.stage.rabbitmq.delete_data()?;
    ensure!(files > 0, "it had stored nothing");
    run.note = format!("{files} of its files deleted");
    Ok(())
}

async fn broker_back(run: &mut Run) -> Result<()> {
    run.stage.rabbitmq.start().await
}

async fn memory(run: &mut Run, watermark: &str) -> Result<()> {
    run.stage
        .rabbitmq
        .tool()
        .ctl(&["set_vm_memory_high_watermark", watermark])
        .await
        .map(drop)
}

async fn queues_deleted(run: &mut Run) -> Result<()> {
    let connection = run.stage.rabbitmq.connect().await?;
    let channel = connection.create_channel().await?;
    let topology = Topology::new(NAMESPACE);
    let mut deleted = 0;
    for step in StepName::OF_AN_ORDER {
        for kind in [StepKind::Do, StepKind::Undo] {
            let queue = topology.command_queue(&step, kind);
            // Fails where there is none.
            let there = QueueDeclareOptions {
                passive: true,
                ..QueueDeclareOptions::default()
            };
            channel
                .queue_declare(queue.as_str().into(), there, FieldTable::default())
                .await?;
            deleted += 1;
            channel
                .queue_delete(queue.as_str().into(), QueueDeleteOptions::default())
                .await?;
        }
    }
    connection.close(200, "bye".into()).await?;
    run.note = format!("{deleted} queues deleted");
    Ok(())
}

async fn database_stops(run: &mut Run) -> Result<()> {
    run.stage.postgres.stop().await
}

async fn database_dies(run: &mut Run) -> Result<()> {
    run.stage.postgres.kill();
    Ok(())
}

async fn database_back(run: &mut Run) -> Result<()> {
    run.stage.postgres.start().await
}
