//! One session: two connections and everything that lives and dies with them.

use crate::{error::SessionError, link::Link, shared::Shared, topology};
use contract::StepName;
use lapin::Channel;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Tells that a session has ended. Held by whatever must not wait for it in vain.
#[derive(Debug, Clone)]
pub(crate) struct Ended(CancellationToken);

impl Ended {
    pub(crate) async fn wait(&self) {
        self.0.cancelled().await;
    }
}

pub(crate) struct Session {
    pub(crate) number: u64,
    pub(crate) publish: Link,
    pub(crate) consume: Link,
    /// The broker takes no messages.
    pub(crate) blocked: watch::Sender<bool>,
    /// The tasks that hand deliveries out, each for as long as it does.
    pub(crate) consumers: TaskTracker,
    declared: Mutex<BTreeSet<StepName>>,
    ended: CancellationToken,
    why: OnceLock<SessionError>,
}

impl Session {
    /// Connects twice and declares what everyone needs.
    pub(crate) async fn open(shared: &Shared, number: u64) -> Result<Arc<Self>, SessionError> {
        let config = &shared.config;
        let opening = async {
            let (publish, consume) = tokio::try_join!(
                Link::connect(config, "publish"),
                Link::connect(config, "consume")
            )?;
            let channel = consume.connection.create_channel().await?;
            topology::declare_base(&channel, &shared.topology, config.command_queue_type).await?;
            Ok::<_, SessionError>((publish, consume))
        };
        let (publish, consume) = tokio::time::timeout(config.connect_timeout(), opening)
            .await
            .unwrap_or(Err(SessionError::ConnectTimeout(config.connect_timeout_ms)))?;
        Ok(Arc::new(Self {
            number,
            publish,
            consume,
            blocked: watch::Sender::new(false),
            consumers: TaskTracker::new(),
            declared: Mutex::default(),
            ended: CancellationToken::new(),
            why: OnceLock::new(),
        }))
    }

    /// Ends the session; the first reason is the one that is told.
    pub(crate) fn fail(&self, error: SessionError) {
        // Later reasons are consequences of the first.
        let _ = self.why.set(error);
        self.ended.cancel();
    }

    /// Why it failed, if it did.
    pub(crate) fn why(&self) -> Option<SessionError> {
        self.why.get().cloned()
    }

    pub(crate) fn ended(&self) -> Ended {
        Ended(self.ended.clone())
    }

    /// Ends everything that waits on this session, then its connections: politely after an orderly
    /// stop, else at once, since a peer in trouble may take its time and the next session waits.
    pub(crate) async fn close(&self, politely: bool) {
        self.ended.cancel();
        if politely {
            tokio::join!(self.publish.say_goodbye(), self.consume.say_goodbye());
        }
        self.publish.end();
        self.consume.end();
    }

    /// A channel for consuming or declaring; never for publishing, since a blocked publishing
    /// connection answers nothing.
    pub(crate) async fn channel(&self) -> Result<Channel, SessionError> {
        Ok(self.consume.connection.create_channel().await?)
    }

    /// Makes sure that the queues of a step exist and are of the configured type.
    pub(crate) async fn ensure_step(
        &self,
        shared: &Shared,
        step: &StepName,
    ) -> Result<(), SessionError> {
        if self.declared().contains(step) {
            return Ok(());
        }
        let channel = self.channel().await?;
        topology::declare_step(
            &channel,
            &shared.topology,
            shared.config.command_queue_type,
            step,
        )
        .await?;
        self.declared().insert(step.clone());
        Ok(())
    }

    /// A message to the step was returned: somebody deleted its queue or binding. The next
    /// publisher declares it again.
    pub(crate) fn forget_step(&self, step: &StepName) {
        self.declared().remove(step);
    }

    fn declared(&self) -> std::sync::MutexGuard<'_, BTreeSet<StepName>> {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
