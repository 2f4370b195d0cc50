//! How many tickets one customer may have for an event: its tier.

use super::pricing::Facts;
use contract::Tier;
use std::cmp::Reverse;

/// How many sessions count as most wanted.
pub const MOST_WANTED: usize = 60;

/// The tier of each session, in the same order: among those that sell places, the ones with the
/// highest [`Facts::demand`] are most wanted, equals decided by code.
#[must_use]
pub fn tiers(sessions: &[Facts<'_>]) -> Vec<Tier> {
    let mut tiers: Vec<Tier> = sessions
        .iter()
        .map(|session| {
            if session.ceremony {
                Tier::Ceremony
            } else {
                Tier::Standard
            }
        })
        .collect();
    let mut by_demand: Vec<usize> = (0..sessions.len())
        .filter(|&index| !sessions[index].ceremony && sessions[index].capacity > 0)
        .collect();
    by_demand.sort_by_key(|&index| (Reverse(sessions[index].demand()), sessions[index].code));
    for index in by_demand.into_iter().take(MOST_WANTED) {
        tiers[index] = Tier::MostWanted;
    }
    tiers
}
