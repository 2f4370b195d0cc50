//! Nudges that orders changed, each passed to the streams of its own order and to no other. Any may be
//! missing: a stream reads the rows, and looks by itself now and then.

use contract::{Event, OrderId};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

type Listeners = HashMap<OrderId, Vec<Arc<Notify>>>;

/// Where streams listen.
#[derive(Clone, Default)]
pub(crate) struct Watch {
    listeners: Arc<Mutex<Listeners>>,
}

/// One stream's ear; dropped, it hears no more.
pub(super) struct Listening {
    watch: Watch,
    order: OrderId,
    nudged: Arc<Notify>,
}

impl Watch {
    /// Passes events on until `shutdown`.
    pub(super) fn start(mut events: mpsc::Receiver<Event>, shutdown: CancellationToken) -> Self {
        let watch = Self::default();
        let passing = watch.clone();
        tokio::spawn(async move {
            while let Some(Some(event)) = shutdown.run_until_cancelled(events.recv()).await {
                let order: OrderId = event.saga_id.into();
                for listener in passing.listeners().get(&order).into_iter().flatten() {
                    listener.notify_one(); // kept for a stream that is looking right now
                }
            }
        });
        watch
    }

    /// From now on.
    pub(super) fn listen(&self, order: OrderId) -> Listening {
        let nudged = Arc::new(Notify::new());
        let ours = Arc::clone(&nudged);
        self.listeners().entry(order).or_default().push(ours);
        Listening {
            watch: self.clone(),
            order,
            nudged,
        }
    }

    /// Whoever panicked while he held it left a map that is still right.
    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listening {
    /// Waits for the next nudge, or takes the one that came meanwhile.
    pub(super) async fn nudged(&self) {
        self.nudged.notified().await;
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut listeners = self.watch.listeners();
        if let Some(of_order) = listeners.get_mut(&self.order) {
            of_order.retain(|one| !Arc::ptr_eq(one, &self.nudged));
            if of_order.is_empty() {
                listeners.remove(&self.order);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use contract::{Incarnation, MessageId};
    use futures_util::FutureExt;

    #[tokio::test]
    async fn a_nudge_reaches_the_streams_of_its_order_and_nothing_stays_behind() {
        let (sender, events) = mpsc::channel(8);
        let watch = Watch::start(events, CancellationToken::new());
        let (one, other) = (OrderId::new(), OrderId::new());
        let (first, second) = (watch.listen(one), watch.listen(one));
        let elsewhere = watch.listen(other);
        let event = Event {
            id: MessageId::new(),
            saga_id: one.into(),
            rev: 2,
            status: "confirmed".to_owned(),
            at: DateTime::UNIX_EPOCH,
            incarnation: Incarnation(1),
            traceparent: None,
        };
        sender.send(event).await.expect("the task takes it");
        first.nudged().await;
        second.nudged().await;
        assert!(elsewhere.nudged().now_or_never().is_none());
        drop((first, second, elsewhere));
        assert!(watch.listeners().is_empty());
    }
}
