//! When a command is sent again, and when its silence is no reason to.
//!
//! A command without an answer was lost, or is still in a queue. Sending it again helps against the
//! first and feeds the second: under overload every queue is longer than every patience, and each copy
//! makes it longer still. So whoever is about to send again looks at how old the answers were that came
//! lately: if they are about as old as the silence, it is the backlog that is late, and waiting is all
//! there is to do. A command is then late, not lost.
//!
//! How old an answer is counts from when its command was sent last. Counted from its decision, a command
//! that was lost and sent again would come back as old as the loss was long, look like a backlog, and keep
//! the others that were lost with it from being sent again: one after the other they would wait out their
//! whole time. Of a command that was sent twice it is not known which sending was answered, so this age may
//! be less than the backlog's; it is never more.

use crate::{Definition, Instance, Send, TimestampMs};
use contract::StepKind;
use std::collections::HashMap;

/// How old the commands were whose answers came last, by step and kind.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    last: HashMap<(u8, StepKind), Answer>,
}

#[derive(Clone, Copy, Debug)]
struct Answer {
    age_ms: i64,
    at: TimestampMs,
}

impl Answers {
    /// Notes the answer to a command that was last sent `age_ms` ago.
    pub fn heard(&mut self, step: u8, kind: StepKind, age_ms: i64, now: TimestampMs) {
        let answer = Answer { age_ms, at: now };
        self.last.insert((step, kind), answer);
    }

    /// The clock was set by so much.
    pub fn leapt(&mut self, by_ms: i64) {
        for answer in self.last.values_mut() {
            answer.at = answer.at.saturating_add(by_ms);
        }
    }

    /// For how long, in milliseconds, a saga's command is not sent again although it is due, because
    /// the backlog explains its silence. `None`: it is to be woken. Never past the end of its time.
    /// `sent_at` is when the command was sent last, if this process knows.
    #[must_use]
    pub fn explain_silence(
        &self,
        definition: &Definition,
        saga: &Instance,
        sent_at: Option<TimestampMs>,
        now: TimestampMs,
    ) -> Option<i64> {
        let cursor = saga.cursor.filter(|cursor| cursor.outstanding)?;
        let patience = i64::from(definition.step(cursor.step)?.resend_ms);
        let deadline = saga.deadline_counts().then_some(saga.deadline);
        let until = [saga.budget_until, deadline].into_iter().flatten().min();
        let left = until.map_or(patience, |until| until.saturating_sub(now));
        let answer = *self.last.get(&(cursor.step, cursor.kind))?;
        let lately = now.saturating_sub(answer.at) < patience;
        let silence = now.saturating_sub(sent_at?);
        let queue_is_long = answer.age_ms > patience / 2;
        let explained = silence < answer.age_ms.saturating_mul(2);
        (left > 0 && lately && queue_is_long && explained).then_some(patience.min(left))
    }
}

/// The command that a saga is at, to be sent again; `None` if none is out.
#[must_use]
pub fn current(definition: &Definition, saga: &Instance) -> Option<Send> {
    let cursor = saga.cursor.filter(|cursor| cursor.outstanding)?;
    let step = definition.step(cursor.step)?;
    Some(Send::of(saga.seq, step, cursor.kind, cursor.attempt))
}

/// A saga with a command out for which nothing could be done since `since`: there was no broker, or no owner.
/// That time was not the step's. It has as much left as it had then, and at least that of one answer; and
/// since its command goes again now, it is not due before that one is late. The saga's own time has gone on.
/// Where its row is of a clock that was ahead of this one, there was no such time; but it is not waited for
/// longer than for what goes now. `None`: nothing changes.
#[must_use]
pub fn after_silence(
    definition: &Definition,
    saga: &Instance,
    since: TimestampMs,
    now: TimestampMs,
) -> Option<Instance> {
    let cursor = saga.cursor.filter(|cursor| cursor.outstanding)?;
    let patience = i64::from(definition.step(cursor.step)?.resend_ms);
    // The time of a pause is given when it ends.
    let until = saga.paused_at.map_or(now, |at| at.min(now));
    let by = until.saturating_sub(since);
    let doublings = u32::try_from(saga.resends).unwrap_or(0).min(16);
    let late = now.saturating_add(patience << doublings);
    if by <= 0 {
        let is_later = saga.paused_at.is_none() && saga.wake_at.is_some_and(|at| at > late);
        let wake_at = Some(late);
        return is_later.then(|| Instance {
            wake_at,
            ..saga.clone()
        });
    }
    let deadline = match saga.deadline_counts() {
        true => saga.deadline,
        false => i64::MAX,
    };
    let mut next = saga.clone();
    let one_answer = now.saturating_add(patience);
    let longer = |at: TimestampMs| at.saturating_add(by).max(one_answer);
    next.budget_until = saga.budget_until.map(longer);
    let latest = next.budget_until.unwrap_or(i64::MAX).min(deadline);
    next.wake_at = saga.wake_at.map(|at| at.max(late).min(latest));
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Now, order, start};
    use contract::SagaId;

    const PATIENCE: i64 = 5_000;

    fn begun() -> (Definition, Instance) {
        let definition = order::v1();
        let now = Now::new(0, 1);
        let saga = start(&definition, SagaId(uuid::Uuid::from_u128(7)), 1, now).next;
        (definition, saga)
    }

    #[test]
    fn silence_is_explained_by_answers_as_old_and_by_nothing_else() {
        let (definition, saga) = begun();
        let explain = |age_ms, at, sent_at, now| {
            let mut answers = Answers::default();
            answers.heard(0, StepKind::Do, age_ms, at);
            answers.explain_silence(&definition, &saga, sent_at, now)
        };
        assert_eq!(explain(4_000, 4_900, Some(0), 5_000), Some(PATIENCE));
        assert_eq!(explain(2_000, 4_900, Some(0), 5_000), None, "a short queue");
        assert_eq!(explain(4_000, 0, Some(0), 5_000), None, "no news");
        assert_eq!(explain(4_000, 7_900, Some(0), 8_000), None, "too long");
        assert_eq!(explain(4_000, 4_900, None, 5_000), None, "unknown since");
        let budget = saga.budget_until.expect("a budget");
        assert_eq!(explain(40_000, budget - 1, Some(0), budget), None, "over");
        assert_eq!(explain(40_000, budget - 1, Some(0), budget - 1), Some(1));
        let none = Answers::default().explain_silence(&definition, &saga, Some(0), 5_000);
        assert_eq!(none, None, "no answers at all");
    }

    /// Another server may have taken over whose clock is behind, and nobody who knew the old one is left.
    #[test]
    fn a_row_of_a_clock_that_was_ahead_is_not_waited_for() {
        let (definition, saga) = begun();
        let ahead = Instance {
            wake_at: Some(125_000),
            ..saga
        };
        let next = after_silence(&definition, &ahead, 125_000, 1_000).expect("it is sent now");
        assert_eq!(next.wake_at, Some(1_000 + PATIENCE));
        assert_eq!(next.budget_until, ahead.budget_until);
        let soon = Instance {
            wake_at: Some(4_000),
            ..ahead
        };
        assert_eq!(after_silence(&definition, &soon, 4_000, 1_000), None);
    }

    /// A customer at his bank may take longer than the whole saga has.
    #[test]
    fn the_deadline_of_a_saga_whose_time_stands_still_is_not_the_end_of_it() {
        let (definition, mut saga) = begun();
        let now = saga.deadline + 60_000;
        saga.budget_until = None;
        let mut answers = Answers::default();
        answers.heard(0, StepKind::Do, 4_000, now);
        let explained =
            |saga: &Instance| answers.explain_silence(&definition, saga, Some(now - PATIENCE), now);
        assert_eq!(explained(&saga), None, "its time is over");
        saga.waiting_since = Some(0);
        assert_eq!(explained(&saga), Some(PATIENCE));
    }

    #[test]
    fn answers_to_another_step_or_kind_explain_nothing() {
        let (definition, saga) = begun();
        let mut answers = Answers::default();
        answers.heard(1, StepKind::Do, 9_000, 4_900);
        answers.heard(0, StepKind::Undo, 9_000, 4_900);
        assert_eq!(
            answers.explain_silence(&definition, &saga, Some(0), 5_000),
            None
        );
    }

    #[test]
    fn only_an_outstanding_command_is_current_and_a_redo_probe_is_a_do() {
        let (definition, mut saga) = begun();
        let cursor = saga.cursor.as_mut().expect("at reserve");
        cursor.kind = StepKind::Probe;
        let sent = current(&definition, &saga).expect("a command");
        assert_eq!((sent.kind, sent.step, sent.seq), (StepKind::Do, 0, 1));
        assert!(sent.redo, "by the queue of probes");
        saga.cursor.as_mut().expect("at reserve").outstanding = false;
        assert_eq!(current(&definition, &saga), None);
    }
}
