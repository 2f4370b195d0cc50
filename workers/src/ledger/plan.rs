//! The protocol itself, without I/O: what a command may do, given what the ledger says.

use crate::kit::Verdict;
use chrono::{DateTime, TimeDelta, Utc};
use contract::{
    Command, Incarnation, Refusal, ReplyError, SagaId, StepKind, StepName,
    planted::{Bug, planted},
};
use serde_json::Value;
use std::collections::HashMap;

/// A command older than this is dropped unanswered: its saga has long been decided without it.
pub const MAX_AGE: TimeDelta = TimeDelta::hours(24);

/// AMQP knows no longer queue names, so no reply could be sent there.
const REPLY_TO_MAX_BYTES: usize = 255;

/// How far an effect has come. The numbers are those of the column `effects.state`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(i16)]
pub enum State {
    /// Somebody began; nobody said yet how it ended.
    Claimed = 1,
    /// In force.
    Done = 2,
    /// Refused for good; certainly not in force.
    Rejected = 3,
    /// Taken back, or forbidden before it began.
    Undone = 4,
}

impl State {
    /// The state with this number.
    #[must_use]
    pub fn from_number(number: i16) -> Option<Self> {
        [Self::Claimed, Self::Done, Self::Rejected, Self::Undone]
            .into_iter()
            .find(|state| *state as i16 == number)
    }
}

/// A row of the ledger.
#[derive(Clone, PartialEq, Debug)]
pub struct LedgerRow {
    /// Number of the definition that began the effect.
    pub definition: i16,
    /// How far it has come.
    pub state: State,
    /// What the outside calls it, once there is something outside.
    pub outside_id: Option<String>,
    /// What it produced; of a claimed effect, what it waits for.
    pub output: Option<Value>,
    /// Why it was refused.
    pub error: Option<ReplyError>,
    /// Why its undo was refused, the last time it was.
    pub undo_refusal: Option<ReplyError>,
    /// The correction by which a refusal was last opened again.
    pub correction: Option<i64>,
}

impl LedgerRow {
    /// A row that only says that somebody began.
    #[must_use]
    pub fn claimed(definition: i16) -> Self {
        Self {
            definition,
            state: State::Claimed,
            outside_id: None,
            output: None,
            error: None,
            undo_refusal: None,
            correction: None,
        }
    }

    /// Whether a claimed effect left a trace beyond its claim: an id outside, or something it waits
    /// for (a review whose quotas are already taken). Such an effect must be undone, not just
    /// forbidden.
    #[must_use]
    pub fn begun(&self) -> bool {
        self.outside_id.is_some() || self.output.is_some()
    }

    /// The correction by which it was last opened, 0 for none.
    fn opened_by(&self) -> i64 {
        self.correction.unwrap_or(0)
    }
}

/// What to do with a command.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    /// Claim the effect if nobody has, then bring it about, or go on from where it stands.
    Act,
    /// Nothing is there to take back: write `undone`, so that a late `do` never happens.
    Fence,
    /// Take the effect back.
    Undo,
    /// Ask the outside how it stands.
    Ask,
    /// Answer this; nothing changes.
    Answer(Verdict),
}

/// The table of the ledger, one cell per row state and command kind. Total.
#[must_use]
pub fn decide(row: Option<&LedgerRow>, kind: StepKind) -> Action {
    let Some(row) = row else {
        return match kind {
            StepKind::Do => Action::Act,
            StepKind::Undo if planted(Bug::LateDoNotFenced) => Action::Answer(Verdict::Done(None)),
            StepKind::Undo => Action::Fence,
            StepKind::Probe => Action::Answer(not_known()),
        };
    };
    match (row.state, kind) {
        (State::Claimed, StepKind::Do) => Action::Act,
        (State::Done, StepKind::Do) if planted(Bug::LedgerForgetsDone) => Action::Act,
        (State::Undone, StepKind::Do) if planted(Bug::UndoneRevived) => Action::Act,
        (State::Claimed, StepKind::Undo) if row.begun() => Action::Undo,
        (State::Claimed, StepKind::Undo) => Action::Fence,
        (State::Claimed, StepKind::Probe) if row.begun() => Action::Ask,
        (State::Claimed, StepKind::Probe) => Action::Answer(not_known()),
        (State::Done, StepKind::Undo) => Action::Undo,
        (State::Done, StepKind::Do | StepKind::Probe) => {
            Action::Answer(Verdict::Done(row.output.clone()))
        }
        (State::Rejected | State::Undone, StepKind::Undo) => Action::Answer(Verdict::Done(None)),
        (State::Rejected, StepKind::Do | StepKind::Probe) => Action::Answer(refusal(row)),
        (State::Undone, StepKind::Do | StepKind::Probe) => {
            Action::Answer(Verdict::refused(Refusal::Undone))
        }
    }
}

fn not_known() -> Verdict {
    Verdict::unknown("not_found", "Nothing is known of this effect.")
}

fn refusal(row: &LedgerRow) -> Verdict {
    match &row.error {
        Some(error) => Verdict::rejected(&error.code, &error.message),
        None => Verdict::refused(Refusal::StepFailed),
    }
}

/// How a row changes by a verdict: new values where there are some, applied only while the row's
/// state is at most `while_at_most` (1: only while claimed; 2: while claimed or done), and no later
/// correction has opened it since.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Change {
    /// The new state.
    pub state: Option<i16>,
    /// The new output.
    pub output: Option<Value>,
    /// The refusal.
    pub error: Option<ReplyError>,
    /// The refusal of an undo; it may be tried again.
    pub undo_refusal: Option<ReplyError>,
    /// The condition.
    pub while_at_most: i16,
    /// The correction by which the row was open when this began, 0 for none: what becomes of an effect with the
    /// old input says nothing about the new one. `None` for what counts whatever was corrected.
    pub correction: Option<i64>,
}

/// What the verdict of a command records that found this row (none if it claimed the effect). `None`:
/// nothing, so that the next command finds the effect as it is.
#[must_use]
pub fn record(kind: StepKind, verdict: &Verdict, found: Option<&LedgerRow>) -> Option<Change> {
    let of_do = Change {
        while_at_most: State::Claimed as i16,
        correction: Some(found.map_or(0, LedgerRow::opened_by)),
        ..Change::default()
    };
    let of_undo = Change {
        while_at_most: State::Done as i16,
        ..Change::default()
    };
    match (kind, verdict) {
        (StepKind::Do | StepKind::Probe, Verdict::Done(output)) => Some(Change {
            state: Some(State::Done as i16),
            output: output.clone(),
            ..of_do
        }),
        (StepKind::Do | StepKind::Probe, Verdict::Rejected(error)) => Some(Change {
            state: Some(State::Rejected as i16),
            error: Some(error.clone()),
            ..of_do
        }),
        (StepKind::Do, Verdict::Waiting(output)) => Some(Change {
            output: Some(output.clone()),
            ..of_do
        }),
        (StepKind::Undo, Verdict::Done(_)) => Some(Change {
            state: Some(State::Undone as i16),
            ..of_undo
        }),
        (StepKind::Undo, Verdict::Rejected(error)) => Some(Change {
            undo_refusal: Some(error.clone()),
            ..of_undo
        }),
        (StepKind::Probe | StepKind::Undo, Verdict::Waiting(_))
        | (_, Verdict::Retry(_) | Verdict::Unknown(_)) => None,
    }
}

impl Change {
    /// Whether a correction has opened the row since the command began that wants to change it.
    #[must_use]
    pub fn is_outdated(&self, row: &LedgerRow) -> bool {
        self.correction
            .is_some_and(|correction| row.opened_by() > correction)
    }

    /// The row after the change; `None` where the condition forbids it. What the SQL does, for the
    /// simulation and for tests.
    #[must_use]
    pub fn apply(&self, row: &LedgerRow) -> Option<LedgerRow> {
        if row.state as i16 > self.while_at_most || self.is_outdated(row) {
            return None;
        }
        let mut next = row.clone();
        next.state = match self.state {
            Some(number) => State::from_number(number)?,
            None => row.state,
        };
        next.output = self.output.clone().or(next.output);
        next.error = self.error.clone().or(next.error);
        next.undo_refusal = self.undo_refusal.clone().or(next.undo_refusal);
        Some(next)
    }
}

/// The answer to a command whose verdict came when its effect had been opened again. Its saga has gone on to a
/// later command, and drops it.
#[must_use]
pub fn corrected_since() -> Verdict {
    Verdict::retry(
        "corrected",
        "What the step is given was corrected meanwhile.",
    )
}

/// The newest correction of what a step's `do` is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Newest {
    /// Its number, that of its row in the audit log: later ones are greater.
    pub audit: i64,
    /// The saga's last command when it was made.
    pub after_seq: i32,
}

/// A refusal that is opened again: the effect is claimed, as if it had not been refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reopening {
    /// By this correction.
    pub correction: i64,
}

/// Whether a command may try again what was refused, because a person has corrected what the step is
/// given. Only a `do`, only what is `rejected` (never what is done or undone), only once for each
/// correction, and only a command that was decided after it: one that comes late finds the refusal.
#[must_use]
pub fn reopens(row: &LedgerRow, kind: StepKind, seq: i32, newest: Newest) -> Option<Reopening> {
    let opening = Reopening {
        correction: newest.audit,
    };
    let later = seq > newest.after_seq || planted(Bug::CorrectionForLateCommands);
    let may = kind == StepKind::Do && later;
    (may && opening.apply(row).is_some()).then_some(opening)
}

impl Reopening {
    /// The row after it; `None` where the condition forbids it. What the SQL does, for the simulation
    /// and for tests.
    #[must_use]
    pub fn apply(&self, row: &LedgerRow) -> Option<LedgerRow> {
        let refused = row.state == State::Rejected
            || (row.state == State::Done && planted(Bug::CorrectionRevivesDone));
        let newer = row.correction.is_none_or(|last| last < self.correction);
        (refused && newer).then(|| LedgerRow {
            state: State::Claimed,
            error: None,
            correction: Some(self.correction),
            ..row.clone()
        })
    }
}

/// What to do with a command before the ledger is looked at.
#[derive(Clone, PartialEq, Debug)]
pub enum Triage {
    /// Go on.
    Process,
    /// Acknowledge it and say nothing.
    Drop(&'static str),
    /// Answer this.
    Answer(Verdict),
}

/// Whether a command has outlived its time.
#[must_use]
pub fn is_expired(command: &Command, now: DateTime<Utc>) -> bool {
    now - command.sent_at > TimeDelta::milliseconds(i64::from(command.ttl_ms))
}

/// Whether a command is for this worker, of this life of the database, and not too old.
#[must_use]
pub fn triage(
    command: &Command,
    step: &StepName,
    incarnation: Incarnation,
    now: DateTime<Utc>,
) -> Triage {
    if command.incarnation != incarnation {
        return Triage::Drop("other_incarnation");
    }
    if command.step != *step
        || command.effect_key != Command::effect_key(command.saga_id, &command.step)
        || command.reply_to.len() > REPLY_TO_MAX_BYTES
    {
        return Triage::Drop("misaddressed");
    }
    let age = now - command.sent_at;
    if age > MAX_AGE {
        return Triage::Drop("too_old");
    }
    if is_expired(command, now) {
        let message = "The command was older than its time to live.";
        return Triage::Answer(Verdict::retry("expired", message));
    }
    Triage::Process
}

/// Whether an effect outside may be called `outside_id`: while it is claimed and is not called
/// otherwise. What the SQL does, for the simulation.
#[must_use]
pub fn may_be_called(row: &LedgerRow, outside_id: &str) -> bool {
    let other = row.outside_id.as_deref().is_some_and(|id| id != outside_id);
    row.state == State::Claimed && (!other || planted(Bug::SecondIntentKept))
}

/// Whether the commands of some answers may be acknowledged. Not before the answers are on their way:
/// whatever dies until then, the commands come again and find the ledger.
#[must_use]
pub fn may_acknowledge(published: bool) -> bool {
    published || planted(Bug::AcknowledgedUnanswered)
}

/// Whether a command is answered with what comes of an effect that is under way already. One that was decided
/// later than the command that began it is not: what the step is given may have been corrected in between,
/// and it would be answered for what was given before.
#[must_use]
pub fn joins(seq: i32, begun_by: i32) -> bool {
    seq <= begun_by
}

/// Commands that get one answer between them: the first is worked on, the others are its repeats.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// Whose effect.
    pub saga_id: SagaId,
    /// What is asked.
    pub kind: StepKind,
    /// Places in the batch, ascending; never empty.
    pub members: Vec<usize>,
}

/// Folds a batch into rounds to be worked on one after the other. No effect is twice in a round, so
/// a round is one set of rows; commands for one effect keep their order, and neighbours among them
/// that ask the same share one answer.
#[must_use]
pub fn fold(commands: &[(SagaId, StepKind)]) -> Vec<Vec<Group>> {
    let mut rounds: Vec<Vec<Group>> = Vec::new();
    let mut last: HashMap<SagaId, (usize, usize)> = HashMap::with_capacity(commands.len());
    for (place, &(saga_id, kind)) in commands.iter().enumerate() {
        let mut round = 0;
        if let Some(&(at, group)) = last.get(&saga_id) {
            if rounds[at][group].kind == kind && !planted(Bug::WorkerDoesNotFold) {
                rounds[at][group].members.push(place);
                continue;
            }
            round = if planted(Bug::WorkerDoesNotFold) {
                0
            } else {
                at + 1
            };
        }
        if rounds.len() == round {
            rounds.push(Vec::new());
        }
        rounds[round].push(Group {
            saga_id,
            kind,
            members: vec![place],
        });
        last.insert(saga_id, (round, rounds[round].len() - 1));
    }
    rounds
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
