//! The person who decides about held orders, with the operator's command.

use crate::stage::guichet;
use serde_json::Value;
use std::{path::PathBuf, time::Duration};
use uuid::Uuid;

const PAUSE: Duration = Duration::from_millis(1_500);

/// Decides about whatever is open, two approved for one rejected, until dropped.
pub(crate) async fn review(binary: PathBuf, folder: PathBuf, environment: Vec<(String, String)>) {
    loop {
        tokio::time::sleep(PAUSE).await;
        // Without a database there is nothing to decide now.
        let list = guichet(
            &binary,
            &folder,
            &environment,
            &["review", "ls", "-o", "json"],
        )
        .await;
        let open: Value = list
            .ok()
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        let ids = open
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|one| one["order_id"].as_str());
        for id in ids {
            let rejects = id.parse::<Uuid>().is_ok_and(|id| id.as_u128() % 3 == 0);
            let decision = if rejects { "reject" } else { "approve" };
            let arguments = [
                "review",
                decision,
                id,
                "--as",
                "rita",
                "--reason",
                "looked at",
            ];
            // It may have ended meanwhile.
            let _ = guichet(&binary, &folder, &environment, &arguments).await;
        }
    }
}
