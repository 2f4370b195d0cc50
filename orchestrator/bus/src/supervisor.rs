//! Keeps a session, as long as the owner does not stop the bus.
//!
//! **One way to recover.** A connection can die at any moment: in the handshake, between two
//! declarations, with confirms outstanding, half open with only heartbeats missing. Recovering a
//! part (a channel, one consumer) would mean as many paths as there are moments, each walked only
//! in trouble. So whoever notices trouble calls [`Session::fail`]; everything that waits on the
//! session gives up, both connections are closed for certain, and after a pause the path of the
//! start is walked again: connect, declare, consume, announce. Nothing is lost by it: what was
//! published without a confirm is sent again by its owner, what was delivered and not acknowledged
//! is delivered again by the broker.

use crate::{
    backoff, consume,
    error::SessionError,
    metrics::METRICS,
    session::Session,
    shared::{CommandSubscription, EventSubscription, ReplySubscription, Shared, Wanted},
    topology,
};
use futures_util::{Stream, StreamExt, stream::select};
use lapin::Channel;
use std::{collections::BTreeSet, pin::pin, sync::Arc, time::Duration};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::DropGuard;
use uuid::Uuid;

/// How often the connections are asked whether they are still there, beside their own reports.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// A session that lived for so long was a good one: the next pause is short again.
const GOOD_AFTER: Duration = Duration::from_secs(10);

/// Runs until the owner stops the bus, then drains and closes it.
pub(crate) async fn supervise(shared: Arc<Shared>) {
    let mut failures = 0_u32;
    let mut number = 0;
    loop {
        let opened = tokio::select! {
            biased;
            () = shared.stopping.cancelled() => break,
            opened = Session::open(&shared, number + 1) => opened,
        };
        let error = match opened {
            Ok(session) => {
                let began = Instant::now();
                let failed = live(&shared, &session).await;
                // Only a session that was announced counts.
                number = shared.state.borrow().session;
                forget(&shared);
                session.close(failed.is_none()).await;
                let Some(error) = failed else { break };
                if began.elapsed() >= GOOD_AFTER {
                    failures = 0;
                }
                error
            }
            Err(error) => error,
        };
        failures = failures.saturating_add(1);
        METRICS.session_failures.inc();
        let pause = backoff::pause(failures, shared.config.reconnect_max_ms, rand::random());
        let retry_in_ms = pause.as_millis();
        tracing::warn!(%error, failures, retry_in_ms, "no session with the broker");
        shared
            .state
            .send_modify(|state| state.problem = Some(error.to_string()));
        tokio::select! {
            biased;
            () = shared.stopping.cancelled() => break,
            () = sleep(pause) => {}
        }
    }
    release_owner(&shared);
    shared.drained.cancel();
    // Without a session both lanes refuse what is left, at once.
    shared.lanes.wait().await;
    shared.stopped.cancel();
}

/// Brings the session to what is wanted and keeps it there, until it fails (`Some`) or the owner
/// stops the bus and everything in hand is settled (`None`).
async fn live(shared: &Arc<Shared>, session: &Arc<Session>) -> Option<SessionError> {
    let ended = session.ended();
    let mut version = shared.version.subscribe();
    let mut present = Present::default();
    let mut tick = interval(LOOK_AFTER);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut events = pin!(reports(session));
    loop {
        let newest = *version.borrow_and_update();
        if present.version != Some(newest) {
            let limit = shared.config.connect_timeout();
            match timeout(limit, present.follow(shared, session)).await {
                Ok(Ok(())) => announce(shared, session, &present),
                Ok(Err(error)) => return Some(error),
                Err(_) => {
                    return Some(SessionError::ConnectTimeout(
                        shared.config.connect_timeout_ms,
                    ));
                }
            }
        }
        tokio::select! {
            biased;
            () = ended.wait() => return session.why(),
            () = shared.stopping.cancelled() => {
                drop(present); // it holds the owner's receivers open
                drain(shared, session).await;
                return None;
            }
            Some((role, event)) = events.next() => heed(shared, session, role, event),
            changed = version.changed() => debug_assert!(changed.is_ok(), "shared holds the sender"),
            _ = tick.tick() => look_after(session),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Role {
    Publish,
    Consume,
}

/// What the driver reports of both connections. (Its stream is a queue, not a broadcast: there must
/// be one listener for each connection, and this is it.)
fn reports(session: &Session) -> impl Stream<Item = (Role, lapin::Event)> + use<'_> {
    let publish = session.publish.connection.events_listener();
    let consume = session.consume.connection.events_listener();
    select(
        publish.map(|event| (Role::Publish, event)),
        consume.map(|event| (Role::Consume, event)),
    )
}

fn heed(shared: &Shared, session: &Session, role: Role, event: lapin::Event) {
    match event {
        lapin::Event::ConnectionBlocked(reason) if role == Role::Publish => {
            tracing::warn!(reason, "the broker takes no messages");
            block(shared, session, true);
        }
        lapin::Event::ConnectionUnblocked if role == Role::Publish => {
            tracing::info!("the broker takes messages again");
            block(shared, session, false);
        }
        // A channel's error is reported here too. Whoever uses the channel knows better what it
        // means, so only the connection's own end counts.
        lapin::Event::Error(error) if !connected(session, role) => session.fail(error.into()),
        _ => {}
    }
}

fn look_after(session: &Session) {
    for role in [Role::Publish, Role::Consume] {
        if !connected(session, role) {
            session.fail(SessionError::Gone(match role {
                Role::Publish => "publishing",
                Role::Consume => "consuming",
            }));
        }
    }
}

fn connected(session: &Session, role: Role) -> bool {
    let link = match role {
        Role::Publish => &session.publish,
        Role::Consume => &session.consume,
    };
    link.connection.status().connected()
}

fn block(shared: &Shared, session: &Session, blocked: bool) {
    session.blocked.send_replace(blocked);
    METRICS.blocked.set(i64::from(blocked));
    shared.state.send_modify(|state| state.blocked = blocked);
}

/// The session is usable: publishers get it, the owner learns of it.
fn announce(shared: &Shared, session: &Arc<Session>, present: &Present) {
    let first = shared.session.borrow().is_none();
    if first {
        shared.session.send_replace(Some(Arc::clone(session)));
        METRICS.sessions.inc();
        METRICS.connected.set(1);
        tracing::info!(
            session = session.number,
            "session with the broker established"
        );
    }
    shared.state.send_modify(|state| {
        state.session = session.number;
        state.connected = true;
        state.problem = None;
        state.reply_queue = present
            .replies
            .as_ref()
            .map(|replies| replies.queue.clone());
        state.applied = present.version.unwrap_or_default();
    });
}

fn forget(shared: &Shared) {
    shared.session.send_replace(None);
    METRICS.connected.set(0);
    METRICS.blocked.set(0);
    shared.state.send_modify(|state| {
        state.connected = false;
        state.blocked = false;
        state.reply_queue = None;
    });
}

/// Lets what was handed out be finished, published and acknowledged, for a bounded time.
async fn drain(shared: &Arc<Shared>, session: &Session) {
    release_owner(shared);
    let finished = async {
        session.consumers.close();
        session.consumers.wait().await;
        shared.in_hand.close();
        shared.in_hand.wait().await;
        shared.drained.cancel();
        shared.lanes.wait().await;
    };
    let ended = session.ended();
    tokio::select! {
        () = finished => {}
        () = ended.wait() => {}
        () = sleep(shared.config.drain_timeout()) => {
            tracing::warn!(in_hand = shared.in_hand.len(), "stopped with deliveries in hand; they come again");
        }
    }
}

/// The owner's receivers end as soon as their consumers have stopped.
fn release_owner(shared: &Shared) {
    shared.want(|wanted| {
        wanted.commands.clear();
        wanted.replies = None;
        wanted.events.clear();
    });
}

/// What of the wanted is in effect in this session.
#[derive(Default)]
struct Present {
    version: Option<u64>,
    commands: Vec<Arc<CommandSubscription>>,
    replies: Option<Replies>,
    events: Vec<Arc<EventSubscription>>,
}

struct Replies {
    subscription: Arc<ReplySubscription>,
    channel: Channel,
    queue: String,
    bound: BTreeSet<i16>,
    /// Its consumer ends with it.
    _consumer: DropGuard,
}

impl Present {
    /// Declares, consumes and binds what is wanted and not yet there.
    async fn follow(
        &mut self,
        shared: &Arc<Shared>,
        session: &Arc<Session>,
    ) -> Result<(), SessionError> {
        let wanted = shared.wanted().clone();
        self.commands
            .retain(|known| wanted.commands.iter().any(|one| Arc::ptr_eq(one, known)));
        self.events
            .retain(|known| wanted.events.iter().any(|one| Arc::ptr_eq(one, known)));
        for step in &wanted.steps {
            session.ensure_step(shared, step).await?;
        }
        for subscription in &wanted.commands {
            if !self
                .commands
                .iter()
                .any(|known| Arc::ptr_eq(known, subscription))
            {
                consume::commands(shared, session, subscription).await?;
                self.commands.push(Arc::clone(subscription));
            }
        }
        for subscription in &wanted.events {
            if !self
                .events
                .iter()
                .any(|known| Arc::ptr_eq(known, subscription))
            {
                consume::events(shared, session, subscription).await?;
                self.events.push(Arc::clone(subscription));
            }
        }
        self.follow_replies(shared, session, &wanted).await?;
        self.version = Some(wanted.version);
        Ok(())
    }

    async fn follow_replies(
        &mut self,
        shared: &Arc<Shared>,
        session: &Arc<Session>,
        wanted: &Wanted,
    ) -> Result<(), SessionError> {
        let Some(subscription) = &wanted.replies else {
            self.replies = None;
            return Ok(());
        };
        let known = self
            .replies
            .as_ref()
            .is_some_and(|r| Arc::ptr_eq(&r.subscription, subscription));
        if !known {
            let queue = shared
                .topology
                .reply_queue(&shared.config.node, &Uuid::now_v7().to_string());
            let (channel, consumer) =
                consume::replies(shared, session, subscription, &queue).await?;
            self.replies = Some(Replies {
                subscription: Arc::clone(subscription),
                channel,
                queue,
                bound: BTreeSet::new(),
                _consumer: consumer,
            });
        }
        let Some(replies) = &mut self.replies else {
            return Ok(());
        };
        let exchange = shared.topology.sagas_exchange();
        for shard in wanted.shards.difference(&replies.bound) {
            topology::bind(
                &replies.channel,
                &replies.queue,
                &exchange,
                &shard.to_string(),
            )
            .await?;
        }
        for shard in replies.bound.difference(&wanted.shards) {
            topology::unbind(
                &replies.channel,
                &replies.queue,
                &exchange,
                &shard.to_string(),
            )
            .await?;
        }
        replies.bound.clone_from(&wanted.shards);
        Ok(())
    }
}
