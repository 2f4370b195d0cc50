//! The payment provider: what it does when a request reaches it. It has the truth about money.

use super::customer::{Card, Order, Payment, Stand};
use contract::Refusal;
use std::{
    future::poll_fn,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
};
use workers::{
    Error,
    fraud_check::fingerprint::Answer,
    kit::{Claim, Verdict},
    pay::{
        flow::{Limits, OutsideIds, Provider},
        stripe::{
            ApiError, CaptureMethod, Charge, Classified, Expandable, Intent, IntentId, Metadata,
            NewIntent, NextAction, Refund, Status,
        },
    },
};

/// What an effect asks of the world outside its process.
#[derive(Clone, Debug)]
pub(super) enum Request {
    /// Make a payment; whether it is captured by a request of its own.
    Create(bool),
    /// Charge it.
    Confirm(usize),
    /// Take what it authorised.
    Capture(usize),
    /// End it.
    Cancel(usize),
    /// Read it.
    Retrieve(usize),
    /// Give it back.
    Refund(usize, i64),
    /// Say what was given back.
    Refunds(usize),
    /// Store its id in the ledger.
    Store(String),
    /// Take from the card's limit.
    Take,
    /// Give back to it.
    GiveBack,
    /// Send a mail, to an address that is one or not.
    Mail(bool),
}

/// What it is told.
#[derive(Debug)]
pub(super) enum Response {
    /// Of a payment.
    Intent(Result<Box<Intent>, Classified>),
    /// Of a refund.
    Refund(Result<Refund, Classified>),
    /// Of all of a payment.
    Refunds(Result<Vec<Refund>, Classified>),
    /// Of the ledger; `None`: it cannot be written.
    Stored(Option<bool>),
    /// Of the limits.
    Taken(Answer),
    /// Nothing to tell.
    Given,
    /// Of a mail.
    Mail(Verdict),
}

/// Where an effect's requests go and its answers come from.
#[derive(Clone, Debug, Default)]
pub(super) struct Port(Arc<Mutex<(Option<Request>, Option<Response>)>>);

impl Port {
    /// What was asked since the last look.
    #[must_use]
    pub(super) fn asked(&self) -> Option<Request> {
        self.lock().0.take()
    }

    /// Answers it.
    pub(super) fn answer(&self, response: Response) {
        self.lock().1 = Some(response);
    }

    /// Asks, and waits for the answer.
    pub(super) async fn ask(&self, request: Request) -> Response {
        self.lock().0 = Some(request);
        poll_fn(|_| match self.lock().1.take() {
            Some(response) => Poll::Ready(response),
            None => Poll::Pending,
        })
        .await
    }

    async fn intent(&self, request: Request) -> Result<Intent, Classified> {
        match self.ask(request).await {
            Response::Intent(answer) => answer.map(|intent| *intent),
            _ => Err(Classified::Ambiguous),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Option<Request>, Option<Response>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Added to the number in a payment's id when the provider knows it by another one.
pub(super) const MOVED: usize = 1_000;
/// The number in an id that no payment has.
pub(super) const NOBODYS: usize = 9_000;

/// The number in a payment's id.
pub(super) fn place(id: &IntentId) -> usize {
    let digits = id.as_str().strip_prefix("pi_");
    digits.and_then(|n| n.parse().ok()).unwrap_or(usize::MAX)
}

impl Provider for Port {
    async fn create(&self, _: &str, new: &NewIntent<'_>) -> Result<Intent, Classified> {
        let manual = new.capture_method == CaptureMethod::Manual;
        self.intent(Request::Create(manual)).await
    }

    async fn confirm(&self, _: &str, id: &IntentId, _: &str) -> Result<Intent, Classified> {
        self.intent(Request::Confirm(place(id))).await
    }

    async fn capture(&self, _: &str, id: &IntentId, _: i64) -> Result<Intent, Classified> {
        self.intent(Request::Capture(place(id))).await
    }

    async fn cancel(&self, _: &str, id: &IntentId) -> Result<Intent, Classified> {
        self.intent(Request::Cancel(place(id))).await
    }

    async fn retrieve(&self, id: &IntentId) -> Result<Intent, Classified> {
        self.intent(Request::Retrieve(place(id))).await
    }

    async fn refund(&self, _: &str, id: &IntentId, minor: i64) -> Result<Refund, Classified> {
        match self.ask(Request::Refund(place(id), minor)).await {
            Response::Refund(answer) => answer,
            _ => Err(Classified::Ambiguous),
        }
    }

    async fn refunds(&self, id: &IntentId) -> Result<Vec<Refund>, Classified> {
        match self.ask(Request::Refunds(place(id))).await {
            Response::Refunds(answer) => answer,
            _ => Err(Classified::Ambiguous),
        }
    }
}

impl Limits for Port {
    async fn take(&self, _: contract::OrderId, _: &str, _: i32) -> Result<Answer, Error> {
        match self.ask(Request::Take).await {
            Response::Taken(answer) => Ok(answer),
            _ => Err(Error::Ledger),
        }
    }

    async fn give_back(&self, _: contract::OrderId) -> Result<Option<Refusal>, Error> {
        self.ask(Request::GiveBack).await;
        Ok(None)
    }
}

impl OutsideIds for Port {
    async fn store(&self, _: &Claim, outside_id: &str) -> Result<bool, Error> {
        match self.ask(Request::Store(outside_id.to_owned())).await {
            Response::Stored(Some(stored)) => Ok(stored),
            _ => Err(Error::Ledger),
        }
    }
}

/// A lapse of the provider's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lapse {
    /// It shows what was a moment ago.
    ShowsBefore,
    /// It shows nothing.
    ShowsNothing,
    /// It has forgotten the idempotency key.
    ForgetsKey,
    /// What was authorised ends before it can be captured.
    EndsFirst,
}

/// A request has reached the provider: what it does, and what it would answer.
pub(super) fn receive(order: &mut Order, request: &Request, lapse: Option<Lapse>) -> Response {
    match &order.known(request) {
        Request::Create(manual) => Response::Intent(create(order, *manual, lapse)),
        Request::Confirm(at) => Response::Intent(confirm(order, *at)),
        Request::Capture(at) => {
            let ended = lapse == Some(Lapse::EndsFirst);
            Response::Intent(capture(order, *at, ended))
        }
        Request::Cancel(at) => Response::Intent(cancel(order, *at)),
        Request::Retrieve(_) if lapse == Some(Lapse::ShowsNothing) => {
            Response::Intent(Err(Classified::Missing))
        }
        Request::Retrieve(at) => {
            let stale = lapse == Some(Lapse::ShowsBefore);
            let shown = show(order, *at, stale).map(Box::new);
            Response::Intent(shown.ok_or(Classified::Missing))
        }
        Request::Refund(at, minor) => Response::Refund(refund(order, *at, *minor)),
        Request::Refunds(at) => Response::Refunds(refunds(order, *at)),
        _ => Response::Given,
    }
}

impl Order {
    /// Its payment is to be given back, and the provider knows it by another id from now on.
    pub(super) fn moves_now(&mut self) -> bool {
        // The undo of `capture` has nothing that can be corrected.
        let taken = self
            .payments
            .iter()
            .any(|p| p.stand == Stand::Captured && !p.manual);
        let moves = self.moves && !self.moved && taken;
        self.moved |= moves;
        moves
    }

    /// A request about the payment that it means; about none if the provider does not know the id.
    fn known(&self, request: &Request) -> Request {
        let of = |at: usize| match self.moved {
            true => at.checked_sub(MOVED).unwrap_or(NOBODYS),
            false => at,
        };
        match request.clone() {
            Request::Confirm(at) => Request::Confirm(of(at)),
            Request::Capture(at) => Request::Capture(of(at)),
            Request::Cancel(at) => Request::Cancel(of(at)),
            Request::Retrieve(at) => Request::Retrieve(of(at)),
            Request::Refund(at, minor) => Request::Refund(of(at), minor),
            Request::Refunds(at) => Request::Refunds(of(at)),
            other => other,
        }
    }
}

fn create(
    order: &mut Order,
    manual: bool,
    lapse: Option<Lapse>,
) -> Result<Box<Intent>, Classified> {
    if order.card == Card::Invalid {
        let (refusal, code) = (Refusal::PaymentMethodInvalid, String::new());
        return Err(Classified::Invalid { refusal, code });
    }
    if order.payments.is_empty() || lapse == Some(Lapse::ForgetsKey) {
        order.payments.push(Payment {
            manual,
            stand: Stand::New,
            before: Stand::New,
            told: false,
            refunded_minor: 0,
            pending_minor: 0,
        });
    }
    let at = order.payments.len() - 1;
    show(order, at, false)
        .map(Box::new)
        .ok_or(Classified::Missing)
}

fn confirm(order: &mut Order, at: usize) -> Result<Box<Intent>, Classified> {
    let card = order.card;
    let payment = order.payments.get_mut(at).ok_or(Classified::Missing)?;
    if payment.stand != Stand::New {
        return Err(Classified::OtherState(show(order, at, false).map(Box::new)));
    }
    let stand = match card {
        Card::Good | Card::OverLimit | Card::Invalid => payment.paid(),
        Card::Slow => Stand::Thinking,
        Card::Declined => Stand::Declined,
        Card::Challenge(_) => Stand::Challenged,
    };
    payment.turn(stand);
    if stand == Stand::Declined {
        return Err(Classified::Declined(Refusal::CardDeclined));
    }
    show(order, at, false)
        .map(Box::new)
        .ok_or(Classified::Missing)
}

fn capture(order: &mut Order, at: usize, ended: bool) -> Result<Box<Intent>, Classified> {
    let payment = order.payments.get_mut(at).ok_or(Classified::Missing)?;
    if payment.stand == Stand::Authorised && ended {
        payment.turn(Stand::Cancelled);
    }
    if payment.stand != Stand::Authorised {
        return Err(Classified::OtherState(show(order, at, false).map(Box::new)));
    }
    payment.turn(Stand::Captured);
    show(order, at, false)
        .map(Box::new)
        .ok_or(Classified::Missing)
}

fn cancel(order: &mut Order, at: usize) -> Result<Box<Intent>, Classified> {
    let payment = order.payments.get_mut(at).ok_or(Classified::Missing)?;
    match payment.stand {
        Stand::New | Stand::Declined | Stand::Challenged | Stand::Authorised => {
            payment.turn(Stand::Cancelled);
            show(order, at, false)
                .map(Box::new)
                .ok_or(Classified::Missing)
        }
        Stand::Thinking | Stand::Captured | Stand::Cancelled => {
            Err(Classified::OtherState(show(order, at, false).map(Box::new)))
        }
    }
}

fn refund(order: &mut Order, at: usize, minor: i64) -> Result<Refund, Classified> {
    let total = order.view.total.amount_minor;
    let (refused, pends) = (order.refund_refused, order.refund_pends);
    let payment = order.payments.get_mut(at).ok_or(Classified::Missing)?;
    if payment.stand != Stand::Captured {
        return Err(Classified::OtherState(None));
    }
    if refused {
        return Err(Classified::NotRefundable("charge_disputed"));
    }
    if payment.refunded_minor + payment.pending_minor + minor > total {
        return Err(Classified::AlreadyRefunded);
    }
    if pends {
        payment.pending_minor += minor;
    } else {
        payment.refunded_minor += minor;
    }
    Ok(back(minor, pends))
}

/// The refunds as they are; one that was pending arrives thereafter.
fn refunds(order: &mut Order, at: usize) -> Result<Vec<Refund>, Classified> {
    let payment = order.payments.get_mut(at).ok_or(Classified::Missing)?;
    let pending = std::mem::take(&mut payment.pending_minor);
    let listed = [(pending, true), (payment.refunded_minor, false)];
    payment.refunded_minor += pending;
    let there = listed.into_iter().filter(|(minor, _)| *minor > 0);
    Ok(there.map(|(minor, pends)| back(minor, pends)).collect())
}

fn back(amount: i64, pends: bool) -> Refund {
    Refund {
        id: "re_1".to_owned(),
        status: if pends { "pending" } else { "succeeded" }.to_owned(),
        amount,
    }
}

impl Payment {
    /// It stands otherwise now.
    pub(super) fn turn(&mut self, stand: Stand) {
        self.before = self.stand;
        self.stand = stand;
        self.told = false;
    }
}

fn show(order: &Order, at: usize, stale: bool) -> Option<Intent> {
    let payment = order.payments.get(at)?;
    let stand = if stale { payment.before } else { payment.stand };
    let status = match stand {
        Stand::New => Status::RequiresConfirmation,
        Stand::Declined => Status::RequiresPaymentMethod,
        Stand::Challenged => Status::RequiresAction,
        Stand::Thinking => Status::Processing,
        Stand::Authorised => Status::RequiresCapture,
        Stand::Captured => Status::Succeeded,
        Stand::Cancelled => Status::Canceled,
    };
    let total = order.view.total.amount_minor;
    let captured = if stand == Stand::Captured { total } else { 0 };
    let fingerprint = workers::pay::stripe::PaymentMethod {
        card: Some(workers::pay::stripe::Card {
            fingerprint: Some(String::new()),
        }),
    };
    let declined = (stand == Stand::Declined).then(|| ApiError {
        kind: "card_error".to_owned(),
        code: Some("card_declined".to_owned()),
        ..ApiError::default()
    });
    Some(Intent {
        id: IntentId::new(&format!("pi_{}", if order.moved { at + MOVED } else { at }))?,
        status,
        amount: total,
        amount_capturable: match stand {
            Stand::Authorised => total,
            _ => 0,
        },
        amount_received: captured,
        currency: "eur".to_owned(),
        payment_method: Some(Expandable::Object(fingerprint)),
        created: 0,
        metadata: Metadata {
            order_id: Some(order.view.id.to_string()),
        },
        latest_charge: Some(Expandable::Object(Charge {
            created: 0,
            amount_refunded: payment.refunded_minor,
        })),
        next_action: (stand == Stand::Challenged).then_some(NextAction {
            redirect_to_url: None,
        }),
        last_payment_error: declined,
    })
}
