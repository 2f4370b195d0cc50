//! The promises, watched all the time.

use super::{
    customer::{Order, Payment, Stand},
    database::{Database, OrderRow, STEPS, in_force},
    orchestrator::{CAPTURE, PROCESSES},
};
use contract::{Outcome, Refusal, StepKind};
use saga::{Definition, InputKind, Instance, Log, State, Write, breaker, invariant};

/// So often in a row a saga may be woken without anything coming of it.
const IDLE_WAKES_MAX: u32 = 20;

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The promise's name.
    pub invariant: &'static str,
    /// To which order.
    pub order: Option<usize>,
    /// How.
    pub what: String,
}

/// How often a command was sent, and how often it might be.
#[derive(Clone, Copy, Debug, Default)]
struct Sends {
    /// Because a write said so.
    decided: u32,
    /// How often a write said that it was due again.
    due: u32,
    /// Because it was loaded, or there was a new session.
    again: u32,
    /// Loads, sessions and doubts.
    excuses: u32,
    /// How often its saga went on after a pause while it was out.
    resumed: u32,
}

/// Watches.
#[derive(Debug, Default)]
pub(super) struct Judge {
    pub(super) violation: Option<Violation>,
    /// By order and command.
    sends: Vec<Vec<Sends>>,
    /// Of which orders a process does not know whether they were written.
    doubted: Vec<[bool; PROCESSES]>,
    /// Until when each order has to be at rest, once nothing goes wrong any more.
    due: Vec<i64>,
    /// The definition that was withdrawn, and when.
    pub(super) withdrawn: Option<(i16, i64)>,
    /// When each order went on after a pause, or came to its version.
    pub(super) went_on: Vec<i64>,
    /// Which orders were told that their time is nearly over.
    pub(super) warned: Vec<bool>,
    /// How often each order was woken in a row without anything coming of it.
    idle: Vec<u32>,
}

/// Why a command is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// It was decided, or was due: a write says so.
    Written,
    /// It was loaded, or there is a new session.
    Again,
}

impl Judge {
    pub(super) fn fail(&mut self, invariant: &'static str, order: usize, what: String) {
        let order = Some(order);
        self.violation.get_or_insert(Violation {
            invariant,
            order,
            what,
        });
    }

    /// Whether nothing will happen to a saga by itself any more.
    pub(super) fn rests(saga: &Instance) -> bool {
        saga.state.is_end() || (saga.flags.attention && saga.wake_at.is_none())
    }

    pub(super) fn born(&mut self, saga: &Instance, definition: &Definition) {
        self.sends.push(Vec::new());
        self.doubted.push([false; PROCESSES]);
        self.due.push(i64::MAX);
        self.went_on.push(i64::MIN);
        self.warned.push(false);
        self.idle.push(0);
        self.row(self.sends.len() - 1, saga, definition);
    }

    /// A row was written; `before` is what it was.
    pub(super) fn wrote(
        &mut self,
        order: usize,
        before: &Instance,
        write: &Write,
        row: &OrderRow,
        truth: &Order,
        definition: &Definition,
    ) {
        self.transition(order, before, write, definition);
        let due = u32::try_from(write.next.resends).unwrap_or(0);
        let went_on = |log: &Log| log.code.as_deref() == Some("resume") && log.send.is_some();
        let resumed = write.applied.iter().filter(|one| went_on(&one.log)).count();
        let sends = self.sends(order, write.next.seq);
        sends.due = sends.due.max(due);
        sends.resumed += u32::try_from(resumed).unwrap_or(0);
        self.row(order, &write.next, definition);
        let blame = match write.applied.last() {
            Some(one) if one.log.cursor.is_some_and(|c| c.kind == StepKind::Undo) => "honest-end",
            Some(one) if one.log.input == InputKind::End => "every-end-undoes",
            // Its own ledger knows that it was done, and refuses the same command.
            Some(one) if one.log.outcome == Some(Outcome::Rejected) => "effects-once",
            Some(one) if one.log.outcome != Some(Outcome::Done) => "unknown-is-a-result",
            _ => "money-iff-ticket",
        };
        for step in 0..STEPS {
            if in_force(row, truth, step) && !row.saga.maybe_in_force.contains(step as u8) {
                self.fail(
                    blame,
                    order,
                    format!("step {step} is in force, and its saga says that it cannot be"),
                );
            }
        }
        if write.next.pivot_done() {
            self.sold(order, row, truth);
        }
    }

    /// The rules that a single row keeps.
    fn row(&mut self, order: usize, saga: &Instance, definition: &Definition) {
        let Some(name) = invariant::violated(definition, saga) else {
            return;
        };
        let promise = match name {
            "failed-undo-is-work" => "failed-undo-is-work",
            "nothing-sleeps-unseen" | "an-end-rests" | "paused-says-since" => {
                "nothing-accepted-is-lost"
            }
            "undo-only-when-compensating" | "no-undo-past-the-pivot" => "every-end-undoes",
            "completed-has-pivot" | "forward-in-order" => "money-iff-ticket",
            _ => "honest-end",
        };
        self.fail(promise, order, format!("{name} does not hold of {saga:?}"));
    }

    /// The rules of a single step from one row to the next.
    fn transition(
        &mut self,
        order: usize,
        before: &Instance,
        write: &Write,
        definition: &Definition,
    ) {
        let next = &write.next;
        let first = write
            .applied
            .first()
            .and_then(|one| one.log.code.as_deref());
        let woken = |log: &Log| log.input == InputKind::Wake && log.send.is_none();
        let idles = next.cursor == before.cursor && next.state == before.state;
        if idles && write.applied.iter().all(|one| woken(&one.log)) {
            self.idle[order] += 1;
        } else {
            self.idle[order] = 0;
        }
        if self.idle[order] > IDLE_WAKES_MAX {
            let what = "it is written again and again, and nothing comes of it".to_owned();
            self.fail("bounded-work", order, what);
        }
        if before.flags.paused && !matches!(first, Some("resume" | "pause")) {
            let what = "it was moved while it was paused".to_owned();
            self.fail("bounded-work", order, what);
        }
        if let Some(undo) = next.cursor.filter(|cursor| cursor.kind == StepKind::Undo) {
            // One that was under way when a person had others tried again ends first, whatever tries it takes.
            let same = |was: saga::Cursor| was.kind == StepKind::Undo && was.step == undo.step;
            let is_new = next.seq != before.seq && !before.cursor.is_some_and(same);
            let open = next.maybe_in_force.without(next.failed_undo);
            let last = definition.last_of(open);
            if is_new && last.is_some_and(|last| last.number != undo.step) {
                self.fail(
                    "every-end-undoes",
                    order,
                    format!("{} is undone before what came after it", undo.step),
                );
            }
        } else if next.state == State::Compensating && next.maybe_in_force != next.failed_undo {
            self.fail(
                "failed-undo-is-work",
                order,
                "after a failed undo the others do not run".to_owned(),
            );
        }
        let [one] = write.applied.as_slice() else {
            return;
        };
        let (Some(was), log) = (one.log.cursor, &one.log) else {
            return;
        };
        let is_pivot = before.pivot.contains(was.step);
        if log.input == InputKind::End
            && is_pivot
            && was.outstanding
            && next.state == State::Compensating
        {
            self.fail(
                "every-end-undoes",
                order,
                "an ending did not wait for the pivot's outcome".to_owned(),
            );
        }
        let by_itself =
            before.reason.is_none() && next.reason.as_deref() == Some(Refusal::StepFailed.code());
        let undoes = log
            .send
            .is_some_and(|send| send.kind == StepKind::Undo && send.step == was.step);
        if was.kind == StepKind::Do && undoes && by_itself {
            self.fail(
                "unknown-is-a-result",
                order,
                format!("step {} is undone without asking", was.step),
            );
        }
    }

    /// Past the pivot the customer has what he paid for.
    fn sold(&mut self, order: usize, row: &OrderRow, truth: &Order) {
        let (net, due) = (truth.net_minor(), truth.view.total.amount_minor);
        if row.tickets != truth.places() || net != due || row.held.is_none() {
            let what = format!(
                "confirmed with {} tickets of {}, {net} paid of {due}",
                row.tickets,
                truth.places()
            );
            self.fail("money-iff-ticket", order, what);
        }
    }

    /// An effect may have come into force.
    pub(super) fn effect(&mut self, order: usize, step: usize, row: &OrderRow, truth: &Order) {
        let captured = truth.payments.iter().filter(|p| p.stand == Stand::Captured);
        if captured.count() > 1 {
            self.fail("money-iff-ticket", order, "charged twice".to_owned());
        }
        if in_force(row, truth, step) && !row.saga.maybe_in_force.contains(step as u8) {
            let what = format!(
                "step {step} came into force, and its saga ({}) does not know",
                row.saga.state.name()
            );
            self.fail("honest-end", order, what);
        }
    }

    /// A worker asks for money to be given back; `left` is what is not given back yet, by what it was told just
    /// before. The provider would refuse more than that, so nobody's books show whether it was asked for.
    pub(super) fn asked_back(&mut self, order: usize, minor: i64, left: i64) {
        if minor > left {
            let what = format!("{minor} are to be given back, of {left} that are left");
            self.fail("effects-once", order, what);
        }
    }

    /// A command is sent.
    pub(super) fn sent(&mut self, order: usize, seq: i32, why: Why) {
        let sends = self.sends(order, seq);
        match why {
            Why::Written => sends.decided += 1,
            Why::Again => sends.again += 1,
        }
        let sends = *sends;
        if sends.decided > 1 + sends.due + sends.resumed || sends.again > sends.excuses {
            self.fail(
                "bounded-work",
                order,
                format!("command {seq} was sent: {sends:?}"),
            );
        }
    }

    /// A command is sent again of a saga that its owner knows to be paused.
    pub(super) fn sent_paused(&mut self, order: usize) {
        let what = "its command is sent again while it is paused".to_owned();
        self.fail("bounded-work", order, what);
    }

    /// A command is decided although its owner knows that what it needs is away.
    pub(super) fn sent_to_an_open_breaker(&mut self, order: usize) {
        let what = "it is sent although its step's breaker is open".to_owned();
        self.fail("bounded-work", order, what);
    }

    /// A command is sent again although its owner has heard lately that others wait for as long. The product's own
    /// rule says so: that it is heeded is seen here, and that it is right by its tests.
    pub(super) fn sent_into_a_backlog(&mut self, order: usize) {
        let what = "it is sent again into the backlog in which it waits".to_owned();
        self.fail("bounded-work", order, what);
    }

    /// What a customer told is taken for settled; `saga` is what is stored.
    pub(super) fn end_settled(&mut self, order: usize, saga: &Instance) {
        let ends = saga.reason.is_some() || saga.state.is_end() || saga.pivot_done();
        if !ends {
            let what = "its ending is settled, and it goes on".to_owned();
            self.fail("nothing-accepted-is-lost", order, what);
        }
    }

    /// A saga was loaded, or its owner has a new session.
    pub(super) fn excuse(&mut self, order: usize, seq: i32) {
        self.sends(order, seq).excuses += 1;
    }

    /// It is not known whether a saga was written: it will be sent again once it is read back.
    pub(super) fn doubt(&mut self, order: usize, process: usize) {
        self.doubted[order][process] = true;
    }

    /// A saga was read back.
    pub(super) fn read_back(&mut self, order: usize, process: usize, seq: i32) {
        if std::mem::take(&mut self.doubted[order][process]) {
            self.excuse(order, seq);
        }
    }

    fn sends(&mut self, order: usize, seq: i32) -> &mut Sends {
        let of_order = &mut self.sends[order];
        let place = usize::try_from(seq).unwrap_or(0);
        if of_order.len() <= place {
            of_order.resize(place + 1, Sends::default());
        }
        &mut of_order[place]
    }

    // Once nothing goes wrong any more.

    /// Says until when an order has to be at rest: the time of its next timer, one try of everything
    /// that may be left, and the waits for people who never answer.
    pub(super) fn expect(
        &mut self,
        order: usize,
        now: i64,
        db_now: i64,
        saga: &Instance,
        truth: &Order,
        definition: &Definition,
    ) {
        const LEASE_MS: i64 = 9_000;
        const TICKS_MS: i64 = 3 * 2_500;
        const SCAN_MS: i64 = 25 * 2_500;
        if truth.paused {
            self.due[order] = i64::MAX; // counted anew when it goes on
            return;
        }
        // Set back during the pause, the clock has to come to where it was.
        let from = saga.paused_at.map_or(db_now, |at| at.min(db_now));
        let timer = saga.wake_at.map_or(0, |at| (at - from).max(0));
        let steps: i64 = definition
            .steps
            .iter()
            .map(|step| {
                let waits =
                    step.waiting
                        .as_ref()
                        .map_or(0, |waiting| match truth.answers(step.number) {
                            true => 120_000,
                            false => {
                                i64::from(waiting.deadline_ms) + i64::from(step.probe_policy.max_ms)
                            }
                        });
                let probes = step.probe_policy.budget_ms.unwrap_or(0);
                // Whose payment has another id is asked about until a person is.
                let asked = step.undo_policy.budget_ms.filter(|_| truth.moves);
                let pauses = step.do_policy.max_ms + probes + step.undo_policy.max_ms;
                let pauses = pauses + asked.unwrap_or(0);
                waits + i64::from(pauses) + 2 * i64::from(step.resend_ms)
            })
            .sum();
        let mail = (truth.mail_back_at - now).max(0);
        // Held back, and once more should those that were let through not be heard of.
        let held_back = 2 * breaker::COOL_DOWN_MS;
        self.due[order] = now + timer + LEASE_MS + TICKS_MS + SCAN_MS + held_back + steps + mail;
    }

    /// The next moment at which an order has to be at rest.
    pub(super) fn next_due(&self, db: &Database) -> i64 {
        let open = db
            .orders
            .iter()
            .zip(&self.due)
            .filter(|(row, _)| !Self::rests(&row.saga) || row.saga.flags.paused);
        open.map(|(_, due)| *due).min().unwrap_or(i64::MAX)
    }

    /// Whoever has to be at rest is.
    pub(super) fn in_time(&mut self, db: &Database, now: i64) {
        for (order, row) in db.orders.iter().enumerate() {
            let rests = Self::rests(&row.saga) && !row.saga.flags.paused;
            if now > self.due[order] && !rests {
                let what = format!("it has not ended in time: {:?}", row.saga);
                self.fail("prompt-end", order, what);
            }
        }
    }

    /// Nothing went wrong but with the broker or the clock: nothing was cancelled because a step's time was over, and no
    /// undo has failed.
    pub(super) fn close_in_time(&mut self, db: &Database) {
        for (order, row) in db.orders.iter().enumerate() {
            let failed = row.saga.reason.as_deref() == Some(Refusal::StepFailed.code());
            if failed || !row.saga.failed_undo.is_empty() {
                let what = format!("it has failed for want of time: {:?}", row.saga);
                self.fail("prompt-end", order, what);
            }
        }
    }

    /// Everything is at rest.
    pub(super) fn close(&mut self, db: &Database, orders: &[Order]) {
        if db.orders.len() != orders.len() {
            self.fail(
                "nothing-accepted-is-lost",
                db.orders.len(),
                "it has no saga".to_owned(),
            );
        }
        for (order, (row, truth)) in db.orders.iter().zip(orders).enumerate() {
            match row.saga.state {
                State::Completed => self.sold(order, row, truth),
                State::Compensated => {
                    for step in (0..STEPS).filter(|step| in_force(row, truth, *step)) {
                        self.fail(
                            "honest-end",
                            order,
                            format!("it has ended, and step {step} is in force"),
                        );
                    }
                    // Before its capture is begun a payment that is only authorised takes nothing.
                    let taken = |p: &Payment| p.manual && p.stand == Stand::Captured;
                    if truth.payments.iter().any(taken) && row.effects[CAPTURE].is_none() {
                        self.fail(
                            "money-iff-ticket",
                            order,
                            "a payment was taken that should only be authorised".to_owned(),
                        );
                    }
                    let reason = row.saga.reason.as_deref();
                    self.was_warned(order, row, truth);
                    let refusals = [Refusal::SoldOut, Refusal::DefinitionWithdrawn];
                    let why = refusals
                        .iter()
                        .any(|refusal| reason == Some(refusal.code()));
                    if truth.calm && truth.deserves_tickets() && !why {
                        self.fail(
                            "prompt-end",
                            order,
                            format!("cancelled for nothing: {:?}", row.saga.reason),
                        );
                    }
                }
                State::Compensating if row.saga.failed_undo.is_empty() => {
                    self.fail(
                        "failed-undo-is-work",
                        order,
                        "it rests and nobody has work".to_owned(),
                    );
                }
                State::Running if row.saga.pivot_done() => self.sold(order, row, truth),
                State::Compensating => {}
                State::Abandoned if truth.given_up => {}
                _ => self.fail(
                    "nothing-accepted-is-lost",
                    order,
                    format!("it rests: {:?}", row.saga),
                ),
            }
        }
        for (offer, (capacity, taken)) in &db.stock {
            let held = db
                .orders
                .iter()
                .filter_map(|row| row.held.as_ref()?.get(offer));
            if held.sum::<i64>() != *taken || taken > capacity {
                self.violation.get_or_insert(Violation {
                    invariant: "effects-once",
                    order: None,
                    what: format!(
                        "{offer}: {taken} are taken, and those who hold them have another sum"
                    ),
                });
            }
        }
    }
}
