//! Stopping a saga for a while, and letting it go on.
//!
//! A pause loses nothing, because nothing has to be remembered for it: a reply that comes meanwhile is
//! dropped, for its command is sent again after the pause and the worker repeats what it has recorded;
//! a signal or an ending is a row that stays open. The command's number does not change, so an effect
//! that is under way stays what the saga is at. All that measures time moves by the length of the pause.
//!
//! The race: a signal may be applied twice, by an owner that stalled before it could write, after another
//! one has applied it and the resume that followed. A pause that came again would stop the saga with
//! nobody knowing. So each says which row of the audit log it is, and the saga remembers the last one:
//! whatever is not younger was applied. And what is younger is always written, even if nothing changes:
//! an owner may not know that another one has paused the saga, and would lose the resume; the write finds
//! out.

use super::{Illegal, draft::Draft};
use contract::planted::{Bug, planted};

impl Draft<'_> {
    pub(super) fn pause_saga(&mut self, audit: i64) -> Result<(), Illegal> {
        if self.was_applied(audit) {
            return Err(Illegal::NothingToDo);
        }
        self.next.flags.paused = true;
        self.next.paused_at.get_or_insert(self.now.ms);
        self.next.pause_audit = Some(audit);
        Ok(())
    }

    pub(super) fn resume_saga(&mut self, audit: i64) -> Result<(), Illegal> {
        if self.was_applied(audit) {
            return Err(Illegal::NothingToDo);
        }
        self.next.pause_audit = Some(audit);
        let Some(since) = self.next.paused_at.take() else {
            return Ok(());
        };
        self.next.flags.paused = false;
        let by = self.now.ms.saturating_sub(since).max(0);
        let by = if planted(Bug::PauseTakesTime) { 0 } else { by };
        let later = |at: i64| at.saturating_add(by);
        self.next.deadline = self.next.deadline.saturating_add(by);
        self.next.budget_until = self.next.budget_until.map(later);
        self.next.waiting_since = self.next.waiting_since.map(later);
        let due = self.next.wake_at.map(later);
        // One that was due when it was paused is due at once.
        let soonest = self.now.ms.saturating_add(1);
        self.next.wake_at = due.map(|at| at.max(soonest));
        match self.next.cursor {
            Some(cursor) if cursor.outstanding => {
                // Its reply may have come during the pause, and was dropped.
                let step = self.step_at(cursor)?;
                self.await_answer(step, cursor.kind, cursor.attempt);
            }
            // Held back since it was due, until it was paused: the next try cannot see that any more.
            _ => self.give_back(due.map_or(0, |at| self.now.ms - at)),
        }
        Ok(())
    }

    fn was_applied(&self, audit: i64) -> bool {
        self.next.pause_audit.is_some_and(|last| audit <= last) && !planted(Bug::PauseComesAgain)
    }
}
