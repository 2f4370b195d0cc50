//! `guichet incarnation`

use std::path::Path;

use anyhow::{Context, anyhow};
use contract::Incarnation;
use serde::Serialize;

use super::intervention::{By, connect, refused};
use crate::{
    failure::Failure,
    output::{self, Format},
};

#[derive(Serialize)]
struct Life {
    incarnation: Incarnation,
    #[serde(skip_serializing_if = "Option::is_none")]
    audit: Option<i64>,
}

/// The life that the database is in, as the roles that were started last found it. Only looks: where the
/// database goes on elsewhere since, the next role that is started begins another one.
pub(crate) async fn show(file: Option<&Path>, format: Format) -> Result<(), Failure> {
    let mut connection = connect(file, "incarnation").await?;
    let number = database::present_incarnation(&mut connection)
        .await
        .context("cannot tell which database this is")?
        .ok_or_else(|| anyhow!("no role was ever started on this database"))?;
    let life = Life {
        incarnation: Incarnation(number),
        audit: None,
    };
    tell(format, &life)
}

/// From now on it is another life: what was sent before is dropped, and whoever is at work ends.
pub(crate) async fn renew(file: Option<&Path>, format: Format, by: By) -> Result<(), Failure> {
    let mut connection = connect(file, "incarnation").await?;
    let renewed = inspector::incarnation::renew(&mut connection, &by.actor, &by.reason).await;
    let (incarnation, audit) = renewed.map_err(refused)?;
    let life = Life {
        incarnation,
        audit: Some(audit),
    };
    tell(format, &life)
}

fn tell(format: Format, life: &Life) -> Result<(), Failure> {
    output::one(format, life, |life| {
        let mut fields = vec![("incarnation", life.incarnation.to_string())];
        fields.extend(life.audit.map(|row| ("audit log", row.to_string())));
        fields
    })?;
    Ok(())
}
