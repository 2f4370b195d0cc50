//! Money: an amount in minor units of an ISO 4217 currency.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A currency of ISO 4217, by its three-letter code.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Currency(pub iso_currency::Currency);

impl Currency {
    /// The euro, the catalogue's currency.
    pub const EUR: Self = Self(iso_currency::Currency::EUR);

    /// The three-letter code, upper case.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.0.code()
    }

    /// Digits after the decimal point: 2 for EUR, 0 for JPY.
    #[must_use]
    pub fn minor_digits(self) -> u32 {
        self.0.exponent().map_or(0, u32::from)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// The text is not a currency code of ISO 4217.
#[derive(Debug, Clone, thiserror::Error)]
#[error("`{0}` is not a currency code of ISO 4217")]
pub struct UnknownCurrency(pub String);

impl FromStr for Currency {
    type Err = UnknownCurrency;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        iso_currency::Currency::from_code(&text.to_ascii_uppercase())
            .map(Self)
            .ok_or_else(|| UnknownCurrency(text.to_owned()))
    }
}

impl JsonSchema for Currency {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Currency".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[A-Z]{3}$", "description": "ISO 4217 code" })
    }
}

/// An amount of money: `{"amount": 12500, "currency": "EUR"}` is 125 €.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Money {
    /// Minor units (cents of a euro); never negative where a price is meant.
    #[serde(rename = "amount")]
    pub amount_minor: i64,
    /// ISO 4217 code.
    pub currency: Currency,
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.currency.minor_digits();
        if digits == 0 {
            return write!(f, "{} {}", self.amount_minor, self.currency);
        }
        let unit = 10_u64.pow(digits);
        let sign = if self.amount_minor < 0 { "-" } else { "" };
        let amount = self.amount_minor.unsigned_abs();
        let width = digits as usize;
        write!(
            f,
            "{sign}{}.{:0width$} {}",
            amount / unit,
            amount % unit,
            self.currency
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_shows_its_minor_digits() {
        let euros = Money {
            amount_minor: 12_505,
            currency: Currency::EUR,
        };
        let yen = Money {
            amount_minor: 500,
            currency: "JPY".parse().expect("a currency"),
        };
        assert_eq!(euros.to_string(), "125.05 EUR");
        assert_eq!(yen.to_string(), "500 JPY");
        assert_eq!(
            Money {
                amount_minor: -5,
                ..euros
            }
            .to_string(),
            "-0.05 EUR"
        );
    }

    #[test]
    fn json_uses_the_published_names() {
        let euros = Money {
            amount_minor: 12_500,
            currency: Currency::EUR,
        };
        let json = serde_json::to_string(&euros).expect("serialises");
        assert_eq!(json, r#"{"amount":12500,"currency":"EUR"}"#);
        assert_eq!(serde_json::from_str::<Money>(&json).expect("parses"), euros);
    }
}
