//! Both sides, read and compared.

use std::{
    collections::{BTreeSet, HashSet},
    io::{IsTerminal, Write},
    time::Duration,
};

use anyhow::{Context, anyhow};
use database::Connection;
use inspector::reconcile::{self, Difference, Kind, Order, Payment, Stand};
use uuid::Uuid;
use workers::pay::stripe::{Classified, Client, Intent, IntentId, Status};

use crate::{failure::Failure, operator::intervention::refused};

/// Payments that are looked at in one run: their ids are kept to the end.
const PAYMENTS_MAX: usize = 2_000_000;

/// How often the provider is asked before a run is given up.
const TRIES: u32 = 5;

/// The pause after an answer that tells nothing.
const PAUSE: Duration = Duration::from_millis(500);

/// Both sides, and what was found so far.
pub(super) struct Books {
    pub(super) connection: Connection,
    pub(super) client: Client,
    seen: HashSet<String>,
    told: HashSet<(Kind, Option<String>, Option<Uuid>)>,
    found: Vec<Difference>,
    /// Whether a payment names an order that this database has.
    ours: bool,
}

impl Books {
    pub(super) fn open(connection: Connection, client: Client) -> Self {
        Self {
            connection,
            client,
            seen: HashSet::new(),
            told: HashSet::new(),
            found: Vec::new(),
            ours: false,
        }
    }

    /// Whether this database has any of the orders that the provider's payments name. One that has none is
    /// more likely the wrong one than one that has lost all.
    pub(super) fn are_ours(&self) -> bool {
        self.ours
    }

    /// The database's time, in seconds since 1970.
    pub(super) async fn now(&mut self) -> Result<i64, Failure> {
        let now = reconcile::now_s(&mut self.connection).await;
        now.map_err(refused)
    }

    /// Every difference about payments made, and orders placed, since a time.
    pub(super) async fn read(&mut self, since_s: i64) -> Result<Vec<Difference>, Failure> {
        let mut after: Option<IntentId> = None;
        loop {
            let client = self.client.clone();
            let page = patiently(async || client.intents(since_s, after.as_ref()).await).await?;
            let payments: Vec<Payment> = page.data.iter().map(payment).collect();
            self.seen.extend(payments.iter().map(|it| it.id.clone()));
            if self.seen.len() > PAYMENTS_MAX {
                let why = anyhow!("more than {PAYMENTS_MAX} payments: choose a later --since");
                return Err(Failure::usage(why));
            }
            self.compare(payments, Vec::new()).await?;
            progress(self.seen.len(), self.found.len());
            after = page.data.last().map(|intent| intent.id.clone());
            if !page.has_more || after.is_none() {
                break;
            }
        }
        // Ours, of which the provider listed nothing.
        let mut behind = Uuid::from_u128((u128::try_from(since_s).unwrap_or(0) * 1_000) << 80);
        loop {
            let orders = reconcile::orders_behind(&mut self.connection, behind).await;
            let orders = orders.map_err(refused)?;
            let Some(last) = orders.last() else { break };
            behind = last.id;
            let unseen = |order: &Order| {
                let intent = order.intent.as_ref();
                intent.is_none_or(|intent| !self.seen.contains(intent))
            };
            let unseen: Vec<Uuid> = orders
                .iter()
                .filter(|it| unseen(it))
                .map(|it| it.id)
                .collect();
            self.compare(Vec::new(), unseen).await?;
        }
        done();
        Ok(std::mem::take(&mut self.found))
    }

    /// Joins some payments with the orders that they name, and these orders with what they name.
    async fn compare(&mut self, payments: Vec<Payment>, more: Vec<Uuid>) -> Result<(), Failure> {
        let named = payments.iter().filter_map(|payment| payment.order);
        let ids: BTreeSet<Uuid> = named.chain(more).collect();
        let (payments, orders) = self.side_by_side(payments, &ids).await?;
        self.ours |= !orders.is_empty();
        let suspects = reconcile::join(&payments, &orders);
        if suspects.is_empty() {
            return Ok(());
        }
        let ids: BTreeSet<Uuid> = suspects.iter().filter_map(|it| it.order).collect();
        let named: BTreeSet<&str> = suspects
            .iter()
            .filter_map(|it| it.payment_intent.as_deref())
            .collect();
        let mut again = Vec::new();
        for payment in payments {
            let of_order = payment.order.is_some_and(|order| ids.contains(&order));
            if of_order || named.contains(&*payment.id) {
                again.extend(self.retrieve(&payment.id).await?);
            }
        }
        let (payments, orders) = self.side_by_side(again, &ids).await?;
        for difference in reconcile::join(&payments, &orders) {
            let payment = difference.payment_intent.clone();
            if self
                .told
                .insert((difference.kind, payment, difference.order))
            {
                self.found.push(difference);
            }
        }
        Ok(())
    }

    /// The orders, and with the payments those too that only the orders know.
    async fn side_by_side(
        &mut self,
        mut payments: Vec<Payment>,
        ids: &BTreeSet<Uuid>,
    ) -> Result<(Vec<Payment>, Vec<Order>), Failure> {
        let orders = reconcile::orders(&mut self.connection, ids.iter().copied().collect()).await;
        let orders = orders.map_err(refused)?;
        let known: HashSet<String> = payments.iter().map(|it| it.id.clone()).collect();
        for intent in orders.iter().filter_map(|order| order.intent.as_ref()) {
            if !known.contains(intent) {
                payments.extend(self.retrieve(intent).await?);
            }
        }
        Ok((payments, orders))
    }

    /// A payment as it is now; `None`: the provider does not know it.
    pub(super) async fn retrieve(&self, id: &str) -> Result<Option<Payment>, Failure> {
        let Some(id) = IntentId::new(id) else {
            return Ok(None);
        };
        let looked = async || match self.client.retrieve(&id).await {
            Err(Classified::Missing) => Ok(None),
            looked => looked.map(Some),
        };
        Ok(patiently(looked).await?.as_ref().map(payment))
    }
}

/// Asks until the answer tells something.
pub(super) async fn patiently<T>(
    ask: impl AsyncFn() -> Result<T, Classified>,
) -> Result<T, Failure> {
    for _ in 1..TRIES {
        match ask().await {
            Err(
                Classified::Busy { .. }
                | Classified::InProgress
                | Classified::NotSent
                | Classified::Ambiguous,
            ) => tokio::time::sleep(PAUSE).await,
            answer => {
                return answer
                    .context("the payment provider")
                    .map_err(Failure::from);
            }
        }
    }
    ask()
        .await
        .context("the payment provider")
        .map_err(Failure::from)
}

fn payment(intent: &Intent) -> Payment {
    Payment {
        id: intent.id.as_str().to_owned(),
        order: intent
            .metadata
            .order_id
            .as_deref()
            .and_then(|text| text.parse().ok()),
        stand: match intent.status {
            Status::Succeeded => Stand::Captured,
            Status::RequiresCapture => Stand::Authorised,
            Status::RequiresAction | Status::Processing => Stand::Waiting,
            Status::Canceled => Stand::Canceled,
            Status::RequiresPaymentMethod | Status::RequiresConfirmation | Status::Other => {
                Stand::Open
            }
        },
        amount_minor: intent.amount,
        captured_minor: intent.amount_received,
        refunded_minor: intent.refunded_minor().unwrap_or(0),
        currency: intent.currency.clone(),
        since_s: intent.charged_at().unwrap_or(intent.created),
    }
}

fn progress(payments: usize, differences: usize) {
    let mut out = std::io::stderr();
    if out.is_terminal() {
        // Progress that cannot be shown is not missed.
        let _ = write!(out, "\r{payments} payments, {differences} differences ");
    }
}

fn done() {
    let mut out = std::io::stderr();
    if out.is_terminal() {
        let _ = writeln!(out);
    }
}
