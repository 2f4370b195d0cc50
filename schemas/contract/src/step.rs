//! Names of steps.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt, str::FromStr};

/// Characters of a step's name at most.
const NAME_MAX_CHARS: usize = 32;
/// Characters of what is no step's name that an error repeats.
const ECHO_MAX_CHARS: usize = 64;

/// The name of a step, as it stands in definitions, queues, commands, metrics and the ledger:
/// lower-case letters, digits and hyphens, 1 to 32 characters, beginning with a letter.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct StepName(#[schemars(regex(pattern = r"^[a-z][a-z0-9-]{0,31}$"))] Cow<'static, str>);

impl StepName {
    /// Takes stock for as long as the saga lives.
    pub const RESERVE: Self = Self(Cow::Borrowed("reserve"));
    /// Purchase limits, velocity, blocklists, a score.
    pub const FRAUD_CHECK: Self = Self(Cow::Borrowed("fraud-check"));
    /// Charges the customer at the payment provider, or only authorises the charge: its input says so.
    pub const PAY: Self = Self(Cow::Borrowed("pay"));
    /// Makes the tickets; the pivot of `order@1`.
    pub const ISSUE: Self = Self(Cow::Borrowed("issue"));
    /// Sends the customer an e-mail.
    pub const NOTIFY: Self = Self(Cow::Borrowed("notify"));
    /// Takes what `pay` authorised; the pivot of `order@2`.
    pub const CAPTURE: Self = Self(Cow::Borrowed("capture"));

    /// The steps of the orders of all versions, in the order of their numbers.
    pub const OF_AN_ORDER: [Self; 6] = [
        Self::RESERVE,
        Self::FRAUD_CHECK,
        Self::PAY,
        Self::ISSUE,
        Self::NOTIFY,
        Self::CAPTURE,
    ];

    /// Those that need the payment provider.
    pub const OF_A_PAYMENT: [Self; 2] = [Self::PAY, Self::CAPTURE];

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn known(text: &str) -> Option<Self> {
        Self::OF_AN_ORDER.into_iter().find(|step| step.0 == text)
    }
}

impl fmt::Display for StepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is not a step's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a step's name: 1 to 32 of a-z, 0-9 and -, beginning with a letter")]
pub struct BadStepName(pub String);

impl FromStr for StepName {
    type Err = BadStepName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(known) = Self::known(text) {
            return Ok(known); // no allocation on the hot path
        }
        let good = (1..=NAME_MAX_CHARS).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if good {
            Ok(Self(Cow::Owned(text.to_owned())))
        } else {
            Err(BadStepName(text.chars().take(ECHO_MAX_CHARS).collect()))
        }
    }
}

impl<'de> Deserialize<'de> for StepName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert_eq!("fraud-check".parse(), Ok(StepName::FRAUD_CHECK));
        assert!("noop-1".parse::<StepName>().is_ok());
        for bad in ["", "Pay", "1st", "a b", "pay.undo", "a\0", &"x".repeat(33)] {
            assert!(bad.parse::<StepName>().is_err(), "{bad:?}");
        }
    }
}
