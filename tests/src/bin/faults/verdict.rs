//! Whether a run fails the whole, and whether the whole is in time.
//!
//! Whoever builds shares his machine, and a recovery is a time: what is a little late there says more of the
//! machine than of Guichet, and is told only. A clear multiple does not come of that, and fails.

use crate::run::Outcome;
use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

/// So many times as long as it may take a recovery takes at most in the short selection.
const SHORT_PATIENCE: u32 = 2;
/// How long the short selection takes at most, without what is built before it.
pub(crate) const SHORT_WITHIN: Duration = Duration::from_secs(300);

/// Whether nothing was broken and everything came to rest.
pub(crate) fn kept(outcome: &Outcome) -> bool {
    outcome.violations.is_empty() && outcome.rest.is_some()
}

/// Whether it was all that, and recovered in time, of which so much was given; in the short selection more.
pub(crate) fn passes(outcome: &Outcome, recovery: Duration, short: bool) -> bool {
    let limit = if short {
        recovery * SHORT_PATIENCE
    } else {
        recovery
    };
    kept(outcome) && outcome.recovery.is_some_and(|took| took <= limit)
}

/// The time of a selection, and what took it.
pub(crate) struct Watch {
    began: Instant,
    within: Option<Duration>,
    took: Vec<(&'static str, Duration)>,
}

impl Watch {
    /// From now on; without a limit it is never over.
    pub(crate) fn start(within: Option<Duration>) -> Self {
        Self {
            began: Instant::now(),
            within,
            took: Vec::new(),
        }
    }

    /// A run of this fault took so long.
    pub(crate) fn took(&mut self, fault: &'static str, time: Duration) {
        self.took.push((fault, time));
    }

    /// What is left; nothing is none.
    pub(crate) fn left(&self) -> Option<Duration> {
        let within = self.within.unwrap_or(Duration::MAX);
        within
            .checked_sub(self.began.elapsed())
            .filter(|left| !left.is_zero())
    }

    /// What is said of it when the time was over before these were run: what took it, the longest first.
    pub(crate) fn told(&self, missing: &[&str]) -> String {
        let within = self.within.unwrap_or_default();
        let mut took = self.took.clone();
        took.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
        let mut told = format!("the selection takes longer than {} s:", within.as_secs());
        for (fault, time) in took {
            let _ = write!(told, " {fault} {} s,", time.as_secs());
        }
        match missing {
            [] => told += " and all were run",
            _ => {
                let _ = write!(told, " not run to the end: {}", missing.join(", "));
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Persons;
    use checker::Violation;
    use std::collections::BTreeSet;

    fn outcome(recovered_s: Option<u64>) -> Outcome {
        Outcome {
            seen: String::new(),
            slowest: None,
            recovery: recovered_s.map(Duration::from_secs),
            sold: None,
            rest: Some(Duration::from_secs(100)),
            violations: Vec::new(),
            orders: 1,
            persons: Persons::default(),
            stained: false,
            reached: BTreeSet::new(),
        }
    }

    #[test]
    fn a_late_recovery_fails_and_in_the_short_selection_a_clear_multiple() {
        let limit = Duration::from_secs(10);
        let passing = |took, short| passes(&outcome(took), limit, short);
        assert!(passing(Some(10), false) && passing(Some(10), true));
        assert!(!passing(Some(11), false) && passing(Some(20), true));
        assert!(!passing(Some(21), true));
        assert!(!passing(None, false) && !passing(None, true));
    }

    #[test]
    fn a_broken_promise_and_what_never_rests_fail_everywhere() {
        let violation = Violation {
            promise: "no-oversell",
            subject: String::new(),
            detail: String::new(),
        };
        let broken = Outcome {
            violations: vec![violation],
            ..outcome(Some(1))
        };
        let restless = Outcome {
            rest: None,
            ..outcome(Some(1))
        };
        for short in [false, true] {
            for one in [&broken, &restless] {
                assert!(!passes(one, Duration::from_secs(10), short));
            }
        }
    }

    #[test]
    fn what_took_too_long_is_told_the_longest_first() {
        let mut watch = Watch::start(Some(Duration::ZERO));
        assert_eq!(watch.left(), None);
        watch.took("calm", Duration::from_secs(15));
        watch.took("kill-all", Duration::from_secs(290));
        let told = watch.told(&["kill-worker", "broker-kill"]);
        let expected = "the selection takes longer than 0 s: kill-all 290 s, calm 15 s, not run to the end: \
                        kill-worker, broker-kill";
        assert_eq!(told, expected);
        assert!(Watch::start(None).left().is_some());
        assert!(Watch::start(Some(SHORT_WITHIN)).left().is_some());
    }
}
