//! A step at work against a real database, without a broker. For tests only.

use super::{
    LocalStep, OutsideStep,
    letter::{Letter, Outbox},
    local::Local,
    outside::{InFlight, Outside},
};
use crate::ledger::{Ledger, handle::now};
use chrono::{DateTime, Utc};
use contract::{Command, Incarnation, MessageId, Reply, SagaId, StepKind, StepName, TraceParent};
use database::{Clock, Pool};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The life of the database in these tests.
pub const INCARNATION: Incarnation = Incarnation(7);

/// A step with what the kit puts around it.
pub struct Bench<S: LocalStep> {
    local: Local<S>,
}

/// The same for a step outside.
pub struct OutsideBench<S: OutsideStep> {
    outside: Outside<S, usize>,
}

/// A clock that shows this machine's time.
#[must_use]
pub fn clock() -> Clock {
    Clock::new(Utc::now().timestamp_millis())
}

/// A fresh command, sent now.
#[must_use]
pub fn command(step: &StepName, saga_id: SagaId, kind: StepKind) -> Command {
    Command {
        id: MessageId::new(),
        effect_key: Command::effect_key(saga_id, step),
        saga_id,
        seq: 1,
        definition: 1,
        step: step.clone(),
        kind,
        attempt: 1,
        sent_at: Utc::now(),
        ttl_ms: 60_000,
        reply_to: "replies".to_owned(),
        incarnation: INCARNATION,
        traceparent: TraceParent::new(saga_id.0.as_u128(), 1, true),
        input: None,
        redo: false,
    }
}

fn letters(commands: Vec<Command>) -> Vec<Letter<usize>> {
    let numbered = commands.into_iter().enumerate();
    numbered
        .map(|(ticket, command)| Letter { ticket, command })
        .collect()
}

/// One place per command; `None` where it was dropped.
async fn collect(
    count: usize,
    mut answers: mpsc::UnboundedReceiver<super::letter::Answer<usize>>,
) -> Vec<Option<Reply>> {
    let mut replies: Vec<Option<Reply>> = vec![None; count];
    let mut answered = vec![0; count];
    while let Some(answer) = answers.recv().await {
        answered[answer.ticket] += 1;
        replies[answer.ticket] = answer.reply.map(|(_, reply)| reply);
    }
    assert!(
        answered.iter().all(|&n| n == 1),
        "one answer each: {answered:?}"
    );
    replies
}

impl<S: LocalStep> Bench<S> {
    /// A worker of the step.
    #[must_use]
    pub fn new(step: S, pool: Pool) -> Self {
        let local = Local {
            name: step.name(),
            step: Arc::new(step),
            pool,
            incarnation: INCARNATION,
            clock: clock(),
        };
        Self { local }
    }

    /// The time by its clock.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        now(&self.local.clock)
    }

    /// As if the database's clock had been set back by so much since the worker learned of it.
    pub fn is_ahead_by(&self, ms: i64) {
        let clock = &self.local.clock;
        clock.observe(Instant::now(), clock.now_ms() + ms);
    }

    /// Works on a batch.
    ///
    /// # Panics
    /// When a command gets no answer, or two.
    pub async fn process(&self, commands: Vec<Command>) -> Vec<Option<Reply>> {
        let (sender, answers) = mpsc::unbounded_channel();
        let (count, letters) = (commands.len(), letters(commands));
        let stop = CancellationToken::new();
        let done = self.local.process(letters, &Outbox(sender), &stop).await;
        done.expect("nobody stopped it");
        collect(count, answers).await
    }

    /// Works on one command.
    ///
    /// # Panics
    /// When it is dropped.
    pub async fn one(&self, command: Command) -> Reply {
        let mut replies = self.process(vec![command]).await;
        replies.pop().flatten().expect("the command is answered")
    }
}

impl<S: OutsideStep> OutsideBench<S> {
    /// A worker of the step with so many permits, and 10 s for an effect.
    #[must_use]
    pub fn new(step: S, pool: Pool, permits: usize) -> Self {
        let name = step.name();
        let outside = Outside {
            step: Arc::new(step),
            ledger: Ledger::start(name.clone(), pool.clone(), clock()),
            name,
            pool,
            incarnation: INCARNATION,
            clock: clock(),
            permits: Arc::new(Semaphore::new(permits)),
            timeout: Duration::from_secs(10),
            running: TaskTracker::new(),
            in_flight: InFlight::default(),
        };
        Self { outside }
    }

    /// Works on a batch until its last effect is answered.
    ///
    /// # Panics
    /// When a command gets no answer, or two.
    pub async fn process(&self, commands: Vec<Command>) -> Vec<Option<Reply>> {
        let (sender, answers) = mpsc::unbounded_channel();
        let (count, letters) = (commands.len(), letters(commands));
        let stop = CancellationToken::new();
        let done = self.outside.process(letters, &Outbox(sender), &stop).await;
        done.expect("nobody stopped it");
        collect(count, answers).await
    }

    /// Works on one command.
    ///
    /// # Panics
    /// When it is dropped.
    pub async fn one(&self, command: Command) -> Reply {
        let mut replies = self.process(vec![command]).await;
        replies.pop().flatten().expect("the command is answered")
    }
}
