//! What a person may do to a saga that asks for one.
//!
//! A failed undo stops nothing else: the other undos have run or are running. What is left is for a
//! person, who tries it once more, or has dealt with it elsewhere and says so, or, together with a
//! second person, gives it up; or he corrects what the step was given, and has that step alone tried
//! again: what was refused for this input need not be for another one. None of this is possible before the saga asks for it, so none of it is a
//! way around an undo. Only a pause is possible whatever it is at ([`super::pause`]).

use super::{Action, Illegal, draft::Budget, draft::Draft};
use crate::{Class, State, StepDefinition};
use contract::StepKind;

impl<'a> Draft<'a> {
    pub(super) fn act(&mut self, action: &Action) -> Result<(), Illegal> {
        let asks = self.next.flags.attention;
        match action {
            Action::Pause { audit } => self.pause_saga(*audit),
            Action::Resume { audit } => self.resume_saga(*audit),
            _ if !asks => Err(Illegal::NothingToDo),
            Action::Retry => self.try_again(),
            Action::Correct { step } => self.correct(*step),
            Action::Resolve { step } => self.resolve(*step),
            Action::Abandon { approver } => self.abandon(approver),
        }
    }

    fn try_again(&mut self) -> Result<(), Illegal> {
        if self.next.state == State::Compensating {
            if self.next.failed_undo.is_empty() {
                return Err(Illegal::NothingToDo);
            }
            self.next.failed_undo = crate::Steps::default();
            self.attended();
            // An undo that is under way ends first; what failed before it follows.
            if self.next.cursor.is_none() {
                self.undo_next();
            }
            return Ok(());
        }
        let cursor = self.next.cursor.ok_or(Illegal::NothingToDo)?;
        // Under way; or refused for good, which the worker would only repeat.
        if cursor.outstanding || self.next.wake_at.is_none() {
            return Err(Illegal::NothingToDo);
        }
        let step = self.step_at(cursor)?;
        self.attended();
        self.command(step, StepKind::Do, 1, Budget::Fresh);
        Ok(())
    }

    /// A correction that is told twice does no harm: the ledger opens a refusal once for each.
    fn correct(&mut self, number: u8) -> Result<(), Illegal> {
        if self.next.failed_undo.contains(number) {
            self.next.failed_undo.remove(number);
            if self.next.failed_undo.is_empty() {
                self.attended();
            }
            // An undo that is under way ends first.
            if self.next.cursor.is_none() {
                self.undo_next();
            }
            return Ok(());
        }
        let step = self.retriable_at_rest(number)?;
        self.attended();
        self.command(step, StepKind::Do, 1, Budget::Fresh);
        Ok(())
    }

    /// The step after the pivot that the saga is at, if it is this one and nothing of it is under way.
    fn retriable_at_rest(&self, number: u8) -> Result<&'a StepDefinition, Illegal> {
        let cursor = self.next.cursor.ok_or(Illegal::NothingToDo)?;
        let step = self.step_at(cursor)?;
        if cursor.step != number || step.class != Class::Retriable || cursor.outstanding {
            return Err(Illegal::NothingToDo);
        }
        Ok(step)
    }

    /// Its effect is dealt with elsewhere, and somebody has evidence of it.
    fn resolve(&mut self, number: u8) -> Result<(), Illegal> {
        if self.next.failed_undo.contains(number) {
            self.next.failed_undo.remove(number);
            self.next.maybe_in_force.remove(number);
            self.next.done.remove(number);
            if self.next.failed_undo.is_empty() {
                self.attended();
            }
            if self.next.cursor.is_none() {
                self.undo_next();
            }
            return Ok(());
        }
        let step = self.retriable_at_rest(number)?;
        self.attended();
        self.step_done(step);
        Ok(())
    }

    fn abandon(&mut self, approver: &str) -> Result<(), Illegal> {
        // Undos that are still under way may yet succeed.
        if self.next.failed_undo.is_empty() || self.next.cursor.is_some() {
            return Err(Illegal::NothingToDo);
        }
        self.next.approver = Some(approver.to_owned());
        self.attended();
        self.rest(State::Abandoned);
        Ok(())
    }

    fn attended(&mut self) {
        self.next.flags.attention = false;
        if !self.next.flags.held {
            self.next.flagged_at = None;
        }
    }
}
