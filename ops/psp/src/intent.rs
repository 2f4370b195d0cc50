//! The objects the provider keeps: intents with their payment method and charge, and refunds.
//!
//! Amounts are in minor units of the currency; times are seconds since 1970, as Stripe has them.

use serde::{Deserialize, Serialize};

use crate::cards::{Card, Decline};
use crate::id;

/// `metadata`: at most 50 pairs, keys up to 40 characters, values up to 500.
pub(crate) type Metadata = Vec<(Box<str>, Box<str>)>;

/// Where an intent stands. `processing` is missing: no card payment dwells in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    RequiresPaymentMethod,
    RequiresConfirmation,
    RequiresAction,
    RequiresCapture,
    Canceled,
    Succeeded,
}

impl Status {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RequiresPaymentMethod => "requires_payment_method",
            Self::RequiresConfirmation => "requires_confirmation",
            Self::RequiresAction => "requires_action",
            Self::RequiresCapture => "requires_capture",
            Self::Canceled => "canceled",
            Self::Succeeded => "succeeded",
        }
    }
}

/// Whether a confirmed payment is captured at once or by a request of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CaptureMethod {
    Automatic,
    Manual,
}

impl CaptureMethod {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Automatic => "automatic",
            Self::Manual => "manual",
        }
    }
}

/// A card of a payer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Method {
    pub(crate) id: Box<str>,
    pub(crate) card: Card,
    /// The same for the same card of the same payer, whatever the id.
    pub(crate) fingerprint: Box<str>,
    pub(crate) exp_month: u8,
    pub(crate) exp_year: u16,
    pub(crate) created: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) email: Option<Box<str>>,
}

impl Method {
    /// The card that a test method stands for, as this payer's.
    pub(crate) fn of_payer(id: String, card: Card, email: Option<Box<str>>, now: i64) -> Self {
        Self {
            id: id.into(),
            card,
            fingerprint: fingerprint_of_payer(card, email.as_deref()),
            exp_month: 12,
            exp_year: 2034,
            created: now,
            email,
        }
    }
}

/// What a request names as its payment method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MethodChoice {
    /// `pm_card_…`: a card of this kind of this payer. It becomes a payment method of the intent.
    Test(Card),
    /// One made earlier.
    Saved(Method),
}

/// The fingerprint of an explicit card number.
pub(crate) fn fingerprint_of_number(card: Card) -> Box<str> {
    let hash = id::digest(&[b"number", card.0.number.as_bytes()]);
    id::base62(hash, 16).into()
}

/// The fingerprint of a test method: it depends on the payer's e-mail, so that many payers are many cards.
pub(crate) fn fingerprint_of_payer(card: Card, email: Option<&str>) -> Box<str> {
    let email = email.unwrap_or("").trim().to_lowercase();
    let hash = id::digest(&[b"payer", card.0.name.as_bytes(), email.as_bytes()]);
    id::base62(hash, 16).into()
}

/// What became of a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ChargeState {
    /// The money is reserved, not taken.
    Authorised,
    /// The money is taken.
    Captured,
    /// The reservation was given up.
    Released,
    /// The bank said no.
    Failed(Decline),
}

/// An attempt to take the money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Charge {
    /// Its number within the intent, from which the id follows.
    pub(crate) serial: u16,
    pub(crate) method: Method,
    pub(crate) created: i64,
    pub(crate) amount: i64,
    pub(crate) captured: i64,
    pub(crate) refunded: i64,
    pub(crate) state: ChargeState,
    pub(crate) disputed: bool,
}

/// The last failure, with the method it happened to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) decline: Decline,
    pub(crate) method: Method,
    /// Whether the charge is the failed one. (A refused authentication makes no charge.)
    pub(crate) charged: bool,
}

/// A PaymentIntent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Intent {
    pub(crate) id: Box<str>,
    pub(crate) client_secret: Box<str>,
    pub(crate) created: i64,
    pub(crate) amount: i64,
    pub(crate) currency: Box<str>,
    pub(crate) capture_method: CaptureMethod,
    pub(crate) status: Status,
    pub(crate) metadata: Metadata,
    /// The last number given to a charge or payment method of this intent.
    pub(crate) serial: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) receipt_email: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) return_url: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) method: Option<Method>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) charge: Option<Box<Charge>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_error: Option<Box<Failure>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) canceled_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cancellation_reason: Option<Box<str>>,
}

impl Intent {
    /// What the ledger calls the reference: the order the caller named in `metadata[order_id]`.
    pub(crate) fn reference(&self) -> Option<&str> {
        self.metadata
            .iter()
            .find(|(key, _)| &**key == "order_id")
            .map(|(_, value)| &**value)
    }

    pub(crate) fn charge_id(&self) -> Option<String> {
        let charge = self.charge.as_ref()?;
        Some(id::part_of_intent("ch", &self.id, charge.serial))
    }

    pub(crate) fn amount_received(&self) -> i64 {
        self.charge.as_ref().map_or(0, |charge| charge.captured)
    }

    pub(crate) fn amount_capturable(&self) -> i64 {
        match (self.status, &self.charge) {
            (Status::RequiresCapture, Some(charge)) => charge.amount,
            _ => 0,
        }
    }

    /// The method with this id, if it is or was one of this intent's.
    pub(crate) fn method_called(&self, id: &str) -> Option<&Method> {
        let charged = self.charge.as_ref().map(|charge| &charge.method);
        let failed = self.last_error.as_ref().map(|failure| &failure.method);
        [self.method.as_ref(), charged, failed]
            .into_iter()
            .flatten()
            .find(|method| &*method.id == id)
    }
}

/// Where a refund stands. `requires_action` and `canceled` are missing: no refund to a card has them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RefundStatus {
    /// On its way to the bank.
    Pending,
    /// The money is back with the payer.
    #[default]
    Succeeded,
    /// The bank did not take it: the money is with the shop again.
    Failed,
}

impl RefundStatus {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

/// What will become of a refund, and when (in milliseconds since 1970).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settles {
    pub(crate) at_ms: i64,
    pub(crate) status: RefundStatus,
}

/// A refund.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refund {
    pub(crate) id: Box<str>,
    pub(crate) intent: Box<str>,
    pub(crate) charge: Box<str>,
    pub(crate) created: i64,
    pub(crate) amount: i64,
    pub(crate) currency: Box<str>,
    pub(crate) metadata: Metadata,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<Box<str>>,
    #[serde(default)]
    pub(crate) status: RefundStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) settles: Option<Settles>,
}
