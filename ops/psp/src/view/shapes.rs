//! What each object of the API consists of. No decisions are made here.

use serde::{Serialize, Serializer};

use crate::intent::Metadata;

/// What is always `null` here.
pub(super) type Null = ();
pub(super) const NULL: Null = ();

/// What is always `{}` here.
#[derive(Serialize)]
pub(super) struct Empty {}

/// An id, or the object it names.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Reference<T> {
    Id(String),
    Whole(Box<T>),
}

fn pairs<S: Serializer>(metadata: &Metadata, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(metadata.iter().map(|(key, value)| (key, value)))
}

#[derive(Serialize)]
pub(crate) struct IntentView<'a> {
    pub(super) id: &'a str,
    pub(super) object: &'static str,
    pub(super) amount: i64,
    pub(super) amount_capturable: i64,
    pub(super) amount_received: i64,
    pub(super) application: Null,
    pub(super) application_fee_amount: Null,
    pub(super) automatic_payment_methods: Null,
    pub(super) canceled_at: Option<i64>,
    pub(super) cancellation_reason: Option<&'a str>,
    pub(super) capture_method: &'static str,
    pub(super) client_secret: &'a str,
    pub(super) confirmation_method: &'static str,
    pub(super) created: i64,
    pub(super) currency: &'a str,
    pub(super) customer: Null,
    pub(super) description: Option<&'a str>,
    pub(super) last_payment_error: Option<FailureView<'a>>,
    pub(super) latest_charge: Option<Reference<ChargeView<'a>>>,
    pub(super) livemode: bool,
    #[serde(serialize_with = "pairs")]
    pub(super) metadata: &'a Metadata,
    pub(super) next_action: Option<NextAction<'a>>,
    pub(super) on_behalf_of: Null,
    pub(super) payment_method: Option<Reference<MethodView<'a>>>,
    pub(super) payment_method_options: Empty,
    pub(super) payment_method_types: [&'static str; 1],
    pub(super) processing: Null,
    pub(super) receipt_email: Option<&'a str>,
    pub(super) review: Null,
    pub(super) setup_future_usage: Null,
    pub(super) shipping: Null,
    pub(super) source: Null,
    pub(super) statement_descriptor: Null,
    pub(super) statement_descriptor_suffix: Null,
    pub(super) status: &'static str,
    pub(super) transfer_data: Null,
    pub(super) transfer_group: Null,
}

#[derive(Serialize)]
pub(super) struct NextAction<'a> {
    pub(super) redirect_to_url: RedirectToUrl<'a>,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
}

#[derive(Serialize)]
pub(super) struct RedirectToUrl<'a> {
    pub(super) return_url: Option<&'a str>,
    pub(super) url: String,
}

/// The error object, in answers and as `last_payment_error`.
#[derive(Serialize)]
pub(super) struct FailureView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) charge: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) decline_code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) doc_url: Option<String>,
    pub(super) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) param: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) payment_intent: Option<Box<IntentView<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) payment_method: Option<MethodView<'a>>,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
}

#[derive(Serialize)]
pub(crate) struct ErrorView<'a> {
    pub(super) error: FailureView<'a>,
}

#[derive(Serialize)]
pub(crate) struct MethodView<'a> {
    pub(super) id: &'a str,
    pub(super) object: &'static str,
    pub(super) allow_redisplay: &'static str,
    pub(super) billing_details: BillingDetails<'a>,
    pub(super) card: CardView<'a>,
    pub(super) created: i64,
    pub(super) customer: Null,
    pub(super) livemode: bool,
    pub(super) metadata: Empty,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
}

#[derive(Serialize)]
pub(super) struct BillingDetails<'a> {
    pub(super) address: Address,
    pub(super) email: Option<&'a str>,
    pub(super) name: Null,
    pub(super) phone: Null,
}

#[derive(Serialize, Default)]
pub(super) struct Address {
    pub(super) city: Null,
    pub(super) country: Null,
    pub(super) line1: Null,
    pub(super) line2: Null,
    pub(super) postal_code: Null,
    pub(super) state: Null,
}

#[derive(Serialize)]
pub(super) struct CardView<'a> {
    pub(super) brand: &'static str,
    pub(super) checks: Checks,
    pub(super) country: &'static str,
    pub(super) exp_month: u8,
    pub(super) exp_year: u16,
    pub(super) fingerprint: &'a str,
    pub(super) funding: &'static str,
    pub(super) last4: &'static str,
    pub(super) network: &'static str,
    pub(super) three_d_secure: Null,
    pub(super) wallet: Null,
}

#[derive(Serialize)]
pub(super) struct Checks {
    pub(super) address_line1_check: Null,
    pub(super) address_postal_code_check: Null,
    pub(super) cvc_check: &'static str,
}

#[derive(Serialize)]
pub(crate) struct ChargeView<'a> {
    pub(super) id: String,
    pub(super) object: &'static str,
    pub(super) amount: i64,
    pub(super) amount_captured: i64,
    pub(super) amount_refunded: i64,
    pub(super) balance_transaction: Null,
    pub(super) billing_details: BillingDetails<'a>,
    pub(super) captured: bool,
    pub(super) created: i64,
    pub(super) currency: &'a str,
    pub(super) customer: Null,
    pub(super) description: Option<&'a str>,
    pub(super) disputed: bool,
    pub(super) failure_code: Option<&'static str>,
    pub(super) failure_message: Option<String>,
    pub(super) fraud_details: Empty,
    pub(super) livemode: bool,
    #[serde(serialize_with = "pairs")]
    pub(super) metadata: &'a Metadata,
    pub(super) outcome: Outcome,
    pub(super) paid: bool,
    pub(super) payment_intent: Reference<IntentView<'a>>,
    pub(super) payment_method: &'a str,
    pub(super) payment_method_details: MethodDetails<'a>,
    pub(super) receipt_email: Option<&'a str>,
    pub(super) refunded: bool,
    pub(super) status: &'static str,
}

#[derive(Serialize)]
pub(super) struct Outcome {
    pub(super) network_status: &'static str,
    pub(super) reason: Option<&'static str>,
    pub(super) risk_level: &'static str,
    pub(super) seller_message: &'static str,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
}

#[derive(Serialize)]
pub(super) struct MethodDetails<'a> {
    pub(super) card: CardView<'a>,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
}

#[derive(Serialize)]
pub(crate) struct RefundView<'a> {
    pub(super) id: &'a str,
    pub(super) object: &'static str,
    pub(super) amount: i64,
    pub(super) balance_transaction: Null,
    pub(super) charge: Reference<ChargeView<'a>>,
    pub(super) created: i64,
    pub(super) currency: &'a str,
    #[serde(serialize_with = "pairs")]
    pub(super) metadata: &'a Metadata,
    pub(super) payment_intent: Reference<IntentView<'a>>,
    pub(super) reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failure_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pending_reason: Option<&'static str>,
    pub(super) receipt_number: Null,
    pub(super) status: &'static str,
}

/// An event with the object it is about.
#[derive(Serialize)]
pub(crate) struct EventView<'a> {
    pub(super) id: &'a str,
    pub(super) object: &'static str,
    pub(super) api_version: &'static str,
    pub(super) created: i64,
    pub(super) data: EventData<'a>,
    pub(super) livemode: bool,
    pub(super) pending_webhooks: u8,
    pub(super) request: EventRequest<'a>,
    #[serde(rename = "type")]
    pub(super) kind: &'a str,
}

#[derive(Serialize)]
pub(super) struct EventData<'a> {
    pub(super) object: EventObject<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum EventObject<'a> {
    Intent(Box<IntentView<'a>>),
    Charge(Box<ChargeView<'a>>),
    Refund(Box<RefundView<'a>>),
}

#[derive(Serialize)]
pub(super) struct EventRequest<'a> {
    pub(super) id: &'a str,
    pub(super) idempotency_key: Option<&'a str>,
}

/// A page of a list.
#[derive(Serialize)]
pub(crate) struct ListView<T> {
    pub(crate) object: &'static str,
    pub(crate) data: Vec<T>,
    pub(crate) has_more: bool,
    pub(crate) url: &'static str,
}
