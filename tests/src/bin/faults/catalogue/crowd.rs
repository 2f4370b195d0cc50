//! Far more customers than usual.

use crate::{fault::Fault, run::Run, stage::Setting};
use anyhow::{Result, ensure};
use checker::journal::{Entry, What};
use std::time::Duration;

/// Fewer than the crowd brings within one round of an owner's counting.
const BOUND: u32 = 20;
const SMALL: Setting = Setting {
    live_max: Some(BOUND),
    ..Setting::USUAL
};
pub(super) const RESENDS: &str = "guichet_saga_resends_total";

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
.at_once()
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
