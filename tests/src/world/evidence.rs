//! What the checker judges, collected from where it is: the database's rows, the provider's ledger, and
//! what the broker's queues hold. Customers, mails and faults are added by whoever knows of them.

use anyhow::Result;
use checker::{
    Evidence,
    collect::{self, Reader},
    evidence::Parked,
};
use contract::Topology;
use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

/// All of it, of now, with what the queues hold ([`Node::messages`](super::broker::Node::messages));
/// `unreadable` messages were put on the broker on purpose.
///
/// # Errors
/// Somebody does not answer.
pub async fn collected(
    database_url: &str,
    queues: BTreeMap<String, u64>,
    topology: &Topology,
    provider_url: &str,
    unreadable: u64,
) -> Result<Evidence> {
    Ok(Evidence {
        ledger: collect::ledger(provider_url).await?,
        books: Reader::connect(database_url).await?.books().await?,
        queues,
        parked: Parked {
            queue: topology.parked_queue(),
            sent: unreadable,
        },
        ..Evidence::default()
    })
}

/// Now, in milliseconds since 1970.
#[must_use]
pub fn now_ms() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or_default()
}
