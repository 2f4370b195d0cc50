//! What the scenes buy: events and offers that have what a scene needs.

use anyhow::{Context, Result};
use diesel::sql_types::{Integer, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use serde_json::Value;
use uuid::Uuid;

use super::shop::Shop;

/// An event and one of its offers.
pub(super) struct OnSale {
    pub(super) id: Uuid,
    pub(super) offer: Uuid,
}

/// A cheap offer of one event.
pub(super) async fn one_event(shop: &Shop) -> Result<OnSale> {
    Ok(events(shop, 1).await?.remove(0))
}

/// Cheap offers of as many events, one each.
pub(super) async fn events(shop: &Shop, count: usize) -> Result<Vec<OnSale>> {
    let list = shop
        .get("/v1/events?available=true&accessible=false&sort=price&limit=20")
        .await?;
    let mut found = Vec::new();
    for event in list["data"].as_array().into_iter().flatten() {
        let id = event["id"].as_str().context("an event without id")?;
        let event = shop.get(&format!("/v1/events/{id}")).await?;
        let offers = event["offers"].as_array().cloned().unwrap_or_default();
        let offer = offers
            .iter()
            .find(|offer| offer["accessible"] == false && offer["remaining"].as_u64() > Some(100));
        if let Some(offer) = offer {
            let offer = offer["id"]
                .as_str()
                .context("an offer without id")?
                .parse()?;
            found.push(OnSale {
                id: id.parse()?,
                offer,
            });
        }
        if found.len() == count {
            return Ok(found);
        }
    }
    anyhow::bail!("only {} events have places for the demo", found.len())
}

/// The offers of the first 50 events that a filter leaves.
pub(super) async fn offers(shop: &Shop, filter: &str) -> Result<Vec<Value>> {
    let list = shop.get(&format!("/v1/events?{filter}&limit=50")).await?;
    let mut offers = Vec::new();
    for event in list["data"].as_array().into_iter().flatten() {
        let id = event["id"].as_str().context("an event without id")?;
        let event = shop.get(&format!("/v1/events/{id}")).await?;
        offers.extend(event["offers"].as_array().cloned().unwrap_or_default());
    }
    Ok(offers)
}

database::statement! {
    /// What is left of an offer at this moment; pages show it a little later.
    struct Remaining {
        offer: Uuid => SqlUuid,
    } -> Integer =
    "SELECT capacity - taken FROM stock WHERE offer_id = {offer}"
}

/// How many places of the offer are left.
pub(super) async fn remaining(shop: &Shop, event: &OnSale) -> Result<i32> {
    let mut connection = shop.connection().await?;
    let left = Remaining { offer: event.offer }
        .get_result(&mut *connection)
        .await;
    left.context("the offer is gone")
}

database::statement! {
    /// What an organiser does: sets an event's status.
    struct SetStatus {
        id: Uuid => SqlUuid,
        status: String => Text,
    } -> SqlUuid =
    "UPDATE events SET status = {status} WHERE id = {id} RETURNING id"
}

/// Puts an event on sale, or cancels it.
pub(super) async fn set_status(shop: &Shop, id: Uuid, status: &str) -> Result<()> {
    let mut connection = shop.connection().await?;
    let statement = SetStatus {
        id,
        status: status.to_owned(),
    };
    let _: Uuid = statement
        .get_result(&mut *connection)
        .await
        .context("cannot set the event's status")?;
    Ok(())
}
