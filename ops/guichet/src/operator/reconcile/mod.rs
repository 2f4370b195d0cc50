//! `guichet reconcile`
//!
//! The provider is read page by page, then our orders; each difference is looked at once more, after both
//! sides have been read anew, before it is told. Orders are in flight while it looks, and the provider may
//! show what was: what is still so when it is asked a second time is so.

mod books;
mod settle;
mod when;

use std::path::Path;

use anyhow::{Context, anyhow};
use inspector::reconcile::Difference;
use serde::Serialize;

use crate::{
    config,
    failure::Failure,
    output::{self, Format},
};
use books::Books;
use when::{duration_s, moment};

/// The arguments of `guichet reconcile`.
#[derive(Debug, clap::Args)]
pub(crate) struct Reconcile {
    /// How far back: so long ago (90m, 48h, 7d), or a time (2026-11-27T12:00:00Z)
    #[arg(long, value_name = "WHEN", default_value = "7d")]
    since: String,

    /// Give back what was captured and cancel what was not, where no live saga and no valid ticket stands
    /// against it; each is in the audit log
    #[arg(long, requires = "reason")]
    apply: bool,

    /// With --apply: leave alone what is younger
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "1h",
        requires = "apply"
    )]
    older_than: String,

    /// With --apply: why; kept in the audit log
    #[arg(long, value_name = "TEXT", requires = "apply")]
    reason: Option<String>,

    /// With --apply: who you are; kept in the audit log
    #[arg(long = "as", value_name = "NAME", env = "USER")]
    actor: Option<String>,
}

#[derive(Serialize)]
struct Found {
    #[serde(flatten)]
    difference: Difference,
    /// `refunded`, `refund_pending`, `cancelled`, `failed`, or `left` for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
}

/// Reads both sides and tells each difference; with `--apply` settles what may be settled. Fails when
/// something differs and was not settled.
pub(crate) async fn run(
    file: Option<&Path>,
    format: Format,
    args: Reconcile,
) -> Result<(), Failure> {
    let config = config::load(file, &["database", "pay"])?;
    let connection = database::connect(&config.database.named("reconcile"))
        .await
        .context("cannot reach the database")?;
    let client = config.pay.client().context("the payment provider")?;
    let mut books = Books::open(connection, client);
    let now = books.now().await?;
    let since = moment(&args.since, now).ok_or_else(|| wrong("--since", &args.since))?;
    let age_s =
        duration_s(&args.older_than).ok_or_else(|| wrong("--older-than", &args.older_than))?;
    let differences = books.read(since).await?;
    if args.apply && !differences.is_empty() && !books.are_ours() {
        return Err(anyhow!(
            "this database knows none of the orders that the provider's payments name: is it the right one? \
             Nothing was settled"
        )
        .into());
    }
    let mut found = Vec::with_capacity(differences.len());
    for difference in differences {
        let outcome = match (&args.reason, &args.actor) {
            (Some(reason), Some(actor)) if args.apply => {
                Some(books.settle(&difference, age_s, actor, reason).await?)
            }
            (_, None) if args.apply => {
                return Err(Failure::usage(anyhow!("--as is missing: who you are")));
            }
            _ => None,
        };
        found.push(Found {
            difference,
            outcome,
        });
    }
    let header = ["difference", "order", "payment", "amount", "outcome"];
    output::rows(format, &header, &found, |row| {
        let Difference {
            kind,
            order,
            payment_intent,
            amount_minor,
            currency,
        } = &row.difference;
        vec![
            kind.as_str().to_owned(),
            order.map_or_else(String::new, |order| order.to_string()),
            payment_intent.clone().unwrap_or_default(),
            format!("{amount_minor} {currency}"),
            row.outcome.unwrap_or_default().to_owned(),
        ]
    })?;
    let settled = |row: &&Found| matches!(row.outcome, Some("refunded" | "cancelled"));
    match found.len() - found.iter().filter(settled).count() {
        0 => Ok(()),
        open => Err(anyhow!("{open} differences between the provider and us").into()),
    }
}

fn wrong(argument: &str, given: &str) -> Failure {
    Failure::usage(anyhow!(
        "{argument} is {given:?}: must be so long as 90m, 48h or 7d, or a time in RFC 3339"
    ))
}
