//! Stripe's documented test cards: what each is called, its number, and how it behaves when charged.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{ErrorType, StripeError};
use crate::refund::CardRefunds;

/// What happens when a card is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// The bank says yes.
    Succeeds,
    /// The bank says no.
    Declines(Decline),
    /// The payer has to authenticate first; afterwards the bank says yes, or no with this reason.
    Authenticates(Option<Decline>),
    /// The bank says yes, then the payer disputes the charge, which rules out a refund.
    Disputed,
    /// The bank says yes; what is given back later does not simply arrive.
    Refunds(CardRefunds),
}

/// Why a payment failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Decline {
    Generic,
    InsufficientFunds,
    LostCard,
    StolenCard,
    ExpiredCard,
    IncorrectCvc,
    ProcessingError,
    IncorrectNumber,
    Fraudulent,
    VelocityExceeded,
    /// The bank wants authentication and the request said that nobody is there to do it.
    AuthenticationRequired,
    /// The payer refused or failed the authentication.
    AuthenticationFailed,
}

impl Decline {
    /// The error as the API shows it, both as the answer (402) and as `last_payment_error`.
    pub(crate) fn error(self) -> StripeError {
        const DECLINED: &str = "Your card was declined.";
        let (code, decline_code, message, param) = match self {
            Self::Generic => ("card_declined", "generic_decline", DECLINED, None),
            Self::InsufficientFunds => (
                "card_declined",
                "insufficient_funds",
                "Your card has insufficient funds.",
                None,
            ),
            Self::LostCard => ("card_declined", "lost_card", DECLINED, None),
            Self::StolenCard => ("card_declined", "stolen_card", DECLINED, None),
            Self::Fraudulent => ("card_declined", "fraudulent", DECLINED, None),
            Self::VelocityExceeded => (
                "card_declined",
                "card_velocity_exceeded",
                "Your card was declined for making repeated attempts too frequently or exceeding its \
                 amount limit.",
                None,
            ),
            Self::ExpiredCard => (
                "expired_card",
                "expired_card",
                "Your card has expired.",
                Some("exp_month"),
            ),
            Self::IncorrectCvc => (
                "incorrect_cvc",
                "incorrect_cvc",
                "Your card's security code is incorrect.",
                Some("cvc"),
            ),
            Self::IncorrectNumber => (
                "incorrect_number",
                "incorrect_number",
                "Your card number is incorrect.",
                Some("number"),
            ),
            Self::ProcessingError => (
                "processing_error",
                "processing_error",
                "An error occurred while processing your card. Try again in a little bit.",
                None,
            ),
            Self::AuthenticationRequired => (
                "authentication_required",
                "authentication_required",
                "Your card was declined. This transaction requires authentication.",
                None,
            ),
            Self::AuthenticationFailed => {
                return StripeError {
                    kind: ErrorType::InvalidRequest,
                    with_intent: true,
                    ..StripeError::card(
                        "payment_intent_authentication_failure",
                        "The provided PaymentMethod has failed authentication. You can provide \
                         payment_method_data or a new PaymentMethod to attempt to fulfill this \
                         PaymentIntent again.",
                    )
                };
            }
        };
        StripeError {
            decline_code: Some(decline_code),
            param: param.map(Into::into),
            with_intent: true,
            ..StripeError::card(code, message)
        }
    }
}

/// One of Stripe's test cards.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TestCard {
    /// What follows `pm_card_`.
    pub(crate) name: &'static str,
    /// Another name of the same card, as older documents had it.
    alias: &'static str,
    pub(crate) number: &'static str,
    pub(crate) brand: &'static str,
    pub(crate) country: &'static str,
    pub(crate) funding: &'static str,
    pub(crate) behaviour: Behaviour,
}

impl TestCard {
    pub(crate) fn last4(&self) -> &'static str {
        &self.number[self.number.len() - 4..]
    }
}

/// A reference to a row of the table; stored by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Card(pub(crate) &'static TestCard);

impl Card {
    /// The card that a test payment method (`pm_card_visa`) or token (`tok_visa`) stands for.
    pub(crate) fn of_test_id(id: &str) -> Option<Self> {
        let name = id
            .strip_prefix("pm_card_")
            .or_else(|| id.strip_prefix("tok_"))?;
        Self::named(name)
    }

    /// The card with this number, written without spaces.
    pub(crate) fn of_number(number: &str) -> Option<Self> {
        CARDS.iter().find(|card| card.number == number).map(Self)
    }

    fn named(name: &str) -> Option<Self> {
        CARDS
            .iter()
            .find(|card| card.name == name || (!card.alias.is_empty() && card.alias == name))
            .map(Self)
    }
}

impl Serialize for Card {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name)
    }
}

impl<'de> Deserialize<'de> for Card {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::named(&name)
            .ok_or_else(|| serde::de::Error::custom(format!("no test card is called {name:?}")))
    }
}

/// Whether the digits pass the check that every card number passes.
pub(crate) fn passes_luhn(number: &str) -> bool {
    if !(12..=19).contains(&number.len()) || !number.bytes().all(|b| b.is_ascii_digit()) {
        return false;
    }
    let sum: u32 = number
        .bytes()
        .rev()
        .enumerate()
        .map(|(position, byte)| {
            let digit = u32::from(byte - b'0');
            match (position % 2, digit) {
                (0, digit) => digit,
                (_, digit) if digit > 4 => digit * 2 - 9,
                (_, digit) => digit * 2,
            }
        })
        .sum();
    sum.is_multiple_of(10)
}

const fn card(
    name: &'static str,
    alias: &'static str,
    number: &'static str,
    brand: &'static str,
    behaviour: Behaviour,
) -> TestCard {
    TestCard {
        name,
        alias,
        number,
        brand,
        country: "US",
        funding: "credit",
        behaviour,
    }
}

const fn funded(mut card: TestCard, funding: &'static str) -> TestCard {
    card.funding = funding;
    card
}

const fn of(mut card: TestCard, brand: &'static str, funding: &'static str) -> TestCard {
    card.brand = brand;
    funded(card, funding)
}

const fn from(country: &'static str, number: &'static str, name: &'static str) -> TestCard {
    let mut card = card(name, "", number, "visa", Behaviour::Succeeds);
    card.country = country;
    card
}

const fn declined(
    name: &'static str,
    alias: &'static str,
    number: &'static str,
    why: Decline,
) -> TestCard {
    card(name, alias, number, "visa", Behaviour::Declines(why))
}

const fn secured(
    name: &'static str,
    number: &'static str,
    afterwards: Option<Decline>,
) -> TestCard {
    card(
        name,
        "",
        number,
        "visa",
        Behaviour::Authenticates(afterwards),
    )
}

/// Stripe's table (https://docs.stripe.com/testing). Where two names share a number, the number means the first.
/// Those of which it gives no name but the number have one of ours.
#[rustfmt::skip]
static CARDS: [TestCard; 132] = [
    card("visa", "", "4242424242424242", "visa", Behaviour::Succeeds),
    funded(card("visa_debit", "", "4000056655665556", "visa", Behaviour::Succeeds), "debit"),
    card("mastercard", "", "5555555555554444", "mastercard", Behaviour::Succeeds),
    card("mastercard_2series", "", "2223003122003222", "mastercard", Behaviour::Succeeds),
    funded(card("mastercard_debit", "", "5200828282828210", "mastercard", Behaviour::Succeeds), "debit"),
    funded(card("mastercard_prepaid", "", "5105105105105100", "mastercard", Behaviour::Succeeds), "prepaid"),
    card("amex", "", "378282246310005", "amex", Behaviour::Succeeds),
    card("amex_2", "", "371449635398431", "amex", Behaviour::Succeeds),
    card("amex_threeDSecureNotSupported", "", "378282246310005", "amex", Behaviour::Succeeds),
    card("discover", "", "6011111111111117", "discover", Behaviour::Succeeds),
    card("discover_2", "", "6011000990139424", "discover", Behaviour::Succeeds),
    funded(card("discover_debit", "", "6011981111111113", "discover", Behaviour::Succeeds), "debit"),
    card("diners", "", "3056930009020004", "diners", Behaviour::Succeeds),
    card("diners_14", "", "36227206271667", "diners", Behaviour::Succeeds),
    card("jcb", "", "3566002020360505", "jcb", Behaviour::Succeeds),
    card("unionpay", "", "6200000000000005", "unionpay", Behaviour::Succeeds),
    funded(card("unionpay_debit", "", "6200000000000047", "unionpay", Behaviour::Succeeds), "debit"),
    card("unionpay_19", "", "6205500000000000004", "unionpay", Behaviour::Succeeds),
    of(from("FR", "4000002500001001", "visa_cartesBancaires"), "visa", "credit"),
    of(from("FR", "5555552500001001", "mastercard_cartesBancaires"), "mastercard", "credit"),
    of(from("AU", "4000050360000001", "visa_debit_eftposAuCoBranded"), "visa", "debit"),
    of(from("AU", "5555050360000080", "mastercard_debit_eftposAuCoBranded"), "mastercard", "debit"),
    funded(card("debit_visaFsaProductCode", "", "4000051230000072", "visa", Behaviour::Succeeds), "debit"),
    funded(card("debit_visaHsaProductCode", "", "4000051230000072", "visa", Behaviour::Succeeds), "debit"),
    funded(card("mastercard_debit_mastercardFsaProductCode", "", "5200828282828897", "mastercard", Behaviour::Succeeds), "debit"),
    from("US", "4242424242424242", "us"),
    from("AR", "4000000320000021", "ar"),
    from("BR", "4000000760000002", "br"),
    from("CA", "4000001240000000", "ca"),
    from("CL", "4000001520000001", "cl"),
    from("CO", "4000001700000003", "co"),
    from("CR", "4000001880000005", "cr"),
    from("EC", "4000002180000000", "ec"),
    from("MX", "4000004840008001", "mx"),
    from("PA", "4000005910000000", "pa"),
    from("PY", "4000006000000066", "py"),
    from("PE", "4000006040000068", "pe"),
    from("UY", "4000008580000003", "uy"),
    from("AE", "4000007840000001", "ae"),
    from("AT", "4000000400000008", "at"),
    from("BE", "4000000560000004", "be"),
    from("BG", "4000001000000000", "bg"),
    from("BY", "4000001120000005", "by"),
    from("CH", "4000007560000009", "ch"),
    from("CY", "4000001960000008", "cy"),
    from("CZ", "4000002030000002", "cz"),
    from("DE", "4000002760000016", "de"),
    from("DK", "4000002080000001", "dk"),
    from("EE", "4000002330000009", "ee"),
    from("ES", "4000007240000007", "es"),
    from("FI", "4000002460000001", "fi"),
    from("FR", "4000002500000003", "fr"),
    from("GB", "4000008260000000", "gb"),
    from("GI", "4000002920000005", "gi"),
    from("GR", "4000003000000030", "gr"),
    from("HR", "4000001910000009", "hr"),
    from("HU", "4000003480000005", "hu"),
    from("IE", "4000003720000005", "ie"),
    from("IT", "4000003800000008", "it"),
    from("LI", "4000004380000004", "li"),
    from("LT", "4000004400000000", "lt"),
    from("LU", "4000004420000006", "lu"),
    from("LV", "4000004280000005", "lv"),
    from("MT", "4000004700000007", "mt"),
    from("NL", "4000005280000002", "nl"),
    from("NO", "4000005780000007", "no"),
    from("PL", "4000006160000005", "pl"),
    from("PT", "4000006200000007", "pt"),
    from("RO", "4000006420000001", "ro"),
    from("SA", "4000006820000007", "sa"),
    from("SE", "4000007520000008", "se"),
    from("SI", "4000007050000006", "si"),
    from("SK", "4000007030000001", "sk"),
    from("AU", "4000000360000006", "au"),
    from("CN", "4000001560000002", "cn"),
    from("HK", "4000003440000004", "hk"),
    from("IN", "4000003560000008", "in"),
    from("JP", "4000003920000003", "jp"),
    from("MY", "4000004580000002", "my"),
    from("NZ", "4000005540000008", "nz"),
    from("SG", "4000007020000003", "sg"),
    from("TW", "4000001580000008", "tw"),
    of(from("AE", "5200007840000022", "ae_mastercard"), "mastercard", "credit"),
    of(from("GB", "4000058260000005", "gb_debit"), "visa", "debit"),
    of(from("GB", "5555558265554449", "gb_mastercard"), "mastercard", "credit"),
    of(from("JP", "3530111333300000", "jp_jcb"), "jcb", "credit"),
    of(from("TH", "4000007640000003", "th_credit"), "visa", "credit"),
    of(from("TH", "4000057640000008", "th_debit"), "visa", "debit"),
    declined("visa_chargeDeclined", "chargeDeclined", "4000000000000002", Decline::Generic),
    declined("visa_chargeDeclinedInsufficientFunds", "chargeDeclinedInsufficientFunds", "4000000000009995", Decline::InsufficientFunds),
    declined("visa_chargeDeclinedLostCard", "chargeDeclinedLostCard", "4000000000009987", Decline::LostCard),
    declined("visa_chargeDeclinedStolenCard", "chargeDeclinedStolenCard", "4000000000009979", Decline::StolenCard),
    declined("chargeDeclinedExpiredCard", "visa_chargeDeclinedExpiredCard", "4000000000000069", Decline::ExpiredCard),
    declined("chargeDeclinedIncorrectCvc", "visa_chargeDeclinedIncorrectCvc", "4000000000000127", Decline::IncorrectCvc),
    declined("chargeDeclinedProcessingError", "visa_chargeDeclinedProcessingError", "4000000000000119", Decline::ProcessingError),
    declined("visa_chargeDeclinedVelocityLimitExceeded", "chargeDeclinedVelocityLimitExceeded", "4000000000006975", Decline::VelocityExceeded),
    declined("chargeDeclinedFraudulent", "radarBlock", "4100000000000019", Decline::Fraudulent),
    declined("riskLevelHighest", "", "4000000000004954", Decline::Fraudulent),
    declined("chargeCustomerFail", "", "4000000000000341", Decline::Generic),
    card("riskLevelElevated", "", "4000000000009235", "visa", Behaviour::Succeeds),
    // What these would meet is a setting of the account, and off as long as nobody asks for it.
    card("highFraudDisputeScore", "", "4000008400000407", "visa", Behaviour::Succeeds),
    card("highEfwScore", "", "4000008400000159", "visa", Behaviour::Succeeds),
    card("radarDynamicRiskThreshold", "", "4000008400001017", "visa", Behaviour::Succeeds),
    card("adaptive3dsChallenge", "", "4000008405600003", "visa", Behaviour::Succeeds),
    card("cvcCheckFailElevatedRisk", "", "4000058400307872", "visa", Behaviour::Succeeds),
    card("avsZipFailElevatedRisk", "", "4000058400306072", "visa", Behaviour::Succeeds),
    card("createDispute", "", "4000000000000259", "visa", Behaviour::Disputed),
    card("createDisputeProductNotReceived", "", "4000000000002685", "visa", Behaviour::Disputed),
    card("createMultipleDisputes", "", "4000000404000079", "visa", Behaviour::Disputed),
    // The bank only asks: nothing is taken back, and the charge can be refunded.
    card("createDisputeInquiry", "", "4000000000001976", "visa", Behaviour::Succeeds),
    card("createIssuerFraudRecord", "", "4000000000005423", "visa", Behaviour::Succeeds),
    card("pendingRefund", "", "4000000000007726", "visa", Behaviour::Refunds(CardRefunds::Pend)),
    card("refundFail", "", "4000000000005126", "visa", Behaviour::Refunds(CardRefunds::FailLater)),
    card("bypassPending", "", "4000000000000077", "visa", Behaviour::Succeeds),
    from("IE", "4000003720000278", "bypassPendingInternational"),
    card("cvcCheckFail", "", "4000000000000101", "visa", Behaviour::Succeeds),
    card("avsFail", "", "4000000000000010", "visa", Behaviour::Succeeds),
    card("avsLine1Fail", "", "4000000000000028", "visa", Behaviour::Succeeds),
    card("avsZipFail", "", "4000000000000036", "visa", Behaviour::Succeeds),
    card("avsUnchecked", "", "4000000000000044", "visa", Behaviour::Succeeds),
    secured("threeDSecure2Required", "4000000000003220", None),
    secured("threeDSecureRequired", "4000000000003063", None),
    card("threeDSecureOptional", "", "4000000000003055", "visa", Behaviour::Succeeds),
    // It fails only where authentication is asked for, which no request here does.
    card("threeDSecureOptionalProcessingError", "", "4000000000003097", "visa", Behaviour::Succeeds),
    card("threeDSecureFrictionless", "", "4000000032200000", "visa", Behaviour::Succeeds),
    secured("threeDSecure2Required_us", "4000008400000027", None),
    secured("threeDSecureRequiredChargeDeclined", "4000008400001629", Some(Decline::Generic)),
    secured("threeDSecureRequiredProcessingError", "4000008400001280", Some(Decline::ProcessingError)),
    secured("authenticationRequired", "4000002760003184", None),
    secured("authenticationRequiredOnSetup", "4000002500003155", None),
    secured("authenticationRequiredSetupForOffSession", "4000003800000446", None),
    secured("authenticationRequiredChargeDeclinedInsufficientFunds", "4000008260003178", Some(Decline::InsufficientFunds)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_card_has_a_valid_number_and_names_of_its_own() {
        let mut names = std::collections::HashSet::new();
        for card in &CARDS {
            assert!(passes_luhn(card.number), "{} {}", card.name, card.number);
            assert!(names.insert(card.name), "{}", card.name);
            assert!(
                card.alias.is_empty() || names.insert(card.alias),
                "{}",
                card.alias
            );
            assert_eq!(Card::named(card.name), Some(Card(card)));
        }
    }

    #[test]
    fn test_ids_and_numbers_find_their_card() {
        let visa = Card::of_test_id("pm_card_visa").expect("documented");
        assert_eq!(Card::of_number("4242424242424242"), Some(visa));
        assert_eq!(Card::of_test_id("tok_visa"), Some(visa));
        assert_eq!(
            Card::of_test_id("pm_card_chargeDeclined"),
            Card::of_test_id("pm_card_visa_chargeDeclined")
        );
        for unknown in ["pm_card_", "pm_card_nothing", "visa", ""] {
            assert_eq!(Card::of_test_id(unknown), None, "{unknown:?}");
        }
    }

    #[test]
    fn luhn_refuses_what_is_no_card_number() {
        for wrong in [
            "4242424242424241",
            "",
            "0",
            "4242 4242 4242 4242",
            "42424242424242424242424242",
        ] {
            assert!(!passes_luhn(wrong), "{wrong:?}");
        }
    }
}
