//! What needs a stage of its own: a cluster, a standby, small disks; and what uses up connections.

use super::seen;
use crate::{
    disk::fill,
    fault::{Fault, OUTLASTS_LEASES, OUTLASTS_STATEMENTS},
    run::{Run, moment},
    servers::postgres::CONNECTIONS,
    stage::Setting,
    supervisor,
};
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};
use tests::world::tcp::Line;
use tokio::time::sleep;
use tokio_postgres::error::SqlState;

const CLUSTER: Setting = Setting {
    cluster: true,
    ..Setting::USUAL
};
const STANDBY: Setting = Setting {
    standby: true,
    ..Setting::USUAL
};
const SMALL: Setting = Setting {
    small_disks: true,
    ..Setting::USUAL
};

/// What PostgreSQL logs when it misses room.
const NO_ROOM: &str = "No space left on device";

/// Until a role has looked at its database again: it is asked every 10 s, and with each new connection.
const FINDS_OUT_WITHIN: Duration = Duration::from_secs(30);

/// Until RabbitMQ is there again, ended or not: a start takes 20 s on a busy machine.
const BROKER_BACK_WITHIN: Duration = Duration::from_secs(120);

pub(crate) const FAULTS: &[Fault] = &[
    Fault::new(
        "postgres-connections",
        "Without a free connection things are late and not lost.",
        |run| Box::pin(occupy(run)),
        |run| Box::pin(seen::noted(run)),
        |run| Box::pin(leave(run)),
    )
    .lasting(OUTLASTS_LEASES)
    .lease(),
    Fault::new(
        "cluster-loses-a-node",
        "The other two nodes have every queue.",
        |run| Box::pin(node_dies(run)),
        |run| Box::pin(node_gone(run)),
        |run| Box::pin(node_back(run)),
    )
    .on(CLUSTER),
    Fault::new(
        "standby-cut",
        "Without its standby the database commits nothing, and everything goes on once it is back.",
        |run| Box::pin(standby(run, Line::Down)),
        |run| Box::pin(commits_wait(run)),
        |run| Box::pin(standby(run, Line::Up)),
    )
    .lasting(OUTLASTS_STATEMENTS)
    .lease()
    .on(STANDBY),
    Fault::new(
        "postgres-failover",
        "What was answered is on the synchronous standby.",
        |run| Box::pin(primary_dies(run)),
        |run| Box::pin(seen::database_gone(run)),
        |run| Box::pin(standby_leads(run)),
    )
    .lasting(OUTLASTS_LEASES)
    .lease()
    .on(STANDBY),
    Fault::new(
        "postgres-disk-full",
        "What cannot be stored is not promised. A server that has ended for want of room is started again.",
        |run| Box::pin(full(run, "postgres")),
        |run| Box::pin(no_room(run)),
        |run| Box::pin(room(run, "postgres")),
    )
    .lasting(OUTLASTS_LEASES)
    .lease()
    .supervised()
    .on(SMALL),
    Fault::new(
        "broker-disk-full",
        "A broker without room blocks or ends, at once or after there is room again, and loses nothing. It is started \
         again whenever it has ended.",
        |run| Box::pin(full(run, "rabbitmq")),
        |run| Box::pin(broker_without_room(run)),
        |run| Box::pin(room(run, "rabbitmq")),
    )
    .supervised()
    .on(SMALL),
];

/// Takes every connection that becomes free, and closes those of the roles.
async fn occupy(run: &mut Run) -> Result<()> {
    let superuser = run.stage.postgres.superuser("postgres").await?;
    superuser
        .batch_execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'guichet'",
        )
        .await?;
    let url = run.stage.database_url();
    let mut refused = 0;
    for _ in 0..CONNECTIONS {
        // From some number on there is none: that is the fault.
        match tokio_postgres::connect(&url, tokio_postgres::NoTls).await {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                run.kept.push(Box::new(client));
            }
            Err(error) if error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS) => refused += 1,
            Err(error) => return Err(error.into()),
        }
    }
    ensure!(refused > 0, "there were connections for everybody");
    run.note = format!("{} connections taken, {refused} refused", run.kept.len());
    Ok(())
}

async fn leave(run: &mut Run) -> Result<()> {
    run.kept.clear();
    Ok(())
}

async fn node_dies(run: &mut Run) -> Result<()> {
    run.stage
        .nodes
        .iter_mut()
        .take(1)
        .for_each(crate::servers::RabbitMq::kill);
    Ok(())
}

async fn node_gone(run: &mut Run) -> Result<String> {
    let node = run.stage.nodes.first().context("there is a cluster")?;
    ensure!(node.refuses().await, "the node still answers");
    Ok("one of three nodes refuses connections".to_owned())
}

async fn node_back(run: &mut Run) -> Result<()> {
    run.stage
        .nodes
        .first_mut()
        .context("there is a cluster")?
        .start()
        .await
}

async fn standby(run: &mut Run, line: Line) -> Result<()> {
    run.stage.replication.set(line);
    Ok(())
}

async fn commits_wait(run: &mut Run) -> Result<String> {
    let waiting = run.stage.postgres.waiting_for_standby().await?;
    ensure!(waiting > 0, "no commit waits for the standby");
    Ok(format!("{waiting} commits wait for the standby"))
}

async fn primary_dies(run: &mut Run) -> Result<()> {
    run.stage.postgres.kill();
    Ok(())
}

/// The standby becomes the server, and all lines lead to it.
async fn standby_leads(run: &mut Run) -> Result<()> {
    let standby = run.stage.standby.take().context("there is a standby")?;
    standby.promote().await?;
    for role in &run.stage.roles {
        if let Some(line) = &role.lines.database {
            line.lead_to(&standby.url());
        }
    }
    run.stage.operators.lead_to(&standby.url());
    run.healed = Some(moment());
    run.stage.postgres = standby;
    // There is no other standby now: the next run needs another stage.
    run.stage.setting.standby = false;
    // Another life of the database: each finds out and ends, and is started again as by a supervisor.
    let deadline = Instant::now() + FINDS_OUT_WITHIN;
    for role in &mut run.stage.roles {
        if role.lines.database.is_none() {
            continue;
        }
        while role.ended().is_none() {
            ensure!(
                Instant::now() < deadline,
                "{} goes on in another life",
                role.name
            );
            sleep(Duration::from_millis(50)).await;
        }
        role.start()?;
    }
    Ok(())
}

async fn full(run: &mut Run, server: &str) -> Result<()> {
    if server == "postgres" {
        run.counted_before = run.stage.postgres.complaints(NO_ROOM)? as u64;
    }
    fill(&run.stage.root.join(server)).map(drop)
}

async fn no_room(run: &mut Run) -> Result<String> {
    let complaints = run.stage.postgres.complaints(NO_ROOM)? as u64 - run.counted_before;
    ensure!(complaints > 0, "PostgreSQL did not miss any room");
    Ok(format!(
        "PostgreSQL said {complaints} times that there is no space left"
    ))
}

/// RabbitMQ takes nothing more, or has ended: it may meet the full disk before it looks how full it is.
async fn broker_without_room(run: &mut Run) -> Result<String> {
    let seen = seen::blocked(run).await;
    // It may end while it is asked.
    if run.stage.rabbitmq.has_ended() || run.stage.rabbitmq.refuses().await {
        return Ok("RabbitMQ ended for want of room".to_owned());
    }
    seen
}

/// Takes away what filled it. Whoever ended for want of room is started again by the supervisor.
async fn room(run: &mut Run, server: &str) -> Result<()> {
    std::fs::remove_file(run.stage.root.join(server).join("filler"))?;
    if server == "rabbitmq" {
        // One that is killed is there again before recoveries are measured, and so is this.
        run.stage.supervisor.there = true;
        let deadline = Instant::now() + BROKER_BACK_WITHIN;
        while run.stage.rabbitmq.connect().await.is_err() {
            supervisor::look(&mut run.stage)?;
            ensure!(Instant::now() < deadline, "RabbitMQ does not come back");
            sleep(Duration::from_millis(200)).await;
        }
    }
    Ok(())
}
