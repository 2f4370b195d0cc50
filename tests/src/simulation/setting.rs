//! What a world is run with, and the worlds that lead where chance seldom does.

use super::{Fault, Mix, Race};

/// What a seed is run with.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The seed.
    pub seed: u64,
    /// How many orders are placed.
    pub sagas: usize,
    /// The faults; the seed draws them if none are given.
    pub mix: Option<Mix>,
    /// What every payment races against, if anything.
    pub race: Option<Race>,
    /// The version that every order runs by, if not the one that it draws.
    pub version: Option<i16>,
    /// Whether to write the story down.
    pub story: bool,
}

/// One world of these for so many others.
const LEADS_IN: u64 = 2;

/// What leads to a capture that is asked about, and to one that cannot be given back.
const OF_CAPTURES: &[Fault] = &[
    Fault::AnswerLost,
    Fault::ProviderAway,
    Fault::RequestLate,
    Fault::AuthorisationEnds,
    Fault::RefundRefused,
    Fault::MessageLost,
    Fault::WorkerStalls,
    Fault::ProviderLies,
];

/// What leads to a step of ours of which nobody hears until it is asked about.
const OF_OURS: &[Fault] = &[
    Fault::MessageLost,
    Fault::MessageLate,
    Fault::WorkerStalls,
    Fault::WorkerDies,
];

impl Setting {
    /// Worlds that lead where those whose faults the seeds draw seldom come: for so many of these, from this seed
    /// on.
    pub fn leading(first: u64, seeds: u64, sagas: usize) -> impl Iterator<Item = Self> {
        let last = first.saturating_add(seeds / LEADS_IN);
        (first..last).map(move |seed| {
            let (faults, version) = match seed.is_multiple_of(4) {
                true => (OF_OURS, None),
                false => (OF_CAPTURES, Some(2)),
            };
            let (mix, race, story) = (Some(Mix::only(faults)), None, false);
            Self {
                seed,
                sagas,
                mix,
                race,
                version,
                story,
            }
        })
    }
}
