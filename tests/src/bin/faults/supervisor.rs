//! A supervisor of the servers, from a fault's end on, for faults after which one may end by itself: at once, or some
//! time after what it missed is there again.

use crate::stage::Stage;
use anyhow::{Result, ensure};
use std::{future::Future, pin::pin, time::Duration};
use tokio::time::{Instant, sleep};

const LOOK_EVERY: Duration = Duration::from_millis(200);
/// One whose leavings are still in use ends at once, again and again.
const START_EVERY: Duration = Duration::from_secs(1);
/// Who cannot stay up is not started for ever.
const STARTS_MAX: u32 = 50;
/// As long as a start of the slowest takes on a busy machine, and then until every role has found it again.
const BACK_WITHIN: Duration = Duration::from_secs(120);

/// What it has done.
#[derive(Debug, Default)]
pub(crate) struct Supervisor {
    /// Whether it minds them.
    pub(crate) there: bool,
    /// How often it has started one.
    pub(crate) starts: u32,
    /// When it has last.
    last: Option<Instant>,
}

/// Starts what has ended by itself, if there is a supervisor.
pub(crate) fn look(stage: &mut Stage) -> Result<()> {
    let just_now = stage
        .supervisor
        .last
        .is_some_and(|at| at.elapsed() < START_EVERY);
    if !stage.supervisor.there || just_now {
        return Ok(());
    }
    let ended = [
        stage.postgres.start_if_ended()?,
        stage.rabbitmq.start_if_ended()?,
    ];
    let ended = ended.into_iter().filter(|ended| *ended).count();
    if ended > 0 {
        stage.supervisor.last = Some(Instant::now());
    }
    stage.supervisor.starts += u32::try_from(ended).unwrap_or(u32::MAX);
    let starts = stage.supervisor.starts;
    ensure!(starts <= STARTS_MAX, "servers ended {starts} times");
    Ok(())
}

/// Does this while whoever ends by himself is started again.
pub(crate) async fn beside<T>(stage: &mut Stage, doing: impl Future<Output = T>) -> Result<T> {
    let mut doing = pin!(doing);
    loop {
        tokio::select! {
            biased;
            done = &mut doing => return Ok(done),
            () = sleep(LOOK_EVERY) => look(stage)?,
        }
    }
}

/// Waits for a server that has stopped to answer, but not ended yet, or has only just been started, and for every role
/// to have found it; whether there was something to wait for.
pub(crate) async fn all_there(stage: &mut Stage, starts_before: u32) -> Result<bool> {
    if !stage.supervisor.there {
        return Ok(false);
    }
    let deadline = Instant::now() + BACK_WITHIN;
    let mut waited = stage.supervisor.starts > starts_before;
    loop {
        look(stage)?;
        if stage.rabbitmq.connect().await.is_ok() && stage.is_ready().await {
            return Ok(waited || stage.supervisor.starts > starts_before);
        }
        waited = true;
        ensure!(Instant::now() < deadline, "a server does not come back");
        sleep(LOOK_EVERY).await;
    }
}
