//! What needs a stage of its own: a cluster, a standby, small disks; and what uses up connections.

use crate::{disk::fill, fault::Fault, run::Run, servers::postgres::CONNECTIONS, stage::Setting};
use anyhow::{Context, Result};

const CLUSTER: Setting = Setting {
    cluster: true,
    standby: false,
    small_disks: false,
};
const STANDBY: Setting = Setting {
    cluster: false,
    standby: true,
    small_disks: false,
};
const SMALL: Setting = Setting {
    cluster: false,
    standby: false,
    small_disks: true,
};

pub(crate) const FAULTS: &[Fault] = &[
    Fault::new(
        "postgres-connections",
        "Without a free connection things are late and not lost.",
        |run| Box::pin(occupy(run)),
        |run| Box::pin(leave(run)),
    )
    .lease(),
    Fault::new(
        "cluster-loses-a-node",
        "The other two nodes have every queue.",
        |run| Box::pin(node_dies(run)),
        |run| Box::pin(node_back(run)),
    )
    .on(CLUSTER),
    Fault::new(
        "postgres-failover",
        "What was answered is on the synchronous standby.",
        |run| Box::pin(primary_dies(run)),
        |run| Box::pin(standby_leads(run)),
    )
    .lease()
    .on(STANDBY),
    Fault::new(
        "postgres-disk-full",
        "What cannot be stored is not promised.",
        |run| Box::pin(full(run, "postgres")),
        |run| Box::pin(room(run, "postgres")),
    )
    .lease()
    .on(SMALL),
    Fault::new(
        "broker-disk-full",
        "A broker without room blocks and loses nothing.",
        |run| Box::pin(full(run, "rabbitmq")),
        |run| Box::pin(room(run, "rabbitmq")),
    )
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
    for _ in 0..CONNECTIONS {
        // From some number on there is none: that is the fault.
        if let Ok((client, connection)) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await
        {
            tokio::spawn(connection);
            run.kept.push(Box::new(client));
        }
    }
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

async fn node_back(run: &mut Run) -> Result<()> {
    run.stage
        .nodes
        .first_mut()
        .context("there is a cluster")?
        .start()
        .await
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
    run.stage.postgres = standby;
    // There is no other standby now: the next run needs another stage.
    run.stage.setting.standby = false;
    Ok(())
}

async fn full(run: &mut Run, server: &str) -> Result<()> {
    fill(&run.stage.root.join(server)).map(drop)
}

/// Takes away what filled it; PostgreSQL may have stopped for want of room.
async fn room(run: &mut Run, server: &str) -> Result<()> {
    std::fs::remove_file(run.stage.root.join(server).join("filler"))?;
    if server == "postgres" {
        run.stage.postgres.restart_if_ended().await?;
    }
    Ok(())
}
