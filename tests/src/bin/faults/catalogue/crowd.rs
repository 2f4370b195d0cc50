//! Far more customers than usual.

use crate::{fault::Fault, run::Run};
use anyhow::{Result, ensure};
use checker::journal::{Entry, What};
use std::sync::PoisonError;
use std::time::Duration;

/// So many times as many come.
const TIMES: u32 = 10;
/// For so long.
const LASTS: Duration = Duration::from_secs(6);
/// So much of what the usual number of customers would have been sold has to be sold, at least.
const GOODPUT: f64 = 0.5;

pub(crate) const FAULTS: &[Fault] = &[Fault::new(
    "crowd",
    "With ten times as many customers tickets are sold as before; others are told to come back.",
    |run| Box::pin(crowd(run)),
    |run| Box::pin(sold(run)),
    |_| Box::pin(async { Ok(()) }),
)];

async fn crowd(run: &mut Run) -> Result<()> {
    run.counted_before = journal(run).len() as u64;
    run.sold_before = run.stage.reader().await?.completed().await?;
    let rate = run.load.rate_per_s * TIMES;
    run.customers.come(&mut run.rng, rate, LASTS);
    tokio::time::sleep(LASTS).await;
    Ok(())
}

fn journal(run: &Run) -> Vec<Entry> {
    let journal = run.stage.journal.lock();
    journal.unwrap_or_else(PoisonError::into_inner).clone()
}

async fn sold(run: &mut Run) -> Result<String> {
    let before = usize::try_from(run.counted_before)?;
    let (mut asked, mut accepted, mut later) = (0, 0, 0);
    for entry in &journal(run)[before..] {
        match &entry.what {
            What::Asked { .. } => asked += 1,
            What::Answered { status: 202, .. } => accepted += 1,
            What::Answered {
                status: 429 | 503,
                body,
                ..
            } => {
                ensure!(
                    body.contains("\"code\""),
                    "a refusal without a code: {body}"
                );
                later += 1;
            }
            _ => {}
        }
    }
    let usual = f64::from(run.load.rate_per_s) * LASTS.as_secs_f64();
    ensure!(
        f64::from(asked) >= usual * f64::from(TIMES) * 0.9,
        "only {asked} orders were sent"
    );
    ensure!(
        f64::from(accepted) >= usual * GOODPUT,
        "only {accepted} orders were accepted"
    );
    let sold = run.stage.reader().await?.completed().await? - run.sold_before;
    ensure!(
        sold as f64 >= usual * GOODPUT,
        "only {sold} orders were sold"
    );
    Ok(format!(
        "{asked} orders sent in {} s, {accepted} accepted, {later} times told to come back, {sold} sold by then",
        LASTS.as_secs()
    ))
}
