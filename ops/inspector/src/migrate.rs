//! Moving sagas in flight to another version of their definition: all of them are sorted, and those for
//! which it is safe are told.
//!
//! The race: a saga moves on between its sorting and the moment when its owner reads the signal. The owner
//! sorts it once more, by the same function ([`saga::migrate::sort`]), and refuses what has come too far;
//! such a saga goes on by the version that it has. Nothing here writes a saga.

use crate::{
    Error,
    audit::{self, Entry},
    withdraw::{is_withdrawn, no_such},
};
use contract::{MessageId, SagaId};
use database::Connection;
use diesel::sql_types::{Array, Bool, Uuid as SqlUuid};
use diesel_async::{AsyncConnection, RunQueryDsl};
use engine::{Act, ActionName, NewSignal, What, definitions::Definitions, view};
use saga::{
    Definition, Instance,
    migrate::{Reason, Sorted, sort},
};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Sagas that are sorted at a time: as many as admission lets be before their pivot, several times over.
pub const SURVEY_MAX: i64 = 100_000;
/// Sagas read in one statement.
const READ_PAGE: usize = 1_000;
/// Sagas told in one transaction, which keeps the audit log's lock.
const TELL_PAGE: usize = 100;

/// Sagas that are alike: they run by the same version, and the same is to be said of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// The version that they run by.
    pub from: String,
    /// `safe`, `needs_mapping`, `blocked`.
    pub sorted: &'static str,
    /// Why they are not safe.
    pub reason: Option<String>,
    /// How many.
    pub sagas: usize,
    /// Which, in the order in which they began.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<SagaId>,
}

/// All sagas in flight that run by another version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// What was found, the safe ones of each version first.
    pub groups: Vec<Group>,
    /// The last that was sorted, if there are more than [`SURVEY_MAX`]: those that began later are not among
    /// them, and are sorted by a survey behind it.
    pub more_behind: Option<SagaId>,
}

/// What became of those that were told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Came {
    /// They run by the other version.
    pub moved: usize,
    /// They had come too far, or ended.
    pub too_late: usize,
    /// Their owners have not looked yet, or they were paused meanwhile.
    pub pending: usize,
}

database::statement! {
    /// Of some signals: whether each was applied, and whether its saga's history knows it.
    struct ReadCame { ids: Vec<Uuid> => Array<SqlUuid> } -> (SqlUuid, Bool, Bool) =
    "SELECT s.id, s.applied_at IS NOT NULL,
            EXISTS (SELECT FROM history h WHERE h.saga_id = s.saga_id AND h.message_id = s.id)
     FROM signals s WHERE s.id = ANY ({ids})"
}

/// Sorts the sagas in flight that run by other versions of the definition labelled `to`, of all or of those that
/// began after `behind`. Only reads.
///
/// # Errors
/// This program, or the database, has no such definition, or it is withdrawn; or the database fails.
pub async fn survey(
    connection: &mut Connection,
    definitions: &Definitions,
    to: &str,
    behind: Option<SagaId>,
) -> Result<Survey, Error> {
    let to = target(connection, definitions, to).await?;
    let others = definitions.iter();
    let others = others.filter(|other| other.name == to.name && other.id != to.id);
    let numbers: Vec<i16> = others.map(|other| other.id).collect();
    let mut ids = view::in_flight(connection, numbers, behind, SURVEY_MAX + 1).await?;
    let more = ids.len() > SURVEY_MAX as usize;
    ids.truncate(SURVEY_MAX as usize);
    let more_behind = ids.last().copied().filter(|_| more);
    let mut groups: BTreeMap<(String, u8, &str, Option<String>), Vec<SagaId>> = BTreeMap::new();
    for page in ids.chunks(READ_PAGE) {
        for (id, saga) in view::instances(connection, page).await? {
            let (from, sorted) = sorted(definitions, to, saga.as_ref());
            let reason = sorted.reason().map(ToString::to_string);
            let key = (from, rank(&sorted), sorted.name(), reason);
            groups.entry(key).or_default().push(id);
        }
    }
    let groups = groups
        .into_iter()
        .map(|((from, _, sorted, reason), ids)| Group {
            from,
            sorted,
            reason,
            sagas: ids.len(),
            ids,
        });
    let groups = groups.collect();
    Ok(Survey {
        groups,
        more_behind,
    })
}

/// Tells sagas to go on by the version labelled `to`, in the name of `actor`, because of `reason`. Those
/// that are not safe any more are left alone. Returns the signals, for [`Came::look`].
///
/// # Errors
/// This program, or the database, has no such definition, or it is withdrawn; a text is not plain; or the database fails. Those
/// told before are told.
pub async fn tell(
    connection: &mut Connection,
    definitions: &Definitions,
    to: &str,
    ids: &[SagaId],
    actor: &str,
    reason: &str,
) -> Result<Vec<Uuid>, Error> {
    let to = target(connection, definitions, to).await?;
    let mut signals = Vec::new();
    for page in ids.chunks(TELL_PAGE) {
        let told = connection.transaction(async |connection| {
            let mut tell = Vec::with_capacity(page.len());
            for (saga, instance) in view::instances(connection, page).await? {
                let (from, sorted) = sorted(definitions, to, instance.as_ref());
                if sorted != Sorted::Safe {
                    continue;
                }
                let label = to.label();
                let entry = Entry {
                    actor: actor.to_owned(),
                    action: "saga.migrate".to_owned(),
                    subject: Some(saga.0),
                    reason: reason.to_owned(),
                    detail: json!({ "from": from, "to": label }),
                };
                let audit = audit::append(connection, entry).await?;
                let id = MessageId::new().0;
                let what = What::Act(Act {
                    action: ActionName::Migrate { from, to: label },
                    by: actor.trim().to_owned(),
                    reason: reason.trim().to_owned(),
                    audit,
                });
                tell.push(NewSignal { id, saga, what });
            }
            let told = engine::signal(connection, &tell).await?;
            Ok::<_, Error>(told)
        });
        signals.extend(told.await?.into_iter().map(|told| told.signal));
    }
    Ok(signals)
}

impl Came {
    /// Of these signals nothing is known yet.
    #[must_use]
    pub fn none(signals: &[Uuid]) -> Self {
        Self {
            pending: signals.len(),
            ..Self::default()
        }
    }

    /// Looks at those that are open, and leaves in `open` those that still are: what has been seen once is not
    /// asked for again.
    ///
    /// # Errors
    /// The database fails.
    pub async fn look(
        &mut self,
        connection: &mut Connection,
        open: &mut Vec<Uuid>,
    ) -> Result<(), Error> {
        let mut still = Vec::new();
        for page in open.chunks(READ_PAGE) {
            let read = ReadCame { ids: page.to_vec() };
            let rows: Vec<(Uuid, bool, bool)> = read.load(connection).await?;
            for (signal, applied, known) in rows {
                match (applied, known) {
                    (_, true) => self.moved += 1,
                    (true, false) => self.too_late += 1,
                    (false, false) => still.push(signal),
                }
            }
        }
        self.pending = still.len();
        *open = still;
        Ok(())
    }
}

/// The version to go on by, which the owners must have as well.
async fn target<'a>(
    connection: &mut Connection,
    definitions: &'a Definitions,
    label: &str,
) -> Result<&'a Definition, Error> {
    let checked = engine::definitions::check(connection, definitions).await;
    checked.map_err(|error| match error {
        engine::Error::Database(error) => Error::Database(error),
        other => Error::Conflict(other.to_string()),
    })?;
    let known = definitions.labelled(label).map(AsRef::as_ref);
    let known: &Definition = known.ok_or_else(|| no_such(definitions, label))?;
    if is_withdrawn(connection, known.id).await? {
        return Err(Error::Conflict(format!("{label} is withdrawn")));
    }
    Ok(known)
}

/// The version that a saga runs by, and what is to be said of it; `None` is one that cannot be read.
fn sorted(definitions: &Definitions, to: &Definition, saga: Option<&Instance>) -> (String, Sorted) {
    let known = saga.and_then(|saga| Some((definitions.get(saga.definition)?, saga)));
    match known {
        Some((from, saga)) => (from.label(), sort(from, to, saga)),
        None => (String::new(), Sorted::Blocked(Reason::Unreadable)),
    }
}

/// Its place in a list.
fn rank(sorted: &Sorted) -> u8 {
    match sorted {
        Sorted::Safe => 0,
        Sorted::NeedsMapping(_) => 1,
        Sorted::Blocked(_) => 2,
    }
}
