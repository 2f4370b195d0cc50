//! Which offers a session has. A rule, because the price grid of the Games was never published as
//! data; it is calibrated on what was announced (`data/paris-2024/SOURCE.md`).
//!
//! A session's place on two scales decides: how much its sport draws ([`Appeal`]) and how much is at
//! stake ([`Stage`]). Both together give the lowest price (category D) and the highest (First); the
//! ones between rise geometrically. The capacity is split in fixed shares, exactly.

use contract::Tier;

/// A price category, dearest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Category {
    /// The best places.
    First,
    /// Very good.
    A,
    /// Good.
    B,
    /// Fair.
    C,
    /// The cheapest.
    D,
}

impl Category {
    /// Dearest first.
    pub const ALL: [Self; 5] = [Self::First, Self::A, Self::B, Self::C, Self::D];

    /// As stored and published.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::First => "First",
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
            Self::D => "D",
        }
    }
}

/// What the rule needs to know of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts<'a> {
    /// Unique; decides between equals.
    pub code: &'a str,
    /// Code of the sport.
    pub sport: &'a str,
    /// An opening or a closing.
    pub ceremony: bool,
    /// Places.
    pub capacity: u32,
    /// Medals decided.
    pub medal_events: u16,
    /// Hour at which it starts, local time.
    pub local_hour: u32,
}

/// An offer that the rule makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Priced {
    /// Price category.
    pub category: Category,
    /// Price of one place, in cents.
    pub amount_minor: i64,
    /// Units on sale, at least 1. A unit is a place; of an accessible offer, a wheelchair place with
    /// its companion.
    pub capacity: u32,
    /// For wheelchair users; the companion's ticket is part of it.
    pub accessible: bool,
}

/// How much a sport draws.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Appeal {
    /// Those few know.
    Small,
    /// In between; sports the rule has not heard of too.
    Middle,
    /// The large halls and stadiums.
    Major,
    /// Athletics, swimming, artistic gymnastics.
    Star,
}

impl Appeal {
    /// Of a sport's code.
    #[must_use]
    pub fn of(sport: &str) -> Self {
        match sport {
            "ATH" | "GAR" | "SWM" => Self::Star,
            "BK3" | "BKB" | "CTR" | "DIV" | "EQU" | "FBL" | "FEN" | "HBL" | "JUD" | "RU7"
            | "TEN" | "VBV" | "VVO" => Self::Major,
            "CSL" | "CSP" | "GLF" | "HOC" | "MPN" | "ROW" | "SAL" | "SHO" | "SRF" | "TTE"
            | "WLF" | "WPO" | "WRE" => Self::Small,
            _ => Self::Middle,
        }
    }
}

/// How much is at stake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// By day, without medals.
    Preliminary,
    /// From [`EVENING`] on, without medals.
    Evening,
    /// With medals.
    Medal,
    /// Among the most wanted of the catalogue.
    Wanted,
    /// An opening or a closing.
    Ceremony,
}

/// The hour from which a session is one of the evening, when most people have time.
pub const EVENING: u32 = 17;

/// Shares of the places that are not accessible, in percent, dearest category first.
const SHARES: [u64; 5] = [5, 15, 25, 30, 25];

impl Facts<'_> {
    /// How much is at stake, given the session's tier.
    #[must_use]
    pub fn stage(&self, tier: Tier) -> Stage {
        match tier {
            Tier::Ceremony => Stage::Ceremony,
            Tier::MostWanted => Stage::Wanted,
            Tier::Standard if self.medal_events > 0 => Stage::Medal,
            Tier::Standard if self.local_hour >= EVENING => Stage::Evening,
            Tier::Standard => Stage::Preliminary,
        }
    }

    /// How wanted the session is, for comparison with others only.
    #[must_use]
    pub fn demand(&self) -> u32 {
        let sport = match Appeal::of(self.sport) {
            Appeal::Small => 100,
            Appeal::Middle => 200,
            Appeal::Major => 300,
            Appeal::Star => 400,
        };
        let medals = match u32::from(self.medal_events.min(8)) {
            0 => 0,
            medals => 150 + 20 * medals,
        };
        let evening = if self.local_hour >= EVENING { 60 } else { 0 };
        sport + medals + evening
    }
}

/// The offers of a session, dearest first, the accessible one last. Their capacities sum up to the
/// session's; a category too small for one place is left out, so a session without places has none.
#[must_use]
pub fn offers(facts: &Facts<'_>, tier: Tier) -> Vec<Priced> {
    let (lowest, highest) = range_euros(Appeal::of(facts.sport), facts.stage(tier));
    let prices = ladder_euros(lowest, highest);
    let accessible = u64::from((facts.capacity + 50) / 100); // about 1 %
    let open = u64::from(facts.capacity) - accessible;
    let mut offers = Vec::with_capacity(6);
    let mut percent = 0;
    for ((category, euros), share) in Category::ALL.into_iter().zip(prices).zip(SHARES) {
        // Differences of running totals: whatever is rounded off here is added there.
        let from = open * percent / 100;
        percent += share;
        let capacity = open * percent / 100 - from;
        offers.push((category, euros, capacity, false));
    }
    // A wheelchair place costs what the lowest category costs, wherever it stands.
    offers.push((Category::D, prices[4], accessible, true));
    offers
        .into_iter()
        .filter(|(_, _, capacity, _)| *capacity > 0)
        .map(|(category, euros, capacity, accessible)| Priced {
            category,
            amount_minor: i64::from(euros) * 100,
            capacity: u32::try_from(capacity).expect("a share of a u32 is one"),
            accessible,
        })
        .collect()
}

/// Lowest and highest price in euros.
fn range_euros(appeal: Appeal, stage: Stage) -> (u32, u32) {
    use Appeal::{Major, Middle, Small, Star};
    match (stage, appeal) {
        (Stage::Preliminary, Small) => (24, 70),
        (Stage::Preliminary, Middle) => (24, 90),
        (Stage::Preliminary, Major) => (24, 120),
        (Stage::Preliminary, Star) => (24, 200),
        (Stage::Evening, Small) => (24, 100),
        (Stage::Evening, Middle) => (24, 150),
        (Stage::Evening, Major) => (30, 220),
        (Stage::Evening, Star) => (45, 420),
        (Stage::Medal, Small) => (24, 160),
        (Stage::Medal, Middle) => (24, 250),
        (Stage::Medal, Major) => (50, 380),
        (Stage::Medal, Star) => (65, 690),
        (Stage::Wanted, Small) => (50, 300),
        (Stage::Wanted, Middle) => (60, 420),
        (Stage::Wanted, Major) => (70, 690),
        (Stage::Wanted, Star) => (85, 980),
        (Stage::Ceremony, _) => (90, 2700),
    }
}

/// Five prices from the highest to the lowest: equal ratios, rounded to 5 € in between.
fn ladder_euros(lowest: u32, highest: u32) -> [u32; 5] {
    // Square roots only: unlike powers they are the same to the last bit on every machine.
    let half = (f64::from(highest) / f64::from(lowest)).sqrt();
    let quarter = half.sqrt();
    let step = |ratio: f64| (f64::from(lowest) * ratio / 5.0).round() as u32 * 5;
    [
        highest,
        step(half * quarter),
        step(half),
        step(quarter),
        lowest,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prices_fall_strictly_from_first_to_d() {
        for appeal in [Appeal::Small, Appeal::Middle, Appeal::Major, Appeal::Star] {
            for stage in [
                Stage::Preliminary,
                Stage::Evening,
                Stage::Medal,
                Stage::Wanted,
                Stage::Ceremony,
            ] {
                let (lowest, highest) = range_euros(appeal, stage);
                let prices = ladder_euros(lowest, highest);
                assert!(
                    prices.is_sorted_by(|a, b| a > b),
                    "{appeal:?} {stage:?}: {prices:?}"
                );
                assert_eq!((prices[0], prices[4]), (highest, lowest));
                assert!(lowest >= 24);
            }
        }
    }

    #[test]
    fn a_ceremony_costs_from_90_to_2700_euros() {
        let opening = Facts {
            code: "OCO01",
            sport: "OCO",
            ceremony: true,
            capacity: 100_000,
            medal_events: 0,
            local_hour: 19,
        };
        let offers = offers(&opening, Tier::Ceremony);
        assert_eq!(offers[0].amount_minor, 270_000);
        assert_eq!(
            offers.last().map(|o| (o.amount_minor, o.accessible)),
            Some((9_000, true))
        );
    }

    proptest! {
        #[test]
        fn capacities_sum_up_whatever_the_venue(
            capacity in 0_u32..=1_000_000,
            sport in "[A-Z]{3}",
            medal_events in 0_u16..10,
            local_hour in 0_u32..24,
            tier in prop_oneof![Just(Tier::Standard), Just(Tier::MostWanted), Just(Tier::Ceremony)],
        ) {
            let facts = Facts { code: "X01", sport: &sport, ceremony: false, capacity, medal_events, local_hour };
            let offers = offers(&facts, tier);
            prop_assert_eq!(offers.iter().map(|o| o.capacity).sum::<u32>(), capacity);
            prop_assert!(offers.iter().all(|o| o.capacity > 0 && o.amount_minor >= 2_400));
            let accessible: u32 = offers.iter().filter(|o| o.accessible).map(|o| o.capacity).sum();
            prop_assert!(accessible.abs_diff(capacity / 100) <= 1);
        }
    }
}
