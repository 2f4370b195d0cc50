//! Telling sagas what happened outside.
//!
//! A signal is a row, written before whoever told us gets his answer, so it is lost neither with the
//! broker nor with a crash. The message that follows is a nudge to look. A signal may come before its
//! saga waits for it (it stays open until then), twice (its id is its own: the second one is none), or
//! too late (it is marked as applied and changes nothing).
//!
//! The race: a customer pays at his bank while the worker's word that the payment waits for him is still
//! on its way, or lost. The saga knows of no wait yet; without the bank's word it would begin one, and
//! sleep over what has happened. So a nudge is kept from the moment on at which its step is begun, and is
//! settled by what comes of that: a wait, which it ends, or the next step, for which it is late. That
//! would cost every good order a row, for of each payment the provider tells that it succeeded; therefore
//! what our own request caused ([`Cause::OwnRequest`]) is not kept early. It cannot be missed: a wait is for
//! somebody else, and what comes of its own request the step is told in the answer, or asks.

use crate::metrics::METRICS;
use contract::{
    SagaId, StepName,
    planted::{Bug, planted},
};
use database::Connection;
use diesel::sql_types::{Array, Bool, Jsonb, Nullable, SmallInt, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use saga::{Action, Input, Instance, SignalKind, State};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Something that happened outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSignal {
    /// Its own id: the same happening has the same one.
    pub id: Uuid,
    /// The saga that it is for.
    pub saga: SagaId,
    /// What happened.
    pub what: What,
}

/// What may happen to a saga from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Somebody entitled decided what the step waits for, and it is recorded where the step reads it;
    /// the text and the person are for the history.
    Decision(StepName, &'static str, Person),
    /// Somebody says that something happened to the step, and what caused it. Never believed: it causes a
    /// look. Kept on the condition of [`is_kept`].
    Nudge(StepName, Cause),
    /// Somebody entitled ends the saga; a code of at most 40 characters says why. With the person, if it
    /// is one of ours.
    End(&'static str, Option<Person>),
    /// A person does something about a saga.
    Act(Act),
}

/// What caused that of which a nudge tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Somebody outside, or it is not known what.
    Outside,
    /// A request that the step itself made, certainly.
    OwnRequest,
}

/// Whether a nudge for a step is kept for a saga: if the saga waits there, or has begun what may have it
/// wait. What the SQL does, for the simulation.
#[must_use]
pub fn is_kept(saga: &Instance, step: u8, cause: Cause) -> bool {
    let is_there = saga.cursor.is_some_and(|at| at.step == step);
    let may_wait = matches!(saga.state, State::Running | State::Waiting);
    let early = cause == Cause::Outside && !planted(Bug::EarlyNudgeDropped);
    is_there && may_wait && (early || saga.waiting_since.is_some())
}

/// Who of us did it, for the saga's timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// His name.
    pub by: String,
    /// The row of the audit log.
    pub audit: i64,
}

/// What a person does about a saga that asks for one, with what its timeline says of him.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// What.
    pub action: ActionName,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// The row of the audit log.
    pub audit: i64,
}

/// The actions, steps by their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActionName {
    /// [`saga::Action::Pause`].
    Pause,
    /// [`saga::Action::Resume`].
    Resume,
    /// [`saga::Action::Retry`].
    Retry,
    /// [`saga::Action::Correct`], and which fields; what they are now only the step's worker reads.
    Correct(StepName, Vec<String>),
    /// [`saga::Action::Resolve`].
    Resolve(StepName),
    /// [`saga::Action::Abandon`]; who does it is the approver.
    Abandon,
    /// [`saga::Input::Migrate`], between the versions with these labels.
    Migrate {
        /// The version that the saga runs by.
        from: String,
        /// The version that it is to go on by.
        to: String,
    },
}

/// A saga that was told something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The signal.
    pub signal: Uuid,
    /// The saga.
    pub saga: SagaId,
    /// Where its owner listens.
    pub shard: i16,
    /// The trace of the request that started it.
    pub trace_id: u128,
    /// Whether it sleeps until it is told, so that telling its owner at once helps.
    pub waits: bool,
}

/// What a signal that moves a saga to another version says that it does.
const MIGRATE: &str = "migrate";

/// The kinds by their numbers in the table.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(i16)]
enum Kind {
    Decision = 1,
    Nudge = 2,
    End = 3,
    Act = 4,
}

impl Kind {
    fn from_number(number: i16) -> Option<Self> {
        let all = [Self::Decision, Self::Nudge, Self::End, Self::Act];
        all.into_iter().find(|kind| *kind as i16 == number)
    }
}

/// The labels of the versions between which a signal moves its saga, if it does that.
pub(crate) fn migrates(kind: i16, says: Option<&Value>) -> Option<(&str, &str)> {
    let says = says.filter(|says| says["action"] == MIGRATE)?;
    let labels = says["from"].as_str().zip(says["to"].as_str());
    labels.filter(|_| kind == Kind::Act as i16)
}

/// The input that a signal is; `None` if this program does not know it.
pub(crate) fn input(kind: i16, step: u8, says: Option<&Value>) -> Option<Input> {
    let text = |name: &str| says?.get(name)?.as_str();
    let to_step = |kind| Input::Signal { step, kind };
    match Kind::from_number(kind)? {
        Kind::Decision => Some(to_step(SignalKind::Decision)),
        Kind::Nudge => Some(to_step(SignalKind::Nudge)),
        Kind::End => Some(Input::End {
            reason: text("reason")?.to_owned(),
        }),
        Kind::Act => Some(Input::Act(match text("action")? {
            "pause" => Action::Pause {
                audit: says?.get("audit")?.as_i64()?,
            },
            "resume" => Action::Resume {
                audit: says?.get("audit")?.as_i64()?,
            },
            "retry" => Action::Retry,
            "correct" => Action::Correct { step },
            "resolve" => Action::Resolve { step },
            "abandon" => Action::Abandon {
                approver: text("by")?.to_owned(),
            },
            _ => return None,
        })),
    }
}

/// What [`InsertSignals`] returns.
type Row = (Uuid, Uuid, Option<Uuid>, Option<i16>, Option<i16>);

database::statement! {
    /// Writes signals of sagas that have not ended, nudges on the condition of [`is_kept`]; returns those
    /// written (signal, saga, its trace, shard, state), and those whose saga there is not (without the rest),
    /// of which none is written.
    struct InsertSignals {
        ids: Vec<Uuid> => Array<SqlUuid>,
        sagas: Vec<Uuid> => Array<SqlUuid>,
        kinds: Vec<i16> => Array<SmallInt>,
        steps: Vec<String> => Array<Text>,
        early: Vec<bool> => Array<Bool>,
        payloads: Vec<Value> => Array<Jsonb>,
    } -> (SqlUuid, SqlUuid, Nullable<SqlUuid>, Nullable<SmallInt>, Nullable<SmallInt>) =
    "WITH given AS (
       SELECT n.id, n.kind, n.step, n.payload, n.saga AS saga_id, s.trace_id, s.shard, s.state,
              s.id IS NULL AS stray
       FROM unnest({ids}, {sagas}, {kinds}, {steps}, {early}, {payloads})
         AS n(id, saga, kind, step, early, payload)
       LEFT JOIN sagas s ON s.id = n.saga
       WHERE s.id IS NULL
          OR NOT s.ended
             AND (n.kind <> 2 OR s.step = (SELECT number FROM steps WHERE name = n.step)
                                 AND s.state IN (1, 2) AND (n.early OR s.waiting_since IS NOT NULL))
     ), written AS (
       INSERT INTO signals (id, saga_id, shard, kind, step, payload)
       SELECT id, saga_id, shard, kind, step, payload FROM given WHERE NOT stray ORDER BY id
       ON CONFLICT (id) DO NOTHING
       RETURNING id
     )
     SELECT g.id, g.saga_id, g.trace_id, g.shard, g.state
     FROM given g WHERE g.stray OR g.id = ANY (ARRAY(SELECT id FROM written))"
}

/// Writes signals in the caller's transaction. Returns the sagas that were told something new; one
/// that has ended is told nothing. Of one that is not there (the payment provider tells of an order that a
/// restore has lost) nothing is kept that somebody would look at for ever: it is counted, and said. Once it is committed, hand the result to
/// [`crate::Client::nudge`], or leave it: the owner finds the rows within seconds.
///
/// # Errors
/// The database fails.
pub async fn signal(
    connection: &mut Connection,
    signals: &[NewSignal],
) -> Result<Vec<Told>, database::Error> {
    // One of each id: the same happening may be told twice in one batch.
    let signals: BTreeMap<Uuid, &NewSignal> = signals.iter().map(|one| (one.id, one)).collect();
    let mut insert = InsertSignals {
        ids: Vec::with_capacity(signals.len()),
        sagas: Vec::with_capacity(signals.len()),
        kinds: Vec::with_capacity(signals.len()),
        steps: Vec::with_capacity(signals.len()),
        early: Vec::with_capacity(signals.len()),
        payloads: Vec::with_capacity(signals.len()),
    };
    for (id, signal) in signals {
        let (kind, step, payload) = match &signal.what {
            What::Decision(step, decision, Person { by, audit }) => (
                Kind::Decision,
                step.as_str(),
                json!({ "decision": decision, "by": by, "audit": audit }),
            ),
            What::Nudge(step, _) => (Kind::Nudge, step.as_str(), json!({})),
            What::End(reason, None) => (Kind::End, "", json!({ "reason": reason })),
            What::End(reason, Some(Person { by, audit })) => (
                Kind::End,
                "",
                json!({ "reason": reason, "by": by, "audit": audit }),
            ),
            What::Act(act) => {
                let (action, step) = match &act.action {
                    ActionName::Pause => ("pause", ""),
                    ActionName::Resume => ("resume", ""),
                    ActionName::Retry => ("retry", ""),
                    ActionName::Correct(step, _) => ("correct", step.as_str()),
                    ActionName::Resolve(step) => ("resolve", step.as_str()),
                    ActionName::Abandon => ("abandon", ""),
                    ActionName::Migrate { .. } => (MIGRATE, ""),
                };
                let mut says = json!({
                    "action": action, "by": act.by, "reason": act.reason, "audit": act.audit,
                });
                if !step.is_empty() {
                    says["step"] = step.into();
                }
                if let ActionName::Migrate { from, to } = &act.action {
                    says["from"] = from.as_str().into();
                    says["to"] = to.as_str().into();
                }
                if let ActionName::Correct(_, fields) = &act.action {
                    says["fields"] = json!(fields);
                }
                (Kind::Act, step, says)
            }
        };
        insert.ids.push(id);
        insert.sagas.push(signal.saga.0);
        insert.kinds.push(kind as i16);
        let own = matches!(signal.what, What::Nudge(_, Cause::OwnRequest));
        insert.early.push(!own);
        insert.steps.push(step.to_owned());
        insert.payloads.push(payload);
    }
    if insert.ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<Row> = insert.load(connection).await?;
    let told = rows
        .into_iter()
        .filter_map(|(signal, saga, trace_id, shard, state)| {
            let (Some(trace_id), Some(shard)) = (trace_id, shard) else {
                stray(signal, SagaId(saga), Stray::NoSuchSaga);
                return None;
            };
            Some(Told {
                signal,
                saga: SagaId(saga),
                shard,
                trace_id: trace_id.as_u128(),
                waits: state == Some(State::Waiting as i16),
            })
        });
    Ok(told.collect())
}

/// Why nobody applies a signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stray {
    /// There is no such saga.
    NoSuchSaga,
    /// It has ended, and nobody knew what the signal says.
    Ended,
}

impl Stray {
    fn name(self) -> &'static str {
        match self {
            Self::NoSuchSaga => "no_such_saga",
            Self::Ended => "saga_ended",
        }
    }
}

/// Counts a signal that nobody applies, and says so, once.
pub(crate) fn stray(signal: Uuid, saga: SagaId, why: Stray) {
    METRICS.strays.with_label_values(&[why.name()]).inc();
    tracing::warn!(saga_id = %saga, %signal, why = why.name(), "a signal is for nobody");
}
