//! What people do to all orders at once.

use super::seen;
use crate::{fault::Fault, run::Run};
use anyhow::Result;

pub(crate) const FAULTS: &[Fault] = &[Fault::new(
    "version-withdrawn",
    "What is not confirmed by a withdrawn version is ended, undone and told why; another one sells on.",
    |run| Box::pin(withdraw(run)),
    |run| Box::pin(seen::noted(run)),
    |_| Box::pin(async { Ok(()) }),
)
.at_once()
.spoils()];

/// Two people withdraw what the first gateway sells by.
async fn withdraw(run: &mut Run) -> Result<()> {
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
