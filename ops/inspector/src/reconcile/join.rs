//! What the provider lists and what we know, side by side. Pure.

use super::{Difference, Kind, Order, Payment, Stand};
use std::collections::BTreeMap;
use uuid::Uuid;

/// How long a payment is left alone before it may be given back or cancelled, in seconds, unless an operator
/// says otherwise: whoever was at work on it has long ended then.
pub const SETTLED_AFTER_S: i64 = 3_600;

/// Every difference, by order. `orders` holds those of ours that the payments name, and those whose payment
/// the ledger knows; what is not in it is none of ours. Both sides may be read while orders are in flight:
/// of a saga that is not at rest only what can never be right is told.
#[must_use]
pub fn join(payments: &[Payment], orders: &[Order]) -> Vec<Difference> {
    let mut groups: BTreeMap<Option<Uuid>, (Vec<&Payment>, Option<&Order>)> = BTreeMap::new();
    for payment in payments {
        groups.entry(payment.order).or_default().0.push(payment);
    }
    for order in orders {
        groups.entry(Some(order.id)).or_default().1 = Some(order);
    }
    let mut found = Vec::new();
    for (payments, order) in groups.into_values() {
        match order {
            None => payments.iter().for_each(|it| stranger(it, &mut found)),
            Some(order) => ours(&payments, order, &mut found),
        }
    }
    found
}

/// A payment whose order is none of ours, or none.
fn stranger(payment: &Payment, found: &mut Vec<Difference>) {
    if payment.net_minor() > 0 {
        found.push(payment.differs(Kind::CapturedWithoutOrder, payment.net_minor()));
    }
    if let Some(kind) = forgotten(payment) {
        found.push(payment.differs(kind, payment.amount_minor));
    }
}

/// What somebody may still be charged with, and nobody waits for.
fn forgotten(payment: &Payment) -> Option<Kind> {
    match payment.stand {
        Stand::Authorised => Some(Kind::AuthorisedAndForgotten),
        Stand::Waiting => Some(Kind::WaitingAndForgotten),
        Stand::Open | Stand::Captured | Stand::Canceled => None,
    }
}

fn ours(payments: &[&Payment], order: &Order, found: &mut Vec<Difference>) {
    let mut captured: Vec<&&Payment> = payments.iter().filter(|it| it.net_minor() > 0).collect();
    // The one that the ledger knows is the order's; the others are too many.
    captured.sort_by_key(|payment| order.intent.as_ref() != Some(&payment.id));
    for again in captured.iter().skip(1) {
        found.push(again.differs(Kind::CapturedTwice, again.net_minor()));
    }
    for payment in payments {
        let other = payment.amount_minor != order.total_minor
            || !payment.currency.eq_ignore_ascii_case(&order.currency)
            || (payment.captured_minor > 0 && payment.captured_minor != order.total_minor);
        // What was given back is settled, whatever it was.
        if other && payment.net_minor() > 0 {
            found.push(payment.differs(Kind::AmountDiffers, payment.net_minor()));
        }
    }
    if let Some(known) = order.intent.as_ref()
        && !payments.iter().any(|payment| payment.id == *known)
    {
        found.push(Difference {
            kind: Kind::UnknownToProvider,
            order: Some(order.id),
            payment_intent: Some(known.clone()),
            amount_minor: order.total_minor,
            currency: order.currency.clone(),
        });
    }
    if order.live {
        return;
    }
    for payment in payments {
        if let Some(kind) = forgotten(payment) {
            found.push(payment.differs(kind, payment.amount_minor));
        }
    }
    if order.valid_tickets == 0 && !order.with_people {
        for payment in &captured {
            found.push(payment.differs(Kind::CapturedButCancelled, payment.net_minor()));
        }
    }
    if order.valid_tickets > 0 {
        for payment in payments.iter().filter(|it| it.refunded_minor > 0) {
            found.push(payment.differs(Kind::RefundedButTicketed, payment.refunded_minor));
        }
        if payments.iter().all(|payment| payment.captured_minor == 0) {
            found.push(Difference {
                kind: Kind::TicketedWithoutCapture,
                order: Some(order.id),
                payment_intent: order.intent.clone(),
                amount_minor: order.total_minor,
                currency: order.currency.clone(),
            });
        }
    }
}

/// What may be done about a difference without a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Give back so much, in minor units.
    Refund(i64),
    /// Cancel what is not captured.
    Cancel,
}

/// What may be done about a payment, looked at again a moment ago together with its order; `None`: a person
/// has to look. Nothing of an order with valid tickets or a live saga, nothing younger than `age_s` seconds,
/// and nothing that names no order: that is somebody else's.
#[must_use]
pub fn remedy(payment: &Payment, order: Option<&Order>, now_s: i64, age_s: i64) -> Option<Remedy> {
    let taken = order.is_some_and(|it| it.live || it.with_people || it.valid_tickets > 0);
    if taken || payment.order.is_none() || now_s - payment.since_s < age_s {
        return None;
    }
    match payment.stand {
        Stand::Captured if payment.net_minor() > 0 => Some(Remedy::Refund(payment.net_minor())),
        Stand::Authorised | Stand::Waiting => Some(Remedy::Cancel),
        Stand::Captured | Stand::Open | Stand::Canceled => None,
    }
}
