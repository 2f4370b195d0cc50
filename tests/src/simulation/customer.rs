//! Those who want something: customers with their cards, reviewers.

use super::{
    fault::{Fault, Mix},
    rng::Rng,
};
use contract::{Currency, EventId, Money, OfferId, OrderId};
use std::sync::Arc;
use uuid::Uuid;
use workers::kit::{ItemView, OrderView};

/// What the fraud rules say of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fraud {
    /// Fine.
    Accept,
    /// Never.
    Reject,
    /// A person has to look, who says this, or nothing.
    Review(Option<bool>),
}

/// What a card does when it is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Card {
    /// It pays.
    Good,
    /// It pays after the bank has thought about it.
    Slow,
    /// It is declined.
    Declined,
    /// The provider does not know it.
    Invalid,
    /// It has paid for too much already.
    OverLimit,
    /// The customer has to act, and does it well, badly or never.
    Challenge(Option<bool>),
}

/// How a payment stands at the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    /// Made.
    New,
    /// The bank said no.
    Declined,
    /// The customer has to act.
    Challenged,
    /// The bank thinks.
    Thinking,
    /// Authorised, to be captured.
    Authorised,
    /// Captured.
    Captured,
    /// Cancelled.
    Cancelled,
}

/// A payment at the provider.
#[derive(Clone, Debug)]
pub(super) struct Payment {
    /// It is only authorised, and captured by a request of its own.
    pub(super) manual: bool,
    /// How it stands.
    pub(super) stand: Stand,
    /// How it stood a moment ago.
    pub(super) before: Stand,
    /// The provider has told how it stands.
    pub(super) told: bool,
    /// What was given back.
    pub(super) refunded_minor: i64,
    /// What is on its way back.
    pub(super) pending_minor: i64,
}

impl Payment {
    /// How it stands once the bank has said yes.
    #[must_use]
    pub(super) fn paid(&self) -> Stand {
        match self.manual {
            false => Stand::Captured,
            true => Stand::Authorised,
        }
    }
}

/// An order, and what the world outside knows of it.
#[derive(Clone, Debug)]
pub(super) struct Order {
    /// What the workers read.
    pub(super) view: Arc<OrderView>,
    /// The version of its definition when it was placed.
    pub(super) version: i16,
    /// What the fraud rules say.
    pub(super) fraud: Fraud,
    /// What its card does.
    pub(super) card: Card,
    /// When the customer has enough of it.
    pub(super) ends_at: Option<i64>,
    /// Its event is cancelled before the tickets are made.
    pub(super) event_cancelled: bool,
    /// The provider refuses to give its money back.
    pub(super) refund_refused: bool,
    /// It takes its time to give the money back: a refund is pending until somebody has asked for it.
    pub(super) refund_pends: bool,
    /// The provider knows its payment by another id as soon as it is to be given back.
    pub(super) moves: bool,
    /// It does now.
    pub(super) moved: bool,
    /// The buyer's address is none.
    pub(super) mail_refused: bool,
    /// Until when the server that it is at takes no mail.
    pub(super) mail_back_at: i64,
    /// Two people have given it up.
    pub(super) given_up: bool,
    /// Somebody has stopped its saga, and is to let it go on.
    pub(super) paused: bool,
    /// It is placed when nothing goes wrong any more, so it gets what its customer deserves.
    pub(super) calm: bool,
    /// The provider does not tell what became of its payment.
    pub(super) unheard: bool,
    /// Its payment succeeds when its time ends.
    pub(super) races: bool,
    /// When it is to.
    pub(super) race_at: Option<i64>,
    /// Its payments at the provider.
    pub(super) payments: Vec<Payment>,
}

impl Order {
    /// What was captured and not given back, in minor units.
    #[must_use]
    pub(super) fn net_minor(&self) -> i64 {
        let captured = |payment: &Payment| match payment.stand {
            Stand::Captured => self.view.total.amount_minor - payment.refunded_minor,
            _ => 0,
        };
        self.payments.iter().map(captured).sum()
    }

    /// Whether the provider keeps money for it that is not taken.
    #[must_use]
    pub(super) fn is_authorised(&self) -> bool {
        let mut payments = self.payments.iter();
        payments.any(|payment| payment.stand == Stand::Authorised)
    }

    /// Whether the provider has told what became of its only payment, so that there is nothing to wait for.
    #[must_use]
    pub(super) fn is_told(&self) -> bool {
        let [payment] = self.payments.as_slice() else {
            return false;
        };
        let open = [Stand::New, Stand::Challenged, Stand::Thinking];
        payment.told && !open.contains(&payment.stand)
    }

    /// Somebody has its money given back at the provider, and sees that nothing more is taken.
    pub(super) fn give_back_by_hand(&mut self) {
        let total = self.view.total.amount_minor;
        for payment in &mut self.payments {
            payment.pending_minor = 0;
            match payment.stand {
                Stand::Captured => payment.refunded_minor = total,
                _ => payment.turn(Stand::Cancelled),
            }
        }
    }

    /// How many tickets it is for.
    #[must_use]
    pub(super) fn places(&self) -> i64 {
        let quantities = self.view.items.iter().map(|item| i64::from(item.quantity));
        quantities.sum()
    }

    /// Whether whoever has to answer at a step does.
    #[must_use]
    pub(super) fn answers(&self, step: u8) -> bool {
        match step {
            1 => self.fraud != Fraud::Review(None),
            _ => self.card != Card::Challenge(None) && !self.unheard,
        }
    }

    /// Whether nothing but an empty shelf stands between it and its tickets.
    #[must_use]
    pub(super) fn deserves_tickets(&self) -> bool {
        matches!(
            self.card,
            Card::Good | Card::Slow | Card::Challenge(Some(true))
        ) && matches!(self.fraud, Fraud::Accept | Fraud::Review(Some(true)))
            && self.ends_at.is_none()
            && !self.event_cancelled
    }

    /// An order of somebody.
    pub(super) fn draw(
        rng: &mut Rng,
        placed_at: i64,
        calm: bool,
        offers: &[OfferId],
        mix: &Mix,
    ) -> Self {
        let mut items: Vec<ItemView> = Vec::new();
        let first = rng.below(offers.len());
        for line in 0..=rng.below(2) {
            items.push(ItemView {
                line: i16::try_from(line).unwrap_or(0) + 1,
                offer_id: offers[(first + line) % offers.len()],
                event_id: EventId(Uuid::from_u128(1)),
                quantity: i32::try_from(rng.range(1, 4)).unwrap_or(1),
                unit_amount_minor: 1_000,
                attendees: Vec::new(),
            });
        }
        let places: i64 = items.iter().map(|item| i64::from(item.quantity)).sum();
        let view = OrderView {
            id: OrderId(Uuid::nil()),
            account_id: None,
            total: Money {
                amount_minor: places * 1_000,
                currency: Currency::EUR,
            },
            email: String::new(),
            name: String::new(),
            locale: String::new(),
            payment_method: String::new(),
            client_addr: None,
            items,
        };
        let answer = |rng: &mut Rng| match rng.below(10) {
            0 => None,
            1..=3 => Some(false),
            _ => Some(true),
        };
        let fraud = match rng.below(20) {
            0 => Fraud::Reject,
            1 | 2 => Fraud::Review(answer(rng)),
            _ => Fraud::Accept,
        };
        let card = match rng.below(20) {
            0 => Card::Invalid,
            1 => Card::OverLimit,
            2 | 3 => Card::Declined,
            4..=6 => Card::Challenge(answer(rng)),
            7 => Card::Slow,
            _ => Card::Good,
        };
        let ends_at = rng
            .chance(mix.of(Fault::CustomerEnds))
            .then(|| placed_at + rng.range(1, 60).pow(2) * 3);
        let version = if rng.chance(5_000) { 1 } else { 2 };
        let moves = rng.chance(mix.of(Fault::PaymentMoved)) && version == 1;
        Self {
            view: Arc::new(view),
            version,
            fraud,
            card,
            ends_at,
            event_cancelled: rng.chance(1_000) || moves,
            refund_refused: rng.chance(mix.of(Fault::RefundRefused)),
            refund_pends: rng.chance(mix.of(Fault::RefundPends)),
            moves,
            moved: false,
            mail_refused: rng.chance(mix.of(Fault::AddressWrong)),
            mail_back_at: placed_at,
            given_up: false,
            paused: false,
            calm,
            unheard: false,
            races: false,
            race_at: None,
            payments: Vec::new(),
        }
    }
}
