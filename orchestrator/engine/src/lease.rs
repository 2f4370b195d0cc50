//! Who owns which shard, decided purely.
//!
//! Two orchestrators may believe for a moment that they own the same shard: one of them stalls
//! longer than its lease and goes on before it notices. That costs work and nothing else, for every
//! write is conditional on the saga's revision and every effect is fenced by the ledger. Leases are
//! there so that there is always *one* who minds a saga's timers.

use contract::planted::{Bug, planted};
use std::time::Duration;

/// One row of the table `shards`, as the renewal returned it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The shard.
    pub shard: i16,
    /// Whose it is, or was last.
    pub owner: Option<String>,
    /// Counts its takings.
    pub epoch: i64,
    /// Whether the lease still runs.
    pub live: bool,
}

/// What to do about the leases.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LeasePlan {
    /// Held before and not any more: forget their sagas.
    pub lost: Vec<i16>,
    /// Something was lost to a younger process of the same name: this one is to stop.
    pub fenced: bool,
    /// To give back, because others have fewer: what is held, or was before this process died.
    pub release: Vec<i16>,
    /// To try to take.
    pub acquire: Vec<i16>,
}

/// Shares the shards fairly: nobody keeps more than his share rounded up, and whoever has less takes
/// what is free. `held` are the shards this process holds, with their epochs; `others` counts the
/// other processes alive.
#[must_use]
pub fn plan(leases: &[Lease], held: &[(i16, i64)], node: &str, others: usize) -> LeasePlan {
    let share = leases.len().div_ceil(others + 1);
    let mine = |lease: &&Lease| {
        lease.owner.as_deref() == Some(node) && is_ours(held, lease.shard, lease.epoch)
    };
    let kept: Vec<i16> = leases
        .iter()
        .filter(mine)
        .map(|lease| lease.shard)
        .collect();
    let lost: Vec<i16> = held
        .iter()
        .map(|(shard, _)| *shard)
        .filter(|shard| !kept.contains(shard) && !planted(Bug::LostShardKept))
        .collect();
    let fenced = leases
        .iter()
        .any(|lease| lost.contains(&lease.shard) && lease.owner.as_deref() == Some(node));
    let free = leases.iter().filter(|lease| {
        // What was this node's before it died is its own again at once.
        !kept.contains(&lease.shard)
            && (!lease.live || lease.owner.is_none() || lease.owner.as_deref() == Some(node))
    });
    let wanted = share.saturating_sub(kept.len());
    let acquire: Vec<i16> = free.map(|lease| lease.shard).take(wanted).collect();
    // What bears our name from an earlier life and is more than our share would wait for its lease to
    // run out, however far a clock that was set back has put that off.
    let left = leases.iter().filter(|lease| {
        let shard = &lease.shard;
        lease.owner.as_deref() == Some(node) && !kept.contains(shard) && !acquire.contains(shard)
    });
    let release = kept.iter().skip(share).copied();
    let release = release.chain(left.map(|lease| lease.shard)).collect();
    LeasePlan {
        lost,
        fenced,
        release,
        acquire,
    }
}

/// Whether a shard that has this node's name and this epoch is held by this process: a younger one of the
/// same name has taken it with another epoch. What the SQL asks too, for the simulation.
#[must_use]
pub fn is_ours(held: &[(i16, i64)], shard: i16, epoch: i64) -> bool {
    let mut held = held.iter().filter(|(ours, _)| *ours == shard);
    held.any(|(_, taken)| *taken == epoch || planted(Bug::EpochIgnored))
}

/// Whether leases are over that were last renewed so long ago. One's own clock has to say so when the database
/// cannot: others may own by now what was ours.
#[must_use]
pub fn are_over(since_renewal: Duration, lease: Duration) -> bool {
    since_renewal > lease
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(shard: i16, owner: Option<&str>, epoch: i64, live: bool) -> Lease {
        Lease {
            shard,
            owner: owner.map(str::to_owned),
            epoch,
            live,
        }
    }

    #[test]
    fn the_first_takes_all_and_gives_half_to_the_second() {
        let free: Vec<Lease> = (0..8).map(|shard| lease(shard, None, 0, false)).collect();
        assert_eq!(plan(&free, &[], "a", 0).acquire, (0..8).collect::<Vec<_>>());
        let all: Vec<Lease> = (0..8)
            .map(|shard| lease(shard, Some("a"), 1, true))
            .collect();
        let held: Vec<(i16, i64)> = (0..8).map(|shard| (shard, 1)).collect();
        let shared = plan(&all, &held, "a", 1);
        assert_eq!(
            shared,
            LeasePlan {
                release: vec![4, 5, 6, 7],
                ..LeasePlan::default()
            }
        );
        assert_eq!(
            plan(&all, &[], "b", 1),
            LeasePlan::default(),
            "nothing is taken from the living"
        );
    }

    #[test]
    fn a_dead_ones_shards_are_taken_and_ones_own_come_back_at_once() {
        let rows = [
            lease(0, Some("dead"), 3, false),
            lease(1, Some("a"), 2, true),
        ];
        let plan = plan(&rows, &[], "a", 0);
        assert_eq!(plan.acquire, [0, 1]);
    }

    #[test]
    fn what_was_ones_own_and_is_too_much_is_given_back_at_once() {
        let rows = [lease(0, Some("a"), 3, true), lease(1, Some("a"), 3, true)];
        let plan = plan(&rows, &[], "a", 1);
        assert_eq!((plan.acquire, plan.release), (vec![0], vec![1]));
    }

    #[test]
    fn leases_are_over_that_were_not_renewed_for_the_whole_of_one() {
        let lease = Duration::from_secs(9);
        assert!(!are_over(Duration::ZERO, lease));
        assert!(!are_over(lease, lease), "it runs to its end");
        assert!(are_over(lease + Duration::from_millis(1), lease));
    }

    #[test]
    fn a_shard_with_another_epoch_is_lost() {
        let rows = [lease(0, Some("a"), 5, true), lease(1, Some("b"), 5, true)];
        let lost = plan(&rows, &[(0, 4), (1, 4)], "a", 1);
        assert_eq!((lost.lost, lost.acquire), (vec![0, 1], vec![0]));
        assert!(lost.fenced, "the other one has our name");
        assert!(!plan(&rows, &[(1, 4)], "a", 1).fenced);
    }
}
