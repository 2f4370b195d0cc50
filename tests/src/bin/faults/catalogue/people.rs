//! What people do to all orders at once.

use super::{
    provider::{Lies, each, plan, unplanned},
    seen,
};
use crate::{
    customers::wish::{Behaviour, GOOD},
    fault::Fault,
    run::Run,
};
use anyhow::{Result, ensure};
use std::time::Duration;
use tokio::time::{Instant, sleep};

pub(crate) const FAULTS: &[Fault] = &[Fault::new(
    "version-withdrawn",
    "What is not confirmed by a withdrawn version is ended, undone and told why; another one sells on.",
    |run| Box::pin(withdraw(run)),
    |run| Box::pin(seen::noted(run)),
    |run| Box::pin(unplanned(run)),
)
.at_once()
.spoils()];

/// Some are paying when it is withdrawn.
const SLOW_CONFIRM: Lies = &[each("confirm", r#"{"slow": {"ms": 5000}}"#)];
const FLOCK: u64 = 4;
/// How many pay by it.
const PAYING: &str =
    "SELECT count(*) FROM sagas WHERE definition = 1 AND state = 1 AND step = 2 AND kind = 1";
/// The gateway that sells by it.
const FIRST: usize = 0;
const MET_WITHIN: Duration = Duration::from_secs(15);

/// Two people withdraw what the first gateway sells by.
async fn withdraw(run: &mut Run) -> Result<()> {
    plan(run, SLOW_CONFIRM).await?;
    let customers = &mut run.customers;
    customers.flock(FLOCK, GOOD[0], Behaviour::Waits, Some(FIRST));
    let superuser = run.stage.postgres.superuser("guichet").await?;
    let deadline = Instant::now() + MET_WITHIN;
    while superuser.query_one(PAYING, &[]).await?.get::<_, i64>(0) == 0 {
        ensure!(Instant::now() < deadline, "nobody is paying");
        sleep(Duration::from_millis(50)).await;
    }
    let command = ["saga", "withdraw", "--definition", "order@1", "-o", "json"];
    let why = ["--reason", "it charges too early"];
    let asked = [&command[..], &why, &["--as", "ann"]].concat();
    run.stage.guichet(&asked).await?;
    let approved = [&command[..], &why, &["--as", "bob", "--approve"]].concat();
    run.note = run
        .stage
        .guichet(&approved)
        .await?
        .split_whitespace()
        .collect();
    Ok(())
}
