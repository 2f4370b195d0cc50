//! Settling a batch of inputs.
//!
//! Inputs of one saga in a batch are folded in their order into one write, so that a saga's row is
//! written once per batch and only its latest command is sent. Every input is settled here and now:
//! applied, or told why not; none waits for another one and none causes a resend.

use crate::{Definition, Illegal, Input, Instance, Log, Now, Send, Status, Steps, step};
use contract::{
    SagaId,
    planted::{Bug, planted},
};
use std::collections::HashMap;

/// What to write and to send, and what became of each input.
#[derive(Debug, Default)]
pub struct Plan {
    /// One for each saga that changes, in the order of their first inputs.
    pub writes: Vec<Write>,
    /// One for each input, in their order.
    pub settlements: Vec<Settlement>,
}

/// The change of one saga.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The row must still have this revision.
    pub expected_rev: i32,
    /// What it becomes.
    pub next: Instance,
    /// One row of history for each input applied.
    pub applied: Vec<Applied>,
    /// The command to send once this is committed.
    pub send: Option<Send>,
    /// The status after it, if it changed.
    pub status: Option<Status>,
}

impl Write {
    /// Whether it may be written over a row that has this revision. What the SQL does, for the
    /// simulation.
    #[must_use]
    pub fn fits(&self, stored_rev: i32) -> bool {
        self.expected_rev == stored_rev || planted(Bug::UnconditionalWrite)
    }

    /// Whether the history takes its rows, one for each revision, beside those that it `has`. What the SQL
    /// does, for the simulation.
    pub fn is_noted(&self, has: impl FnMut(i32) -> bool) -> bool {
        let revisions = self.applied.iter().map(|one| one.log.rev);
        planted(Bug::HistoryWithoutKey) || !revisions.into_iter().any(has)
    }
}

/// One input of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Index of the input in the batch.
    pub input: usize,
    /// Its row in the history.
    pub log: Log,
}

/// What became of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// It is part of a write.
    Applied,
    /// It changes nothing, and why.
    Refused(Illegal),
    /// The saga is not among those given.
    UnknownSaga,
}

/// Settles `inputs` against the sagas that `lookup` knows. Those that `tries` names may send to a step
/// whose breaker is open.
pub fn settle<'a>(
    lookup: impl Fn(SagaId) -> Option<(&'a Definition, &'a Instance)>,
    tries: impl Fn(SagaId, &Input) -> bool,
    inputs: &[(SagaId, Input)],
    now: Now,
) -> Plan {
    let mut plan = Plan {
        writes: Vec::new(),
        settlements: Vec::with_capacity(inputs.len()),
    };
    let mut write_of: HashMap<SagaId, usize> = HashMap::with_capacity(inputs.len());
    // Those that an input of this batch moves to another version: what follows is decided by that one.
    let mut migrated: HashMap<SagaId, &Definition> = HashMap::new();
    for (index, (saga, input)) in inputs.iter().enumerate() {
        let Some((definition, stored)) = lookup(*saga) else {
            plan.settlements.push(Settlement::UnknownSaga);
            continue;
        };
        let at = write_of.get(saga).copied();
        let at = at.filter(|_| !planted(Bug::InputsNotFolded));
        let current = at.map_or(stored, |at| &plan.writes[at].next);
        let now = Now {
            ms: now.ms,
            seed: seed_for(now.seed, *saga, current.rev),
            open: match tries(*saga, input) {
                true => Steps::default(),
                false => now.open,
            },
        };
        let by = migrated.get(saga).copied().unwrap_or(definition);
        let transition = match step(by, current, input, now) {
            Ok(transition) => transition,
            Err(illegal) => {
                plan.settlements.push(Settlement::Refused(illegal));
                continue;
            }
        };
        plan.settlements.push(Settlement::Applied);
        if let Input::Migrate { to, .. } = input {
            migrated.insert(*saga, to);
        }
        let by = migrated.get(saga).copied().unwrap_or(definition);
        let status =
            Some(transition.next.status(by)).filter(|status| *status != stored.status(definition));
        let applied = Applied {
            input: index,
            log: transition.log,
        };
        match at {
            None => {
                write_of.insert(*saga, plan.writes.len());
                plan.writes.push(Write {
                    expected_rev: stored.rev,
                    next: transition.next,
                    applied: vec![applied],
                    send: transition.send,
                    status,
                });
            }
            Some(at) => {
                let write = &mut plan.writes[at];
                let outstanding = transition
                    .next
                    .cursor
                    .is_some_and(|cursor| cursor.outstanding);
                write.send = transition.send.or(write.send).filter(|_| outstanding);
                write.next = transition.next;
                write.applied.push(applied);
                write.status = status;
            }
        }
    }
    plan
}

/// SplitMix64 over the batch's seed, the saga and its revision: every saga draws its own jitter,
/// and the same batch draws the same again.
fn seed_for(seed: u64, saga: SagaId, rev: i32) -> u64 {
    let (high, low) = saga.0.as_u64_pair();
    let mut z = seed ^ high.rotate_left(17) ^ low ^ u64::from(rev.cast_unsigned());
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
