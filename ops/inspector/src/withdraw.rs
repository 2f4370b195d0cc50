//! Withdrawing a version of a definition: one asks, another approves, for it ends every order that runs by
//! it and is not confirmed yet. What follows is the engine's ([`engine::withdrawal`]).
//!
//! The race: two approve at once, or what was asked for is long past. The first approval is the row that
//! counts; a request counts for a day, and not for whoever made it.

use crate::{
    Error,
    audit::{self, Entry},
    interventions::{REQUEST_HOURS, is_same_person},
};
use database::Connection;
use diesel::sql_types::{Integer, Text};
use diesel_async::{AsyncConnection, RunQueryDsl};
use engine::{
    definitions::Definitions,
    withdrawal::{self, InFlight, Withdrawal},
};
use serde_json::json;

const REQUEST: &str = "definition.withdraw.request";

database::statement! {
    /// Who asked last for withdrawing a definition, within some hours.
    struct LastRequest {
        definition: String => Text,
        action: String => Text,
        hours: i32 => Integer,
    } -> Text =
    "SELECT actor FROM audit
     WHERE action = {action} AND detail->>'definition' = {definition}
       AND at > clock_timestamp() - {hours} * interval '1 hour'
     ORDER BY id DESC LIMIT 1"
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// The row of the audit log.
    pub audit: i64,
    /// What ran by the definition at that moment.
    pub in_flight: InFlight,
}

/// Asks for withdrawing the definition with this label, in the name of `actor`, because of `reason`; or, if
/// he approves of what another one asked for, withdraws it.
///
/// # Errors
/// There is no such definition; it is withdrawn already; nobody asked for it, or he did himself; a text is
/// not plain; or the database fails. Nothing is done then.
pub async fn withdraw(
    connection: &mut Connection,
    definitions: &Definitions,
    label: &str,
    approves: bool,
    actor: &str,
    reason: &str,
) -> Result<Done, Error> {
    let definition = number(definitions, label)?;
    connection
        .transaction(async |connection| {
            if is_withdrawn(connection, definition).await? {
                return Err(Error::Conflict(format!("{label} is withdrawn already")));
            }
            if approves {
                second_person(connection, label, actor).await?;
            }
            let in_flight = withdrawal::in_flight(connection, definition).await?;
            let action = if approves {
                "definition.withdraw.approve"
            } else {
                REQUEST
            };
            let entry = Entry {
                actor: actor.to_owned(),
                action: action.to_owned(),
                subject: None,
                reason: reason.to_owned(),
                detail: json!({
                    "definition": label,
                    "running": in_flight.running,
                    "past_pivot": in_flight.past_pivot,
                }),
            };
            let audit = audit::append(connection, entry).await?;
            let by = Withdrawal {
                definition,
                by: actor.trim().to_owned(),
                reason: reason.trim().to_owned(),
                audit,
            };
            if approves && !withdrawal::withdraw(connection, by).await? {
                return Err(Error::Conflict(format!("{label} is withdrawn already")));
            }
            Ok(Done { audit, in_flight })
        })
        .await
}

/// What runs by a definition now.
///
/// # Errors
/// There is no such definition, or the database fails.
pub async fn in_flight(
    connection: &mut Connection,
    definitions: &Definitions,
    label: &str,
) -> Result<InFlight, Error> {
    let definition = number(definitions, label)?;
    Ok(withdrawal::in_flight(connection, definition).await?)
}

/// Whether a definition is withdrawn.
pub(crate) async fn is_withdrawn(
    connection: &mut Connection,
    definition: i16,
) -> Result<bool, Error> {
    let withdrawn = withdrawal::withdrawn(connection).await?;
    Ok(withdrawn.iter().any(|one| one.definition == definition))
}

fn number(definitions: &Definitions, label: &str) -> Result<i16, Error> {
    let definition = definitions.labelled(label);
    let definition = definition.ok_or_else(|| no_such(definitions, label))?;
    Ok(definition.id)
}

/// There is no definition with this label.
pub(crate) fn no_such(definitions: &Definitions, label: &str) -> Error {
    let labels: Vec<String> = definitions.iter().map(|one| one.label()).collect();
    let labels = labels.join(", ");
    Error::BadRequest(format!("there is no definition `{label}`, but {labels}"))
}

async fn second_person(connection: &mut Connection, label: &str, actor: &str) -> Result<(), Error> {
    let request = LastRequest {
        definition: label.to_owned(),
        action: REQUEST.to_owned(),
        hours: REQUEST_HOURS,
    };
    let requests: Vec<String> = request.load(connection).await?;
    match requests.into_iter().next() {
        None => Err(Error::Conflict(format!(
            "nobody asked for withdrawing {label} within the last day"
        ))),
        Some(first) if is_same_person(&first, actor) => Err(Error::Conflict(format!(
            "{first} asked for it: a second person has to approve"
        ))),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use database::testing::TestDatabase;

    #[tokio::test]
    async fn a_definition_is_withdrawn_by_two_people_and_once() {
        let database = TestDatabase::create().await;
        let mut connection = database.connection().await;
        let definitions = Definitions::ours();
        let registered = engine::definitions::register(&mut connection, &definitions).await;
        registered.expect("they are new");
        let mut act = async |label: &str, approves, actor: &str| {
            withdraw(
                &mut connection,
                &definitions,
                label,
                approves,
                actor,
                "case 12",
            )
            .await
        };
        let refused = |result: Result<Done, Error>| result.expect_err("refused").to_string();
        let nobody = refused(act("order@1", true, "bob").await);
        assert!(nobody.contains("nobody asked"), "{nobody}");
        act("order@1", false, "ann").await.expect("it is asked for");
        let same = refused(act("order@1", true, " Ann ").await);
        assert!(same.contains("second person"), "{same}");
        let other = refused(act("order@2", true, "bob").await);
        assert!(other.contains("nobody asked"), "{other}");
        let done = act("order@1", true, "bob").await.expect("it is approved");
        assert_eq!((done.audit, done.in_flight), (2, InFlight::default()));
        for approves in [false, true] {
            let again = refused(act("order@1", approves, "cleo").await);
            assert!(again.contains("already"), "{again}");
        }
        let unknown = act("order@9", false, "ann").await;
        assert!(matches!(unknown, Err(Error::BadRequest(_))));
        let withdrawn = withdrawal::withdrawn(&mut connection).await;
        let by_bob = Withdrawal {
            definition: 1,
            by: "bob".to_owned(),
            reason: "case 12".to_owned(),
            audit: 2,
        };
        assert_eq!(withdrawn.expect("readable"), [by_bob]);
    }
}
