//! The objects as Stripe's API shows them. Fields that nothing here gives a value are `null`, as there.

mod shapes;

use crate::error::StripeError;
use crate::id;
use crate::intent::{Charge, ChargeState, Intent, Method, Refund, RefundStatus, Status};
use crate::store::Event;
use shapes::{
    Address, BillingDetails, CardView, Checks, Empty, EventData, EventObject, EventRequest,
    FailureView, MethodDetails, NULL, NextAction, Outcome, RedirectToUrl, Reference,
};
pub(crate) use shapes::{
    ChargeView, ErrorView, EventView, IntentView, ListView, MethodView, RefundView,
};

/// The version of Stripe's API whose shapes these are.
pub(crate) const API_VERSION: &str = "2024-06-20";

/// Which ids are to be shown as whole objects. Paths that name nothing here are tolerated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Expand {
    payment_method: bool,
    latest_charge: bool,
    payment_intent: bool,
    charge: bool,
}

impl Expand {
    pub(crate) fn of(paths: &[String]) -> Self {
        let mut expand = Self::default();
        for path in paths {
            let path = path.strip_prefix("data.").unwrap_or(path);
            for part in path.split('.') {
                match part {
                    "payment_method" => expand.payment_method = true,
                    "latest_charge" => expand.latest_charge = true,
                    "payment_intent" => expand.payment_intent = true,
                    "charge" => expand.charge = true,
                    _ => {}
                }
            }
        }
        expand
    }
}

/// Makes views of objects.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Viewer<'a> {
    /// Where the page stands that the payer is sent to, without a slash at the end.
    pub(crate) pages_url: &'a str,
}

fn refer<T>(whole: bool, id: impl FnOnce() -> String, object: impl FnOnce() -> T) -> Reference<T> {
    if whole {
        Reference::Whole(Box::new(object()))
    } else {
        Reference::Id(id())
    }
}

impl<'a> Viewer<'a> {
    pub(crate) fn intent(self, intent: &'a Intent, expand: Expand) -> IntentView<'a> {
        let failure = intent.last_error.as_deref();
        let charge = intent.charge.as_deref();
        IntentView {
            id: &intent.id,
            object: "payment_intent",
            amount: intent.amount,
            amount_capturable: intent.amount_capturable(),
            amount_received: intent.amount_received(),
            application: NULL,
            application_fee_amount: NULL,
            automatic_payment_methods: NULL,
            canceled_at: intent.canceled_at,
            cancellation_reason: intent.cancellation_reason.as_deref(),
            capture_method: intent.capture_method.name(),
            client_secret: &intent.client_secret,
            confirmation_method: "automatic",
            created: intent.created,
            currency: &intent.currency,
            customer: NULL,
            description: intent.description.as_deref(),
            last_payment_error: failure.map(|failure| {
                let charge = intent.charge_id().filter(|_| failure.charged);
                let error = failure.decline.error();
                failure_view(&error, charge, Some(&failure.method))
            }),
            latest_charge: charge.map(|charge| {
                refer(
                    expand.latest_charge,
                    || charge_id(intent, charge),
                    || self.charge(intent, charge, Expand::default()),
                )
            }),
            livemode: false,
            metadata: &intent.metadata,
            next_action: (intent.status == Status::RequiresAction).then(|| NextAction {
                redirect_to_url: RedirectToUrl {
                    return_url: intent.return_url.as_deref(),
                    url: format!(
                        "{}/_sim/authenticate/{}?client_secret={}",
                        self.pages_url, intent.id, intent.client_secret
                    ),
                },
                kind: "redirect_to_url",
            }),
            on_behalf_of: NULL,
            payment_method: intent.method.as_ref().map(|method| {
                refer(
                    expand.payment_method,
                    || method.id.to_string(),
                    || method_view(method),
                )
            }),
            payment_method_options: Empty {},
            payment_method_types: ["card"],
            processing: NULL,
            receipt_email: intent.receipt_email.as_deref(),
            review: NULL,
            setup_future_usage: NULL,
            shipping: NULL,
            source: NULL,
            statement_descriptor: NULL,
            statement_descriptor_suffix: NULL,
            status: intent.status.name(),
            transfer_data: NULL,
            transfer_group: NULL,
        }
    }

    pub(crate) fn charge(
        self,
        intent: &'a Intent,
        charge: &'a Charge,
        expand: Expand,
    ) -> ChargeView<'a> {
        let failure = match charge.state {
            ChargeState::Failed(why) => Some(why.error()),
            _ => None,
        };
        let failed = failure.is_some();
        ChargeView {
            id: charge_id(intent, charge),
            object: "charge",
            amount: charge.amount,
            amount_captured: charge.captured,
            amount_refunded: charge.refunded,
            balance_transaction: NULL,
            billing_details: billing_details(&charge.method),
            captured: charge.state == ChargeState::Captured,
            created: charge.created,
            currency: &intent.currency,
            customer: NULL,
            description: intent.description.as_deref(),
            disputed: charge.disputed,
            failure_code: failure.as_ref().and_then(|error| error.code),
            failure_message: failure.as_ref().map(|error| error.message.clone()),
            fraud_details: Empty {},
            livemode: false,
            metadata: &intent.metadata,
            outcome: Outcome {
                network_status: if failed {
                    "declined_by_network"
                } else {
                    "approved_by_network"
                },
                reason: failure.as_ref().and_then(|error| error.decline_code),
                risk_level: "normal",
                seller_message: if failed {
                    "The bank did not return any further details with this decline."
                } else {
                    "Payment complete."
                },
                kind: if failed {
                    "issuer_declined"
                } else {
                    "authorized"
                },
            },
            paid: !failed,
            payment_intent: refer(
                expand.payment_intent,
                || intent.id.to_string(),
                || self.intent(intent, Expand::default()),
            ),
            payment_method: &charge.method.id,
            payment_method_details: MethodDetails {
                card: card_view(&charge.method),
                kind: "card",
            },
            receipt_email: intent.receipt_email.as_deref(),
            refunded: charge.captured > 0 && charge.refunded == charge.captured,
            status: if failed { "failed" } else { "succeeded" },
        }
    }

    /// A refund, with the intent it belongs to.
    pub(crate) fn refund(
        self,
        refund: &'a Refund,
        intent: &'a Intent,
        expand: Expand,
    ) -> RefundView<'a> {
        let charge = match intent.charge.as_deref() {
            Some(charge) if expand.charge => {
                Reference::Whole(Box::new(self.charge(intent, charge, Expand::default())))
            }
            _ => Reference::Id(refund.charge.to_string()),
        };
        RefundView {
            id: &refund.id,
            object: "refund",
            amount: refund.amount,
            balance_transaction: NULL,
            charge,
            created: refund.created,
            currency: &refund.currency,
            metadata: &refund.metadata,
            payment_intent: refer(
                expand.payment_intent,
                || refund.intent.to_string(),
                || self.intent(intent, Expand::default()),
            ),
            reason: refund.reason.as_deref(),
            failure_reason: (refund.status == RefundStatus::Failed)
                .then_some("expired_or_canceled_card"),
            pending_reason: (refund.status == RefundStatus::Pending).then_some("processing"),
            receipt_number: NULL,
            status: refund.status.name(),
        }
    }

    pub(crate) fn event(self, event: &'a Event) -> EventView<'a> {
        let intent = &*event.intent;
        let expand = Expand::default();
        let of_refund = event.kind.starts_with("refund.") || event.kind == "charge.refund.updated";
        let of_charge = event.kind.starts_with("charge.") && !of_refund;
        let charge = intent.charge.as_deref().filter(|_| of_charge);
        let object = match (charge, event.refund.as_deref().filter(|_| of_refund)) {
            (Some(charge), _) => EventObject::Charge(Box::new(self.charge(intent, charge, expand))),
            (None, Some(refund)) => {
                EventObject::Refund(Box::new(self.refund(refund, intent, expand)))
            }
            (None, None) => EventObject::Intent(Box::new(self.intent(intent, expand))),
        };
        EventView {
            id: &event.id,
            object: "event",
            api_version: API_VERSION,
            created: event.created,
            data: EventData { object },
            livemode: false,
            pending_webhooks: 1,
            request: EventRequest {
                id: &event.request,
                idempotency_key: event.key.as_deref(),
            },
            kind: &event.kind,
        }
    }

    /// The body of a refused request; `intent` is the one it was about, if any.
    pub(crate) fn error(self, error: &StripeError, intent: Option<&'a Intent>) -> ErrorView<'a> {
        let intent = intent.filter(|_| error.with_intent);
        let failure = intent.and_then(|intent| intent.last_error.as_deref());
        let failure = failure.filter(|_| error.status == 402);
        let charge = intent
            .and_then(Intent::charge_id)
            .filter(|_| failure.is_some_and(|failure| failure.charged));
        let mut view = failure_view(error, charge, failure.map(|failure| &failure.method));
        view.payment_intent = intent.map(|intent| Box::new(self.intent(intent, Expand::default())));

        ErrorView { error: view }
    }
}

pub(crate) fn method_view(method: &Method) -> MethodView<'_> {
    MethodView {
        id: &method.id,
        object: "payment_method",
        allow_redisplay: "unspecified",
        billing_details: billing_details(method),
        card: card_view(method),
        created: method.created,
        customer: NULL,
        livemode: false,
        metadata: Empty {},
        kind: "card",
    }
}

fn charge_id(intent: &Intent, charge: &Charge) -> String {
    id::part_of_intent("ch", &intent.id, charge.serial)
}

fn failure_view<'a>(
    error: &StripeError,
    charge: Option<String>,
    method: Option<&'a Method>,
) -> FailureView<'a> {
    FailureView {
        charge,
        code: error.code,
        decline_code: error.decline_code,
        doc_url: error.code.map(|code| {
            format!(
                "https://stripe.com/docs/error-codes/{}",
                code.replace('_', "-")
            )
        }),
        message: error.message.clone(),
        param: error.param.as_ref().map(ToString::to_string),
        payment_intent: None,
        payment_method: method.map(method_view),
        kind: error.kind.name(),
    }
}

fn billing_details(method: &Method) -> BillingDetails<'_> {
    BillingDetails {
        address: Address::default(),
        email: method.email.as_deref(),
        name: NULL,
        phone: NULL,
    }
}

fn card_view(method: &Method) -> CardView<'_> {
    let card = method.card.0;
    CardView {
        brand: card.brand,
        checks: Checks {
            address_line1_check: NULL,
            address_postal_code_check: NULL,
            cvc_check: "pass",
        },
        country: card.country,
        exp_month: method.exp_month,
        exp_year: method.exp_year,
        fingerprint: &method.fingerprint,
        funding: card.funding,
        last4: card.last4(),
        network: card.brand,
        three_d_secure: NULL,
        wallet: NULL,
    }
}
