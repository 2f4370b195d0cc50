//! Undoing: in reverse order, whatever may be in force, and past what failed.

use super::draft::{Budget, Draft};
use crate::{State, StepDefinition, Steps};
use contract::{
    CODE_MAX_CHARS, StepKind,
    planted::{Bug, planted},
};

impl<'a> Draft<'a> {
    pub(super) fn compensate(&mut self, reason: &str) {
        self.end_wait();
        self.next.flags.warned = false;
        self.next.state = State::Compensating;
        self.next
            .reason
            .get_or_insert_with(|| reason.chars().take(CODE_MAX_CHARS).collect());
        self.undo_next();
    }

    pub(super) fn undo_next(&mut self) {
        let open = self.next.maybe_in_force.without(self.next.failed_undo);
        if let Some(last) = self.to_undo_first(open) {
            self.command(last, StepKind::Undo, 1, Budget::Fresh);
        } else if self.next.maybe_in_force.is_empty() {
            self.rest(State::Compensated);
        } else {
            self.ask_for_attention();
            self.next.cursor = None;
            self.next.wake_at = None;
            self.next.budget_until = None;
        }
    }

    /// Undos run in reverse order.
    fn to_undo_first(&self, open: Steps) -> Option<&'a StepDefinition> {
        if planted(Bug::UndoInOrder) {
            let mut steps = self.definition.steps.iter();
            return steps.find(|step| open.contains(step.number));
        }
        self.definition.last_of(open)
    }

    pub(super) fn undone(&mut self, step: &StepDefinition) {
        self.next.maybe_in_force.remove(step.number);
        self.next.done.remove(step.number);
        self.undo_next();
    }

    pub(super) fn undo_failed(&mut self, step: &StepDefinition) {
        self.next.failed_undo.insert(step.number);
        self.ask_for_attention();
        if planted(Bug::UndoStopsAtFailure) {
            self.next.cursor = None;
            self.next.wake_at = None;
            return;
        }
        self.undo_next();
    }
}
