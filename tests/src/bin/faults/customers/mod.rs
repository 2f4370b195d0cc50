//! The workload: customers who come when they come, whatever the others have heard (an open loop), of
//! every kind that [`wish`] has, and write down what they were told.

mod shop;
pub(crate) mod wish;

use shop::Again;
pub(crate) use shop::Placed;
pub(crate) use shop::Shop;
use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};
use tests::simulation::rng::Rng;
use tokio::{task::JoinSet, time::Instant};
use uuid::Uuid;
use wish::{Behaviour, OnSale, Wish};

/// How long he follows an order.
const FOLLOWS: Duration = Duration::from_secs(150);
/// Somebody who does not come back.
const AWAY: Duration = Duration::from_secs(5);
/// So long the provider takes for the payment of somebody who ends his order meanwhile.
const PAYS_WITHIN: Duration = Duration::from_millis(1_500);

/// The customers of one run.
pub(crate) struct Customers {
    pub(crate) shop: Arc<Shop>,
    run: Uuid,
    on_sale: OnSale,
    coming: JoinSet<Option<Placed>>,
    looks: u64,
}

impl Customers {
    pub(crate) fn new(shop: Arc<Shop>, on_sale: OnSale) -> Self {
        Self {
            shop,
            run: Uuid::now_v7(),
            on_sale,
            coming: JoinSet::new(),
            looks: 0,
        }
    }

    /// So many a second come for so long, from now on.
    pub(crate) fn come(&mut self, rng: &mut Rng, rate_per_s: u32, lasting: Duration) {
        let count = (f64::from(rate_per_s) * lasting.as_secs_f64()) as u64;
        let begin = Instant::now();
        let first = self.coming.len() as u64;
        for number in 0..count {
            let wish = wish::draw(rng, self.run, first + number, &self.on_sale);
            let at = begin + lasting.mul_f64(number as f64 / count as f64);
            let shop = Arc::clone(&self.shop);
            self.coming.spawn(async move {
                tokio::time::sleep_until(at).await;
                Box::pin(buy(&shop, &wish)).await
            });
        }
    }

    /// So many come at once who want the same event, pay for it by this method and behave so, at one of the gateways
    /// or at both.
    pub(crate) fn flock(
        &mut self,
        count: u64,
        method: &str,
        behaviour: Behaviour,
        gateway: Option<usize>,
    ) {
        let one = OnSale {
            plenty: self.on_sale.plenty.iter().take(1).cloned().collect(),
            few: Vec::new(),
        };
        for _ in 0..count {
            self.looks += 1;
            let mut wish = wish::plain(self.run, "flock", self.looks, &one);
            wish.body["payment"]["method"] = method.into();
            wish.behaviour = behaviour;
            wish.gateway = gateway.unwrap_or(wish.gateway);
            let shop = Arc::clone(&self.shop);
            self.coming
                .spawn(async move { Box::pin(buy(&shop, &wish)).await });
        }
    }

    /// Whether somebody who comes now is sold a ticket within this time, both gateways asked in turn.
    pub(crate) fn look(
        &mut self,
        within: Duration,
    ) -> impl Future<Output = Option<(Placed, bool)>> + Send + use<> {
        self.looks += 1;
        let wish = wish::plain(self.run, "look", self.looks, &self.on_sale);
        let shop = Arc::clone(&self.shop);
        async move {
            let placed = shop.try_place(&wish, wish.gateway).await?;
            let deadline = Instant::now() + within;
            while Instant::now() < deadline {
                match shop.status(&placed).await.as_deref() {
                    Some("confirmed") => return Some((placed, true)),
                    Some("cancelled" | "cancelling") => break,
                    _ => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
            Some((placed, false))
        }
    }

    /// Waits until all have gone, and answers what is shown of their orders now.
    pub(crate) async fn leave(&mut self) -> Vec<Placed> {
        let mut placed = Vec::new();
        while let Some(one) = self.coming.join_next().await {
            placed.extend(one.ok().flatten());
        }
        placed
    }
}

/// What is shown of orders.
pub(crate) async fn shown(shop: &Shop, placed: &[Placed]) -> BTreeMap<Uuid, String> {
    let mut shown = BTreeMap::new();
    for one in placed {
        if let Some(status) = shop.status(one).await {
            shown.insert(one.id, status);
        }
    }
    shown
}

/// One customer, from the order to its end.
async fn buy(shop: &Shop, wish: &Wish) -> Option<Placed> {
    let plan = match wish.behaviour {
        Behaviour::EndsWhilePaying => shop.pays_slowly(wish, PAYS_WITHIN).await,
        _ => None,
    };
    let placed = if wish.twice == Some(true) {
        let (one, other) = tokio::join!(
            place(shop, wish, wish.gateway),
            place(shop, wish, wish.gateway + 1)
        );
        one.or(other)?
    } else {
        place(shop, wish, wish.gateway).await?
    };
    if wish.twice == Some(false) {
        // What it says is in the journal.
        shop.try_place(wish, wish.gateway + 1).await;
    }
    let follow = async {
        let told = tokio::time::timeout(FOLLOWS, async {
            if wish.streams {
                shop.follow(&placed).await;
            } else {
                shop.watch(&placed).await;
            }
        });
        // The checker knows whether there was an end to be told. He may still be at his bank's page.
        if told.await.is_err() {
            shop.leaves(&placed);
        }
    };
    let act = async {
        match wish.behaviour {
            Behaviour::Waits => {}
            Behaviour::Approves => shop.authenticate(&placed, "approve").await,
            Behaviour::Refuses => shop.authenticate(&placed, "refuse").await,
            Behaviour::Abandons => {
                tokio::time::sleep(AWAY).await;
                cancel(shop, &placed).await;
            }
            Behaviour::EndsWhilePaying => {
                shop.until_paying(plan.as_deref().unwrap_or_default()).await;
                cancel(shop, &placed).await;
            }
            Behaviour::Cancels(after_ms) => {
                tokio::time::sleep(Duration::from_millis(after_ms)).await;
                cancel(shop, &placed).await;
            }
        }
    };
    tokio::join!(follow, act);
    Some(placed)
}

/// Sends the order until it is answered for good. Nobody goes while his order may have been taken: it would wait for
/// him, and nothing would be at rest.
async fn place(shop: &Shop, wish: &Wish, first: usize) -> Option<Placed> {
    let began = Instant::now();
    let mut gateway = first;
    let mut goes_after = shop.persists;
    while began.elapsed() < goes_after {
        goes_after = match shop.place(wish, gateway).await {
            Ok(placed) => return placed,
            Err(Again::NotTaken) => shop.persists,
            Err(Again::Unknown) => shop.persists + shop.stays,
        };
        shop::pause(began).await;
        gateway += 1;
    }
    None
}

async fn cancel(shop: &Shop, placed: &Placed) {
    let began = Instant::now();
    let mut gateway = 0;
    while began.elapsed() < shop.persists {
        // 202 is heard, and 409 says that it is too late.
        if matches!(shop.cancel(placed, gateway).await, Some(202 | 409)) {
            return;
        }
        gateway += 1;
        shop::pause(began).await;
    }
}
