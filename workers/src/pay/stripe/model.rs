//! The parts of Stripe's objects that the step reads. Unknown fields and unknown values of an
//! enumeration are accepted: the provider adds both without a new version.

use serde::Deserialize;
use std::fmt;

/// A longer id is none of the provider's.
const ID_MAX_BYTES: usize = 255;

/// Identifier of a PaymentIntent (`pi_…`): short printable text without anything that could leave
/// its segment of a URL.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct IntentId(String);

impl IntentId {
    /// Takes the text of an id, as the provider or the ledger gave it.
    ///
    /// `None` when it is empty, longer than 255 bytes, or has other characters than letters, digits,
    /// `_` and `-`.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let good = (1..=ID_MAX_BYTES).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        good.then(|| Self(text.to_owned()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IntentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for IntentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for IntentId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::new(&text).ok_or_else(|| serde::de::Error::custom("not the id of an object"))
    }
}

/// A PaymentIntent: one attempt to be paid, which becomes at most one capture.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Intent {
    /// Its id.
    pub id: IntentId,
    /// Where it is in its life.
    pub status: Status,
    /// What is asked for, in minor units.
    pub amount: i64,
    /// What is authorised and waits to be captured, in minor units.
    #[serde(default)]
    pub amount_capturable: i64,
    /// What was captured, in minor units.
    #[serde(default)]
    pub amount_received: i64,
    /// When it was made, in seconds since 1970.
    #[serde(default)]
    pub created: i64,
    /// What its maker noted: the order.
    #[serde(default)]
    pub metadata: Metadata,
    /// Lower-case code of ISO 4217.
    pub currency: String,
    /// The payment method, if one is attached.
    #[serde(default)]
    pub payment_method: Option<Expandable<PaymentMethod>>,
    /// The newest charge, if there was one.
    #[serde(default)]
    pub latest_charge: Option<Expandable<Charge>>,
    /// What the customer has to do.
    #[serde(default)]
    pub next_action: Option<NextAction>,
    /// Why the last confirmation failed.
    #[serde(default)]
    pub last_payment_error: Option<ApiError>,
}

impl Intent {
    /// When its newest charge was made, in seconds since 1970; `None` when there is none, or it is not
    /// expanded.
    #[must_use]
    pub fn charged_at(&self) -> Option<i64> {
        match self.latest_charge.as_ref()? {
            Expandable::Object(charge) => Some(charge.created),
            Expandable::Id(_) => None,
        }
    }

    /// The fingerprint of the card, when the payment method is expanded.
    #[must_use]
    pub fn fingerprint(&self) -> Option<&str> {
        match self.payment_method.as_ref()? {
            Expandable::Object(method) => method.card.as_ref()?.fingerprint.as_deref(),
            Expandable::Id(_) => None,
        }
    }

    /// What was already given back of the capture, in minor units; `None` when the charge is not
    /// expanded.
    #[must_use]
    pub fn refunded_minor(&self) -> Option<i64> {
        match self.latest_charge.as_ref()? {
            Expandable::Object(charge) => Some(charge.amount_refunded),
            Expandable::Id(_) => None,
        }
    }
}

/// What is noted with an intent.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Metadata {
    /// The order that it is for.
    #[serde(default)]
    pub order_id: Option<String>,
}

/// Where an intent is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// No payment method, or the last one was declined.
    RequiresPaymentMethod,
    /// Ready to be confirmed; nothing is charged yet.
    RequiresConfirmation,
    /// The customer has to authenticate.
    RequiresAction,
    /// The bank has not answered yet.
    Processing,
    /// Authorised, to be captured by hand.
    RequiresCapture,
    /// Ended without a charge; can never be confirmed any more.
    Canceled,
    /// Captured.
    Succeeded,
    /// A state of a newer version.
    #[serde(other)]
    Other,
}

/// A field that holds an id, or the object itself when asked with `expand[]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Expandable<T> {
    /// Only the id.
    Id(String),
    /// The object.
    Object(T),
}

/// A payment method.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct PaymentMethod {
    /// The card, if it is one.
    #[serde(default)]
    pub card: Option<Card>,
}

/// A card as the provider shows it: never its number.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Card {
    /// The same for the same number, whoever uses it.
    #[serde(default)]
    pub fingerprint: Option<String>,
}

/// A charge.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Charge {
    /// When it was made, in seconds since 1970.
    #[serde(default)]
    pub created: i64,
    /// What was given back, in minor units.
    #[serde(default)]
    pub amount_refunded: i64,
}

/// What the customer has to do.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct NextAction {
    /// Go to a page.
    #[serde(default)]
    pub redirect_to_url: Option<RedirectToUrl>,
}

/// The page to go to.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct RedirectToUrl {
    /// Its address.
    pub url: String,
}

/// A refund.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Refund {
    /// Its id (`re_…`).
    pub id: String,
    /// `succeeded`; `pending` or `requires_action`, from which it may still fail; `failed` or `canceled`.
    /// Even `succeeded` may become `failed` when the customer's bank sends the money back days later.
    pub status: String,
    /// What is given back, in minor units.
    pub amount: i64,
}

/// The `error` object of an answer, and the `last_payment_error` of an intent.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct ApiError {
    /// `card_error`, `invalid_request_error`, `idempotency_error`, `api_error`.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// The stable code.
    #[serde(default)]
    pub code: Option<String>,
    /// Why the bank said no.
    #[serde(default)]
    pub decline_code: Option<String>,
    /// The parameter at fault.
    #[serde(default)]
    pub param: Option<String>,
    /// The intent, when its state is the reason.
    #[serde(default)]
    pub payment_intent: Option<Box<Intent>>,
}

/// The body of an answer that is an error.
#[derive(Debug, Deserialize)]
pub(super) struct ErrorBody {
    pub(super) error: ApiError,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_cannot_leave_its_segment_of_a_url() {
        for bad in [
            "",
            "a/b",
            "..",
            "pi_1?x",
            "pi 1",
            "pi_é",
            "a\r\n",
            &"x".repeat(256),
        ] {
            assert_eq!(IntentId::new(bad), None, "{bad:?}");
        }
        assert!(IntentId::new("pi_3Abc-9").is_some());
    }

    #[test]
    fn what_a_newer_version_adds_is_accepted() {
        let intent: Intent = serde_json::from_str(
            r#"{"id":"pi_1","object":"payment_intent","status":"requires_a_dance","amount":5,
                "currency":"eur","payment_method":"pm_1","latest_charge":null,"new_field":{}}"#,
        )
        .expect("reads");
        assert_eq!(intent.status, Status::Other);
        assert_eq!(intent.fingerprint(), None);
        assert_eq!(intent.refunded_minor(), None);
    }
}
