//! `guichet saga pause|resume|retry|resolve|compensate|abandon`

use std::{
    fs::File,
    io::Read,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context;
use contract::{SagaId, StepName};
use engine::definitions::Definitions;
use inspector::interventions::{self, Came, Done, Intervention};
use serde::Serialize;
use serde_json::Value;

use super::intervention::{By, connect, refused};
use crate::{
    failure::Failure,
    output::{self, Format},
};

/// How long to wait for the saga's owner, who looks every few seconds.
pub(super) const OWNER_WITHIN: Duration = Duration::from_secs(15);
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A longer file with what is to be corrected is cut off, and is no JSON then.
const INPUT_MAX_BYTES: u64 = 16 * 1024;

/// The arguments of what is done to one saga.
#[derive(Debug, clap::Args)]
pub(crate) struct Act {
    /// The saga; an order's has the order's id
    #[arg(value_name = "ID")]
    pub(super) id: SagaId,

    #[command(flatten)]
    pub(super) by: By,
}

/// The arguments of `guichet saga retry`.
#[derive(Debug, clap::Args)]
pub(crate) struct Retry {
    /// Correct what this step is given, and have it alone tried again: `notify` (its `email`), or the undo
    /// of `pay` (its `payment_intent`)
    #[arg(long, value_name = "STEP", requires = "input")]
    step: Option<StepName>,

    /// The fields to correct: a JSON object, or a file that holds one (a file is not seen in the list of
    /// processes or the shell's history)
    #[arg(long, value_name = "FILE|JSON", requires = "step")]
    input: Option<String>,

    #[command(flatten)]
    act: Act,
}

/// The arguments of `guichet saga resolve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Resolve {
    /// The step whose effect was dealt with elsewhere; --reason names the evidence
    #[arg(long, value_name = "STEP")]
    step: StepName,

    #[command(flatten)]
    act: Act,
}

/// The arguments of `guichet saga abandon`.
#[derive(Debug, clap::Args)]
pub(crate) struct Abandon {
    /// Agree to what somebody else asked for within the last day
    #[arg(long)]
    approve: bool,

    #[command(flatten)]
    act: Act,
}

#[derive(Serialize)]
struct Acted {
    saga: SagaId,
    /// `applied`, `too_late`, `asked_for`, or `pending` while the saga's owner has not looked.
    outcome: &'static str,
    audit: i64,
    maybe_in_force: Vec<StepName>,
}

/// `pause`
pub(crate) async fn pause(file: Option<&Path>, format: Format, act: Act) -> Result<(), Failure> {
    intervene(file, format, act, Intervention::Pause).await
}

/// `resume`
pub(crate) async fn resume(file: Option<&Path>, format: Format, act: Act) -> Result<(), Failure> {
    intervene(file, format, act, Intervention::Resume).await
}

/// `retry`, and `retry --step --input`
pub(crate) async fn retry(
    file: Option<&Path>,
    format: Format,
    retry: Retry,
) -> Result<(), Failure> {
    let Retry { step, input, act } = retry;
    let Some((step, input)) = step.zip(input) else {
        return intervene(file, format, act, Intervention::Retry).await;
    };
    let input = object(&input)?;
    let mut connection = connect(file, "saga").await?;
    let By { actor, reason } = &act.by;
    let done = interventions::correct(
        &mut connection,
        &Definitions::ours(),
        act.id,
        workers::CORRECTABLE,
        (&step, &input),
        (actor, reason),
    )
    .await
    .map_err(refused)?;
    tell(&mut connection, format, act.id, done).await
}

/// What is given on the command line, or in a file. Neither is repeated in an error: it is personal data.
fn object(text: &str) -> Result<Value, Failure> {
    let read = if text.trim_start().starts_with('{') {
        serde_json::from_str(text)
    } else {
        let mut given = String::new();
        File::open(text)
            .and_then(|file| file.take(INPUT_MAX_BYTES).read_to_string(&mut given))
            .context("--input is neither a JSON object nor a file that can be read")
            .map_err(Failure::usage)?;
        serde_json::from_str(&given)
    };
    read.map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Failure::usage(anyhow::anyhow!(
            "--input is not JSON (line {line}, column {column})"
        ))
    })
}

/// `compensate`
pub(crate) async fn compensate(
    file: Option<&Path>,
    format: Format,
    act: Act,
) -> Result<(), Failure> {
    intervene(file, format, act, Intervention::Compensate).await
}

/// `resolve`
pub(crate) async fn resolve(
    file: Option<&Path>,
    format: Format,
    resolve: Resolve,
) -> Result<(), Failure> {
    let intervention = Intervention::Resolve(resolve.step);
    intervene(file, format, resolve.act, intervention).await
}

/// `abandon`, and `abandon --approve`
pub(crate) async fn abandon(
    file: Option<&Path>,
    format: Format,
    abandon: Abandon,
) -> Result<(), Failure> {
    let intervention = match abandon.approve {
        true => Intervention::ApproveAbandon,
        false => Intervention::RequestAbandon,
    };
    intervene(file, format, abandon.act, intervention).await
}

async fn intervene(
    file: Option<&Path>,
    format: Format,
    act: Act,
    intervention: Intervention,
) -> Result<(), Failure> {
    let mut connection = connect(file, "saga").await?;
    let Act { id, by } = act;
    let definitions = Definitions::ours();
    let done = interventions::intervene(
        &mut connection,
        &definitions,
        id,
        &intervention,
        &by.actor,
        &by.reason,
    )
    .await
    .map_err(refused)?;
    tell(&mut connection, format, id, done).await
}

/// Waits for what comes of it, and says so.
async fn tell(
    connection: &mut database::Connection,
    format: Format,
    id: SagaId,
    done: Done,
) -> Result<(), Failure> {
    let outcome = match done.signal {
        None => "asked_for",
        Some(signal) => {
            let began = Instant::now();
            loop {
                let came = interventions::what_came(connection, id, signal).await;
                match came.map_err(refused)? {
                    Some(Came::Applied) => break "applied",
                    Some(Came::TooLate | Came::HeldAgain) => break "too_late",
                    None if began.elapsed() >= OWNER_WITHIN => break "pending",
                    None => tokio::time::sleep(LOOK_EVERY).await,
                }
            }
        }
    };
    let acted = Acted {
        saga: id,
        outcome,
        audit: done.audit,
        maybe_in_force: done.in_force,
    };
    output::one(format, &acted, |acted| {
        let steps: Vec<&str> = acted.maybe_in_force.iter().map(StepName::as_str).collect();
        let meaning = match acted.outcome {
            "applied" => "applied; see guichet saga show",
            "too_late" => "too late: the saga had moved on, and nothing changed",
            "asked_for" => "asked for; a second person approves: guichet saga abandon --approve",
            _ => "stored; no owner has looked yet, the next one will",
        };
        vec![
            ("saga", acted.saga.to_string()),
            ("outcome", meaning.to_owned()),
            ("was in force, maybe", steps.join(" ")),
            ("audit log", acted.audit.to_string()),
        ]
    })
    .context("it is stored, but that could not be written")?;
    match outcome {
        "too_late" => Err(Failure::conflict(anyhow::anyhow!("saga {id} had moved on"))),
        _ => Ok(()),
    }
}
