//! `guichet review ls|approve|reject`

use std::path::Path;

use anyhow::Context;
use contract::OrderId;
use inspector::review::{self, Decision, Filter};
use serde::Serialize;

use super::intervention::{By, connect, refused};
use crate::{
    failure::Failure,
    output::{self, Format},
};

/// The arguments of `guichet review ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Only orders whose review is in this state
    #[arg(long, value_name = "STATE", default_value = "open",
          value_parser = ["open", "approved", "rejected", "withdrawn", "all"])]
    state: String,

    /// So many at most
    #[arg(long, value_name = "N", default_value_t = 100,
          value_parser = clap::value_parser!(i64).range(1..=inspector::LIST_MAX))]
    limit: i64,
}

/// The arguments of `guichet review approve` and `reject`.
#[derive(Debug, clap::Args)]
pub(crate) struct Decide {
    /// The held order
    #[arg(value_name = "ORDER")]
    order: OrderId,

    #[command(flatten)]
    by: By,
}

#[derive(Serialize)]
struct Decided {
    order: OrderId,
    decision: &'static str,
}

/// Prints the orders that wait for a person, the longest waiting first.
pub(crate) async fn list(file: Option<&Path>, format: Format, list: List) -> Result<(), Failure> {
    let mut connection = connect(file, "review").await?;
    let filter = Filter {
        state: (list.state != "all").then_some(list.state),
        limit: list.limit,
    };
    let reviews = review::list(&mut connection, filter)
        .await
        .map_err(refused)?;
    let header = [
        "order", "since", "state", "score", "rules", "tickets", "total", "e-mail", "by",
    ];
    Ok(output::rows(format, &header, &reviews, |review| {
        let rules = review.hits.as_array().map_or(&[][..], Vec::as_slice);
        let rules = rules
            .iter()
            .filter_map(|hit| Some(format!("{}={}", hit["rule"].as_str()?, hit["value"])));
        vec![
            review.order_id.to_string(),
            review.opened_at.format("%F %T").to_string(),
            review.state.clone(),
            review.score.to_string(),
            rules.collect::<Vec<_>>().join(" "),
            review.tickets.to_string(),
            money(review),
            review.email.clone(),
            review.by.clone().unwrap_or_default(),
        ]
    })?)
}

/// Decides about an order, once; its saga follows within seconds.
pub(crate) async fn decide(
    file: Option<&Path>,
    format: Format,
    decide: Decide,
    decision: Decision,
) -> Result<(), Failure> {
    let mut connection = connect(file, "review").await?;
    let Decide { order, by } = decide;
    review::decide(&mut connection, order, &by.actor, &by.reason, decision)
        .await
        .map_err(refused)?;
    let decided = Decided {
        order,
        decision: match decision {
            Decision::Approve => "approved",
            Decision::Reject => "rejected",
        },
    };
    output::one(format, &decided, |decided| {
        vec![(decided.decision, decided.order.to_string())]
    })
    .context("it is decided, but that could not be written")?;
    Ok(())
}

fn money(review: &review::Review) -> String {
    match review.currency.parse() {
        Ok(currency) => contract::Money {
            amount_minor: review.total_minor,
            currency,
        }
        .to_string(),
        Err(_) => format!("{} {}", review.total_minor, review.currency),
    }
}
