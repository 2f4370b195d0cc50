//! Another life of the database, by the word of whoever restored it.

use crate::{
    Error,
    audit::{self, Entry},
};
use contract::Incarnation;
use database::Connection;
use diesel_async::AsyncConnection;
use serde_json::json;

/// Draws another number for this life, in the name of `actor`, because of `reason`; also returns the row of
/// the audit log.
///
/// # Errors
/// A text is empty, too long or not plain; or the database refuses.
pub async fn renew(
    connection: &mut Connection,
    actor: &str,
    reason: &str,
) -> Result<(Incarnation, i64), Error> {
    let (actor, reason) = (actor.to_owned(), reason.to_owned());
    connection
        .transaction(async |connection| {
            let number = Incarnation(database::renew_incarnation(connection).await?);
            let entry = Entry {
                actor,
                action: "incarnation.renew".to_owned(),
                subject: None,
                reason,
                detail: json!({ "incarnation": number }),
            };
            Ok((number, audit::append(connection, entry).await?))
        })
        .await
}
