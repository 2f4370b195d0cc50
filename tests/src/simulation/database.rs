//! PostgreSQL as the platform uses it: rows, conditional writes, CHECK constraints. Each function is a
//! transaction: it happens whole or not at all, and at one instant.

use super::customer::Order;
use contract::{OfferId, SagaId};
use engine::{
    Cause, is_kept,
    lease::{Lease, is_ours},
    shard_of,
};
use saga::{Instance, TimestampMs, Write};
use std::collections::{BTreeMap, HashSet};
use workers::{
    ledger::{
        LedgerRow,
        plan::{Change, Newest},
    },
    reserve::allocate::{Request, Sale, Shelf},
};

/// Shards of the model.
pub(super) const SHARDS: i16 = 2;
/// Steps of an order.
pub(super) const STEPS: usize = 6;

/// What a signal's row tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// A reviewer decided.
    Decision,
    /// The provider says that something happened, and what caused it.
    Nudge(Cause),
    /// The customer ends the order.
    End,
    /// An operator ends it.
    OperatorEnds,
    /// An operator has it tried again.
    Retry,
    /// An operator says that it is dealt with.
    Resolve,
    /// A second one agrees to give it up.
    Abandon,
    /// An operator has corrected what the step is given.
    Correct,
    /// An operator stops it, by this row of the audit log.
    Pause(i64),
    /// An operator lets it go on.
    Resume(i64),
    /// An operator moves it from the first to the second of these versions.
    Migrate(i16, i16),
}

impl Told {
    /// The number in the table.
    #[must_use]
    pub(super) fn kind(self) -> i16 {
        match self {
            Self::Decision => 1,
            Self::Nudge(_) => 2,
            Self::End | Self::OperatorEnds => 3,
            Self::Retry
            | Self::Resolve
            | Self::Abandon
            | Self::Correct
            | Self::Pause(_)
            | Self::Resume(_)
            | Self::Migrate(..) => 4,
        }
    }
}

/// A row of `signals`.
#[derive(Clone, Debug)]
pub(super) struct SignalRow {
    /// Whose.
    pub(super) order: usize,
    /// What.
    pub(super) told: Told,
    /// For which step.
    pub(super) step: usize,
    /// Whether its saga did not wait yet when it came.
    pub(super) early: bool,
    /// Whether it is settled.
    pub(super) applied: bool,
}

/// A row of `corrections`.
#[derive(Clone, Copy, Debug)]
pub(super) struct CorrectionRow {
    /// Of what is given to this step.
    pub(super) step: usize,
    /// Which it is, and when.
    pub(super) newest: Newest,
    /// Whether it is right.
    pub(super) good: bool,
}

/// How far a review has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Review {
    /// Nobody has decided.
    Open,
    /// Yes.
    Approved,
    /// No.
    Rejected,
    /// The order was ended first.
    Withdrawn,
}

/// The lease of a shard.
#[derive(Clone, Debug, Default)]
pub(super) struct LeaseRow {
    /// Whose it is, or was last.
    pub(super) owner: Option<usize>,
    /// Counts its takings.
    pub(super) epoch: i64,
    /// Until when, by the database's clock.
    pub(super) until: TimestampMs,
    /// Where replies to its owner go.
    pub(super) reply_queue: Option<usize>,
}

/// Everything that belongs to one order.
#[derive(Clone, Debug)]
pub(super) struct OrderRow {
    /// Its saga.
    pub(super) saga: Instance,
    /// The ledger, by step.
    pub(super) effects: [Option<LedgerRow>; STEPS],
    /// What it holds of the stock.
    pub(super) held: Option<Request>,
    /// Whether it counts toward purchase limits.
    pub(super) quota: bool,
    /// Its review.
    pub(super) review: Option<Review>,
    /// Its valid tickets.
    pub(super) tickets: i64,
    /// What people corrected, the newest last.
    pub(super) corrections: Vec<CorrectionRow>,
}

impl OrderRow {
    /// The newest correction of what a step is given.
    pub(super) fn corrected(&self, step: usize) -> Option<&CorrectionRow> {
        self.corrections.iter().rfind(|row| row.step == step)
    }
}

/// Why a transaction is refused: a CHECK of the database.
pub(super) type Refused = &'static str;

/// Or the primary key of its history, which has one row for each revision of a saga.
pub(super) const HISTORY_KEY: Refused = "the history's key";

/// All rows.
#[derive(Debug, Default)]
pub(super) struct Database {
    /// Orders with all that is theirs; an order's number is its place.
    pub(super) orders: Vec<OrderRow>,
    /// Offers: capacity and what is taken.
    pub(super) stock: BTreeMap<OfferId, (i64, i64)>,
    /// Signals.
    pub(super) signals: Vec<SignalRow>,
    /// Leases, by shard.
    pub(super) leases: Vec<LeaseRow>,
    /// The history's keys: sagas and their revisions.
    history: HashSet<(SagaId, i32)>,
    /// The definition that is withdrawn, if one is.
    pub(super) withdrawn: Option<i16>,
    /// Until when each orchestrator is known to live.
    pub(super) seen_until: [TimestampMs; NAMES.len()],
}

/// An order's saga bears the order's number in its last bits.
#[must_use]
pub(super) fn saga_id(number: usize, born_ms: i64) -> SagaId {
    let ms = u128::from(born_ms.cast_unsigned()) << 80;
    SagaId(uuid::Uuid::from_u128(
        ms | 0x7000 << 64 | 1 << 63 | number as u128,
    ))
}

/// The order of a saga.
#[must_use]
pub(super) fn number_of(saga: SagaId) -> usize {
    let (_, low) = saga.0.as_u64_pair();
    usize::try_from(low & 0xffff_ffff).unwrap_or(usize::MAX)
}

impl Database {
    /// An empty one with these offers.
    #[must_use]
    pub(super) fn new(offers: impl IntoIterator<Item = (OfferId, i64)>) -> Self {
        let stock = offers.into_iter().map(|(id, capacity)| (id, (capacity, 0)));
        Self {
            stock: stock.collect(),
            leases: (0..SHARDS).map(|_| LeaseRow::default()).collect(),
            ..Self::default()
        }
    }

    /// A new order with its saga, whose number is the next one.
    pub(super) fn insert(&mut self, saga: Instance) {
        self.history.insert((saga.id, saga.rev));
        self.orders.push(OrderRow {
            saga,
            effects: [const { None }; STEPS],
            held: None,
            quota: false,
            review: None,
            tickets: 0,
            corrections: Vec::new(),
        });
    }

    /// The row of a saga, if there is one.
    #[must_use]
    pub(super) fn saga(&self, id: SagaId) -> Option<&Instance> {
        let row = &self.orders.get(number_of(id))?.saga;
        (row.id == id).then_some(row)
    }

    /// The conditional write of a batch with its history: which sagas had the expected revision. Of several
    /// writes to one row one is done, and the history has the rows of all.
    ///
    /// # Errors
    /// A CHECK refuses one of the rows, or the key one of the history.
    pub(super) fn advance(&mut self, writes: &[Write]) -> Result<Vec<SagaId>, Refused> {
        let mut notes = HashSet::new();
        for write in writes {
            let (id, saga) = (write.next.id, self.saga(write.next.id));
            if saga.is_some_and(|saga| write.fits(saga.rev)) {
                let has = |rev| !notes.insert((id, rev)) || self.history.contains(&(id, rev));
                if !write.is_noted(has) {
                    return Err(HISTORY_KEY);
                }
            }
        }
        self.history.extend(notes);
        let mut moved = Vec::with_capacity(writes.len());
        for write in writes {
            let Some(row) = self.orders.get_mut(number_of(write.next.id)) else {
                continue;
            };
            if !write.fits(row.saga.rev) {
                continue;
            }
            let next = &write.next;
            if next.state == saga::State::Compensated && !next.maybe_in_force.is_empty() {
                return Err("honest-end");
            }
            row.saga.clone_from(next);
            moved.push(next.id);
        }
        Ok(moved)
    }

    /// The live sagas of shards.
    pub(super) fn live(&self, shards: &[i16]) -> impl Iterator<Item = (&Instance, i16)> {
        let live = self.orders.iter().map(|row| &row.saga);
        live.filter(|saga| !saga.state.is_end())
            .map(|saga| (saga, shard_of(saga.id, SHARDS)))
            .filter(|(_, shard)| shards.contains(shard))
    }

    /// Renews leases; says how all of them stand and how many others live. Who has no queue does not
    /// count, and renews only while nobody else could do better.
    pub(super) fn renew(
        &mut self,
        node: usize,
        queue: Option<usize>,
        held: &[(i16, i64)],
        lease_ms: i64,
        now: TimestampMs,
    ) -> (Vec<Lease>, usize) {
        let others =
            (0..NAMES.len()).filter(|other| *other != node && self.seen_until[*other] > now);
        let others = others.count();
        if queue.is_some() {
            self.seen_until[node] = now + lease_ms;
        }
        let mut leases = Vec::with_capacity(self.leases.len());
        for (shard, row) in (0..).zip(&mut self.leases) {
            let mine = row.owner == Some(node) && is_ours(held, shard, row.epoch);
            if mine {
                if queue.is_some() || others == 0 {
                    row.until = now + lease_ms;
                }
                row.reply_queue = queue;
            }
            leases.push(Lease {
                shard,
                owner: row.owner.map(|owner| NAMES[owner].to_owned()),
                epoch: row.epoch,
                live: row.until > now,
            });
        }
        (leases, others)
    }

    /// Takes shards that are free, over, or were this node's.
    pub(super) fn acquire(
        &mut self,
        node: usize,
        queue: Option<usize>,
        shards: &[i16],
        lease_ms: i64,
        now: TimestampMs,
    ) -> Vec<(i16, i64)> {
        let mut got = Vec::new();
        for (shard, row) in (0..).zip(&mut self.leases) {
            let free = row.owner.is_none_or(|owner| owner == node) || row.until <= now;
            if shards.contains(&shard) && free {
                row.owner = Some(node);
                row.epoch += 1;
                row.until = now + lease_ms;
                row.reply_queue = queue;
                got.push((shard, row.epoch));
            }
        }
        got
    }

    /// Gives shards back that were taken with these epochs.
    pub(super) fn release(&mut self, node: usize, shards: &[(i16, i64)]) {
        for (shard, row) in (0..).zip(&mut self.leases) {
            if row.owner == Some(node) && is_ours(shards, shard, row.epoch) {
                row.owner = None;
                row.until = TimestampMs::MIN;
                row.reply_queue = None;
            }
        }
    }

    /// A process is gone, unless another one of its name has shards.
    pub(super) fn sign_off(&mut self, node: usize) {
        if self.leases.iter().all(|row| row.owner != Some(node)) {
            self.seen_until[node] = TimestampMs::MIN;
        }
    }

    /// What is left of the offers that some requests name.
    #[must_use]
    pub(super) fn shelves(&self) -> BTreeMap<OfferId, Shelf> {
        let shelf = |(id, (capacity, taken)): (&OfferId, &(i64, i64))| {
            let (free, sale) = (capacity - taken, Sale::Open);
            (*id, Shelf { free, sale })
        };
        self.stock.iter().map(shelf).collect()
    }

    /// Adds to what is taken.
    ///
    /// # Errors
    /// The CHECK refuses it.
    pub(super) fn take(
        &mut self,
        changes: &BTreeMap<OfferId, i64>,
        sign: i64,
    ) -> Result<(), Refused> {
        for (offer, change) in changes {
            let Some((capacity, taken)) = self.stock.get_mut(offer) else {
                return Err("no-oversell");
            };
            *taken += sign * change;
            if *taken < 0 || *taken > *capacity {
                return Err("no-oversell");
            }
        }
        Ok(())
    }

    /// Changes a row of the ledger, if its condition holds.
    pub(super) fn change(&mut self, order: usize, step: usize, change: &Change) -> bool {
        let Some(row) = &mut self.orders[order].effects[step] else {
            return false;
        };
        let next = change.apply(row);
        let changed = next.is_some();
        if let Some(next) = next {
            *row = next;
        }
        changed
    }

    /// Keeps a correction, unless the saga has ended.
    pub(super) fn correct(&mut self, order: usize, step: usize, audit: i64, good: bool) {
        let row = &mut self.orders[order];
        if !row.saga.state.is_end() {
            let after_seq = row.saga.seq;
            let newest = Newest { audit, after_seq };
            row.corrections.push(CorrectionRow { step, newest, good });
        }
    }

    /// Notes what somebody tells: nothing to a saga that has ended, and a nudge by the product's own rule.
    /// Whether it is kept.
    pub(super) fn signal(&mut self, order: usize, told: Told, step: usize) -> bool {
        let saga = &self.orders[order].saga;
        let kept = |cause| is_kept(saga, u8::try_from(step).unwrap_or(u8::MAX), cause);
        if saga.state.is_end() || matches!(told, Told::Nudge(cause) if !kept(cause)) {
            return false;
        }
        let early = saga.waiting_since.is_none();
        self.signals.push(SignalRow {
            order,
            told,
            step,
            early,
            applied: false,
        });
        true
    }
}

/// The nodes' names.
pub(super) const NAMES: [&str; 2] = ["a", "b"];

/// Whether an effect of an order is in force, by step; of `pay` the provider knows, and an authorisation
/// is in force as well.
#[must_use]
pub(super) fn in_force(row: &OrderRow, order: &Order, step: usize) -> bool {
    match step {
        0 => row.held.is_some(),
        1 => row.quota,
        2 => order.net_minor() > 0 || order.is_authorised(),
        3 => row.tickets > 0,
        // A mail cannot be taken back, and nobody tries. What `capture` takes is what `pay` has to give
        // back, also when a stopped twin takes it after the undo of `capture`.
        _ => false,
    }
}
