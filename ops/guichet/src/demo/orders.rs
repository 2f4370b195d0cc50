//! `--orders N`: many good orders, some at once.

use std::{fmt, time::Duration};

use anyhow::Result;
use futures_util::{StreamExt, stream};
use serde_json::json;
use tokio::time::Instant;

use super::{on_sale, shop::Shop};
use crate::up::Narrator;

/// Orders on their way at once.
const AT_ONCE: usize = 32;

/// How they went.
pub(super) struct Report {
    asked: u32,
    confirmed: u32,
    took: Duration,
    first_failure: Option<String>,
}

impl Report {
    pub(super) fn all_confirmed(&self) -> bool {
        self.confirmed == self.asked
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            asked,
            confirmed,
            took,
            first_failure,
        } = self;
        write!(
            f,
            "{confirmed} of {asked} confirmed in {:.1} s",
            took.as_secs_f64()
        )?;
        match first_failure {
            Some(failure) => write!(f, "; the first that was not: {failure}"),
            None => Ok(()),
        }
    }
}

/// Sells them, one ticket each, spread over what is on sale.
pub(super) async fn sell(shop: &Shop, count: u32, narrator: Narrator) -> Result<Report> {
    let offers = roomy_offers(shop).await?;
    let begun = Instant::now();
    let mut report = Report {
        asked: count,
        confirmed: 0,
        took: Duration::ZERO,
        first_failure: None,
    };
    let numbered = stream::iter(0..count).map(|n| {
        let offer = &offers[n as usize % offers.len()];
        one(shop, n, offer)
    });
    let mut results = numbered.buffer_unordered(AT_ONCE);
    let mut told = 0;
    while let Some(result) = results.next().await {
        match result {
            Ok(status) if status == "confirmed" => report.confirmed += 1,
            Ok(status) => {
                report.first_failure.get_or_insert(status);
            }
            Err(error) => {
                report.first_failure.get_or_insert(format!("{error:#}"));
            }
        }
        let percent = u64::from(report.confirmed) * 10 / u64::from(count);
        if percent > told {
            told = percent;
            narrator.say(
                "orders",
                &format!("{} of {count} confirmed", report.confirmed),
            );
        }
    }
    report.took = begun.elapsed();
    Ok(report)
}

async fn one(shop: &Shop, n: u32, offer: &str) -> Result<String> {
    let order = json!({
        "items": [{"offer_id": offer, "quantity": 1}],
        "payment": {"method": "pm_card_visa"},
        "email": shop.email(&format!("sam.buyer{n}")), "name": "Sam Buyer", "locale": "en",
    });
    let placed = shop.place(&order).await?;
    let order = shop.end(&placed).await?;
    let reason = order["reason"]["code"].as_str().unwrap_or_default();
    let status = order["status"].as_str().unwrap_or_default();
    Ok(if reason.is_empty() {
        status.to_owned()
    } else {
        format!("{status} ({reason})")
    })
}

async fn roomy_offers(shop: &Shop) -> Result<Vec<String>> {
    let offers = on_sale::offers(shop, "available=true&accessible=false").await?;
    let roomy = offers
        .iter()
        .filter(|offer| offer["accessible"] == false && offer["remaining"].as_u64() > Some(200));
    let roomy: Vec<String> = roomy
        .filter_map(|offer| offer["id"].as_str().map(str::to_owned))
        .collect();
    anyhow::ensure!(!roomy.is_empty(), "nothing is on sale");
    Ok(roomy)
}
