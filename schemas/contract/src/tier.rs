//! How wanted an event is: the catalogue says so, and the purchase limits go by it.

/// Decides the purchase limit per event.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Tier {
    /// The ordinary limit.
    Standard,
    /// One of the most wanted events: the lower limit.
    MostWanted,
    /// An opening or a closing ceremony: the lower limit.
    Ceremony,
}

impl Tier {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Standard, Self::MostWanted, Self::Ceremony];

    /// As stored and published.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::MostWanted => "most_wanted",
            Self::Ceremony => "ceremony",
        }
    }

    /// From its stored name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tier| tier.name() == name)
    }
}
