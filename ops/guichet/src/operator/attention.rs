//! `guichet saga take`

use std::path::Path;

use anyhow::Context;
use contract::SagaId;
use inspector::attention;
use serde::Serialize;

use super::intervention::{connect, refused};
use crate::{
    failure::Failure,
    output::{self, Format},
};

/// The arguments of `guichet saga take`.
#[derive(Debug, clap::Args)]
pub(crate) struct Take {
    /// The saga; an order's has the order's id
    #[arg(value_name = "ID")]
    id: SagaId,

    /// Who you are; kept in the audit log
    #[arg(long = "as", value_name = "NAME", env = "USER")]
    actor: String,

    /// Why, or what you are going to do; kept in the audit log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    /// Give it back, whoever has it
    #[arg(long)]
    release: bool,
}

#[derive(Serialize)]
struct Taken {
    saga: SagaId,
    /// `taken` or `given_back`.
    outcome: &'static str,
    audit: i64,
}

/// Takes a saga on that asks for a person, or gives it back.
pub(crate) async fn take(file: Option<&Path>, format: Format, take: Take) -> Result<(), Failure> {
    let mut connection = connect(file, "saga").await?;
    let said = |default: &str| take.reason.clone().unwrap_or_else(|| default.to_owned());
    let (outcome, audit) = if take.release {
        let reason = said("gives it back");
        let audit = attention::release(&mut connection, take.id, &take.actor, &reason).await;
        ("given_back", audit.map_err(refused)?)
    } else {
        let reason = said("takes it on");
        let audit = attention::take(&mut connection, take.id, &take.actor, &reason).await;
        ("taken", audit.map_err(refused)?)
    };
    let taken = Taken {
        saga: take.id,
        outcome,
        audit,
    };
    output::one(format, &taken, |taken| {
        let meaning = match taken.outcome {
            "taken" => "taken on, until it asks no more",
            _ => "given back",
        };
        vec![
            ("saga", taken.saga.to_string()),
            ("outcome", meaning.to_owned()),
            ("audit log", taken.audit.to_string()),
        ]
    })
    .context("it is stored, but that could not be written")?;
    Ok(())
}
