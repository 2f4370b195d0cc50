//! The other half of `prompt-end`: nothing is cancelled whose outcome could be had by asking. What a customer
//! wished, what he did and what the world was like explain the reason of his order's end, or nothing does.

use super::{Found, people};
use crate::{
    Evidence,
    books::{Moment, Order, Saga},
    journal::What,
    times::times_of,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// By this card charges are disputed, and the provider refuses to give them back.
const DISPUTED_CARD: &str = "pm_card_createDispute";
/// With this one the customer has to authenticate.
const CHALLENGED_CARD: &str = "pm_card_authenticationRequired";
/// An order's id is of the gateway's clock, its deadline of the database's.
const CLOCKS_MS: i64 = 1_000;
/// By so much at most the database's clock is set.
const SET_BACK_MS: i64 = 121_000;
/// The state of a saga that waits for somebody outside.
const WAITING: i16 = 2;
/// The state of a saga whose effects are being undone.
const UNDOING: i16 = 3;
/// The state of a saga whose effects were undone.
const UNDONE: i16 = 5;
/// What comes to an address there is refused for good.
const BOUNCES: &str = "@bounces.example.org";
/// So many tickets of one offer are within every limit.
const WITHIN_LIMITS: i64 = 4;

/// What is known of all orders that is needed to explain one.
struct World<'a> {
    evidence: &'a Evidence,
    /// Whose end a customer asked for, and was not told that it is too late.
    given_up: BTreeSet<Uuid>,
    /// Whom a reviewer rejected.
    turned_down: BTreeSet<Uuid>,
    /// Who approved of a payment on his bank's page, and who refused.
    approved: BTreeSet<Uuid>,
    refused: BTreeSet<Uuid>,
    /// Payments that succeeded.
    paid: BTreeSet<Uuid>,
    sagas: BTreeMap<Uuid, &'a Saga>,
    /// When each saga began, by the database's clock: the ids have that of a gateway.
    began: BTreeMap<Uuid, i64>,
    capacity: BTreeMap<Uuid, i64>,
    /// Offers whose event was cancelled.
    cancelled: BTreeSet<Uuid>,
}

pub(super) fn explained(evidence: &Evidence, found: &mut Found<'_>) {
    let world = World::of(evidence);
    let orders: BTreeMap<Uuid, &Order> = evidence
        .books
        .orders
        .iter()
        .map(|order| (order.id, order))
        .collect();
    let methods = methods(evidence);
    refusals(evidence, &orders, &methods, found);
    let undone = evidence
        .books
        .sagas
        .iter()
        .filter(|saga| saga.state == UNDONE);
    for saga in undone {
        // Who has no wish in the journal is no customer of those that are judged.
        let method = orders
            .get(&saga.id)
            .and_then(|order| methods.get(order.email.as_str()));
        let Some(method) = method else { continue };
        let reason = saga.reason.as_deref().unwrap_or_default();
        if !world.explains(saga, method, reason) {
            let detail =
                format!("cancelled for {reason:?} (paid with {method}), and nothing explains it");
            found.that(format!("order {}", saga.id), detail);
        }
    }
}

/// Whether only a person can help: an undo was refused, or what follows the pivot.
pub(super) fn is_refused_for_good(moment: &Moment) -> bool {
    const UNDO: i16 = 2;
    // What is refused before the pivot is followed by the undo of what came before it.
    let leads_nowhere = moment.next_kind.is_none() && moment.state == 1;
    moment.outcome == Some(2) && (moment.kind == Some(UNDO) || leads_nowhere)
}

/// What is refused for good is work for a person, and nobody is given any whose world does not explain it.
fn refusals(
    evidence: &Evidence,
    orders: &BTreeMap<Uuid, &Order>,
    methods: &BTreeMap<String, String>,
    found: &mut Found<'_>,
) {
    let books = &evidence.books;
    let definition = books.definition_by_saga();
    for moment in books
        .history
        .iter()
        .filter(|moment| is_refused_for_good(moment))
    {
        let Some(order) = orders.get(&moment.saga_id) else {
            continue;
        };
        let step = definition.get(&moment.saga_id).zip(moment.step);
        let step = step.and_then(|(definition, step)| people::step_name(books, *definition, step));
        let is_explained = match step {
            Some("pay") => methods
                .get(&order.email)
                .is_none_or(|method| method == DISPUTED_CARD),
            Some("notify") => order.email.ends_with(BOUNCES),
            _ => false,
        };
        if !is_explained {
            let detail = format!(
                "{} was refused for good, and nothing explains it",
                step.unwrap_or("a step")
            );
            found.that(format!("order {}", moment.saga_id), detail);
        }
    }
}

/// By which method each buyer pays. Each has an address of his own and orders once.
fn methods(evidence: &Evidence) -> BTreeMap<String, String> {
    let asked = evidence
        .journal
        .iter()
        .filter_map(|entry| match &entry.what {
            What::Asked { body, .. } => serde_json::from_str::<Value>(body).ok(),
            _ => None,
        });
    let pairs = asked.filter_map(|body| {
        let email = body["email"].as_str()?.to_owned();
        Some((email, body["payment"]["method"].as_str()?.to_owned()))
    });
    pairs.collect()
}

impl<'a> World<'a> {
    fn of(evidence: &'a Evidence) -> Self {
        let books = &evidence.books;
        let given_up = evidence
            .journal
            .iter()
            .filter_map(|entry| match entry.what {
                What::Cancelled { order, status } if is_heard(status) => Some(order),
                _ => None,
            });
        let decided = |wanted: bool| {
            let entries = evidence.journal.iter();
            let orders = entries.filter_map(move |entry| match entry.what {
                What::Authenticated { order, approves } if approves == wanted => Some(order),
                _ => None,
            });
            orders.collect()
        };
        let rejected = books
            .audit
            .iter()
            .filter(|row| row.action == "review.reject");
        let paid = evidence
            .ledger
            .iter()
            .filter(|entry| matches!(entry.kind.as_str(), "authorised" | "captured"));
        Self {
            evidence,
            given_up: given_up.collect(),
            approved: decided(true),
            refused: decided(false),
            turned_down: rejected.filter_map(|row| row.subject).collect(),
            paid: paid
                .filter_map(|entry| entry.reference.as_deref()?.parse().ok())
                .collect(),
            began: books
                .history
                .iter()
                .rev() // of several rows the first counts
                .map(|moment| (moment.saga_id, moment.at_ms))
                .collect(),
            sagas: books.sagas.iter().map(|saga| (saga.id, saga)).collect(),
            capacity: books
                .stock
                .iter()
                .map(|stock| (stock.offer_id, stock.capacity))
                .collect(),
            cancelled: books
                .stock
                .iter()
                .filter(|stock| stock.cancelled)
                .map(|stock| stock.offer_id)
                .collect(),
        }
    }

    /// Whether there is something by which an order could end for this reason.
    fn explains(&self, saga: &Saga, method: &str, reason: &str) -> bool {
        let order = saga.id;
        let excused = self.evidence.excused;
        match reason {
            "customer_cancelled" => self.given_up.contains(&order),
            "review_rejected" => self.turned_down.contains(&order),
            "sold_out" => self.own(order).iter().any(|(offer, own)| {
                let capacity = self.capacity.get(offer).copied().unwrap_or_default();
                self.wanted_beside(saga, *offer) > capacity && *own > 0
            }),
            "event_cancelled" => {
                let own = self.own(order);
                own.keys().any(|offer| self.cancelled.contains(offer))
            }
            "limit_exceeded" => self.own(order).values().any(|own| *own > WITHIN_LIMITS),
            // A payment that succeeded was not declined, and who approved of it did not fail to.
            "authentication_failed" => {
                let failed = self.refused.contains(&order) || self.was_waited_for(saga);
                let paid = self.approved.contains(&order) || self.paid.contains(&order);
                method == CHALLENGED_CARD && failed && !paid
            }
            "card_declined" | "insufficient_funds" | "expired_card" => {
                decline_of(method) == Some(reason) && !self.paid.contains(&order)
            }
            "operator_ended" => people::ended(&self.evidence.books, order),
            "definition_withdrawn" => people::withdrawn(&self.evidence.books, saga.definition),
            "payment_unavailable" => {
                excused.late && saga.born_at_ms() < self.evidence.healed_at_ms + CLOCKS_MS
            }
            "step_failed" => (excused.late || excused.spent) && self.stayed_unknown(saga),
            "deadline_exceeded" => excused.late && self.had_its_time(saga),
            _ => false,
        }
    }

    /// How many places of an offer were held or wished for at some time in this order's life: its own, and those of
    /// all others but who were born after its end, or had given theirs back before its birth.
    fn wanted_beside(&self, saga: &Saga, offer: Uuid) -> i64 {
        let items = self.evidence.books.items.iter();
        let began = |saga: &Saga| self.began.get(&saga.id).copied();
        let (born, ended) = (began(saga), saga.updated_at_ms);
        let beside = items.filter(|item| item.offer_id == offer).filter(|item| {
            let others = self.sagas.get(&item.order_id);
            others
                .filter(|other| other.id != saga.id)
                .is_none_or(|other| {
                    let given_back = other.updated_at_ms + SET_BACK_MS;
                    let gave_back = other.state == UNDONE && born.is_some_and(|at| given_back < at);
                    let came_later = began(other).is_some_and(|at| at > ended + SET_BACK_MS);
                    !gave_back && !came_later
                })
        });
        beside.map(|item| item.quantity).sum()
    }

    /// Whether it ended because it was asked in vain what had become of a step.
    fn stayed_unknown(&self, saga: &Saga) -> bool {
        const PROBE: i16 = 3;
        const UNKNOWN: i16 = 4;
        let books = &self.evidence.books;
        let of_it = |moment: &&Moment| moment.saga_id == saga.id && moment.state == UNDOING;
        let ended = books.history.iter().find(of_it);
        ended.is_some_and(|moment| (moment.kind, moment.outcome) == (Some(PROBE), Some(UNKNOWN)))
    }

    /// Whether it waited for its customer at his bank's page for as long as he has.
    fn was_waited_for(&self, saga: &Saga) -> bool {
        let books = &self.evidence.books;
        let pays = |moment: &&Moment| {
            let step = moment.step;
            step.and_then(|step| people::step_name(books, saga.definition, step)) == Some("pay")
        };
        let mut of_it = books
            .history
            .iter()
            .filter(|moment| moment.saga_id == saga.id)
            .skip_while(|moment| moment.state != WAITING || !pays(moment));
        let began = of_it.next();
        let ended = of_it.find(|moment| moment.state == UNDOING);
        let definition = books
            .definitions
            .iter()
            .find(|one| one.id == saga.definition);
        let most = began
            .and_then(|moment| moment.step)
            .zip(definition)
            .and_then(|(step, definition)| times_of(&definition.body).wait_ms(step));
        let waited = began
            .zip(ended)
            .map(|(began, ended)| ended.at_ms - began.at_ms);
        waited
            .zip(most)
            .is_some_and(|(waited, most)| waited >= most)
    }

    /// Whether it was not ended for its deadline before it came.
    fn had_its_time(&self, saga: &Saga) -> bool {
        let books = &self.evidence.books;
        let of_it = |moment: &&Moment| moment.saga_id == saga.id && moment.state == UNDOING;
        let ended = books.history.iter().find(of_it);
        let ended_at_ms = ended.map_or(saga.updated_at_ms, |moment| moment.at_ms);
        let definition = books
            .definitions
            .iter()
            .find(|one| one.id == saga.definition);
        definition.is_some_and(|definition| {
            let deadline_ms = times_of(&definition.body).deadline_ms();
            ended_at_ms - saga.born_at_ms() + CLOCKS_MS >= deadline_ms
        })
    }

    /// How many places an order wants of each offer.
    fn own(&self, order: Uuid) -> BTreeMap<Uuid, i64> {
        let mut own = BTreeMap::new();
        for item in self
            .evidence
            .books
            .items
            .iter()
            .filter(|item| item.order_id == order)
        {
            *own.entry(item.offer_id).or_default() += item.quantity;
        }
        own
    }
}

/// What is told of a decline by one of Stripe's documented test cards. What would tell a thief how far he got is one
/// word with any other decline.
fn decline_of(method: &str) -> Option<&'static str> {
    let card = method.strip_prefix("pm_card_")?;
    match card.strip_prefix("visa_").unwrap_or(card) {
        "chargeDeclinedInsufficientFunds" => Some("insufficient_funds"),
        "chargeDeclinedExpiredCard" => Some("expired_card"),
        "chargeDeclined"
        | "chargeDeclinedLostCard"
        | "chargeDeclinedStolenCard"
        | "chargeDeclinedIncorrectCvc"
        | "chargeDeclinedProcessingError"
        | "chargeDeclinedVelocityLimitExceeded"
        | "chargeDeclinedFraudulent"
        | "radarBlock"
        | "riskLevelHighest"
        | "chargeCustomerFail" => Some("card_declined"),
        _ => None,
    }
}

/// Whoever is answered that it is too late has not ended it; whoever hears nothing may have.
fn is_heard(status: Option<u16>) -> bool {
    status.is_none_or(|status| status == 202 || status >= 500)
}
