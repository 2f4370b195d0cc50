//! Waiting for the outside, and the end of it.
//!
//! A wait has a deadline, and is undone when it passes. Before that somebody is warned: at four fifths of
//! it the history says [`DEADLINE_NEAR`], once for each wait. At the same moment a step that can be asked
//! about by reading is: the outside may have answered long ago, and what it told us was lost. So whoever did
//! his part in time is not cancelled for our not having heard of it, and it is known a while before the end.
//! The saga's own time is warned of in the same way, at whatever it is woken by next.
//!
//! A saga that is only woken when all is over (nobody owned it, or the clock jumped) is not warned.

use super::draft::{Budget, Draft};
use crate::{Cursor, Definition, Instance, ProbeMode, State, StepDefinition, TimestampMs};
use contract::{
    Refusal, StepKind,
    planted::{Bug, planted},
};

/// What the history says of a deadline that is near.
pub const DEADLINE_NEAR: &str = "deadline_near";

/// How often the outside is asked at most once it was said to have done what is waited for.
const LOOKS_MAX: i16 = 8;

/// A deadline is near when so many fifths of its time are over.
const NEAR_FIFTHS: i64 = 4;

impl<'a> Draft<'a> {
    pub(super) fn wait(&mut self, step: &StepDefinition) {
        let Some(waiting) = &step.waiting else { return };
        if self.next.waiting_since.is_none() {
            self.next.flags.warned = false; // of its own time, which stands still from now on
        }
        let since = *self.next.waiting_since.get_or_insert(self.now.ms);
        let expires = since.saturating_add(i64::from(waiting.deadline_ms));
        if self.now.ms >= expires || self.next.reason.is_some() {
            return self.compensate(waiting.expired.code());
        }
        self.next.state = State::Waiting;
        if let Some(cursor) = &mut self.next.cursor {
            cursor.outstanding = false;
        }
        self.next.resends = 0;
        self.next.budget_until = None;
        let near = near(since, waiting.deadline_ms).max(self.now.ms.saturating_add(1));
        let near = Some(near.min(expires)).filter(|_| !self.next.flags.warned);
        self.next.wake_at = near.or(Some(expires));
    }

    /// Whether the outside may still do what the step waits for.
    pub(super) fn waits_on(&self, step: &StepDefinition) -> bool {
        let expires = self.next.waiting_since.zip(step.waiting.as_ref());
        let expires = expires.map(|(since, waiting)| since + i64::from(waiting.deadline_ms));
        self.next.reason.is_none()
            && step.probe_mode == ProbeMode::Read
            && expires.is_some_and(|at| self.now.ms < at)
    }

    pub(super) fn look_again_later(&mut self, step: &StepDefinition) {
        self.wait(step);
        let pause = i64::from(step.probe_policy.max_ms);
        let at = self.now.ms.saturating_add(pause);
        self.next.wake_at = self.next.wake_at.map(|expires| expires.min(at));
    }

    /// Something was said to have happened, and whoever was asked does not show it: he may show what was
    /// true a moment ago. There may be no second word of it, so he is asked again a few times; not any more
    /// once the end is near, at which he is asked in any case.
    pub(super) fn still_waits(&mut self, step: &StepDefinition, cursor: Cursor) {
        self.wait(step);
        let again = cursor.attempt < LOOKS_MAX && !self.next.flags.warned;
        if self.next.state == State::Waiting && again {
            let pause = step.probe_policy.delay_ms(cursor.attempt, self.now.seed);
            let at = self.now.ms.saturating_add(pause);
            self.next.wake_at = self.next.wake_at.map(|expires| expires.min(at));
        }
    }

    /// It waits, and its time has come: the first time to be warned of the end.
    pub(super) fn wake_in_wait(&mut self, step: &'a StepDefinition) -> Option<&'static str> {
        let deadline_ms = step.waiting.as_ref().map(|waiting| waiting.deadline_ms);
        let begun = self.next.waiting_since.zip(deadline_ms);
        let expires = begun.map(|(since, ms)| since.saturating_add(i64::from(ms)));
        let left = expires.filter(|at| self.now.ms < *at);
        let is_near = begun.is_some_and(|(since, ms)| self.now.ms >= near(since, ms));
        let warns = left.is_some() && is_near && !self.next.flags.warned;
        self.next.flags.warned |= warns;
        match left {
            // There is nobody to be asked: what is awaited comes as a decision, or not at all.
            Some(expires) if step.probe_mode == ProbeMode::Redo => {
                self.next.wake_at = Some(expires);
            }
            _ => self.wait_expired(step),
        }
        (warns && !planted(Bug::DeadlineNotWarned)).then_some(DEADLINE_NEAR)
    }

    /// The saga's own time is nearly over.
    pub(super) fn warn_of_deadline(&mut self) -> Option<&'static str> {
        let is_near = self.now.ms >= warns_at(self.definition, &self.next);
        let left = self.now.ms < self.next.deadline;
        let warns = self.next.deadline_counts() && is_near && left && !self.next.flags.warned;
        self.next.flags.warned |= warns;
        warns.then_some(DEADLINE_NEAR)
    }

    fn wait_expired(&mut self, step: &'a StepDefinition) {
        match (step.probe_mode, &step.waiting) {
            // It may have happened without our hearing of it: ask once before undoing.
            (ProbeMode::Read, _) => {
                let looked = self.next.cursor.filter(|one| one.kind == StepKind::Probe);
                let looked = looked.filter(|one| self.waits_on(step) && one.attempt < LOOKS_MAX);
                let attempt = looked.map_or(1, |one| one.attempt + 1);
                self.command(step, StepKind::Probe, attempt, Budget::Fresh);
            }
            (ProbeMode::Redo, Some(waiting)) => self.compensate(waiting.expired.code()),
            (ProbeMode::Redo, None) => self.compensate(Refusal::StepFailed.code()),
        }
    }

    pub(super) fn end_wait(&mut self) {
        if let Some(since) = self.next.waiting_since.take() {
            let waited = self.now.ms.saturating_sub(since).max(0);
            self.next.deadline = self.next.deadline.saturating_add(waited);
            self.next.flags.warned = false;
        }
    }
}

/// When a saga's own deadline is near: whoever lets it be for longer has to wake it then, for it to be
/// warned.
#[must_use]
pub fn warns_at(definition: &Definition, saga: &Instance) -> TimestampMs {
    let begun = saga
        .deadline
        .saturating_sub(i64::from(definition.deadline_ms));
    near(begun, definition.deadline_ms)
}

/// When a deadline is near.
fn near(since: TimestampMs, deadline_ms: u32) -> TimestampMs {
    since.saturating_add(i64::from(deadline_ms) * NEAR_FIFTHS / 5)
}
