//! `guichet check`

use std::path::Path;

use anyhow::anyhow;
use inspector::check;

use super::intervention::{connect_for, refused};
use crate::{
    failure::Failure,
    output::{self, Format},
};

/// Asks the live database whether each promise holds; only reads. Fails with the offending rows.
pub(crate) async fn run(file: Option<&Path>, format: Format) -> Result<(), Failure> {
    let patience = Some(u64::from(check::TIMEOUT_MS));
    let mut connection = connect_for(file, "check", patience).await?;
    let report = check::run(&mut connection).await.map_err(refused)?;
    match format {
        Format::Table => print(&report)?,
        Format::Json | Format::Jsonl => output::one(format, &report, |_| Vec::new())?,
    }
    match report.findings.len() {
        0 => Ok(()),
        rows => Err(anyhow!("{rows} rows violate a promise").into()),
    }
}

fn print(report: &check::Report) -> anyhow::Result<()> {
    for statement in check::statements() {
        let broken = report.findings.iter().any(|it| it.check == statement.name);
        let sign = if broken { "BROKEN" } else { "ok" };
        output::print(&format!(
            "{sign:<7} {}: {}\n",
            statement.name, statement.says
        ))?;
    }
    if !report.findings.is_empty() {
        output::print("\n")?;
        let header = ["promise", "check", "row", "what is wrong"];
        output::rows(Format::Table, &header, &report.findings, |finding| {
            vec![
                finding.promise.to_owned(),
                finding.check.to_owned(),
                finding.subject.clone(),
                finding.detail.clone(),
            ]
        })?;
    }
    if !report.apart.is_empty() {
        output::print("\nFor people to end; no promise is broken:\n")?;
        let header = ["saga", "why", "reason", "at stake (minor units)"];
        output::rows(Format::Table, &header, &report.apart, |apart| {
            vec![
                apart.saga.clone(),
                apart.why.clone(),
                apart.reason.clone().unwrap_or_default(),
                format!("{} {}", apart.at_stake_minor, apart.currency),
            ]
        })?;
    }
    Ok(())
}
