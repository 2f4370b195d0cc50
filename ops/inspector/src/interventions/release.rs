//! Letting go on what was set aside.

use super::{Came, what_came};
use crate::{
    Error,
    audit::{self, Entry},
    error::{ACTOR_MAX_CHARS, checked_text},
};
use contract::SagaId;
use database::Connection;
use diesel::sql_types::{Bool, SmallInt, Uuid as SqlUuid};
use diesel_async::{AsyncConnection, RunQueryDsl};
use engine::{Person, Told};
use serde_json::json;
use uuid::Uuid;

database::statement! {
    /// Whether a saga is held, and the number of its definition.
    struct ReadHeld { id: Uuid => SqlUuid } -> (Bool, SmallInt) =
    "SELECT flags & 2 <> 0 AND NOT ended, definition FROM sagas WHERE id = {id}"
}

/// Lets a held saga go on, in the name of `actor`, because of `reason`: its owner reads it again. Returns
/// the row of the audit log and whom to nudge.
///
/// # Errors
/// There is no such saga; it is not held; a text is not plain; or the database fails. Nothing is done then.
pub async fn release(
    connection: &mut Connection,
    saga: SagaId,
    actor: &str,
    reason: &str,
) -> Result<(i64, Told), Error> {
    let by = checked_text("actor", actor, ACTOR_MAX_CHARS)?;
    connection
        .transaction(async |connection| {
            let entry = Entry {
                actor: by.clone(),
                action: "saga.release".to_owned(),
                subject: Some(saga.0),
                reason: reason.to_owned(),
                detail: json!({}),
            };
            let audit = audit::append(connection, entry).await?;
            match engine::release(connection, saga, &Person { by, audit }).await? {
                Some(told) => Ok((audit, told)),
                None => Err(match held(connection, saga).await? {
                    None => Error::NotFound {
                        what: "saga",
                        id: saga.0,
                    },
                    Some(_) => Error::Conflict(format!("saga {saga} is not held")),
                }),
            }
        })
        .await
}

/// Whether a saga is held, and the number of its definition; `None` if there is no such saga. It can be
/// asked of one that this program cannot read.
///
/// # Errors
/// The database fails.
pub async fn held(connection: &mut Connection, saga: SagaId) -> Result<Option<(bool, i16)>, Error> {
    let rows: Vec<(bool, i16)> = ReadHeld { id: saga.0 }.load(connection).await?;
    Ok(rows.into_iter().next())
}

/// What became of a release: `None` while the saga's owner has not looked yet.
///
/// # Errors
/// As [`what_came`].
pub async fn what_came_of_it(
    connection: &mut Connection,
    told: &Told,
) -> Result<Option<Came>, Error> {
    let came = what_came(connection, told.saga, told.signal).await?;
    let again = held(connection, told.saga).await?;
    Ok(came.map(|came| match again {
        Some((true, _)) => Came::HeldAgain,
        _ => came,
    }))
}
