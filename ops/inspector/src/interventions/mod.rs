//! What a person does about a saga: looked at first, kept in the audit log, told to the saga.
//!
//! The races: two people act at once, or the saga moves on while somebody decides. What is read here
//! only serves to refuse early what makes no sense; the engine applies the signal to the saga as it is
//! then, and one that comes too late changes nothing. The audit row and the signal are one transaction:
//! nothing is done without being kept.

mod correct;
mod release;
#[cfg(test)]
mod tests;

pub use correct::correct;
pub use release::{held, release, what_came_of_it};

use crate::{
    Error,
    audit::{self, Entry},
};
use chrono::Utc;
use contract::{Correction, MessageId, Refusal, SagaId, StepName};
use database::Connection;
use diesel::sql_types::{Bool, Integer, Jsonb, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncConnection, RunQueryDsl};
use engine::{Act, ActionName, NewSignal, Person, Told, What, definitions::Definitions, view};
use saga::{Action, Definition, Input, Instance, Now};
use serde_json::{Value, json};
use uuid::Uuid;

/// What is done about a saga.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intervention {
    /// Decide nothing more about it until it is resumed.
    Pause,
    /// Let it go on; the time of the pause does not count.
    Resume,
    /// Try once more, now: the failed undos, or the step after the pivot that keeps failing.
    Retry,
    /// Try one of these once more, with what its step is given corrected: see [`correct`].
    Correct(Correction),
    /// A failed undo, or a step after the pivot, was dealt with elsewhere; the reason names the
    /// evidence.
    Resolve(StepName),
    /// End an order before its pivot, and undo what it has begun.
    Compensate,
    /// Ask for giving it up with what is left in force; a second person has to approve.
    RequestAbandon,
    /// Give it up, as somebody else asked for within the last day.
    ApproveAbandon,
}

impl Intervention {
    fn action(&self) -> &'static str {
        match self {
            Self::Pause => "saga.pause",
            Self::Resume => "saga.resume",
            Self::Retry => "saga.retry",
            Self::Correct(_) => "saga.correct",
            Self::Resolve(_) => "saga.resolve",
            Self::Compensate => "saga.compensate",
            Self::RequestAbandon => REQUEST,
            Self::ApproveAbandon => "saga.abandon.approve",
        }
    }
}

const REQUEST: &str = "saga.abandon.request";

/// How long a request waits for its approval by a second person, in hours.
pub(crate) const REQUEST_HOURS: i32 = 24;

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The row of the audit log.
    pub audit: i64,
    /// The signal that the saga is told; none for a request.
    pub signal: Option<Uuid>,
    /// Whom to nudge.
    pub told: Vec<Told>,
    /// The steps whose effects may still be in force, in the order of the definition.
    pub in_force: Vec<StepName>,
}

database::statement! {
    /// Who asked last for giving up a saga, within some hours.
    struct LastRequest {
        saga: Uuid => SqlUuid,
        action: String => Text,
        hours: i32 => Integer,
    } -> (Text, Jsonb) =
    "SELECT actor, detail FROM audit
     WHERE subject = {saga} AND action = {action} AND at > clock_timestamp() - {hours} * interval '1 hour'
     ORDER BY id DESC LIMIT 1"
}

database::statement! {
    /// Whether a signal was applied; nothing if there is no such signal.
    struct ReadApplied { id: Uuid => SqlUuid } -> Bool =
    "SELECT applied_at IS NOT NULL FROM signals WHERE id = {id}"
}

database::statement! {
    /// What the saga made of a signal: the history's row that it caused, if it caused one.
    struct ReadEffect {
        saga: Uuid => SqlUuid,
        signal: Uuid => SqlUuid,
    } -> Nullable<Text> =
    "SELECT code FROM history WHERE saga_id = {saga} AND message_id = {signal}"
}

/// Does something about a saga, in the name of `actor`, because of `reason`.
///
/// # Errors
/// There is no such saga; it does not ask for this; the second person is the first; a text is not
/// plain; or the database fails. Nothing is done then.
pub async fn intervene(
    connection: &mut Connection,
    definitions: &Definitions,
    saga: SagaId,
    intervention: &Intervention,
    actor: &str,
    reason: &str,
) -> Result<Done, Error> {
    let viewed = view::read(connection, definitions, saga).await;
    let viewed = viewed.map_err(of_engine)?.ok_or(Error::NotFound {
        what: "saga",
        id: saga.0,
    })?;
    let definition = definitions.get(viewed.instance.definition);
    let definition = definition.ok_or_else(|| {
        Error::Conflict("this program does not know the saga's definition".to_owned())
    })?;
    let names = |steps: saga::Steps| -> Vec<StepName> {
        let named = definition.steps.iter();
        let named = named.filter(|step| steps.contains(step.number));
        named.map(|step| step.name.clone()).collect()
    };
    let instance = &viewed.instance;
    refuse_early(definition, instance, intervention, actor)?;
    let failed_undo = names(instance.failed_undo);
    let in_force = names(instance.maybe_in_force);
    let detail = json!({
        "state": instance.state.name(),
        "maybe_in_force": in_force,
        "failed_undo": failed_undo,
        "step": match intervention {
            Intervention::Resolve(step) => Some(step.as_str()),
            Intervention::Correct(correction) => Some(correction.step().as_str()),
            _ => None,
        },
        // Only which: what they are now stands in the table.
        "fields": match intervention {
            Intervention::Correct(correction) => Some(correction.names()),
            _ => None,
        },
    });
    let after_seq = instance.seq;
    connection
        .transaction(async |connection| {
            if *intervention == Intervention::ApproveAbandon {
                second_person(connection, saga, actor, &json!(failed_undo)).await?;
            }
            let entry = Entry {
                actor: actor.to_owned(),
                action: intervention.action().to_owned(),
                subject: Some(saga.0),
                reason: reason.to_owned(),
                detail,
            };
            let audit = audit::append(connection, entry).await?;
            if let Intervention::Correct(correction) = intervention {
                let (by, reason) = (actor.trim(), reason.trim());
                correct::keep(connection, saga, correction, after_seq, (audit, by, reason)).await?;
            }
            let act = |action| {
                What::Act(Act {
                    action,
                    by: actor.trim().to_owned(),
                    reason: reason.trim().to_owned(),
                    audit,
                })
            };
            let what = match intervention {
                Intervention::Pause => act(ActionName::Pause),
                Intervention::Resume => act(ActionName::Resume),
                Intervention::Retry => act(ActionName::Retry),
                Intervention::Correct(correction) => {
                    let step = correction.step().clone();
                    act(ActionName::Correct(step, correction.names()))
                }
                Intervention::Resolve(step) => act(ActionName::Resolve(step.clone())),
                Intervention::Compensate => {
                    let by = actor.trim().to_owned();
                    let person = Person { by, audit };
                    What::End(Refusal::OperatorEnded.code(), Some(person))
                }
                Intervention::ApproveAbandon => act(ActionName::Abandon),
                Intervention::RequestAbandon => {
                    return Ok(Done {
                        audit,
                        signal: None,
                        told: Vec::new(),
                        in_force,
                    });
                }
            };
            let id = MessageId::new().0;
            let signal = NewSignal { id, saga, what };
            let told = engine::signal(connection, &[signal]).await?;
            if told.is_empty() {
                return Err(Error::Conflict(format!("saga {saga} has ended meanwhile")));
            }
            Ok(Done {
                audit,
                signal: Some(id),
                told,
                in_force,
            })
        })
        .await
}

/// What became of an intervention that was told to its saga: `None` while its owner has not looked yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// The saga moved.
    Applied,
    /// The saga had moved on; nothing changed.
    TooLate,
    /// It was released and cannot be read now either: it is held again.
    HeldAgain,
}

/// Asks what became of an intervention.
///
/// # Errors
/// There is no such signal, or the database fails.
pub async fn what_came(
    connection: &mut Connection,
    saga: SagaId,
    signal: Uuid,
) -> Result<Option<Came>, Error> {
    let applied: Vec<bool> = ReadApplied { id: signal }.load(connection).await?;
    let applied = applied.into_iter().next().ok_or(Error::NotFound {
        what: "signal",
        id: signal,
    })?;
    if !applied {
        return Ok(None);
    }
    let effect = ReadEffect {
        saga: saga.0,
        signal,
    };
    let effects: Vec<Option<String>> = effect.load(connection).await?;
    Ok(Some(if effects.is_empty() {
        Came::TooLate
    } else {
        Came::Applied
    }))
}

/// What the engine would refuse now is refused here, before anything is kept.
fn refuse_early(
    definition: &Definition,
    saga: &Instance,
    intervention: &Intervention,
    actor: &str,
) -> Result<(), Error> {
    let no = |why: &str| Error::Conflict(format!("saga {}: {why}", saga.id));
    if saga.flags.held {
        return Err(no("it is held: the running version cannot read it"));
    }
    match intervention {
        Intervention::Pause if saga.flags.paused => return Err(no("it is paused already")),
        Intervention::Resume if !saga.flags.paused => return Err(no("it is not paused")),
        _ => {}
    }
    let number = |step| {
        let step = definition.step_named(step);
        let step = step.ok_or_else(|| no("its definition has no such step"))?;
        Ok::<u8, Error>(step.number)
    };
    let input = match intervention {
        // Younger than whatever was applied.
        Intervention::Pause => Input::Act(Action::Pause { audit: i64::MAX }),
        Intervention::Resume => Input::Act(Action::Resume { audit: i64::MAX }),
        Intervention::Retry => Input::Act(Action::Retry),
        Intervention::Resolve(step) => Input::Act(Action::Resolve {
            step: number(step)?,
        }),
        Intervention::Correct(correction) => Input::Act(Action::Correct {
            step: number(correction.step())?,
        }),
        Intervention::Compensate => Input::End {
            reason: Refusal::OperatorEnded.code().to_owned(),
        },
        Intervention::RequestAbandon | Intervention::ApproveAbandon => {
            Input::Act(Action::Abandon {
                approver: actor.to_owned(),
            })
        }
    };
    let now = Now::new(Utc::now().timestamp_millis(), 0);
    let stepped = saga::step(definition, saga, &input, now);
    stepped
        .map(drop)
        .map_err(|illegal| no(&illegal.to_string()))
}

async fn second_person(
    connection: &mut Connection,
    saga: SagaId,
    actor: &str,
    failed_undo: &Value,
) -> Result<(), Error> {
    let request = LastRequest {
        saga: saga.0,
        action: REQUEST.to_owned(),
        hours: REQUEST_HOURS,
    };
    let requests: Vec<(String, Value)> = request.load(connection).await?;
    match requests.into_iter().next() {
        None => Err(Error::Conflict(format!(
            "nobody asked for giving up saga {saga} within the last day"
        ))),
        Some((first, _)) if is_same_person(&first, actor) => Err(Error::Conflict(format!(
            "{first} asked for it: a second person has to approve"
        ))),
        Some((_, asked)) if asked["failed_undo"] != *failed_undo => Err(Error::Conflict(format!(
            "what saga {saga} leaves in force is not what was asked for: ask again"
        ))),
        Some(_) => Ok(()),
    }
}

/// Whether who acts now is who acted first.
pub(crate) fn is_same_person(first: &str, actor: &str) -> bool {
    first.to_lowercase() == actor.trim().to_lowercase()
}

fn of_engine(error: engine::Error) -> Error {
    match error {
        engine::Error::Database(error) => Error::Database(error),
        other => Error::BadRow(other.to_string()),
    }
}
