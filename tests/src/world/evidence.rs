//! What the checker judges, collected from where it is: the database's rows, the provider's ledger, and how
//! full the broker's queues are. Customers, mails and faults are added by whoever knows of them.

use anyhow::Result;
use checker::{
    Evidence,
    collect::{self, Reader},
    evidence::Parked,
};
use contract::{StepKind, StepName, Topology};
use lapin::{Connection, options::QueueDeclareOptions, types::FieldTable};
use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::time::{Instant, sleep};

/// How long messages that were worked on may take to be acknowledged.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// All of it, of now; `unreadable` messages were put on the broker on purpose.
///
/// # Errors
/// Somebody does not answer.
pub async fn collected(
    database_url: &str,
    broker: Connection,
    topology: &Topology,
    provider_url: &str,
    unreadable: u64,
) -> Result<Evidence> {
    let evidence = Evidence {
        ledger: collect::ledger(provider_url).await?,
        books: Reader::connect(database_url).await?.books().await?,
        queues: queues(&broker, topology).await?,
        parked: Parked {
            queue: topology.parked_queue(),
            sent: unreadable,
        },
        ..Evidence::default()
    };
    // A connection that is gone is closed, too.
    let _ = broker.close(200, "bye".into()).await;
    Ok(evidence)
}

/// Messages ready in each queue, once they had time to be acknowledged.
async fn queues(broker: &Connection, topology: &Topology) -> Result<BTreeMap<String, u64>> {
    let mut names = vec![topology.parked_queue()];
    for step in StepName::OF_AN_ORDER {
        let kinds = [StepKind::Do, StepKind::Undo];
        names.extend(kinds.map(|kind| topology.command_queue(&step, kind)));
    }
    let deadline = Instant::now() + ACKNOWLEDGED_WITHIN;
    loop {
        let mut queues = BTreeMap::new();
        for name in &names {
            let channel = broker.create_channel().await?;
            let options = QueueDeclareOptions {
                passive: true,
                ..QueueDeclareOptions::default()
            };
            let queue = channel
                .queue_declare(name.as_str().into(), options, FieldTable::default())
                .await;
            // A queue that is not there holds nothing.
            let count = queue.map_or(0, |queue| queue.message_count());
            queues.insert(name.clone(), u64::from(count));
        }
        let others = queues
            .iter()
            .filter(|(name, _)| **name != topology.parked_queue());
        let waiting: u64 = others.map(|(_, count)| count).sum();
        if waiting == 0 || Instant::now() > deadline {
            return Ok(queues);
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Now, in milliseconds since 1970.
#[must_use]
pub fn now_ms() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or_default()
}
