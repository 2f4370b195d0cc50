//! An orchestrator process: brings what was read to [`Owner`], commits what it plans, and sends what
//! follows, one action at a time. Between any two it may die, stall beyond its lease, or not hear what
//! became of a commit.

use super::{
    broker::Body,
    database::{NAMES, SHARDS, Told, number_of, saga_id},
    fault::Fault,
    judge::Why,
    world::{Event, World, tell},
};
use contract::{Command, Refusal, SagaId, StepName};
use engine::{Owner, definitions::Definitions, lease, shard_of, sleeps, withdrawal::Withdrawal};
use saga::{Input, Instance, Plan, State};
use serde_json::json;
use std::{rc::Rc, time::Duration};

const LEASE_MS: i64 = 9_000;
const TICK_MS: i64 = 2_500;
/// Rounds between two scans of all live sagas.
const SCAN_ROUNDS: u32 = 24;
/// Sagas of a withdrawn definition that are ended in one round.
const WITHDRAWN_MAX: usize = 2_000;

/// An input with the signal that it came from.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) saga: SagaId,
    pub(super) input: Input,
    pub(super) signal: Option<usize>,
}

/// What an orchestrator does next.
#[derive(Debug)]
pub(super) enum Act {
    /// Look whether there is something to do.
    Poll,
    /// Take these shards.
    Acquire(Vec<i16>),
    /// Read what is missing of a batch, and plan.
    Read(Vec<Given>, u8),
    /// Commit a plan.
    Commit(Box<Plan>, Vec<Given>, u8),
    /// Publish commands.
    Publish(Vec<(Rc<Command>, Why)>),
    /// Acknowledge what came, so many of the messages taken.
    Acknowledge(usize),
    /// Start again.
    Start,
    /// Have a session with the broker again.
    Connect,
}

/// Processes at the most: one of each name, and the elder of one that was started in another's place.
pub(super) const PROCESSES: usize = NAMES.len() + 1;

/// The process.
pub(super) struct Orchestrator {
    /// Its name's place among [`NAMES`].
    pub(super) node: usize,
    /// Whether somebody starts it again: nobody does once another one has its name.
    pub(super) minded: bool,
    pub(super) up: bool,
    pub(super) life: u32,
    pub(super) stalled_until: i64,
    pub(super) next_tick: i64,
    pub(super) renewed: i64,
    pub(super) owner: Owner,
    /// The database's time less ours, as far as it is known.
    pub(super) base: i64,
    /// By how much that was put right since the owner heard of it.
    pub(super) leapt_ms: i64,
    pub(super) seed: u64,
    pub(super) session: Option<usize>,
    pub(super) send_all_again: bool,
    pub(super) rounds: u32,
    pub(super) busy: bool,
    pub(super) look: bool,
    pub(super) poll_at: Option<i64>,
    pub(super) parts: Vec<(Vec<Given>, u8)>,
    pub(super) failures: u32,
    pub(super) taken: Vec<Body>,
}

impl Orchestrator {
    pub(super) fn new(node: usize, now: i64, definitions: Definitions) -> Self {
        Self {
            node,
            minded: true,
            up: false,
            life: 0,
            stalled_until: 0,
            next_tick: now,
            renewed: now,
            owner: Owner::new(definitions),
            base: 0,
            leapt_ms: 0,
            seed: 0,
            session: None,
            send_all_again: false,
            rounds: 0,
            busy: false,
            look: false,
            poll_at: None,
            parts: Vec::new(),
            failures: 0,
            taken: Vec::new(),
        }
    }

    pub(super) fn clock(&self, now: i64) -> i64 {
        now + self.base
    }

    /// As the product's clock learns from an answer that comes at once.
    pub(super) fn observe(&mut self, now: i64, db_now: i64) {
        let base = db_now - now;
        self.leapt_ms += base - self.base;
        self.base = base;
    }

    /// Before anything is decided by a clock that was set.
    pub(super) fn heed_leap(&mut self, now: i64) {
        let by_ms = std::mem::take(&mut self.leapt_ms);
        self.owner.leapt(by_ms, self.clock(now));
    }
}

/// What became of a transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Done,
    /// It did not happen.
    Failed,
    /// It happened, and nobody heard.
    Unheard,
}

impl World {
    pub(super) fn fate(&mut self) -> Fate {
        if self.strikes(Fault::StatementFails) {
            Fate::Failed
        } else if self.strikes(Fault::CommitUnheard) {
            Fate::Unheard
        } else {
            Fate::Done
        }
    }

    pub(super) fn orchestrator_acts(&mut self, i: usize, life: u32, act: Act) {
        if self.orchestrators[i].life != life {
            return;
        }
        if matches!(act, Act::Start) {
            if !self.orchestrators[i].up {
                self.start_orchestrator(i);
            }
            return;
        }
        let until = self.orchestrators[i].stalled_until;
        if until > self.now {
            self.at(until + 1, Event::Orchestrator(i, life, act));
            return;
        }
        if !matches!(act, Act::Poll) {
            if self.strikes(Fault::OrchestratorDies) {
                return self.end_orchestrator(i, false);
            }
            if self.strikes(Fault::OrchestratorStalls) {
                let ms = self.rng.range(1_000, 30_000);
                tell!(
                    self,
                    None,
                    "orchestrator {} stalls for {ms} ms before it can {}",
                    self.called(i),
                    name(&act)
                );
                self.orchestrators[i].stalled_until = self.now + ms;
                self.after(ms + 1, Event::Orchestrator(i, life, act));
                return self.start_another(i);
            }
        }
        match act {
            Act::Poll => self.poll(i),
            Act::Acquire(shards) => self.acquire(i, &shards),
            Act::Read(given, rereads) => self.read(i, given, rereads),
            Act::Commit(plan, given, rereads) => self.commit(i, *plan, given, rereads),
            Act::Publish(commands) => self.publish(i, commands),
            Act::Acknowledge(count) => {
                let taken = &mut self.orchestrators[i].taken;
                let count = count.min(taken.len());
                taken.drain(..count);
            }
            Act::Connect => self.connect(i),
            Act::Start => {}
        }
    }

    pub(super) fn act(&mut self, i: usize, after: i64, act: Act) {
        let life = self.orchestrators[i].life;
        self.after(after, Event::Orchestrator(i, life, act));
    }

    pub(super) fn act_soon(&mut self, i: usize, act: Act) {
        let ms = self.rng.range(0, 4);
        self.act(i, ms, act);
    }

    // Housekeeping.

    pub(super) fn tick(&mut self, i: usize) {
        self.disasters();
        let process = &mut self.orchestrators[i];
        if process.stalled_until > self.now {
            process.next_tick = process.stalled_until + 1;
            return;
        }
        if process.busy {
            process.next_tick = self.now + 2;
            return;
        }
        process.next_tick = self.now + TICK_MS;
        if self.strikes(Fault::OrchestratorStops) {
            return self.end_orchestrator(i, true);
        }
        let again = match self.orchestrators[i].send_all_again {
            true => self.orchestrators[i].owner.outstanding(),
            false => Vec::new(),
        };
        if self.fate() != Fate::Done {
            let process = &mut self.orchestrators[i];
            let since_renewal = Duration::from_millis((self.now - process.renewed).unsigned_abs());
            let lease = Duration::from_millis(LEASE_MS.unsigned_abs());
            let shards = process.owner.shards();
            if lease::are_over(since_renewal, lease) && !shards.is_empty() {
                process.owner.lose(&shards);
                self.coverage.reached("an owner's leases are over");
            }
            return;
        }
        let db_now = self.db_now();
        let process = &mut self.orchestrators[i];
        process.renewed = self.now;
        process.observe(self.now, db_now);
        process.heed_leap(self.now);
        let clock = process.clock(self.now);
        process.owner.mind_held_back(clock);
        let held = process.owner.held();
        let node = process.node;
        let (leases, others) = self
            .db
            .renew(node, process.session, &held, LEASE_MS, db_now);
        let plan = lease::plan(&leases, &held, NAMES[node], others);
        if plan.fenced {
            return self.fenced(i);
        }
        process.owner.lose(&plan.lost);
        process.owner.lose(&plan.release);
        if process.session.is_some() {
            process.owner.go_on(clock);
            process.send_all_again = false;
        }
        if !plan.lost.is_empty() {
            tell!(
                self,
                None,
                "orchestrator {} has lost {:?}",
                self.called(i),
                plan.lost
            );
        }
        let epochs = leases.iter().map(|lease| (lease.shard, lease.epoch));
        let released: Vec<_> = epochs.filter(|one| plan.release.contains(&one.0)).collect();
        self.db.release(node, &released);
        if !plan.acquire.is_empty() && self.orchestrators[i].session.is_some() {
            self.act_soon(i, Act::Acquire(plan.acquire));
        }
        self.send_again(i, &again);
        let rounds = self.orchestrators[i].rounds.wrapping_add(1);
        self.orchestrators[i].rounds = rounds;
        self.look_around(i, rounds.is_multiple_of(SCAN_ROUNDS));
        if self.orchestrators[i].owner.let_sleep(clock) > 0 {
            self.coverage.reached("a saga leaves memory");
        }
        self.poll(i);
    }

    fn acquire(&mut self, i: usize, shards: &[i16]) {
        let (now, session) = (self.db_now(), self.orchestrators[i].session);
        let node = self.orchestrators[i].node;
        let got = self.db.acquire(node, session, shards, LEASE_MS, now);
        if got.is_empty() || self.fate() != Fate::Done {
            return; // not held before they are read: they are taken once more
        }
        tell!(self, None, "orchestrator {} takes {got:?}", self.called(i));
        let shards: Vec<i16> = got.iter().map(|(shard, _)| *shard).collect();
        let process = &mut self.orchestrators[i];
        process.owner.acquired(&got);
        let mut loaded = Vec::new();
        for (saga, shard) in self.db.live(&shards).filter(|one| !sleeps(one.0, now)) {
            process.owner.take_in(saga.clone(), shard);
            loaded.push(saga.id);
        }
        self.send_again(i, &loaded);
        self.poll(i);
    }

    /// Signals, and sagas that are not known yet.
    pub(super) fn look_around(&mut self, i: usize, scan: bool) {
        let process = &mut self.orchestrators[i];
        process.look = false;
        let shards = process.owner.shards();
        if shards.is_empty() {
            return;
        }
        let mut read = Vec::new();
        let db_now = self.now + self.db_offset;
        let minute_ago = db_now - 60_000;
        for (saga, shard) in self.db.live(&shards).filter(|one| !sleeps(one.0, db_now)) {
            let is_new = saga_id(number_of(saga.id), minute_ago) <= saga.id;
            if is_new && !process.owner.knows(saga.id) {
                process.owner.take_in(saga.clone(), shard);
                read.extend(Some(saga.id).filter(|_| saga.rev > 1));
            }
        }
        if scan {
            let awake = self.db.live(&shards).filter(|one| !sleeps(one.0, db_now));
            let live = awake.map(|(saga, _)| (saga.id, saga.rev));
            let outdated = process.owner.outdated(live);
            for id in &outdated {
                if let Some(saga) = self.db.saga(*id) {
                    process.owner.take_in(saga.clone(), shard_of(*id, SHARDS));
                }
            }
            self.send_again(i, &outdated);
        }
        let process = &mut self.orchestrators[i];
        let mut given = Vec::new();
        for (at, row) in self
            .db
            .signals
            .iter()
            .enumerate()
            .filter(|(_, row)| !row.applied)
        {
            let saga = &self.db.orders[row.order].saga;
            let shard = shard_of(saga.id, SHARDS);
            if !shards.contains(&shard) {
                continue;
            }
            if !process.owner.knows(saga.id) {
                process.owner.take_in(saga.clone(), shard);
                read.extend(Some(saga.id).filter(|_| saga.rev > 1));
            }
            let step = &STEP_NAMES[row.step];
            let says = match row.told {
                Told::End => Some(json!({"reason": "customer_cancelled"})),
                Told::OperatorEnds => Some(json!({"reason": Refusal::OperatorEnded.code()})),
                Told::Retry => Some(json!({"action": "retry"})),
                Told::Resolve => Some(json!({"action": "resolve"})),
                Told::Abandon => Some(json!({"action": "abandon", "by": "bob"})),
                Told::Correct => Some(json!({"action": "correct"})),
                Told::Pause(audit) => Some(json!({"action": "pause", "audit": audit})),
                Told::Resume(audit) => Some(json!({"action": "resume", "audit": audit})),
                Told::Migrate(from, to) => {
                    let (from, to) = (format!("order@{from}"), format!("order@{to}"));
                    Some(json!({"action": "migrate", "from": from, "to": to}))
                }
                Told::Decision | Told::Nudge(_) => None,
            };
            let kind = row.told.kind();
            let input = process
                .owner
                .signal(saga.id, kind, step.as_str(), says.as_ref());
            let given_one = |input| Given {
                saga: saga.id,
                input,
                signal: Some(at),
            };
            given.extend(input.map(given_one));
        }
        process
            .owner
            .resumes_first(&mut given, |one| (one.saga, &one.input));
        if let Some(definition) = self.db.withdrawn {
            let waits = |saga: &&Instance| saga.state == State::Waiting;
            let waiting = self.db.live(&shards).map(|(saga, _)| saga).filter(waits);
            let by_it = |saga: &&Instance| saga.definition == definition;
            let goes_on = |saga: &&Instance| saga.reason.is_none() && !saga.flags.paused;
            let asks = process.owner.may_sleep_by(definition);
            let waiting = waiting.filter(by_it).filter(goes_on);
            let stored: Vec<&Instance> = waiting.filter(|_| asks).collect();
            for saga in &stored {
                if !process.owner.knows(saga.id) {
                    let shard = shard_of(saga.id, SHARDS);
                    process.owner.take_in((*saga).clone(), shard);
                }
            }
            let ends = process.owner.to_be_ended(definition, WITHDRAWN_MAX);
            let found = !ends.is_empty() || !stored.is_empty();
            process.owner.looked_for(definition, found);
            given.extend(ends.into_iter().map(|saga| Given {
                saga,
                input: Withdrawal::input(),
                signal: None,
            }));
        }
        if !given.is_empty() {
            process.parts.push((given, 0));
            process.busy = true;
            self.next_part(i);
        }
        self.send_again(i, &read);
    }
}

/// The last step of each version: its refusal is in the ledger, so trying again does not help.
pub(super) const NOTIFY: usize = 4;

/// Takes the places.
pub(super) const RESERVE: usize = 0;

/// Looks whether it may be sold, and may have a person look.
pub(super) const FRAUD_CHECK: usize = 1;

/// Makes the tickets.
pub(super) const ISSUE: usize = 3;

/// Takes the money, or authorises it.
pub(super) const PAY: usize = 2;

/// Takes what was authorised.
pub(super) const CAPTURE: usize = 5;

/// The steps of an order by number.
pub(super) const STEP_NAMES: [StepName; 6] = StepName::OF_AN_ORDER;

fn name(act: &Act) -> &'static str {
    match act {
        Act::Poll | Act::Start | Act::Connect => "look",
        Act::Acquire(_) => "take shards",
        Act::Read(..) => "read",
        Act::Commit(..) => "commit",
        Act::Publish(_) => "publish",
        Act::Acknowledge(_) => "acknowledge",
    }
}
