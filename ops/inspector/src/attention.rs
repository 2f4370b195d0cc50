//! Taking on a saga that asks for a person, and giving it back: kept with the row of the audit log.

#[cfg(test)]
mod tests;

use crate::{
    Error,
    audit::{self, Entry},
    error::{ACTOR_MAX_CHARS, REASON_MAX_CHARS, checked_text},
};
use contract::SagaId;
use database::Connection;
use diesel::sql_types::{Bool, Uuid as SqlUuid};
use diesel_async::{AsyncConnection, RunQueryDsl};
use engine::attention as takings;
use serde_json::{Value, json};
use uuid::Uuid;

database::statement! {
    /// Whether there is such a saga, by whether it asks for a person.
    struct ReadAsks { id: Uuid => SqlUuid } -> Bool =
    "SELECT flags & 6 <> 0 AND NOT ended FROM sagas WHERE id = {id}"
}

/// Takes a saga on, in the name of `actor`. Returns the row of the audit log.
///
/// # Errors
/// There is no such saga; it does not ask for a person; somebody has it, which may be the actor; a text
/// is not plain; or the database fails. Nothing is done then.
pub async fn take(
    connection: &mut Connection,
    saga: SagaId,
    actor: &str,
    reason: &str,
) -> Result<i64, Error> {
    let person = Person::checked(actor, reason)?;
    connection
        .transaction(async |connection| {
            if !takings::take(connection, saga, &person.actor, &person.reason).await? {
                return Err(why_not(connection, saga).await?);
            }
            person.keeps(connection, saga, "saga.take", json!({})).await
        })
        .await
}

/// Gives a saga back, whoever had it: he may be away. Returns the row of the audit log.
///
/// # Errors
/// There is no such saga; nobody has it; a text is not plain; or the database fails.
pub async fn release(
    connection: &mut Connection,
    saga: SagaId,
    actor: &str,
    reason: &str,
) -> Result<i64, Error> {
    let person = Person::checked(actor, reason)?;
    connection
        .transaction(async |connection| {
            let Some(had) = takings::give_back(connection, saga).await? else {
                return Err(why_not(connection, saga).await?);
            };
            let detail = json!({ "had": had });
            let action = "saga.give_back";
            person.keeps(connection, saga, action, detail).await
        })
        .await
}

/// Who does it, and why.
struct Person {
    actor: String,
    reason: String,
}

impl Person {
    fn checked(actor: &str, reason: &str) -> Result<Self, Error> {
        Ok(Self {
            actor: checked_text("actor", actor, ACTOR_MAX_CHARS)?,
            reason: checked_text("reason", reason, REASON_MAX_CHARS)?,
        })
    }

    /// Writes it into the audit log.
    async fn keeps(
        self,
        connection: &mut Connection,
        saga: SagaId,
        action: &str,
        detail: Value,
    ) -> Result<i64, Error> {
        let entry = Entry {
            actor: self.actor,
            action: action.to_owned(),
            subject: Some(saga.0),
            reason: self.reason,
            detail,
        };
        audit::append(connection, entry).await
    }
}

/// Why a saga could not be taken or given back.
async fn why_not(connection: &mut Connection, saga: SagaId) -> Result<Error, Error> {
    let asks: Vec<bool> = ReadAsks { id: saga.0 }.load(connection).await?;
    Ok(match asks.into_iter().next() {
        None => Error::NotFound {
            what: "saga",
            id: saga.0,
        },
        Some(false) => Error::Conflict(format!("saga {saga} does not ask for a person")),
        Some(true) => match takings::read(connection, saga).await? {
            None => Error::Conflict(format!("nobody has taken on saga {saga}")),
            Some(taken) => Error::Conflict(format!(
                "saga {saga} was taken on by {} at {}: it can be given back (--release)",
                taken.by,
                taken.at.format("%F %T")
            )),
        },
    })
}
