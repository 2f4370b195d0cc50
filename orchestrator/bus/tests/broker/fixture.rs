//! What the tests share.

use bus::{
    Bus, Config, Delivery, PublishError, State,
    testing::{INCARNATION, TestNamespace, sample_command},
};
use contract::{Command, MessageId, StepKind, StepName};
use std::{future::Future, time::Duration};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A bus that is stopped, and a namespace that is deleted, at the end.
pub(crate) struct Fixture {
    pub(crate) bus: Bus,
    pub(crate) stop: CancellationToken,
    pub(crate) namespace: TestNamespace,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        Self::with(TestNamespace::new(), |config| config).await
    }

    /// A bus in `namespace` that is ready.
    pub(crate) async fn with(
        namespace: TestNamespace,
        change: impl FnOnce(Config) -> Config,
    ) -> Self {
        let fixture = Self::unready(namespace, change);
        fixture.ready().await;
        fixture
    }

    pub(crate) fn unready(namespace: TestNamespace, change: impl FnOnce(Config) -> Config) -> Self {
        let config = change(namespace.config());
        assert_eq!(config.problems(), Vec::<String>::new());
        let stop = CancellationToken::new();
        let bus = Bus::start(config, INCARNATION, stop.clone());
        Self {
            bus,
            stop,
            namespace,
        }
    }

    /// Another process's bus in the same namespace, ready.
    pub(crate) async fn second(&self) -> Bus {
        let config = Config {
            node: "second".to_owned(),
            ..self.namespace.config()
        };
        let bus = Bus::start(config, INCARNATION, self.stop.clone());
        within("the second bus is ready", bus.ready()).await;
        bus
    }

    pub(crate) async fn ready(&self) -> State {
        within("the bus is ready", self.bus.ready()).await
    }

    pub(crate) async fn state(&self, what: &str, wanted: impl FnMut(&State) -> bool) -> State {
        let mut state = self.bus.state();
        within(what, state.wait_for(wanted))
            .await
            .expect("the bus lives")
            .clone()
    }

    pub(crate) async fn publish_all(&self, commands: Vec<Command>) {
        for verdict in within("published", self.bus.publish_commands(commands)).await {
            assert_eq!(verdict, Ok(()));
        }
    }

    pub(crate) async fn publish_one(&self, command: Command) -> Result<(), PublishError> {
        within("answered", self.bus.publish_commands(vec![command]))
            .await
            .remove(0)
    }

    pub(crate) fn command_queue(&self, step: &StepName) -> String {
        self.namespace.topology().command_queue(step, StepKind::Do)
    }

    /// Until a queue has so many messages waiting.
    pub(crate) async fn waiting(&self, queue: &str, count: u32) {
        let raw = self.namespace.raw().await;
        eventually(&format!("{count} messages wait in {queue}"), async || {
            raw.waiting(queue).await == Some(count)
        })
        .await;
    }

    pub(crate) async fn stopped(&self) {
        self.stop.cancel();
        within("the bus stops", self.bus.stopped()).await;
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) fn pay() -> Command {
    sample_command(&StepName::PAY, StepKind::Do)
}

pub(crate) fn pays(count: usize) -> Vec<Command> {
    (0..count).map(|_| pay()).collect()
}

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

pub(crate) async fn next<T>(receiver: &mut mpsc::Receiver<T>) -> T {
    within("something arrives", receiver.recv())
        .await
        .expect("the receiver is open")
}

/// Polls until it is so.
pub(crate) async fn eventually(what: &str, mut so: impl AsyncFnMut() -> bool) {
    within(what, async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// Receives and acknowledges until so many commands have come. Tells the sizes of the messages.
pub(crate) async fn receive(
    receiver: &mut mpsc::Receiver<Delivery<Command>>,
    count: usize,
) -> (Vec<Command>, Vec<usize>) {
    let (mut commands, mut sizes) = (Vec::new(), Vec::new());
    while commands.len() < count {
        let delivery = next(receiver).await;
        sizes.push(delivery.envelopes.len());
        commands.extend(delivery.envelopes);
        delivery.acker.ack().await;
    }
    (commands, sizes)
}

pub(crate) fn ids<'a>(commands: impl IntoIterator<Item = &'a Command>) -> Vec<MessageId> {
    let mut ids: Vec<_> = commands.into_iter().map(|command| command.id).collect();
    ids.sort();
    ids
}
