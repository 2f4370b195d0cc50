//! Whether a fault took effect: what is seen of it from outside before it ends.

use crate::{
    role::{Kind, Role, To},
    run::Run,
};
use anyhow::{Context, Result, ensure};
use lapin::{BasicProperties, options::BasicPublishOptions};
use std::{fmt::Write as _, time::Duration};
use tests::world::tcp::TcpProxy;
use tokio::time::{Instant, sleep};

/// How long a broker may take to say that it takes nothing.
const BLOCKED_WITHIN: Duration = Duration::from_secs(5);

fn named(run: &Run, which: impl Fn(&Role) -> bool) -> Vec<&str> {
    let roles = run.stage.roles.iter().filter(|role| which(role));
    roles.map(|role| role.name.as_str()).collect()
}

/// So many died of `kill -9`, and none of them is there.
pub(crate) async fn killed(run: &mut Run, count: usize) -> Result<String> {
    for role in run.stage.roles.iter().filter(|role| role.was_killed()) {
        ensure!(!role.is_ready().await, "{} still answers", role.name);
    }
    let dead = named(run, |role| role.was_killed() && !role.is_wanted());
    ensure!(dead.len() == count, "{count} were to die, and {dead:?} did");
    let dead: Vec<String> = dead.into_iter().map(str::to_owned).collect();
    let leases = taken_over(run, &dead).await?;
    Ok(format!("SIGKILL ended {}{leases}", dead.join(", ")))
}

/// So many do not move.
pub(crate) async fn asleep(run: &mut Run, count: usize) -> Result<String> {
    let asleep = named(run, Role::is_asleep);
    ensure!(
        asleep.len() == count,
        "{count} were to be stopped, and {asleep:?} are"
    );
    let asleep: Vec<String> = asleep.into_iter().map(str::to_owned).collect();
    let leases = taken_over(run, &asleep).await?;
    Ok(format!("stopped: {}{leases}", asleep.join(", ")))
}

/// What those held of the shards is not theirs any more; if another one is there it is his.
async fn taken_over(run: &mut Run, gone: &[String]) -> Result<String> {
    let roles = run.stage.roles.iter();
    let owners = roles.filter(|role| role.kind == Kind::Orchestrator);
    let (gone, left): (Vec<&str>, Vec<&str>) = owners
        .map(|role| role.name.as_str())
        .partition(|name| gone.iter().any(|gone| gone == name));
    if gone.is_empty() {
        return Ok(String::new());
    }
    let reader = run.stage.reader().await?;
    for name in &gone {
        let leases = reader.leases_of(name).await?;
        ensure!(
            leases == 0,
            "{name} still has the leases of {leases} shards"
        );
    }
    let mut told = String::from("; their leases ran out");
    for name in left {
        let leases = reader.leases_of(name).await?;
        ensure!(leases > 0, "nobody has taken over");
        write!(told, ", {name} has {leases}")?;
    }
    Ok(told)
}

/// The lines of the owners to their database have hindered something, for so long that their leases ran out.
pub(crate) async fn cut_off(run: &mut Run) -> Result<String> {
    let hindered = hindered(run, Some(Kind::Orchestrator), To::Database).await?;
    let owners = named(run, |role| role.kind == Kind::Orchestrator);
    let owners: Vec<String> = owners.into_iter().map(str::to_owned).collect();
    let leases = taken_over(run, &owners).await?;
    Ok(format!("{hindered}{leases}"))
}

/// So many have ended in order and are there again.
pub(crate) async fn restarted(run: &mut Run, count: usize) -> Result<String> {
    let again = named(run, |role| role.was_stopped() && role.is_wanted());
    ensure!(
        again.len() == count,
        "{count} were to be restarted, and {again:?} were"
    );
    Ok(format!("exit code 0 and a new start: {}", again.join(", ")))
}

/// The lines of this kind of process, or of all, that lead there have hindered something.
pub(crate) async fn hindered(run: &mut Run, kind: Option<Kind>, to: To) -> Result<String> {
    let lines = lines(run, kind, to);
    ensure!(!lines.is_empty(), "there is no such line");
    let count: u64 = lines.iter().map(|line| line.hindered()).sum();
    ensure!(count > 0, "nothing passed there that could be hindered");
    Ok(format!("{count} connections or pieces hindered"))
}

/// Answers to commits were lost.
pub(crate) async fn commits_lost(run: &mut Run, kind: Option<Kind>) -> Result<String> {
    let lines = lines(run, kind, To::Database);
    let count: u64 = lines.iter().map(|line| line.commits_lost()).sum();
    ensure!(count > 0, "no answer to a commit was lost");
    Ok(format!("{count} answers to commits lost"))
}

fn lines(run: &Run, kind: Option<Kind>, to: To) -> Vec<&TcpProxy> {
    let roles = run.stage.roles.iter();
    let roles = roles.filter(|role| kind.is_none_or(|kind| kind == role.kind));
    roles.filter_map(|role| role.lines.to(to)).collect()
}

/// What the fault itself has seen when it was brought about.
pub(crate) async fn noted(run: &mut Run) -> Result<String> {
    ensure!(!run.note.is_empty(), "nothing was seen of it");
    Ok(run.note.clone())
}

pub(crate) async fn database_gone(run: &mut Run) -> Result<String> {
    ensure!(
        run.stage.postgres.refuses().await,
        "PostgreSQL still answers"
    );
    Ok("PostgreSQL refuses connections".to_owned())
}

pub(crate) async fn database_asleep(run: &mut Run) -> Result<String> {
    ensure!(run.stage.postgres.is_asleep(), "PostgreSQL is not stopped");
    Ok("PostgreSQL is stopped".to_owned())
}

pub(crate) async fn broker_gone(run: &mut Run) -> Result<String> {
    ensure!(run.stage.rabbitmq.refuses().await, "RabbitMQ still answers");
    let more = match run.note.as_str() {
        "" => String::new(),
        note => format!("; {note}"),
    };
    Ok(format!("RabbitMQ refuses connections{more}"))
}

pub(crate) async fn broker_asleep(run: &mut Run) -> Result<String> {
    ensure!(run.stage.rabbitmq.is_asleep(), "RabbitMQ is not stopped");
    Ok("RabbitMQ is stopped".to_owned())
}

/// Whoever publishes is told to wait.
pub(crate) async fn blocked(run: &mut Run) -> Result<String> {
    let connection = run.stage.rabbitmq.connect().await?;
    let channel = connection.create_channel().await?;
    channel
        .basic_publish(
            "".into(),
            "nobody".into(),
            BasicPublishOptions::default(),
            b"a question whether anything is taken",
            BasicProperties::default(),
        )
        .await
        .context("nothing can be published")?;
    let deadline = Instant::now() + BLOCKED_WITHIN;
    while !connection.status().blocked() {
        ensure!(Instant::now() < deadline, "the broker takes messages");
        sleep(Duration::from_millis(50)).await;
    }
    // The broker reads nothing from it now, so it can only be closed after the fault.
    run.kept.push(Box::new(connection));
    Ok("the broker blocks whoever publishes".to_owned())
}
