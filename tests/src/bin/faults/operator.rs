//! Somebody who stops running orders for a while now and then, with the operator's command, and lets each go
//! on again.

use crate::stage::guichet;
use serde_json::Value;
use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Between two rounds; so long a pause lasts, too.
const PAUSE: Duration = Duration::from_millis(1_000);
/// What he typed is a row by then; whether it was heeded he sees by asking.
const PATIENCE: Duration = Duration::from_secs(4);
/// So many of each state are stopped in a round.
const AT_ONCE: usize = 2;

/// What an operator's command needs.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) binary: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) environment: Vec<(String, String)>,
}

impl Desk {
    pub(crate) async fn says(&self, arguments: &[&str]) -> Option<String> {
        let said = guichet(&self.binary, &self.folder, &self.environment, arguments);
        tokio::time::timeout(PATIENCE, said).await.ok()?.ok()
    }

    /// Types a command in somebody's name.
    pub(crate) async fn types(&self, arguments: &[&str], by: &[&str]) -> Option<String> {
        self.says(&[arguments, by].concat()).await
    }

    /// The orders that a command lists.
    pub(crate) async fn listed(&self, arguments: &[&str]) -> Vec<Value> {
        let arguments = [arguments, &["-o", "json"]].concat();
        let listed = self.says(&arguments).await.unwrap_or_default();
        let listed: Value = serde_json::from_str(&listed).unwrap_or_default();
        listed.as_array().cloned().unwrap_or_default()
    }

    /// The ids of live orders, those that are paused or those that are at something.
    async fn orders(&self, which: &[&str]) -> Vec<String> {
        let listed = self.listed(&[&["saga", "ls"], which].concat()).await;
        let ids = listed.iter().filter_map(|one| one["id"].as_str());
        ids.map(str::to_owned).collect()
    }
}

/// Stops some as long as there is more to do, and lets all go on again, until dropped. Whatever he typed may
/// have come about without his hearing of it, so he asks who is paused.
pub(crate) async fn operate(desk: Desk, more: Arc<AtomicBool>) {
    let by = ["--as", "otto", "--reason", "looked into"];
    let mut stopped = BTreeSet::new();
    loop {
        tokio::time::sleep(PAUSE).await;
        stopped.extend(desk.orders(&["--paused"]).await);
        let typed = stopped.iter().map(|id| {
            let arguments = [&["saga", "resume", id.as_str()][..], &by[..]].concat();
            let desk = &desk;
            async move { desk.says(&arguments).await }
        });
        futures_util::future::join_all(typed).await;
        stopped.clear();
        if !more.load(Ordering::Relaxed) {
            continue;
        }
        for state in ["running", "waiting", "compensating"] {
            // The newest come first, and would have ended before he has typed it.
            let oldest = desk.orders(&["--state", state]).await.into_iter().rev();
            let oldest: Vec<String> = oldest.take(AT_ONCE).collect();
            let typed = oldest.iter().map(|id| {
                let arguments = [&["saga", "pause", id.as_str()][..], &by[..]].concat();
                let desk = &desk;
                async move { desk.says(&arguments).await }
            });
            futures_util::future::join_all(typed).await;
            stopped.extend(oldest);
        }
    }
}
