//! `guichet saga release`

use std::{path::Path, time::Instant};

use anyhow::Context;
use contract::SagaId;
use inspector::interventions::{self, Came};
use serde::Serialize;

use super::{
    act::{Act, LOOK_EVERY, OWNER_WITHIN},
    intervention::{connect, refused},
};
use crate::{
    failure::Failure,
    output::{self, Format},
};

#[derive(Serialize)]
struct Released {
    saga: SagaId,
    /// `released`, `held_again`, or `pending` while the saga's owner has not looked.
    outcome: &'static str,
    audit: i64,
}

/// Lets a saga go on that was set aside; fails when it is set aside again.
pub(crate) async fn release(file: Option<&Path>, format: Format, act: Act) -> Result<(), Failure> {
    let mut connection = connect(file, "saga").await?;
    let Act { id, by } = act;
    let released = interventions::release(&mut connection, id, &by.actor, &by.reason).await;
    let (audit, told) = released.map_err(refused)?;
    let began = Instant::now();
    let outcome = loop {
        let came = interventions::what_came_of_it(&mut connection, &told).await;
        match came.map_err(refused)? {
            Some(Came::HeldAgain) => break "held_again",
            Some(_) => break "released",
            None if began.elapsed() >= OWNER_WITHIN => break "pending",
            None => tokio::time::sleep(LOOK_EVERY).await,
        }
    };
    let released = Released {
        saga: id,
        outcome,
        audit,
    };
    output::one(format, &released, |released| {
        let meaning = match released.outcome {
            "released" => "released; see guichet saga show",
            "held_again" => "held again: it still cannot be read",
            _ => "stored; no owner has looked yet, the next one will",
        };
        vec![
            ("saga", released.saga.to_string()),
            ("outcome", meaning.to_owned()),
            ("audit log", released.audit.to_string()),
        ]
    })
    .context("it is stored, but that could not be written")?;
    match outcome {
        "held_again" => Err(Failure::conflict(anyhow::anyhow!(
            "saga {id} still cannot be read and is held again"
        ))),
        _ => Ok(()),
    }
}
