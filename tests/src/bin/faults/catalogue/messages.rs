//! What is done to the messages themselves, by somebody else on the broker.

use super::crowd::{RESENDS, nothing_again};
use crate::{
    fault::{Fault, OUTLASTS_LEASES},
    meddler::{Meddler, Mischief},
    run::Run,
    stage::NAMESPACE,
};
use anyhow::{Context, Result, ensure};
use contract::Topology;
use tests::world::tap::Tap;

macro_rules! meddled {
    ($name:literal, $hypothesis:literal, $mischief:ident, $counter:expr) => {
        Fault::new(
            $name,
            $hypothesis,
            |run| Box::pin(enters(run, Mischief::$mischief, $counter)),
            |run| Box::pin(meddled(run, $counter)),
            |run| Box::pin(leaves(run)),
        )
    };
}

pub(crate) const FAULTS: &[Fault] = &[
    Fault::new(
        "messages-duplicated",
        "Everything comes three times, and happens once.",
        |run| Box::pin(tapped(run)),
        |run| Box::pin(copied(run)),
        |run| Box::pin(untapped(run)),
    )
    .undisturbed()
    .then(|run| Box::pin(nothing_again(run))),
    meddled!(
        "messages-reordered",
        "Order on the bus means nothing.",
        Reorders,
        None
    )
    .lasting(OUTLASTS_LEASES),
    meddled!(
        "messages-corrupted",
        "What cannot be read is set aside, and what it was is sent again.",
        Corrupts,
        Some("guichet_bus_parked_total")
    ),
    meddled!(
        "messages-oversized",
        "What is too long is set aside unread, and what it was is sent again.",
        Swells,
        Some("guichet_bus_parked_total")
    ),
    meddled!(
        "messages-foreign",
        "Messages of another life of the database, and answers that nobody asked for, change nothing.",
        Foreign,
        Some("guichet_bus_foreign_dropped_total")
    ),
];

async fn tapped(run: &mut Run) -> Result<()> {
    run.resent_before = run.stage.counted(RESENDS).await;
    let tap = Tap::on(&run.stage.rabbitmq.url(), &Topology::new(NAMESPACE)).await;
    run.tap = Some(tap);
    Ok(())
}

async fn copied(run: &mut Run) -> Result<String> {
    let copies = run.tap.as_ref().context("there is a tap")?.copies();
    let count: usize = copies.values().sum();
    ensure!(count > 0, "nothing passed that could be copied");
    Ok(format!("{count} copies of {} kinds", copies.len()))
}

async fn untapped(run: &mut Run) -> Result<()> {
    run.tap = None;
    Ok(())
}

async fn enters(run: &mut Run, mischief: Mischief, counter: Option<&str>) -> Result<()> {
    if let Some(counter) = counter {
        run.counted_before = run.stage.counted(counter).await;
    }
    let connection = run.stage.rabbitmq.connect().await?;
    let seed = run.rng.any();
    let meddler = Meddler::enter(connection, &Topology::new(NAMESPACE), mischief, seed).await?;
    run.meddler = Some(meddler);
    Ok(())
}

/// He did something, and the roles have noticed what they can notice.
async fn meddled(run: &mut Run, counter: Option<&str>) -> Result<String> {
    let meddler = run.meddler.as_ref().context("there is a meddler")?;
    let done = meddler.done();
    ensure!(done > 0, "he met no message");
    let Some(counter) = counter else {
        return Ok(format!("{done} messages turned around"));
    };
    let counted = run.stage.counted(counter).await - run.counted_before;
    ensure!(
        counted > 0,
        "nobody has noticed, and he met {done} messages"
    );
    Ok(format!("{done} messages met, {counter} grew by {counted}"))
}

async fn leaves(run: &mut Run) -> Result<()> {
    let meddler = run.meddler.take().context("there is a meddler")?;
    run.stage.garbage += meddler.leave().await?;
    Ok(())
}
