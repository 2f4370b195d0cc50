//! When a step's outside is away, and what is sent to it meanwhile.
//!
//! A payment provider that is down answers nothing but "not now", to thousands of sagas at once, each of
//! which would use up its tries and its time on it and then be undone, for nothing. So whoever owns sagas
//! listens to what the steps answer. Once several sagas in a row heard that the outside is away, the
//! step's breaker opens: no `do` is sent to it, tries are not counted, and time does not pass for the
//! step (only for the saga as a whole). Every few seconds a few are let through; the first good answer
//! closes the breaker. The pause does not grow: a few commands cost an outside that is away nothing, and
//! what waits for it would go on to wait for as long as the last pause after it is back.
//!
//! Undos and probes are never held back: they are what makes an order definite, they are few, and their
//! own pauses space them out.
//!
//! A breaker is what one process has heard. It is not stored: another owner hears for himself, at the
//! price of a few commands.

use crate::{Steps, TimestampMs};
use contract::{
    Outcome, SagaId, outage,
    planted::{Bug, planted},
};
use std::collections::BTreeMap;

/// So many answers in a row that the outside is away open a breaker …
pub const OPENS_AFTER: usize = 5;
/// … if they are to so many different sagas …
pub const OPENS_AFTER_SAGAS: usize = 3;
/// … and come within this time.
pub const WINDOW_MS: i64 = 30_000;
/// For so long nothing is sent, each time.
pub const COOL_DOWN_MS: i64 = 2_000;
/// So many commands are let through after each of these times.
pub const TRIALS: u8 = 2;

/// The breakers of all steps.
#[derive(Clone, Debug, Default)]
pub struct Breakers {
    of: BTreeMap<u8, Breaker>,
}

/// What an answer did to its step's breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// It opened: nothing is sent for a while.
    Opened,
    /// It closed: everything is sent again.
    Closed,
}

#[derive(Clone, Debug)]
enum Breaker {
    /// Closed, with the last answers in a row that the outside is away.
    Closed(Vec<(TimestampMs, SagaId)>),
    Open(Open),
}

#[derive(Clone, Copy, Debug)]
struct Open {
    since: TimestampMs,
    /// Nothing is sent before; then a few.
    until: TimestampMs,
    /// How many more are let through now.
    trials: u8,
    /// One of those that were let through has heard that it was in vain.
    in_vain: bool,
}

impl Breakers {
    /// Notes what a `do` of a saga was answered.
    pub fn heard(
        &mut self,
        step: u8,
        saga: SagaId,
        outcome: Outcome,
        code: Option<&str>,
        now: TimestampMs,
    ) -> Option<Turned> {
        let away = match outcome {
            Outcome::Done | Outcome::Rejected | Outcome::Waiting => false,
            Outcome::Retry if code.is_some_and(outage::says_away) => true,
            Outcome::Retry | Outcome::Unknown => return None,
        };
        if !away {
            let before = self.of.remove(&step);
            return matches!(before, Some(Breaker::Open(_))).then_some(Turned::Closed);
        }
        let breaker = self.of.entry(step).or_insert(Breaker::Closed(Vec::new()));
        match breaker {
            Breaker::Closed(heard) => {
                heard.retain(|(at, _)| now.saturating_sub(*at) < WINDOW_MS);
                heard.push((now, saga));
                let mut sagas: Vec<SagaId> = heard.iter().map(|(_, saga)| *saga).collect();
                sagas.sort_unstable();
                sagas.dedup();
                if heard.len() < OPENS_AFTER || sagas.len() < OPENS_AFTER_SAGAS {
                    // No more than tell how many there were.
                    let oldest = heard.len().saturating_sub(OPENS_AFTER * OPENS_AFTER_SAGAS);
                    heard.drain(..oldest);
                    return None;
                }
                *breaker = Breaker::Open(Open {
                    since: now,
                    until: now.saturating_add(COOL_DOWN_MS),
                    trials: 0,
                    in_vain: true,
                });
                Some(Turned::Opened)
            }
            Breaker::Open(open) => {
                // Of those that were let through together only the first counts, and none that was
                // sent before.
                if !open.in_vain {
                    open.until = now.saturating_add(COOL_DOWN_MS);
                    open.trials = 0;
                    open.in_vain = true;
                }
                None
            }
        }
    }

    /// The steps to which nothing is sent.
    #[must_use]
    pub fn open(&self) -> Steps {
        let open = |(step, breaker): (&u8, &Breaker)| match breaker {
            Breaker::Open(_) => Some(*step),
            Breaker::Closed(_) => None,
        };
        self.of.iter().filter_map(open).collect()
    }

    /// Since when nothing is sent to a step.
    #[must_use]
    pub fn open_since(&self, step: u8) -> Option<TimestampMs> {
        self.of_open(step).map(|open| open.since)
    }

    /// Until when nothing at all is sent to a step; after that, a few.
    #[must_use]
    pub fn open_until(&self, step: u8) -> Option<TimestampMs> {
        self.of_open(step).map(|open| open.until)
    }

    fn of_open(&self, step: u8) -> Option<Open> {
        match self.of.get(&step)? {
            Breaker::Open(open) => Some(*open),
            Breaker::Closed(_) => None,
        }
    }

    /// Whether a command may be let through to see whether the outside is back; then it has to be sent.
    pub fn may_try(&mut self, step: u8, now: TimestampMs) -> bool {
        let Some(Breaker::Open(open)) = self.of.get_mut(&step) else {
            return true;
        };
        // The clock may have been set back.
        if now >= open.until || open.until.saturating_sub(now) > COOL_DOWN_MS {
            // Should nothing be heard of these, a few others follow.
            open.until = now.saturating_add(COOL_DOWN_MS);
            open.trials = TRIALS;
            open.in_vain = false;
        }
        let may = open.trials > 0 && !planted(Bug::BreakerNeverTries);
        open.trials = open.trials.saturating_sub(1);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saga(n: u128) -> SagaId {
        SagaId(uuid::Uuid::from_u128(n))
    }

    fn away(breakers: &mut Breakers, n: u128, now: TimestampMs) -> Option<Turned> {
        let code = Some("provider_unreachable");
        breakers.heard(2, saga(n), Outcome::Retry, code, now)
    }

    fn opened_at(now: TimestampMs) -> Breakers {
        let mut breakers = Breakers::default();
        for n in 0..4 {
            assert_eq!(away(&mut breakers, n, now), None);
        }
        assert_eq!(away(&mut breakers, 4, now), Some(Turned::Opened));
        breakers
    }

    #[test]
    fn it_takes_several_answers_to_several_sagas_in_a_row_and_within_the_window() {
        assert_eq!(opened_at(7).open(), [2].into_iter().collect());
        let mut one_saga = Breakers::default();
        for n in 0..100 {
            assert_eq!(away(&mut one_saga, 1, n), None, "one saga, often");
        }
        let mut slowly = Breakers::default();
        for n in 0..100 {
            let at = i64::try_from(n).expect("small") * WINDOW_MS / 4;
            assert_eq!(away(&mut slowly, n, at), None, "not within the window");
        }
        let mut mixed = Breakers::default();
        for n in 0..100 {
            assert_eq!(away(&mut mixed, n, 0), None);
            if n % 4 == 3 {
                mixed.heard(2, saga(n), Outcome::Rejected, Some("card_declined"), 0);
            }
        }
        let mut other = Breakers::default();
        for n in 0..100 {
            for (outcome, code) in [
                (Outcome::Retry, Some("provider_busy")),
                (Outcome::Retry, None),
                (Outcome::Unknown, Some("provider_unreachable")),
            ] {
                assert_eq!(other.heard(2, saga(n), outcome, code, 0), None);
            }
        }
        assert!(other.open().is_empty() && mixed.open().is_empty());
    }

    #[test]
    fn a_few_are_let_through_after_each_cool_down_which_does_not_grow() {
        let mut breakers = opened_at(0);
        let mut now = 0;
        for _ in 0..10 {
            assert_eq!(breakers.open_until(2), Some(now + COOL_DOWN_MS));
            assert!(!breakers.may_try(2, now + COOL_DOWN_MS - 1));
            now += COOL_DOWN_MS;
            let tried = (0..50).filter(|_| breakers.may_try(2, now)).count();
            assert_eq!(tried, usize::from(TRIALS));
            now += 10;
            for n in 0..3 {
                assert_eq!(away(&mut breakers, n, now), None, "it stays open");
            }
        }
        assert_eq!(breakers.open_since(2), Some(0));
    }

    #[test]
    fn others_follow_when_nothing_is_heard_of_those_let_through() {
        let mut breakers = opened_at(0);
        assert!(breakers.may_try(2, COOL_DOWN_MS));
        assert!(breakers.may_try(2, COOL_DOWN_MS));
        assert!(!breakers.may_try(2, 2 * COOL_DOWN_MS - 1));
        assert!(breakers.may_try(2, 2 * COOL_DOWN_MS));
    }

    #[test]
    fn the_first_good_answer_closes_it_and_it_begins_anew() {
        for outcome in [Outcome::Done, Outcome::Rejected, Outcome::Waiting] {
            let mut breakers = opened_at(0);
            let turned = breakers.heard(2, saga(9), outcome, None, 50);
            assert_eq!(turned, Some(Turned::Closed));
            assert!(breakers.open().is_empty() && breakers.may_try(2, 50));
            assert_eq!(away(&mut breakers, 1, 51), None);
            assert_eq!(breakers.heard(2, saga(9), outcome, None, 52), None);
        }
    }

    #[test]
    fn steps_do_not_know_of_each_other() {
        let mut breakers = opened_at(0);
        assert!(breakers.may_try(3, 0) && breakers.open_since(3).is_none());
        breakers.heard(3, saga(1), Outcome::Done, None, 0);
        assert_eq!(breakers.open(), [2].into_iter().collect());
    }
}
