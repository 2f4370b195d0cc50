//! The demo orders: one for each way an order can end, sold through the same public API that
//! everyone uses, judged by what the API, the payment provider's own books and the mail drop say.

mod on_sale;
mod orders;
mod scenes;
mod shop;

use std::collections::HashMap;

use anyhow::Result;
use contract::OrderId;
use engine::definitions::Definitions;

pub(crate) use shop::{Places, Shop};

use crate::{
    operator::timeline,
    output::{self, Format},
    up::Narrator,
};
use serde::Serialize;

/// How one of them went.
#[derive(Serialize)]
struct Outcome {
    scene: &'static str,
    expected: &'static str,
    ended: String,
    as_it_should: bool,
    order: String,
}

/// Sells one order for each end, prints each one's timeline and a table of all. Returns whether each
/// ended as it should and every promise still holds.
pub(crate) async fn every_end(places: Places, narrator: Narrator) -> Result<bool> {
    let shop = Shop::open(places).await?;
    let mut outcomes = Vec::new();
    for scene in scenes::ALL {
        narrator.say("demo", scene.name);
        let played = scene.play(&shop).await;
        let (ended, order) = match played {
            Ok(played) => (scene.expected.to_owned(), Some(played)),
            Err(failure) => (format!("{:#}", failure.cause), failure.order),
        };
        if let Some(id) = order {
            output::print(&format!("\n{}: order {id}\n", scene.name))?;
            show(&shop, id).await?;
        }
        let as_it_should = ended == scene.expected;
        if !as_it_should {
            narrator.warn("demo", &format!("{}: {ended}", scene.name));
        }
        outcomes.push(Outcome {
            scene: scene.name,
            expected: scene.expected,
            ended,
            as_it_should,
            order: order.map(|id| id.to_string()).unwrap_or_default(),
        });
    }
    let header = ["demo order", "must end", "ended", "", "order"];
    output::print("\n")?;
    output::rows(Format::Table, &header, &outcomes, |outcome| {
        let sign = if outcome.as_it_should { "ok" } else { "WRONG" };
        vec![
            outcome.scene.to_owned(),
            outcome.expected.to_owned(),
            if outcome.as_it_should {
                "so".to_owned()
            } else {
                outcome.ended.clone()
            },
            sign.to_owned(),
            outcome.order.clone(),
        ]
    })?;
    let sound = promises_hold(&shop, narrator).await?;
    Ok(sound && outcomes.iter().all(|outcome| outcome.as_it_should))
}

/// Sells `count` more good orders and says how many were confirmed.
pub(crate) async fn many(places: Places, count: u32, narrator: Narrator) -> Result<bool> {
    let shop = Shop::open(places).await?;
    let report = orders::sell(&shop, count, narrator).await?;
    narrator.say("orders", &report.to_string());
    Ok(report.all_confirmed() && promises_hold(&shop, narrator).await?)
}

async fn show(shop: &Shop, id: OrderId) -> Result<()> {
    let mut connection = shop.connection().await?;
    let saga = engine::view::read(&mut connection, &Definitions::ours(), id.into()).await?;
    match saga {
        Some(saga) => timeline::print(&saga.timeline, &HashMap::new()),
        None => Ok(()),
    }
}

async fn promises_hold(shop: &Shop, narrator: Narrator) -> Result<bool> {
    let mut connection = shop.connection().await?;
    let report = inspector::check::run(&mut connection).await?;
    for finding in &report.findings {
        let text = format!(
            "{} is broken: {} {}",
            finding.promise, finding.subject, finding.detail
        );
        narrator.warn("check", &text);
    }
    if report.findings.is_empty() {
        narrator.say("check", "every promise holds in the database");
    }
    Ok(report.findings.is_empty())
}
