//! A transition in the making: what an input does to the state, move by move.

use super::{Illegal, InputKind, Log, Now, ReplyInput, Send, SignalKind, Transition};
use crate::{Class, Cursor, Definition, Instance, ProbeMode, State, StepDefinition, TimestampMs};
use contract::{
    Outcome, Refusal, StepKind, StepName, outage,
    planted::{self, Bug, planted},
};

/// A try that comes so much later than it was due was held back, and has the time that was left when it was
/// due. Recorded histories were decided by this number.
const LATE_MS: i64 = 5_000;

/// Whether a new phase begins (with time of its own) or the running one goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Budget {
    Fresh,
    Running,
}

pub(super) struct Draft<'a> {
    pub(super) definition: &'a Definition,
    pub(super) next: Instance,
    pub(super) now: Now,
    pub(super) send: Option<Send>,
}

impl<'a> Draft<'a> {
    pub(super) fn reply(&mut self, reply: &ReplyInput) -> Result<(), Illegal> {
        let cursor = match self.next.cursor {
            Some(cursor) if cursor.outstanding && self.is_current(reply.seq) => cursor,
            _ => return Err(Illegal::Stale),
        };
        let step = self.step_at(cursor)?;
        let code = reply.code.as_deref();
        match (cursor.kind, reply.outcome) {
            (StepKind::Undo, Outcome::Done) => self.undone(step),
            (StepKind::Undo, Outcome::Rejected) => self.undo_failed(step),
            (StepKind::Do | StepKind::Probe, Outcome::Done) => self.step_done(step),
            (StepKind::Do | StepKind::Probe, Outcome::Rejected) => self.step_rejected(step, code),
            (StepKind::Probe, Outcome::Waiting) if step.waiting.is_some() => {
                self.still_waits(step, cursor);
            }
            (StepKind::Do, Outcome::Waiting) if step.waiting.is_some() => self.wait(step),
            (StepKind::Do, Outcome::Unknown) => self.unknown(step, cursor, reply),
            // The command was too old to begin with: it proves nothing and burns no attempt.
            (_, Outcome::Retry) if code == Some("expired") && !self.budget_passed() => {
                let pause = step.do_policy.delay_ms(1, self.now.seed);
                self.pause(cursor, cursor.attempt, self.now.ms.saturating_add(pause));
            }
            // An undo or a probe that cannot tell is asked again; so is a step that says it waits
            // though its definition has nothing to wait for.
            (_, Outcome::Retry | Outcome::Unknown | Outcome::Waiting) => {
                self.retry(step, cursor, reply);
            }
        }
        Ok(())
    }

    /// Its time has come; a code, if there is something to say of it.
    pub(super) fn wake(&mut self) -> Result<Option<&'static str>, Illegal> {
        if self.next.wake_at.is_none_or(|at| self.now.ms < at) {
            return Err(Illegal::NotDue);
        }
        let cursor = self.next.cursor.ok_or(Illegal::NotDue)?;
        let step = self.step_at(cursor)?;
        if self.next.state == State::Waiting {
            return Ok(self.wake_in_wait(step));
        }
        let near = self.warn_of_deadline();
        if self.next.deadline_counts() && self.now.ms >= self.next.deadline {
            // A pivot between two tries, or held back, has no outcome to wait for: the next try would come
            // after the deadline. Its last try may have had its effect, unheard: the undo finds out.
            let undecided = cursor.outstanding || cursor.kind == StepKind::Probe;
            if self.next.pivot_maybe() && undecided {
                self.next
                    .reason
                    .get_or_insert_with(|| code(Refusal::DeadlineExceeded));
            } else {
                self.deadline_passed(step, cursor);
                return Ok(None);
            }
        }
        if !cursor.outstanding {
            let late = self.next.wake_at.map_or(0, |at| self.now.ms - at);
            self.give_back(late);
            self.command(step, cursor.kind, cursor.attempt, Budget::Running);
        } else if self.budget_passed() {
            self.exhausted(step, cursor, false);
        } else {
            self.resend(step, cursor);
        }
        Ok(near)
    }

    /// What was not out, and is tried so much later than it was due, was held back: that time was not the
    /// step's.
    pub(super) fn give_back(&mut self, late_ms: i64) {
        let late_ms = if late_ms >= LATE_MS { late_ms } else { 0 };
        self.next.budget_until = self.next.budget_until.map(|at| at.saturating_add(late_ms));
    }

    pub(super) fn signal(&mut self, number: u8, kind: SignalKind) -> Result<(), Illegal> {
        let step = self.definition.step(number).ok_or(Illegal::SignalLate)?;
        let cursor = self.next.cursor.ok_or(Illegal::SignalLate)?;
        match self.next.state {
            State::Waiting if cursor.step == number => {
                if kind == SignalKind::Nudge && planted(Bug::NudgeBelieved) {
                    self.step_done(step);
                    return Ok(());
                }
                let asks = match (kind, step.probe_mode) {
                    (SignalKind::Nudge, ProbeMode::Read) => StepKind::Probe,
                    (SignalKind::Decision, _) | (_, ProbeMode::Redo) => StepKind::Do,
                };
                self.command(step, asks, 1, Budget::Fresh);
                Ok(())
            }
            State::Running | State::Waiting if self.comes_later_or_now(cursor.step, number) => {
                Err(Illegal::SignalEarly)
            }
            _ => Err(Illegal::SignalLate),
        }
    }

    pub(super) fn end(&mut self, reason: &str) -> Result<(), Illegal> {
        if self.next.state == State::Compensating || self.next.reason.is_some() {
            return Err(Illegal::AlreadyEnding);
        }
        if self.next.pivot_done() {
            return Err(Illegal::PivotDone);
        }
        let outstanding = self.next.cursor.is_some_and(|cursor| cursor.outstanding);
        if self.next.pivot_maybe() && outstanding && !planted(Bug::EndOverridesPivot) {
            self.next.reason = Some(reason.to_owned()); // the pivot's outcome decides
        } else {
            self.compensate(reason);
        }
        Ok(())
    }

    // What a step's outcome leads to.

    pub(super) fn step_done(&mut self, step: &'a StepDefinition) {
        self.end_wait();
        self.next.done.insert(step.number);
        if planted(Bug::BitAtReply) {
            self.next.maybe_in_force.insert(step.number);
        }
        if step.class == Class::Pivot {
            self.next.reason = None; // an ending that waited is refused
            self.next.flags.warned = false;
        }
        match self.definition.after(step.number) {
            Some(after) => self.command(after, StepKind::Do, 1, Budget::Fresh),
            None => self.rest(State::Completed),
        }
    }

    fn step_rejected(&mut self, step: &'a StepDefinition, code: Option<&str>) {
        if step.class == Class::Retriable {
            // Nothing may be undone any more, and the refusal is recorded: a person decides.
            self.ask_for_attention();
            self.pause_for_a_person();
            return;
        }
        self.next.maybe_in_force.remove(step.number);
        self.next.done.remove(step.number);
        self.compensate(code.unwrap_or(Refusal::StepFailed.code()));
    }

    fn unknown(&mut self, step: &'a StepDefinition, cursor: Cursor, reply: &ReplyInput) {
        if step.class == Class::Retriable {
            self.retry(step, cursor, reply);
        } else if planted(Bug::UnknownIsFailure) {
            self.step_rejected(step, None);
        } else {
            self.spent(step, cursor, false);
        }
    }

    /// The tries are spent; the last of them may have had its effect. `away`: it was told that the
    /// outside is.
    fn exhausted(&mut self, step: &'a StepDefinition, cursor: Cursor, away: bool) {
        if planted(Bug::ExhaustedIsFailure) && cursor.kind == StepKind::Do {
            self.step_rejected(step, None);
        } else {
            self.spent(step, cursor, away);
        }
    }

    /// The phase is over without a definite outcome.
    fn spent(&mut self, step: &'a StepDefinition, cursor: Cursor, away: bool) {
        match cursor.kind {
            StepKind::Undo => self.undo_failed(step),
            StepKind::Do if self.next.reason.is_none() && !planted(Bug::ProbeSkipped) => {
                self.command(step, StepKind::Probe, 1, Budget::Fresh);
            }
            // It still waits, and nobody can be asked just now: that is no reason to end it.
            StepKind::Probe if self.waits_on(step) => self.look_again_later(step),
            // Still unknown, or an ending waits: undone from this step on.
            StepKind::Do | StepKind::Probe if away => self.compensate(of_an_outage(step)),
            StepKind::Do | StepKind::Probe => self.compensate(Refusal::StepFailed.code()),
        }
    }

    fn retry(&mut self, step: &'a StepDefinition, cursor: Cursor, reply: &ReplyInput) {
        if cursor.kind != StepKind::Undo && self.next.reason.is_some() {
            return self.compensate(Refusal::StepFailed.code());
        }
        let policy = match cursor.kind {
            StepKind::Do => &step.do_policy,
            StepKind::Probe => &step.probe_policy,
            StepKind::Undo => &step.undo_policy,
        };
        let asked = i64::from(reply.retry_after_ms.unwrap_or(0)).min(i64::from(policy.max_ms));
        let delay = policy.delay_ms(cursor.attempt, self.now.seed).max(asked);
        let at = self.now.ms.saturating_add(delay);
        let away = reply.code.as_deref().is_some_and(outage::says_away);
        if away && cursor.kind == StepKind::Do && self.now.open.contains(step.number) {
            // It costs neither a try nor the step's time; the saga's own deadline goes on.
            let anew = policy.budget_ms.map(|ms| at.saturating_add(i64::from(ms)));
            self.next.budget_until = self.next.budget_until.max(anew);
            return self.pause(cursor, cursor.attempt, at);
        }
        let in_time = self.next.budget_until.is_none_or(|until| at < until);
        if !in_time || !policy.allows_after(cursor.attempt) {
            return self.exhausted(step, cursor, away);
        }
        if step
            .attention_after
            .is_some_and(|most| cursor.attempt >= most)
        {
            self.ask_for_attention();
        }
        self.pause(cursor, cursor.attempt.saturating_add(1), at);
    }

    /// Nothing is out until `at`; then the command goes, as a new one.
    fn pause(&mut self, cursor: Cursor, attempt: i16, at: TimestampMs) {
        self.next.cursor = Some(Cursor {
            attempt,
            outstanding: false,
            ..cursor
        });
        self.next.resends = 0;
        self.next.wake_at = Some(self.no_later_than_deadline(at));
    }

    fn is_current(&self, seq: i32) -> bool {
        seq == self.next.seq || planted(Bug::ReplyToAnyCommand)
    }

    fn deadline_passed(&mut self, step: &StepDefinition, cursor: Cursor) {
        if planted(Bug::DeadlineKills) {
            self.rest(State::Compensated);
        } else if self.is_held_back(step, cursor) {
            self.compensate(of_an_outage(step));
        } else {
            self.compensate(Refusal::DeadlineExceeded.code());
        }
    }

    /// Its command is not out, and does not go out now: what the step needs outside is away.
    fn is_held_back(&self, step: &StepDefinition, cursor: Cursor) -> bool {
        let is_do = cursor.kind == StepKind::Do && !cursor.outstanding;
        is_do && self.now.open.contains(step.number)
    }

    // Commands and time.

    pub(super) fn command(
        &mut self,
        step: &'a StepDefinition,
        kind: StepKind,
        attempt: i16,
        budget: Budget,
    ) {
        let held_back = kind == StepKind::Do && self.now.open.contains(step.number);
        if !held_back {
            self.next.seq = self.next.seq.saturating_add(1);
        }
        self.next.resends = 0;
        self.next.cursor = Some(Cursor {
            step: step.number,
            kind,
            attempt,
            outstanding: !held_back,
        });
        let budget_ms = match kind {
            StepKind::Undo => step.undo_policy.budget_ms,
            StepKind::Probe => step.probe_policy.budget_ms,
            StepKind::Do => step.do_policy.budget_ms,
        };
        if kind == StepKind::Do && !planted(Bug::BitAtReply) {
            self.next.maybe_in_force.insert(step.number);
        }
        if kind != StepKind::Undo {
            self.next.state = State::Running;
        }
        if budget == Budget::Fresh {
            self.next.budget_until = budget_ms.map(|ms| self.now.ms.saturating_add(i64::from(ms)));
        }
        if held_back {
            // Due at once: whoever owns it lets it be until the breaker lets it through.
            self.next.wake_at = Some(self.now.ms.saturating_add(1));
        } else {
            self.await_answer(step, kind, attempt);
        }
    }

    fn resend(&mut self, step: &'a StepDefinition, cursor: Cursor) {
        self.next.resends = self.next.resends.saturating_add(1);
        self.await_answer(step, cursor.kind, cursor.attempt);
        self.send = self.send.filter(|_| !planted(Bug::NoResendWhenDue));
    }

    pub(super) fn await_answer(&mut self, step: &StepDefinition, kind: StepKind, attempt: i16) {
        let doublings = u32::try_from(self.next.resends).unwrap_or(0).min(16);
        let pause = i64::from(step.resend_ms) << doublings;
        let at = self.now.ms.saturating_add(pause);
        let at = self
            .next
            .budget_until
            .map_or(at, |until| at.min(until.max(self.now.ms + 1)));
        self.next.wake_at = Some(self.no_later_than_deadline(at));
        self.send = Some(Send::of(self.next.seq, step, kind, attempt));
    }

    fn no_later_than_deadline(&self, at: TimestampMs) -> TimestampMs {
        if self.next.deadline_counts() && self.next.deadline > self.now.ms {
            at.min(self.next.deadline)
        } else {
            at
        }
    }

    fn budget_passed(&self) -> bool {
        self.next
            .budget_until
            .is_some_and(|until| self.now.ms >= until)
    }

    pub(super) fn ask_for_attention(&mut self) {
        self.next.flags.attention = true;
        self.next.flagged_at.get_or_insert(self.now.ms);
    }

    fn pause_for_a_person(&mut self) {
        if let Some(cursor) = &mut self.next.cursor {
            cursor.outstanding = false;
        }
        self.next.wake_at = None;
        self.next.budget_until = None;
    }

    pub(super) fn rest(&mut self, end: State) {
        self.next.state = end;
        self.next.cursor = None;
        self.next.wake_at = None;
        self.next.budget_until = None;
        if end == State::Completed {
            self.next.flags.attention = false;
        }
    }

    fn comes_later_or_now(&self, current: u8, wanted: u8) -> bool {
        let position = |number| {
            self.definition
                .steps
                .iter()
                .position(|step| step.number == number)
        };
        position(current) <= position(wanted)
    }

    pub(super) fn step_at(&self, cursor: Cursor) -> Result<&'a StepDefinition, Illegal> {
        self.definition
            .step(cursor.step)
            .ok_or(Illegal::UnknownStep)
    }

    pub(super) fn finish(
        mut self,
        input: InputKind,
        cursor: Option<Cursor>,
        seq: i32,
        outcome: Option<Outcome>,
        code: Option<String>,
    ) -> Transition {
        self.next.rev = self.next.rev.saturating_add(1);
        debug_assert_eq!(
            crate::invariant::violated(self.definition, &self.next).filter(|_| !planted::any()),
            None
        );
        let (state, rev) = (self.next.state, self.next.rev);
        let log = Log {
            input,
            rev,
            seq,
            cursor,
            outcome,
            code,
            state,
            send: self.send,
        };
        Transition {
            next: self.next,
            send: self.send,
            log,
        }
    }
}

/// Why a saga ends whose step could not be done because its outside was away.
fn of_an_outage(step: &StepDefinition) -> &'static str {
    if StepName::OF_A_PAYMENT.contains(&step.name) {
        Refusal::PaymentUnavailable.code()
    } else {
        Refusal::StepFailed.code()
    }
}

fn code(refusal: Refusal) -> String {
    refusal.code().to_owned()
}
