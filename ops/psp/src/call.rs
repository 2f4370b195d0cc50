//! Which operation a request asks for, with its parameters read and checked.
//!
//! Nothing here looks at any state. What is refused here never began to execute, so, as at Stripe, its
//! idempotency key stays free.

use crate::cards::{Card, passes_luhn};
use crate::error::StripeError;
use crate::faults::Operation;
use crate::form::Params;
use crate::intent::{CaptureMethod, Metadata};
use crate::list::Page;
use crate::step::{AMOUNT_MAX, AMOUNT_MIN};
use crate::view::Expand;

/// An operation of the API.
#[derive(Debug)]
pub(crate) enum Call {
    CreateIntent(CreateIntent),
    ConfirmIntent(String, ConfirmIntent),
    CaptureIntent(String, Option<i64>),
    CancelIntent(String, Option<Box<str>>),
    UpdateIntent(String, UpdateIntent),
    RetrieveIntent(String),
    ListIntents(Page),
    CreateRefund(CreateRefund),
    RetrieveRefund(String),
    /// Of one intent or charge, if named.
    ListRefunds(Page, Option<String>),
    RetrieveCharge(String),
    CreateMethod(NewMethod),
    RetrieveMethod(String),
    RetrieveEvent(String),
    ListEvents(Page),
}

/// How a request names its payment method.
#[derive(Debug)]
pub(crate) enum MethodParam {
    Id(String),
    Data(NewMethod),
}

#[derive(Debug)]
pub(crate) struct CreateIntent {
    pub(crate) amount: i64,
    pub(crate) currency: Box<str>,
    pub(crate) capture_method: Option<CaptureMethod>,
    pub(crate) metadata: Metadata,
    pub(crate) description: Option<Box<str>>,
    /// Whether to confirm at once, which is why the rest of the parameters may be there.
    pub(crate) confirm: bool,
    pub(crate) payment: ConfirmIntent,
}

#[derive(Debug)]
pub(crate) struct ConfirmIntent {
    pub(crate) method: Option<MethodParam>,
    pub(crate) receipt_email: Option<Box<str>>,
    pub(crate) return_url: Option<Box<str>>,
    pub(crate) capture_method: Option<CaptureMethod>,
    pub(crate) unattended: bool,
}

#[derive(Debug)]
pub(crate) struct UpdateIntent {
    pub(crate) amount: Option<i64>,
    /// An empty value takes the key away.
    pub(crate) metadata: Metadata,
    pub(crate) description: Option<Box<str>>,
    pub(crate) payment: ConfirmIntent,
}

#[derive(Debug)]
pub(crate) struct CreateRefund {
    /// The id of an intent or of its charge.
    pub(crate) of: String,
    pub(crate) amount: Option<i64>,
    pub(crate) reason: Option<Box<str>>,
    pub(crate) metadata: Metadata,
}

/// A card as a request describes it. The number itself is not kept.
#[derive(Debug)]
pub(crate) struct NewMethod {
    pub(crate) card: Card,
    /// Whether it came as a number, which has one fingerprint whoever pays.
    pub(crate) by_number: bool,
    pub(crate) exp_month: u8,
    pub(crate) exp_year: u16,
    pub(crate) email: Option<Box<str>>,
}

/// What Stripe's other parameters are called. They are read and have no effect.
const TOLERATED: [&str; 21] = [
    "automatic_payment_methods",
    "confirmation_method",
    "confirmation_token",
    "customer",
    "excluded_payment_method_types",
    "mandate",
    "mandate_data",
    "payment_details",
    "payment_method_configuration",
    "payment_method_options",
    "payment_method_types",
    "radar_options",
    "setup_future_usage",
    "shipping",
    "statement_descriptor",
    "statement_descriptor_suffix",
    "use_stripe_sdk",
    "transfer_group",
    "instructions_email",
    "origin",
    "final_capture",
];

impl Call {
    /// What it does, as plans and metrics name it, the last one being what it is for.
    pub(crate) fn operations(&self) -> &'static [Operation] {
        match self {
            Self::CreateIntent(create) if create.confirm => {
                &[Operation::Create, Operation::Confirm]
            }
            Self::CreateIntent(_) => &[Operation::Create],
            Self::ConfirmIntent(..) => &[Operation::Confirm],
            Self::CaptureIntent(..) => &[Operation::Capture],
            Self::CancelIntent(..) => &[Operation::Cancel],
            Self::UpdateIntent(..) => &[Operation::Update],
            Self::CreateRefund(_) => &[Operation::Refund],
            Self::CreateMethod(_) => &[],
            Self::RetrieveIntent(_)
            | Self::ListIntents(_)
            | Self::RetrieveRefund(_)
            | Self::ListRefunds(..)
            | Self::RetrieveCharge(_)
            | Self::RetrieveMethod(_)
            | Self::RetrieveEvent(_)
            | Self::ListEvents(_) => &[Operation::Retrieve],
        }
    }

    /// Finds the operation. `segments` is the path after `/v1/`.
    pub(crate) fn read(
        method: &str,
        segments: &[&str],
        mut params: Params,
    ) -> Result<(Self, Expand), StripeError> {
        let expand = Expand::of(&params.expand());
        let p = &mut params;
        let call = match (method, segments) {
            ("POST", ["payment_intents"]) => Self::CreateIntent(create_intent(p)?),
            ("POST", ["payment_intents", id, "confirm"]) => {
                Self::ConfirmIntent(named(id), payment(p)?)
            }
            ("POST", ["payment_intents", id, "capture"]) => {
                let amount = p.integer("amount_to_capture")?;
                p.tolerate(&TOLERATED);
                Self::CaptureIntent(named(id), amount)
            }
            ("POST", ["payment_intents", id, "cancel"]) => {
                Self::CancelIntent(named(id), cancellation_reason(p)?)
            }
            ("POST", ["payment_intents", id]) => Self::UpdateIntent(named(id), update_intent(p)?),
            ("GET", ["payment_intents", id]) => {
                p.text("client_secret")?;
                Self::RetrieveIntent(named(id))
            }
            ("GET", ["payment_intents"]) => {
                p.tolerate(&["customer"]);
                Self::ListIntents(Page::read(p)?)
            }
            ("POST", ["refunds"]) => Self::CreateRefund(create_refund(p)?),
            ("GET", ["refunds", id]) => Self::RetrieveRefund(named(id)),
            ("GET", ["refunds"]) => {
                let of = p.text("payment_intent")?.or(p.text("charge")?);
                Self::ListRefunds(Page::read(p)?, of)
            }
            ("GET", ["charges", id]) => Self::RetrieveCharge(named(id)),
            ("POST", ["payment_methods"]) => {
                let new = new_method(p, "")?;
                p.tolerate(&["metadata", "billing_details", "allow_redisplay"]);
                Self::CreateMethod(new)
            }
            ("GET", ["payment_methods", id]) => Self::RetrieveMethod(named(id)),
            ("GET", ["events", id]) => Self::RetrieveEvent(named(id)),
            ("GET", ["events"]) => Self::ListEvents(Page::read(p)?),
            _ => {
                let path = format!("/v1/{}", segments.join("/"));
                return Err(StripeError::unknown_url(method, &path));
            }
        };
        params.finish()?;
        Ok((call, expand))
    }
}

fn named(id: &str) -> String {
    id.to_owned()
}

fn create_intent(p: &mut Params) -> Result<CreateIntent, StripeError> {
    let amount = Params::required("amount", p.integer("amount")?)?;
    let currency = Params::required("currency", p.text("currency")?)?.to_lowercase();
    if !CURRENCIES.contains(&&*currency) {
        return Err(StripeError::invalid(format!(
            "Invalid currency: {currency}. Stripe currently supports these currencies: {}",
            CURRENCIES.join(", ")
        ))
        .param("currency"));
    }
    check_amount(amount)?;
    let confirm = p.boolean("confirm")?;
    let metadata = p.metadata()?;
    let description = p.bounded("description", 1000)?;
    let payment = payment(p)?;
    if payment.return_url.is_some() && !confirm {
        return Err(StripeError::invalid(
            "The parameter `return_url` cannot be passed when creating a PaymentIntent unless \
             `confirm` is set to true.",
        )
        .param("return_url"));
    }
    Ok(CreateIntent {
        amount,
        currency: currency.into(),
        capture_method: payment.capture_method,
        metadata,
        description,
        confirm,
        payment,
    })
}

fn check_amount(amount: i64) -> Result<(), StripeError> {
    if amount < 1 {
        return Err(
            StripeError::invalid("This value must be greater than or equal to 1.")
                .code("parameter_invalid_integer")
                .param("amount"),
        );
    }
    if amount < AMOUNT_MIN {
        return Err(StripeError::invalid(format!(
            "Amount must be at least {AMOUNT_MIN} (in the smallest unit of the currency)"
        ))
        .code("amount_too_small")
        .param("amount"));
    }
    if amount > AMOUNT_MAX {
        return Err(
            StripeError::invalid(format!("Amount must be no more than {AMOUNT_MAX}"))
                .code("amount_too_large")
                .param("amount"),
        );
    }
    Ok(())
}

fn update_intent(p: &mut Params) -> Result<UpdateIntent, StripeError> {
    let amount = p.integer("amount")?;
    if let Some(amount) = amount {
        check_amount(amount)?;
    }
    Ok(UpdateIntent {
        amount,
        metadata: p.metadata_changes()?,
        description: p.bounded("description", 1000)?,
        payment: payment(p)?,
    })
}

/// What creating, updating and confirming share.
fn payment(p: &mut Params) -> Result<ConfirmIntent, StripeError> {
    let id = p.text("payment_method")?;
    let data = p.has_nested("payment_method_data");
    let method = match (id, data) {
        (Some(id), _) => Some(MethodParam::Id(id)),
        (None, true) => Some(MethodParam::Data(new_method(p, "payment_method_data")?)),
        (None, false) => None,
    };
    p.tolerate(&["payment_method_data"]);
    let return_url = p.bounded("return_url", 2048)?;
    if let Some(url) = &return_url {
        // The page sends a browser there, so nothing that could run as a script.
        let web = url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if !web {
            return Err(StripeError::invalid("Not a valid URL")
                .code("url_invalid")
                .param("return_url"));
        }
    }
    let capture_method = p.word(
        "capture_method",
        &[
            ("automatic", CaptureMethod::Automatic),
            ("automatic_async", CaptureMethod::Automatic),
            ("manual", CaptureMethod::Manual),
        ],
    )?;
    // `off_session` may also be a word (`one_off`, `recurring`), which means true.
    let off_session = matches!(p.text("off_session")?.as_deref(), Some(said) if said != "false");
    let unattended = p.boolean("error_on_requires_action")? || off_session;
    let receipt_email = p.bounded("receipt_email", 800)?;
    if receipt_email
        .as_ref()
        .is_some_and(|email| !email.contains('@'))
    {
        return Err(StripeError::invalid("Invalid email address")
            .code("email_invalid")
            .param("receipt_email"));
    }
    p.tolerate(&TOLERATED);
    Ok(ConfirmIntent {
        method,
        receipt_email,
        return_url,
        capture_method,
        unattended,
    })
}

fn cancellation_reason(p: &mut Params) -> Result<Option<Box<str>>, StripeError> {
    let words = [
        "duplicate",
        "fraudulent",
        "requested_by_customer",
        "abandoned",
    ];
    let reason = p.word("cancellation_reason", &words.map(|word| (word, word)))?;
    Ok(reason.map(Into::into))
}

fn create_refund(p: &mut Params) -> Result<CreateRefund, StripeError> {
    let intent = p.text("payment_intent")?;
    let charge = p.text("charge")?;
    let of = intent.or(charge).ok_or_else(|| {
        StripeError::invalid("One of the following params should be provided for this request: payment_intent or charge.")
            .code("parameter_missing")
            .param("payment_intent")
    })?;
    let words = ["duplicate", "fraudulent", "requested_by_customer"];
    let reason = p.word("reason", &words.map(|word| (word, word)))?;
    let refund = CreateRefund {
        of,
        amount: p.integer("amount")?,
        reason: reason.map(Into::into),
        metadata: p.metadata()?,
    };
    p.tolerate(&[
        "instructions_email",
        "origin",
        "refund_application_fee",
        "reverse_transfer",
    ]);
    Ok(refund)
}

/// The names of a card's parameters, at the top and within `payment_method_data`.
struct CardNames {
    kind: &'static str,
    number: &'static str,
    token: &'static str,
    exp_month: &'static str,
    exp_year: &'static str,
    cvc: &'static str,
    email: &'static str,
}

fn new_method(p: &mut Params, within: &str) -> Result<NewMethod, StripeError> {
    let names = if within.is_empty() {
        CardNames {
            kind: "type",
            number: "card[number]",
            token: "card[token]",
            exp_month: "card[exp_month]",
            exp_year: "card[exp_year]",
            cvc: "card[cvc]",
            email: "billing_details[email]",
        }
    } else {
        CardNames {
            kind: "payment_method_data[type]",
            number: "payment_method_data[card][number]",
            token: "payment_method_data[card][token]",
            exp_month: "payment_method_data[card][exp_month]",
            exp_year: "payment_method_data[card][exp_year]",
            cvc: "payment_method_data[card][cvc]",
            email: "payment_method_data[billing_details][email]",
        }
    };
    let kind = Params::required(names.kind, p.text(names.kind)?)?;
    if kind != "card" {
        return Err(StripeError::invalid(format!(
            "Invalid {}: this simulator knows only card",
            names.kind
        ))
        .param(names.kind));
    }
    let email = p.bounded(names.email, 800)?;
    let cvc = p.text(names.cvc)?;
    let exp_month = p.integer(names.exp_month)?;
    let exp_year = p.integer(names.exp_year)?;
    if let Some(token) = p.text(names.token)? {
        let card = Card::of_test_id(&token)
            .ok_or_else(|| StripeError::missing("token", &token, names.token))?;
        return Ok(NewMethod {
            card,
            by_number: false,
            exp_month: 12,
            exp_year: 2034,
            email,
        });
    }
    let mut number = Params::required(names.number, p.text(names.number)?)?;
    number.retain(|c| !matches!(c, ' ' | '-'));
    if !passes_luhn(&number) {
        return Err(
            StripeError::card("incorrect_number", "Your card number is incorrect.")
                .param(names.number),
        );
    }
    let card = Card::of_number(&number).ok_or_else(|| {
        let mut error = StripeError::card(
            "card_declined",
            "Your card was declined. Your request was in test mode, but used a non test card. For a \
             list of valid test cards, visit: https://stripe.com/docs/testing.",
        );
        error.decline_code = Some("test_mode_live_card");
        error
    })?;
    if cvc
        .is_some_and(|cvc| !matches!(cvc.len(), 3 | 4) || !cvc.bytes().all(|b| b.is_ascii_digit()))
    {
        return Err(
            StripeError::card("invalid_cvc", "Your card's security code is invalid.")
                .param(names.cvc),
        );
    }
    let exp_month = Params::required(names.exp_month, exp_month)?;
    let exp_year = Params::required(names.exp_year, exp_year)?;
    if !(1..=12).contains(&exp_month) {
        return Err(StripeError::card(
            "invalid_expiry_month",
            "Your card's expiration month is invalid.",
        )
        .param(names.exp_month));
    }
    if !(2000..=2100).contains(&exp_year) {
        return Err(StripeError::card(
            "invalid_expiry_year",
            "Your card's expiration year is invalid.",
        )
        .param(names.exp_year));
    }
    Ok(NewMethod {
        card,
        by_number: true,
        exp_month: u8::try_from(exp_month).unwrap_or(12),
        exp_year: u16::try_from(exp_year).unwrap_or(2034),
        email,
    })
}

/// The currencies Stripe can charge in.
#[rustfmt::skip]
const CURRENCIES: [&str; 135] = [
    "usd", "aed", "afn", "all", "amd", "ang", "aoa", "ars", "aud", "awg", "azn", "bam", "bbd", "bdt", "bgn",
    "bif", "bmd", "bnd", "bob", "brl", "bsd", "bwp", "byn", "bzd", "cad", "cdf", "chf", "clp", "cny", "cop",
    "crc", "cve", "czk", "djf", "dkk", "dop", "dzd", "egp", "etb", "eur", "fjd", "fkp", "gbp", "gel", "gip",
    "gmd", "gnf", "gtq", "gyd", "hkd", "hnl", "hrk", "htg", "huf", "idr", "ils", "inr", "isk", "jmd", "jpy",
    "kes", "kgs", "khr", "kmf", "krw", "kyd", "kzt", "lak", "lbp", "lkr", "lrd", "lsl", "mad", "mdl", "mga",
    "mkd", "mmk", "mnt", "mop", "mur", "mvr", "mwk", "mxn", "myr", "mzn", "nad", "ngn", "nio", "nok", "npr",
    "nzd", "pab", "pen", "pgk", "php", "pkr", "pln", "pyg", "qar", "ron", "rsd", "rub", "rwf", "sar", "sbd",
    "scr", "sek", "sgd", "shp", "sle", "sos", "srd", "std", "szl", "thb", "tjs", "tnd", "top", "try", "ttd",
    "twd", "tzs", "uah", "ugx", "uyu", "uzs", "vnd", "vuv", "wst", "xaf", "xcd", "xof", "xpf", "yer", "zar",
];
