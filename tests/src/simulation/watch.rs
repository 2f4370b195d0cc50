//! What the judge watches of versions that end, and of times that do.

use super::{
    customer::{Card, Fraud, Order},
    database::OrderRow,
    judge::Judge,
};
use contract::{Command, Refusal, StepKind};
use saga::{Definition, Input, Instance, State, Write};
use std::cmp::Ordering;

/// So long after it was withdrawn every owner of its sagas knows: a lease, and some rounds.
const HEARD_MS: i64 = 9_000 + 3 * 2_500;

impl Judge {
    /// A definition was withdrawn.
    pub(super) fn withdrawn(&mut self, definition: i16, now: i64) {
        self.withdrawn = Some((definition, now));
    }

    /// Nothing goes wrong any more since `healed_at`, and a saga was moved: one whose definition was
    /// withdrawn a while ago begins no other step.
    pub(super) fn goes_on(
        &mut self,
        order: usize,
        before: &Instance,
        write: &Write,
        now: i64,
        healed_at: i64,
    ) {
        let next = &write.next;
        if before.flags.paused || before.definition != next.definition || before.rev == 1 {
            self.went_on[order] = now;
        }
        let Some((definition, at)) = self.withdrawn.filter(|one| one.0 == next.definition) else {
            return;
        };
        let known = at.max(healed_at) + HEARD_MS;
        let heard = known.max(self.went_on[order].saturating_add(HEARD_MS));
        let begins = next.cursor.is_some_and(|at| {
            at.kind == StepKind::Do && before.cursor.is_none_or(|was| was.step != at.step)
        });
        if begins && next.reason.is_none() && !next.pivot_done() && now > heard {
            let what = format!("definition {definition} is withdrawn, and it begins another step");
            self.fail("every-end-undoes", order, what);
        }
    }

    /// A command goes to the broker, which may lose it: its saga's row says which one it is.
    pub(super) fn can_be_rebuilt(
        &mut self,
        order: usize,
        row: &Instance,
        definition: &Definition,
        command: &Command,
    ) {
        let is_it = |send: saga::Send| {
            let step = definition.step(send.step).map(|step| &step.name);
            send.kind == command.kind
                && send.attempt == command.attempt
                && step == Some(&command.step)
        };
        let is_known = match command.seq.cmp(&row.seq) {
            Ordering::Less => true, // the saga has gone on
            Ordering::Equal => saga::current(definition, row).is_none_or(is_it),
            Ordering::Greater => false,
        };
        if !is_known {
            let what = format!("command {} is out, and its row knows it not", command.seq);
            self.fail("broker-is-transport", order, what);
        }
    }

    /// What somebody told is taken for settled without effect, and its saga would have moved by it.
    pub(super) fn told_in_vain(&mut self, order: usize, input: &Input) {
        let what = format!("it is told in vain: {:?}", input.kind());
        self.fail("nothing-accepted-is-lost", order, what);
    }

    /// The provider has told all that there is to tell about an order's payment, and nothing of it is left to
    /// be looked at: no saga sleeps over it that does not look by itself until `soon`. One that was warned
    /// looks when its time ends.
    pub(super) fn sleeps_on(&mut self, order: usize, saga: &Instance, soon: i64) {
        let at_pay = saga.cursor.is_some_and(|at| at.step == 2);
        let sleeps = saga.state == State::Waiting && !saga.flags.paused && !saga.flags.warned;
        if at_pay && sleeps && saga.wake_at.is_none_or(|at| at > soon) {
            let what = format!("it waits for what it was told: {saga:?}");
            self.fail("nothing-accepted-is-lost", order, what);
        }
    }

    /// An order's time is nearly over, and its history says so.
    pub(super) fn warned(&mut self, order: usize) {
        self.warned[order] = true;
    }

    /// While nothing went wrong, nobody's wait has ended without a warning.
    pub(super) fn was_warned(&mut self, order: usize, row: &OrderRow, truth: &Order) {
        let waited = match row.saga.reason.as_deref().and_then(Refusal::from_code) {
            Some(Refusal::ReviewExpired) => truth.fraud == Fraud::Review(None),
            Some(Refusal::AuthenticationFailed) => truth.card == Card::Challenge(None),
            _ => false,
        };
        if truth.calm && waited && !self.warned[order] {
            let what = "its wait has ended, and nobody was warned".to_owned();
            self.fail("prompt-end", order, what);
        }
    }
}
