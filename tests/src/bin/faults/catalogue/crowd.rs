//! Far more customers than usual.

use crate::{fault::Fault, run::Run, stage::Setting};
use anyhow::{Result, ensure};
use checker::journal::What;
use std::time::Duration;

/// Fewer than the crowd brings within one round of an owner's counting.
const BOUND: u32 = 20;
const SMALL: Setting = Setting {
    live_max: Some(BOUND),
    ..Setting::USUAL
};
const RESENDS: &str = "guichet_saga_resends_total";

/// So many times as many come.
const TIMES: u32 = 10;
/// For so long.
const LASTS: Duration = Duration::from_secs(6);
/// So much of what the usual number of customers would have been sold has to be sold, at least.
const GOODPUT: f64 = 0.5;

pub(crate) const FAULTS: &[Fault] = &[Fault::new(
    "crowd",
    "With ten times as many customers tickets are sold as before; others are told to come back, and are served then.",
    |run| Box::pin(crowd(run)),
    |run| Box::pin(sold(run)),
    |_| Box::pin(async { Ok(()) }),
)
.on(SMALL)
.undisturbed()
.then(|run| Box::pin(nothing_again(run)))];

async fn crowd(run: &mut Run) -> Result<()> {
    run.resent_before = run.stage.counted(RESENDS).await;
    run.counted_before = run.journal().len() as u64;
    run.sold_before = run.stage.reader().await?.completed().await?;
    let rate = run.load.rate_per_s * TIMES;
    run.customers.come(&mut run.rng, rate, LASTS);
    tokio::time::sleep(LASTS).await;
    Ok(())
}

/// A backlog is not silence: nothing was lost, so nothing is sent again, however late the answers are.
async fn nothing_again(run: &mut Run) -> Result<String> {
    let again = run.stage.counted(RESENDS).await - run.resent_before;
    ensure!(
        again == 0,
        "{again} commands were sent again, and none was lost"
    );
    Ok("none sent again".to_owned())
}

async fn sold(run: &mut Run) -> Result<String> {
    let before = usize::try_from(run.counted_before)?;
    let (mut asked, mut accepted, mut later, mut overloaded) = (0, 0, 0, 0);
    for entry in &run.journal()[before..] {
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
                overloaded += u32::from(body.contains("\"overloaded\""));
            }
            _ => {}
        }
    }
    ensure!(overloaded > 0, "nobody was told that there are too many");
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
        "{asked} orders sent in {} s, {accepted} accepted, {later} times told to come back ({overloaded} times for overload), {sold} sold by then",
        LASTS.as_secs()
    ))
}
