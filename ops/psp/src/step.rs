//! The state machine of PaymentIntents: one total function, without clock, chance or I/O.
//!
//! A refusal of the bank is not an `Err`: the attempt happened, the intent changes and the ledger says so.
//! `Err` means that the request was refused and nothing is different from before.

use serde::{Deserialize, Serialize};

use crate::cards::{Behaviour, Decline};
use crate::error::StripeError;
use crate::id;
use crate::intent::{
    CaptureMethod, Charge, ChargeState, Failure, Intent, Metadata, Method, MethodChoice, Refund,
    Status,
};
use crate::refund::{NewRefund, refunded};

/// The smallest and largest amount of a payment, in minor units, as Stripe has them.
pub(crate) const AMOUNT_MIN: i64 = 50;
pub(crate) const AMOUNT_MAX: i64 = 99_999_999;

/// What is asked of an intent.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    Confirm(Confirm),
    /// The payer's answer on the bank's page.
    Authenticate {
        approved: bool,
    },
    /// Take the reserved money, all of it or a part.
    Capture {
        amount: Option<i64>,
    },
    Cancel {
        reason: Option<Box<str>>,
    },
    /// Give money back, what is left of it or a part.
    Refund(NewRefund),
    Update(Update),
}

/// The parameters of a confirmation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Confirm {
    pub(crate) method: Option<MethodChoice>,
    pub(crate) receipt_email: Option<Box<str>>,
    pub(crate) return_url: Option<Box<str>>,
    pub(crate) capture_method: Option<CaptureMethod>,
    /// Nobody is there to authenticate: a card that wants it is declined.
    pub(crate) unattended: bool,
}

/// What is to be different; what is `None` stays.
#[derive(Debug, Clone, Default)]
pub(crate) struct Update {
    pub(crate) amount: Option<i64>,
    /// An empty value takes the key away.
    pub(crate) metadata: Metadata,
    pub(crate) description: Option<Box<str>>,
    pub(crate) receipt_email: Option<Box<str>>,
    pub(crate) method: Option<MethodChoice>,
}

/// The parameters of a new intent.
#[derive(Debug, Clone)]
pub(crate) struct NewIntent {
    pub(crate) id: Box<str>,
    pub(crate) client_secret: Box<str>,
    pub(crate) amount: i64,
    pub(crate) currency: Box<str>,
    pub(crate) capture_method: CaptureMethod,
    pub(crate) metadata: Metadata,
    pub(crate) receipt_email: Option<Box<str>>,
    pub(crate) description: Option<Box<str>>,
    pub(crate) method: Option<MethodChoice>,
}

/// What the ledger calls a movement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MovementKind {
    Authorised,
    Captured,
    Canceled,
    Refunded,
    /// What was refunded came back: the payer's bank did not take it.
    RefundFailed,
    Declined,
}

/// A line of the ledger before it has its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Movement {
    #[serde(rename = "type")]
    pub(crate) kind: MovementKind,
    pub(crate) amount: i64,
}

/// What follows from a command.
#[derive(Debug, Clone)]
pub(crate) struct Transition {
    pub(crate) intent: Intent,
    pub(crate) refund: Option<Refund>,
    pub(crate) movements: Vec<Movement>,
    /// Event types in the order they happened; the part before the last dot names the object.
    pub(crate) events: Vec<&'static str>,
    /// The bank's refusal, which is the answer although the intent changed.
    pub(crate) refusal: Option<StripeError>,
}

impl Transition {
    pub(crate) fn of(intent: Intent) -> Self {
        Self {
            intent,
            refund: None,
            movements: Vec::new(),
            events: Vec::new(),
            refusal: None,
        }
    }

    pub(crate) fn moved(&mut self, kind: MovementKind, amount: i64) {
        self.movements.push(Movement { kind, amount });
    }

    /// This, then that.
    pub(crate) fn then(self, mut next: Self) -> Self {
        let mut movements = self.movements;
        movements.append(&mut next.movements);
        let mut events = self.events;
        events.append(&mut next.events);
        Self {
            movements,
            events,
            ..next
        }
    }
}

/// A new intent. Amount and currency were checked where the request was read.
pub(crate) fn open(new: NewIntent, now: i64) -> Transition {
    let mut intent = Intent {
        id: new.id,
        client_secret: new.client_secret,
        created: now,
        amount: new.amount,
        currency: new.currency,
        capture_method: new.capture_method,
        status: Status::RequiresPaymentMethod,
        metadata: new.metadata,
        serial: 0,
        receipt_email: new.receipt_email,
        description: new.description,
        return_url: None,
        method: None,
        charge: None,
        last_error: None,
        canceled_at: None,
        cancellation_reason: None,
    };
    if let Some(choice) = new.method {
        attach(&mut intent, choice, now);
        intent.status = Status::RequiresConfirmation;
    }
    let mut transition = Transition::of(intent);
    transition.events.push("payment_intent.created");
    transition
}

/// What `command` makes of `intent` at the time `now` (seconds).
pub(crate) fn step(intent: &Intent, command: Command, now: i64) -> Result<Transition, StripeError> {
    match command {
        Command::Confirm(confirm) => confirmed(intent, confirm, now),
        Command::Authenticate { approved } => authenticated(intent, approved, now),
        Command::Capture { amount } => captured(intent, amount),
        Command::Cancel { reason } => canceled(intent, reason, now),
        Command::Refund(new) => refunded(intent, new),
        Command::Update(update) => updated(intent, update, now),
    }
}

fn confirmed(intent: &Intent, confirm: Confirm, now: i64) -> Result<Transition, StripeError> {
    match intent.status {
        Status::RequiresPaymentMethod | Status::RequiresConfirmation | Status::RequiresAction => {}
        Status::RequiresCapture | Status::Succeeded => {
            return Err(StripeError::unexpected_state(
                "You cannot confirm this PaymentIntent because it has already succeeded after being \
                 previously confirmed.",
            ));
        }
        Status::Canceled => {
            return Err(StripeError::unexpected_state(
                "You cannot confirm this PaymentIntent because it has a status of canceled. Only a \
                 PaymentIntent with one of the following statuses may be confirmed: \
                 requires_confirmation, requires_action.",
            ));
        }
    }
    // A confirmation numbers at most a payment method and a charge.
    if intent.serial > id::SERIAL_MAX - 2 {
        return Err(StripeError::rate_limit());
    }
    let mut next = intent.clone();
    next.receipt_email = confirm.receipt_email.or(next.receipt_email);
    next.return_url = confirm.return_url.or(next.return_url);
    next.capture_method = confirm.capture_method.unwrap_or(next.capture_method);
    if let Some(choice) = confirm.method {
        attach(&mut next, choice, now);
    }
    let Some(method) = next.method.clone() else {
        return Err(StripeError::unexpected_state(
            "You cannot confirm this PaymentIntent because it's missing a payment method. You can \
             either update the PaymentIntent with a payment method and then confirm it again, or \
             confirm it again directly with a payment method or ConfirmationToken.",
        ));
    };
    match method.card.0.behaviour {
        Behaviour::Succeeds | Behaviour::Disputed | Behaviour::Refunds(_) => {
            Ok(charged(next, method, now))
        }
        Behaviour::Declines(why) => Ok(declined(next, method, why, now)),
        Behaviour::Authenticates(_) if confirm.unattended => {
            Ok(declined(next, method, Decline::AuthenticationRequired, now))
        }
        Behaviour::Authenticates(_) => {
            next.status = Status::RequiresAction;
            let mut transition = Transition::of(next);
            transition.events.push("payment_intent.requires_action");
            Ok(transition)
        }
    }
}

fn authenticated(intent: &Intent, approved: bool, now: i64) -> Result<Transition, StripeError> {
    let (Status::RequiresAction, Some(method)) = (intent.status, intent.method.clone()) else {
        return Err(StripeError::unexpected_state(format!(
            "This PaymentIntent cannot be authenticated because it has a status of {}.",
            intent.status.name()
        )));
    };
    let next = intent.clone();
    Ok(match method.card.0.behaviour {
        _ if !approved => declined(next, method, Decline::AuthenticationFailed, now),
        Behaviour::Authenticates(Some(why)) | Behaviour::Declines(why) => {
            declined(next, method, why, now)
        }
        Behaviour::Authenticates(None)
        | Behaviour::Succeeds
        | Behaviour::Disputed
        | Behaviour::Refunds(_) => charged(next, method, now),
    })
}

fn captured(intent: &Intent, amount: Option<i64>) -> Result<Transition, StripeError> {
    let (Status::RequiresCapture, Some(charge)) = (intent.status, &intent.charge) else {
        return Err(StripeError::unexpected_state(format!(
            "This PaymentIntent could not be captured because it has a status of {}. Only a \
             PaymentIntent with one of the following statuses may be captured: requires_capture.",
            intent.status.name()
        )));
    };
    let amount = amount.unwrap_or(charge.amount);
    if amount < 1 {
        return Err(too_small("amount_to_capture"));
    }
    if amount > charge.amount {
        return Err(StripeError::invalid(format!(
            "The amount to capture ({amount}) cannot be greater than the amount that can be captured \
             ({}).",
            charge.amount
        ))
        .code("amount_too_large")
        .param("amount_to_capture"));
    }
    let mut next = intent.clone();
    next.status = Status::Succeeded;
    if let Some(charge) = &mut next.charge {
        take(charge, amount);
    }
    let mut transition = Transition::of(next);
    transition.moved(MovementKind::Captured, amount);
    transition
        .events
        .extend(["charge.captured", "payment_intent.succeeded"]);
    Ok(transition)
}

fn canceled(
    intent: &Intent,
    reason: Option<Box<str>>,
    now: i64,
) -> Result<Transition, StripeError> {
    if matches!(intent.status, Status::Canceled | Status::Succeeded) {
        return Err(StripeError::unexpected_state(format!(
            "You cannot cancel this PaymentIntent because it has a status of {}. Only a PaymentIntent \
             with one of the following statuses may be canceled: requires_payment_method, \
             requires_capture, requires_confirmation, requires_action, processing.",
            intent.status.name()
        )));
    }
    let mut next = intent.clone();
    let was_reserved = next.status == Status::RequiresCapture;
    next.status = Status::Canceled;
    next.canceled_at = Some(now);
    next.cancellation_reason = reason;
    if let Some(charge) = next.charge.as_mut().filter(|_| was_reserved) {
        charge.state = ChargeState::Released;
    }
    let amount = next.amount;
    let mut transition = Transition::of(next);
    transition.moved(MovementKind::Canceled, amount);
    transition.events.push("payment_intent.canceled");
    Ok(transition)
}

/// What describes a payment can always be changed; what it takes, only before the bank was asked.
fn updated(intent: &Intent, update: Update, now: i64) -> Result<Transition, StripeError> {
    let open = matches!(
        intent.status,
        Status::RequiresPaymentMethod | Status::RequiresConfirmation | Status::RequiresAction
    );
    if !open && (update.amount.is_some() || update.method.is_some()) {
        return Err(StripeError::unexpected_state(format!(
            "This PaymentIntent could not be updated in this way because it has a status of {}.",
            intent.status.name()
        )));
    }
    if intent.serial > id::SERIAL_MAX - 2 {
        return Err(StripeError::rate_limit());
    }
    let mut next = intent.clone();
    next.amount = update.amount.unwrap_or(next.amount);
    next.description = update.description.or(next.description);
    next.receipt_email = update.receipt_email.or(next.receipt_email);
    for (key, value) in update.metadata {
        next.metadata.retain(|(known, _)| *known != key);
        if !value.is_empty() {
            next.metadata.push((key, value));
        }
    }
    if let Some(choice) = update.method {
        attach(&mut next, choice, now);
        next.status = Status::RequiresConfirmation;
    }
    Ok(Transition::of(next))
}

/// The bank said yes: reserve, and with automatic capture take.
fn charged(mut next: Intent, method: Method, now: i64) -> Transition {
    let amount = next.amount;
    next.serial += 1;
    next.last_error = None;
    let mut charge = Charge {
        serial: next.serial,
        method,
        created: now,
        amount,
        captured: 0,
        refunded: 0,
        state: ChargeState::Authorised,
        disputed: false,
    };
    let automatic = next.capture_method == CaptureMethod::Automatic;
    if automatic {
        take(&mut charge, amount);
    }
    next.status = if automatic {
        Status::Succeeded
    } else {
        Status::RequiresCapture
    };
    next.charge = Some(Box::new(charge));
    let mut transition = Transition::of(next);
    transition.moved(MovementKind::Authorised, amount);
    transition.events.push("charge.succeeded");
    if automatic {
        transition.moved(MovementKind::Captured, amount);
        transition.events.push("payment_intent.succeeded");
    } else {
        transition
            .events
            .push("payment_intent.amount_capturable_updated");
    }
    transition
}

/// The bank, or the payer, said no. The intent is open again for another method.
fn declined(mut next: Intent, method: Method, why: Decline, now: i64) -> Transition {
    let charged = why != Decline::AuthenticationFailed;
    let amount = next.amount;
    next.serial += 1;
    next.status = Status::RequiresPaymentMethod;
    next.method = None;
    if charged {
        next.charge = Some(Box::new(Charge {
            serial: next.serial,
            method: method.clone(),
            created: now,
            amount,
            captured: 0,
            refunded: 0,
            state: ChargeState::Failed(why),
            disputed: false,
        }));
    }
    next.last_error = Some(Box::new(Failure {
        decline: why,
        method,
        charged,
    }));
    let mut transition = Transition::of(next);
    transition.moved(MovementKind::Declined, amount);
    if charged {
        transition.events.push("charge.failed");
    }
    transition.events.push("payment_intent.payment_failed");
    transition.refusal = Some(why.error());
    transition
}

fn take(charge: &mut Charge, amount: i64) {
    charge.state = ChargeState::Captured;
    charge.captured = amount;
    charge.disputed = charge.method.card.0.behaviour == Behaviour::Disputed;
}

/// Makes the chosen method the intent's.
fn attach(intent: &mut Intent, choice: MethodChoice, now: i64) {
    intent.method = Some(match choice {
        MethodChoice::Saved(method) => method,
        MethodChoice::Test(card) => {
            intent.serial += 1;
            let id = id::part_of_intent("pm", &intent.id, intent.serial);
            Method::of_payer(id, card, intent.receipt_email.clone(), now)
        }
    });
}

pub(crate) fn too_small(param: &'static str) -> StripeError {
    StripeError::invalid("This value must be greater than or equal to 1.")
        .code("parameter_invalid_integer")
        .param(param)
}
