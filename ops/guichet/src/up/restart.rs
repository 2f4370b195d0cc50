//! When a process that ended is started again: the decision, without any process.

use std::time::Duration;

/// The wait before the first restart; it doubles with each failure in a row.
const FIRST_DELAY: Duration = Duration::from_millis(200);
/// The longest wait between two starts.
const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// A life this long shows that the process works: the next restart is quick again.
const GOOD_LIFE: Duration = Duration::from_secs(60);

/// One life of a process, as its keeper saw it end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    /// Whether this or an earlier life of the same process became ready.
    pub(crate) ever_ready: bool,
    /// How long this life lasted.
    pub(crate) lasted: Duration,
    /// How many lives in a row ended before this one without lasting [`GOOD_LIFE`].
    pub(crate) failures: u32,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It never worked: a failed start, which waiting does not mend.
    GiveUp,
    /// Start it again after `delay`; `failures` belongs into the next [`Life`].
    Restart { delay: Duration, failures: u32 },
}

/// Decides what follows after a life ended by itself.
///
/// What has worked once is started again for as long as we live: it may be waiting for something
/// that comes back. What has never worked is a mistake of the configuration or the machine, and
/// the person at the terminal wants to hear it at once.
pub(crate) fn after(life: Life) -> Verdict {
    if !life.ever_ready {
        return Verdict::GiveUp;
    }
    let failures = if life.lasted >= GOOD_LIFE {
        0
    } else {
        life.failures
    };
    let delay = FIRST_DELAY
        .saturating_mul(2_u32.saturating_pow(failures))
        .min(LONGEST_DELAY);
    Verdict::Restart {
        delay,
        failures: failures.saturating_add(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crashing(failures: u32) -> Life {
        Life {
            ever_ready: true,
            lasted: Duration::from_secs(1),
            failures,
        }
    }

    #[test]
    fn a_start_that_never_worked_is_given_up() {
        let life = Life {
            ever_ready: false,
            ..crashing(0)
        };
        assert_eq!(after(life), Verdict::GiveUp);
    }

    #[test]
    fn a_crash_loop_waits_longer_each_time_up_to_the_bound() {
        let mut failures = 0;
        let mut delays_ms = Vec::new();
        for _ in 0..9 {
            let Verdict::Restart { delay, failures: f } = after(crashing(failures)) else {
                panic!("what was ready once is always restarted");
            };
            delays_ms.push(delay.as_millis());
            failures = f;
        }
        assert_eq!(
            delays_ms,
            [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000]
        );
    }

    #[test]
    fn a_good_life_forgives_the_earlier_failures() {
        let life = Life {
            lasted: GOOD_LIFE,
            ..crashing(30)
        };
        assert_eq!(
            after(life),
            Verdict::Restart {
                delay: FIRST_DELAY,
                failures: 1
            }
        );
    }

    #[test]
    fn the_wait_never_overflows() {
        assert!(matches!(
            after(crashing(u32::MAX)),
            Verdict::Restart {
                delay: LONGEST_DELAY,
                failures: u32::MAX
            }
        ));
    }
}
