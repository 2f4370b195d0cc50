//! What a fault is, and the list of all.

use crate::{catalogue, run::Run, stage::Setting};
use anyhow::Result;
use checker::Excused;
use std::{future::Future, pin::Pin, time::Duration};

/// How long a recovery may take after the fault's end.
const RECOVERY: Duration = Duration::from_secs(10);
/// The same where a lease had to expire.
const RECOVERY_AFTER_LEASE: Duration = Duration::from_secs(20);

/// What lasts so long outlasts a lease (9 s) and one round of looking after it, the broker's heartbeat (10 s), and
/// the time that an answer of the provider's, of the mail server or to a customer may take: each of them has run out.
pub(crate) const OUTLASTS_LEASES: Duration = Duration::from_secs(15);
/// And so long a statement of the database, which has 15 s there and 5 s more until its answer is given up.
pub(crate) const OUTLASTS_STATEMENTS: Duration = Duration::from_secs(24);
/// A fault of minutes is a matter of patience: orders wait for its end.
const LONG: Duration = Duration::from_secs(60);

type Doing<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;
type Seeing<'a> = Pin<Box<dyn Future<Output = Result<String>> + 'a>>;

/// Something that is done to the stage, or taken back.
pub(crate) type Act = for<'a> fn(&'a mut Run) -> Doing<'a>;

/// Looks for what the fault did, in a few words; an error if it did nothing. A run in which nothing
/// happened proves nothing, and counts as failed.
pub(crate) type Look = for<'a> fn(&'a mut Run) -> Seeing<'a>;

/// One fault.
#[derive(Clone, Copy)]
pub(crate) struct Fault {
    /// What it is called.
    pub(crate) name: &'static str,
    /// What should be true whatever it does.
    pub(crate) hypothesis: &'static str,
    /// Brings it about, while customers come.
    pub(crate) inject: Act,
    /// What is seen of it just before it ends.
    pub(crate) seen: Look,
    /// Ends it.
    pub(crate) heal: Act,
    /// How long it lasts, if not a part of the time for which customers come.
    pub(crate) lasts: Option<Duration>,
    /// Whether it is over as soon as it was brought about: there is nothing to hold or to heal.
    pub(crate) at_once: bool,
    /// Whether a lease has to expire before somebody else goes on.
    pub(crate) lease: bool,
    /// Whether it is one of the short selection.
    pub(crate) ci: bool,
    /// What the stage has to be.
    pub(crate) setting: Setting,
    /// Whether nobody else does anything meanwhile: no operator stops orders for a while.
    pub(crate) undisturbed: bool,
    /// What has to be true of it once everything is at rest.
    pub(crate) after: Option<Look>,
    /// Whether a server that ends by itself after it is started again, as by a supervisor.
    pub(crate) supervised: bool,
    /// Whether it leaves the stage so that no other run can begin on it.
    pub(crate) spoils: bool,
    /// What it may leave behind beside orders with a good end: nothing, unless it says so here.
    pub(crate) excused: Excused,
}

impl Fault {
    pub(crate) const fn new(
        name: &'static str,
        hypothesis: &'static str,
        inject: Act,
        seen: Look,
        heal: Act,
    ) -> Self {
        Self {
            name,
            hypothesis,
            inject,
            seen,
            heal,
            lasts: None,
            at_once: false,
            lease: false,
            ci: false,
            setting: Setting::USUAL,
            undisturbed: false,
            after: None,
            supervised: false,
            spoils: false,
            excused: Excused {
                late: false,
                spent: false,
            },
        }
    }

    pub(crate) const fn ci(self) -> Self {
        Self { ci: true, ..self }
    }

    pub(crate) const fn lease(self) -> Self {
        Self {
            lease: true,
            ..self
        }
    }

    pub(crate) const fn lasting(self, time: Duration) -> Self {
        Self {
            lasts: Some(time),
            ..self
        }
    }

    pub(crate) const fn at_once(self) -> Self {
        Self {
            at_once: true,
            ..self
        }
    }

    pub(crate) const fn undisturbed(self) -> Self {
        Self {
            undisturbed: true,
            ..self
        }
    }

    pub(crate) const fn supervised(self) -> Self {
        Self {
            supervised: true,
            ..self
        }
    }

    pub(crate) const fn spoils(self) -> Self {
        Self {
            spoils: true,
            ..self
        }
    }

    pub(crate) const fn then(self, after: Look) -> Self {
        Self {
            after: Some(after),
            ..self
        }
    }

    /// It lasts longer than an order may take.
    pub(crate) const fn late(self) -> Self {
        let excused = Excused {
            late: true,
            spent: false,
        };
        Self { excused, ..self }
    }

    pub(crate) const fn on(self, setting: Setting) -> Self {
        Self { setting, ..self }
    }

    /// Whether it lasts for minutes.
    pub(crate) fn is_long(&self) -> bool {
        self.lasts.is_some_and(|time| time >= LONG)
    }

    /// Which of two gateways the provider tells what happens, in a run of this seed: of half of all faults the one,
    /// with the next seed the other, so that neither hides what the other misses.
    pub(crate) fn told(&self, seed: u64) -> usize {
        let letters = self.name.bytes().map(u64::from).sum::<u64>();
        usize::from(!(letters + seed).is_multiple_of(2))
    }

    /// How long its recovery may take.
    pub(crate) fn recovery(&self) -> Duration {
        if self.lease {
            RECOVERY_AFTER_LEASE
        } else {
            RECOVERY
        }
    }
}

/// All of them, in the order in which they are run.
pub(crate) fn all() -> Vec<Fault> {
    [
        catalogue::roles::FAULTS,
        catalogue::servers::FAULTS,
        catalogue::network::FAULTS,
        catalogue::pairs::FAULTS,
        catalogue::pairs::OWNERS,
        catalogue::pairs::COMMITS,
        catalogue::messages::FAULTS,
        catalogue::provider::FAULTS,
        catalogue::crowd::FAULTS,
        catalogue::clocks::FAULTS,
        catalogue::special::FAULTS,
        catalogue::paths::FAULTS,
        catalogue::people::FAULTS,
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_has_a_name_of_its_own_and_says_what_should_be_true() {
        let all = all();
        let names: BTreeSet<_> = all.iter().map(|fault| fault.name).collect();
        assert_eq!(names.len(), all.len());
        assert!(all.iter().all(|fault| fault.hypothesis.len() > 20));
        assert!(all.iter().any(|fault| fault.ci));
    }

    #[test]
    fn events_go_to_one_gateway_in_half_of_all_runs_and_with_the_next_seed_to_the_other() {
        let faults = all();
        let second = faults.iter().filter(|fault| fault.told(1) == 1).count();
        assert!(second * 3 > faults.len() && second * 3 < faults.len() * 2);
        for fault in faults {
            assert_eq!(fault.told(7) + fault.told(8), 1, "{}", fault.name);
        }
    }

    /// Where a lease need not expire nobody has longer because of it.
    #[test]
    fn only_what_outlasts_a_lease_may_take_as_long_as_one() {
        for fault in all() {
            let lasts = fault.lasts.unwrap_or_default();
            assert!(!fault.lease || lasts >= OUTLASTS_LEASES, "{}", fault.name);
            assert!(!fault.at_once || fault.lasts.is_none(), "{}", fault.name);
        }
    }

    #[test]
    fn only_what_lasts_as_long_as_an_order_may_explains_late_ones() {
        let time = saga::order::v1().deadline_ms;
        for fault in all() {
            let lasts = fault.lasts.unwrap_or_default().as_millis();
            assert!(
                !fault.excused.late || lasts >= u128::from(time),
                "{}",
                fault.name
            );
        }
    }
}
