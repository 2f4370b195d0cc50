//! Nudges that orders changed, shared by all streams of this gateway. Any may be missing: a stream
//! reads the rows, and looks by itself now and then.

use contract::{Event, OrderId};
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

/// Nudges kept for a slow stream; beyond them it reads the rows once for all.
const KEPT: usize = 4_096;

/// Where streams listen.
pub(crate) struct Watch {
    changed: broadcast::Sender<OrderId>,
}

impl Watch {
    /// Passes events on until `shutdown`.
    pub(super) fn start(mut events: mpsc::Receiver<Event>, shutdown: CancellationToken) -> Self {
        let changed = broadcast::Sender::new(KEPT);
        let passing = changed.clone();
        tokio::spawn(async move {
            while let Some(Some(event)) = shutdown.run_until_cancelled(events.recv()).await {
                // Nobody listening is no failure.
                let _ = passing.send(event.saga_id.into());
            }
        });
        Self { changed }
    }

    /// From now on.
    pub(super) fn listen(&self) -> broadcast::Receiver<OrderId> {
        self.changed.subscribe()
    }
}
