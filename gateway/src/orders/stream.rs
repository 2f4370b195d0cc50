//! `GET /v1/orders/{id}/stream`: each change of an order's status as a server-sent event, then the
//! end. The event's id is the saga's revision, so a client that comes back with `Last-Event-ID` gets
//! exactly what it missed: events are made of the history, not of messages.

use super::{Orders, overloaded, read::entry, show::Entry, watch::Listening};
use crate::{
    App,
    http::{ApiError, Reply},
};
use contract::OrderId;
use futures_util::{StreamExt, stream};
use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use warp::{Reply as _, sse};

/// How often a stream looks by itself, should a nudge be missing.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often a silent stream shows that it is alive.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);
/// Events on their way to a slow client.
const AHEAD: usize = 8;

struct Changes {
    app: Arc<App>,
    id: OrderId,
    /// What was sent last.
    sent: i32,
    ready: VecDeque<Entry>,
    nudges: Listening,
    looked: bool,
    over: bool,
    _permit: OwnedSemaphorePermit,
}

/// The stream after the event with the id `after`.
///
/// # Errors
/// There are too many streams, or no such order.
pub(super) async fn open(
    app: Arc<App>,
    orders: &Orders,
    id: OrderId,
    after: i32,
) -> Result<Reply, ApiError> {
    let permit = Arc::clone(&orders.streams)
        .try_acquire_owned()
        .map_err(|_| overloaded("Too many streams are open; read the order instead."))?;
    // Listening begins before the first look, so that nothing falls in between.
    let nudges = orders.watch.listen(id);
    let mut connection = app.pool.get().await.map_err(database::Error::from)?;
    orders.saga(&mut connection, id).await?;
    drop(connection);
    let ready = VecDeque::new();
    let (sender, mut receiver) = mpsc::channel(AHEAD);
    let changes = Changes {
        app,
        id,
        sent: after,
        ready,
        nudges,
        looked: false,
        over: false,
        _permit: permit,
    };
    let shutdown = orders.shutdown.clone();
    tokio::spawn(async move {
        let closed = sender.clone();
        tokio::select! {
            () = changes.pass_on(sender) => {}
            () = closed.closed() => {} // the client is gone
            () = shutdown.cancelled() => {}
        }
    });
    let events = stream::poll_fn(move |context| receiver.poll_recv(context));
    let keep_alive = sse::keep_alive().interval(KEEP_ALIVE_EVERY);
    Ok(Reply::from(
        sse::reply(keep_alive.stream(events.map(Ok::<_, Infallible>))).into_response(),
    ))
}

impl Changes {
    /// Sends what happened and what happens, until the order is decided.
    async fn pass_on(mut self, events: mpsc::Sender<sse::Event>) {
        loop {
            while let Some(entry) = self.ready.pop_front() {
                let data = serde_json::to_string(&entry).unwrap_or_default();
                let event = sse::Event::default()
                    .id(entry.rev.to_string())
                    .event("order")
                    .data(data);
                if events.send(event).await.is_err() {
                    return;
                }
            }
            if self.over {
                return;
            }
            if self.looked {
                self.nudged().await;
            }
            self.look().await;
        }
    }

    /// Waits until there may be something new.
    async fn nudged(&self) {
        // Either way it is time to look.
        let _ = tokio::time::timeout(LOOK_EVERY, self.nudges.nudged()).await;
    }

    async fn look(&mut self) {
        self.looked = true;
        let read = async {
            let mut connection = self.app.pool.get().await.map_err(database::Error::from)?;
            self.app.orders.saga(&mut connection, self.id).await
        };
        // While the database is away the stream stays and looks again.
        let Ok(saga) = read.await else { return };
        let mut status = None;
        for moment in &saga.timeline {
            let changed = status.replace(moment.status) != Some(moment.status);
            if changed && moment.rev > self.sent {
                self.ready.push_back(entry(moment));
                self.sent = moment.rev;
            }
        }
        // What a customer waits for is decided; the mail may take its time.
        self.over = matches!(
            saga.status,
            saga::Status::Confirmed | saga::Status::Cancelled
        );
    }
}
