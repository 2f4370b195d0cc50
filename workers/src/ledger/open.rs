//! Opens the ledger for a round: claims, fences and reads rows, and says what is to be done.

use super::{
    LedgerRow, corrections,
    plan::{Action, Change, Group, State, decide, reopens},
    sql,
};
use crate::{
    Error,
    kit::{Claim, Verdict},
};
use chrono::{DateTime, Utc};
use contract::{
    Command, SagaId, StepKind, StepName,
    crash::{self, Point, Work},
};
use database::{Clock, Connection};
use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

/// What a group's command may do now. Fences are written already.
#[derive(Debug)]
pub(crate) enum Opened {
    /// Act, undo or ask, by the command's kind.
    Work(Box<Claim>),
    /// Answer this.
    Answer(Verdict),
}

impl Opened {
    fn claimed(&self) -> Option<Point<'_>> {
        match self {
            Self::Work(claim) => Some(claim.command.at(Work::Claimed)),
            Self::Answer(_) => None,
        }
    }
}

/// Opens a round inside a transaction. The rows stay locked until it ends.
///
/// Inserting first and reading what was there already is two statements on purpose: one that does
/// both does not see a row whose insert it has just waited for.
pub(crate) async fn open(
    connection: &mut Connection,
    step: &StepName,
    commands: &[Command],
    round: &[Group],
    clock: &Clock,
    now: DateTime<Utc>,
) -> Result<Vec<Opened>, Error> {
    let of = |group: &Group| &commands[group.members[0]];
    let wanted = |kind: StepKind| {
        let groups = round.iter().filter(move |group| group.kind == kind);
        groups.map(|group| (group.saga_id, of(group).definition))
    };
    let claims = wanted(StepKind::Do).collect();
    let asked = Instant::now();
    let (claimed, time) = sql::begin(connection, step, claims, State::Claimed, now).await?;
    if let Some(time) = time {
        clock.observe(asked, time);
    }
    let others = round.iter().map(|group| group.saga_id);
    let others = others.filter(|saga| !claimed.contains(saga));
    let mut rows = sql::lock(connection, step, others).await?;

    let fences: Vec<_> = wanted(StepKind::Undo)
        .filter(|(saga, _)| !rows.contains_key(saga) && fences_the_unknown())
        .collect();
    let missing: HashSet<SagaId> = fences.iter().map(|fence| fence.0).collect();
    let (fenced, _) = sql::begin(connection, step, fences, State::Undone, now).await?;
    // A `do` was quicker between the two statements: its row is there now.
    let overtaken = missing.difference(&fenced).copied();
    rows.extend(sql::lock(connection, step, overtaken).await?);
    reopen_corrected(connection, step, commands, round, &mut rows).await?;

    let mut opened = Vec::with_capacity(round.len());
    let mut fences = Vec::new();
    for group in round {
        let fresh = claimed.contains(&group.saga_id);
        opened.push(match decide(rows.get(&group.saga_id), group.kind) {
            Action::Act if fresh => Opened::Work(claim(of(group), None)),
            Action::Act if !rows.contains_key(&group.saga_id) => vanished(),
            Action::Act | Action::Undo | Action::Ask => {
                Opened::Work(claim(of(group), rows.remove(&group.saga_id)))
            }
            Action::Fence => {
                if !fenced.contains(&group.saga_id) {
                    let change = Change {
                        state: Some(State::Undone as i16),
                        while_at_most: State::Claimed as i16,
                        ..Change::default()
                    };
                    fences.push((group.saga_id, change));
                }
                Opened::Answer(Verdict::done())
            }
            Action::Answer(verdict) => Opened::Answer(verdict),
        });
    }
    sql::change(connection, step, fences, now).await?;
    crash::each(opened.iter().filter_map(Opened::claimed));
    Ok(opened)
}

/// What was refused, and may be tried again because somebody corrected it, is claimed.
async fn reopen_corrected(
    connection: &mut Connection,
    step: &StepName,
    commands: &[Command],
    round: &[Group],
    rows: &mut HashMap<SagaId, LedgerRow>,
) -> Result<(), Error> {
    let refused = |group: &&Group| {
        let row = rows.get(&group.saga_id);
        group.kind == StepKind::Do && row.is_some_and(|row| row.state == State::Rejected)
    };
    let refused: Vec<&Group> = round.iter().filter(refused).collect();
    let sagas = refused.iter().map(|group| group.saga_id);
    let newest = corrections::newest(connection, step, StepKind::Do, sagas).await?;
    let mut openings = Vec::with_capacity(newest.len());
    for group in refused {
        let row = rows.get(&group.saga_id).zip(newest.get(&group.saga_id));
        // Of several that are answered together the latest counts.
        let seq = group.members.iter().map(|&n| commands[n].seq).max();
        if let (Some((row, (newest, _))), Some(seq)) = (row, seq)
            && let Some(opening) = reopens(row, group.kind, seq, *newest)
        {
            openings.push((group.saga_id, opening));
        }
    }
    let opened = corrections::reopen(connection, step, openings.clone()).await?;
    for (saga, opening) in openings {
        if let Some(row) = rows.get_mut(&saga).filter(|_| opened.contains(&saga))
            && let Some(next) = opening.apply(row)
        {
            *row = next;
        }
    }
    Ok(())
}

fn fences_the_unknown() -> bool {
    decide(None, StepKind::Undo) == Action::Fence
}

/// Neither inserted nor found: a partition was dropped in between. The next attempt will see.
fn vanished() -> Opened {
    Opened::Answer(Verdict::retry(
        "ledger_row_missing",
        "The effect's row is gone.",
    ))
}

fn claim(command: &Command, row: Option<LedgerRow>) -> Box<Claim> {
    Box::new(Claim {
        command: command.clone(),
        row,
    })
}
