//! Far more customers than usual, and a provider so slow that work waits in its queue.

use super::provider::{Lies, each, plan, unplanned};
use crate::{fault::Fault, run::Run, stage::Setting};
use anyhow::{Result, ensure};
use checker::journal::{Entry, What};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Fewer than the crowd brings within one round of an owner's counting.
const BOUND: u32 = 20;
const SMALL: Setting = Setting {
    live_max: Some(BOUND),
    ..Setting::USUAL
};
/// With two workers six payments are under way at once.
const SLOW_WORKERS: Setting = Setting {
    permits: Some(3),
    ..Setting::USUAL
};
const SLOW_CONFIRM: Lies = &[each("confirm", r#"{"slow": {"ms": 1000}}"#)];
/// So many come each second beside the others. All together they pay more slowly than they come, and none waits for as
/// long as his payment is tried (60 s).
const MANY: u32 = 15;
/// How long it may take until the queue is short again.
const DRAINED_WITHIN: Duration = Duration::from_secs(60);
/// Payments under way when nobody waits any more.
const FEW: i64 = 6;

/// How many payments are under way, or wait to be.
const WAITING: &str = "SELECT count(*) FROM sagas WHERE state = 1 AND step = 2 AND kind = 1";

/// How many answers came to payments that had lain in the queue for longer than silence is borne (5 s; the answer itself
/// takes one more), and the oldest of them, since then.
const LATE: &str = "WITH moments AS (
      SELECT step, kind, outcome, at - lag(at) OVER (PARTITION BY saga_id ORDER BY rev) AS age
      FROM history WHERE at >= $1::text::timestamptz)
    SELECT count(*), coalesce(extract(epoch FROM max(age)), 0)::float8 FROM moments
    WHERE step = 2 AND kind = 1 AND outcome IS NOT NULL AND age > interval '6.5 seconds'";

pub(super) const RESENDS: &str = "guichet_saga_resends_total";

/// So many times as many come.
const TIMES: u32 = 10;
/// For so long.
const LASTS: Duration = Duration::from_secs(6);
/// So much of what the usual number of customers would have been sold has to be sold, at least.
const GOODPUT: f64 = 0.5;

pub(crate) const FAULTS: &[Fault] = &[CROWD, BACKLOG];

const CROWD: Fault = Fault::new(
    "crowd",
    "With ten times as many customers tickets are sold as before; others are told to come back, and are served then.",
    |run| Box::pin(crowd(run)),
    |run| Box::pin(sold(run)),
    |_| Box::pin(async { Ok(()) }),
)
.on(SMALL)
.at_once()
.undisturbed()
.then(|run| Box::pin(nothing_again(run)));

const BACKLOG: Fault = Fault::new(
    "backlog",
    "Work that lies in the queue for longer than silence is borne is late and not lost: it is not sent again.",
    |run| Box::pin(backlog(run)),
    |run| Box::pin(lay_in_the_queue(run)),
    |run| Box::pin(unplanned(run)),
)
.on(SLOW_WORKERS)
.at_once()
.undisturbed()
.then(|run| Box::pin(nothing_again(run)));

/// More payments at once than the workers can have under way; it is over when nobody waits for one any more.
async fn backlog(run: &mut Run) -> Result<()> {
    run.resent_before = run.stage.counted(RESENDS).await;
    plan(run, SLOW_CONFIRM).await?;
    let superuser = run.stage.postgres.superuser("guichet").await?;
    let row = superuser.query_one("SELECT now()::text", &[]).await?;
    run.note = row.get(0);
    run.customers.come(&mut run.rng, MANY, LASTS);
    tokio::time::sleep(LASTS.max(run.load.lasting)).await;
    let deadline = Instant::now() + DRAINED_WITHIN;
    loop {
        let waiting: i64 = superuser.query_one(WAITING, &[]).await?.get(0);
        if waiting <= FEW {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{waiting} payments still wait");
        sleep(Duration::from_millis(200)).await;
    }
}

async fn lay_in_the_queue(run: &mut Run) -> Result<String> {
    let superuser = run.stage.postgres.superuser("guichet").await?;
    let row = superuser.query_one(LATE, &[&run.note]).await?;
    let (late, oldest): (i64, f64) = (row.get(0), row.get(1));
    ensure!(late > 0, "no payment lay in the queue for long");
    Ok(format!(
        "{late} payments lay in the queue for longer than silence is borne, the last was answered after {oldest:.1} s"
    ))
}

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
pub(super) async fn nothing_again(run: &mut Run) -> Result<String> {
    let again = run.stage.counted(RESENDS).await - run.resent_before;
    ensure!(
        again == 0,
        "{again} commands were sent again, and none was lost"
    );
    Ok("none sent again".to_owned())
}

async fn sold(run: &mut Run) -> Result<String> {
    let before = usize::try_from(run.counted_before)?;
    let told = Told::of(&run.journal()[before..])?;
    let sold = run.stage.reader().await?.completed().await? - run.sold_before;
    told.judged(f64::from(run.load.rate_per_s) * LASTS.as_secs_f64(), sold)
}

/// What the crowd was told.
#[derive(Debug, Default)]
struct Told {
    asked: u32,
    accepted: u32,
    /// Told to come back.
    later: u32,
    /// And for that there are too many.
    overloaded: u32,
}

impl Told {
    fn of(journal: &[Entry]) -> Result<Self> {
        let mut told = Self::default();
        for entry in journal {
            match &entry.what {
                What::Asked { .. } => told.asked += 1,
                What::Answered { status: 202, .. } => told.accepted += 1,
                What::Answered {
                    status: 429 | 503,
                    body,
                    ..
                } => {
                    ensure!(
                        body.contains("\"code\""),
                        "a refusal without a code: {body}"
                    );
                    told.later += 1;
                    told.overloaded += u32::from(body.contains("\"overloaded\""));
                }
                _ => {}
            }
        }
        Ok(told)
    }

    /// Whether there was a crowd, some of it was refused, and as many as usual were served meanwhile, of whom
    /// `sold` were sold tickets.
    fn judged(&self, usual: f64, sold: i64) -> Result<String> {
        let Self {
            asked,
            accepted,
            later,
            overloaded,
        } = *self;
        ensure!(overloaded > 0, "nobody was told that there are too many");
        ensure!(
            f64::from(asked) >= usual * f64::from(TIMES) * 0.9,
            "only {asked} orders were sent"
        );
        ensure!(
            f64::from(accepted) >= usual * GOODPUT,
            "only {accepted} orders were accepted"
        );
        ensure!(
            sold as f64 >= usual * GOODPUT,
            "only {sold} orders were sold"
        );
        Ok(format!(
            "{asked} orders sent in {} s, {accepted} accepted, {later} times told to come back ({overloaded} times \
             for overload), {sold} sold by then",
            LASTS.as_secs()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many who came, and what they were told.
    fn crowd(answers: &[(u32, u16, &str)]) -> Vec<Entry> {
        let each = answers.iter().flat_map(|&(count, status, body)| {
            let what = move |number| {
                let (key, body) = (format!("{status}-{number}"), body.to_owned());
                let asked = What::Asked {
                    key: key.clone(),
                    body: String::new(),
                };
                let answered = What::Answered {
                    key,
                    status,
                    body,
                    order: None,
                };
                [asked, answered]
            };
            (0..count).flat_map(what)
        });
        each.map(|what| Entry { at_ms: 0, what }).collect()
    }

    fn judged(answers: &[(u32, u16, &str)], sold: i64) -> Result<String> {
        Told::of(&crowd(answers))?.judged(30.0, sold)
    }

    const TOO_MANY: &str = r#"{"code":"overloaded"}"#;

    #[test]
    fn an_overload_that_refuses_nobody_is_none() {
        assert!(judged(&[(40, 202, "{}"), (260, 503, TOO_MANY)], 20).is_ok());
        let convicted = |answers: &[(u32, u16, &str)], sold, why: &str| {
            let error = judged(answers, sold).expect_err(why);
            assert!(error.to_string().contains(why), "{error}");
        };
        let nobody = "nobody was told that there are too many";
        convicted(&[(300, 202, "{}")], 300, nobody);
        let other = r#"{"code":"payment_unavailable"}"#;
        convicted(&[(40, 202, "{}"), (260, 503, other)], 20, nobody);
        let bare = "a refusal without a code";
        convicted(&[(40, 202, "{}"), (260, 503, "busy")], 20, bare);
        let few = "only 100 orders were sent";
        convicted(&[(40, 202, "{}"), (60, 503, TOO_MANY)], 20, few);
        let shut = "only 3 orders were accepted";
        convicted(&[(3, 202, "{}"), (297, 503, TOO_MANY)], 3, shut);
        let stuck = "only 3 orders were sold";
        convicted(&[(40, 202, "{}"), (260, 503, TOO_MANY)], 3, stuck);
    }
}
