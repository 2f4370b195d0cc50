use super::*;
use crate::{Config, Context, Pools, Step, run};
use bus::{Bus, ReplyDelivery, testing::TestNamespace};
use contract::Outcome::{Done, Rejected};
use contract::StepKind::{Do, Undo};
use std::collections::HashSet;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// An orchestrator's side of a broker, and workers on the other.
struct Rig {
    shop: Shop,
    namespace: TestNamespace,
    bus: Bus,
    replies: mpsc::Receiver<ReplyDelivery>,
    reply_to: String,
    _stop: tokio_util::sync::DropGuard,
}

struct Worker {
    stop: CancellationToken,
    running: JoinHandle<Result<(), Error>>,
}

impl Rig {
    async fn start() -> Self {
        let shop = shop().await;
        let namespace = TestNamespace::new().with_steps(&[toy()]);
        let stop = CancellationToken::new();
        let incarnation = crate::kit::testing::INCARNATION;
        let bus = Bus::start(namespace.config(), incarnation, stop.clone());
        bus.declare_steps(&[toy()]);
        let replies = bus.consume_replies(64);
        let state = tokio::time::timeout(Duration::from_secs(20), bus.ready());
        let reply_to = state
            .await
            .expect("a session")
            .reply_queue
            .expect("a queue");
        Self {
            shop,
            namespace,
            bus,
            replies,
            reply_to,
            _stop: stop.drop_guard(),
        }
    }

    fn worker(&self, step: Step) -> Worker {
        let incarnation = crate::kit::testing::INCARNATION;
        let (stop, bus_stop) = (CancellationToken::new(), CancellationToken::new());
        let bus = Bus::start(self.namespace.config(), incarnation, bus_stop.clone());
        let context = Context {
            pools: Pools {
                acts: self.shop.database.pool(),
                undos: self.shop.database.pool(),
            },
            bus,
            incarnation,
            clock: crate::kit::testing::clock(),
        };
        let run = run(vec![step], context, Config::default(), stop.clone());
        let running = tokio::spawn(async move {
            let ended = run.await;
            bus_stop.cancel();
            ended
        });
        Worker { stop, running }
    }

    async fn send(&self, commands: Vec<Command>) {
        let sent = self.bus.publish_commands(commands).await;
        assert!(sent.iter().all(Result::is_ok), "{sent:?}");
    }

    fn ask(&self, saga: SagaId, kind: StepKind, input: &str) -> Command {
        Command {
            reply_to: self.reply_to.clone(),
            ..told(saga, kind, input)
        }
    }

    /// The next so many replies.
    async fn replies(&mut self, count: usize) -> Vec<Reply> {
        let mut replies = Vec::new();
        while replies.len() < count {
            let next = tokio::time::timeout(Duration::from_secs(20), self.replies.recv()).await;
            let next = next.expect("replies come").expect("the bus is up");
            replies.extend(next.replies);
            next.acker.ack().await;
        }
        replies
    }
}

#[tokio::test]
async fn commands_go_in_and_replies_come_out() {
    let mut rig = Rig::start().await;
    let worker = rig.worker(Step::local(Toy::default()));
    let sagas: Vec<SagaId> = (0..500).map(|_| SagaId::new()).collect();
    let commands: Vec<Command> = sagas.iter().map(|saga| rig.ask(*saga, Do, "")).collect();
    let ids: HashSet<_> = commands.iter().map(|command| command.id).collect();
    rig.send(commands.clone()).await;
    rig.send(commands).await; // every one a second time
    let replies = rig.replies(1_000).await;
    assert!(replies.iter().all(|reply| reply.outcome == Done));
    assert_eq!(
        replies
            .iter()
            .map(|reply| reply.in_reply_to)
            .collect::<HashSet<_>>(),
        ids
    );
    assert_eq!(toys(&rig.shop).await, 500);
    rig.send(sagas.iter().map(|saga| rig.ask(*saga, Undo, "")).collect())
        .await;
    rig.replies(500).await;
    assert_eq!(toys(&rig.shop).await, 0);
    worker.stop.cancel();
    worker
        .running
        .await
        .expect("no panic")
        .expect("an orderly end");
}

/// One slow effect holds neither its neighbours' replies back nor an undo.
#[tokio::test]
async fn a_slow_neighbour_holds_nobody_up() {
    let mut rig = Rig::start().await;
    let maker = Maker::new();
    let worker = rig.worker(Step::outside(maker.clone()));
    let (slow, quick) = (SagaId::new(), SagaId::new());
    rig.send(vec![rig.ask(slow, Do, "between"), rig.ask(quick, Do, "")])
        .await;
    let first = rig.replies(1).await;
    assert_eq!((first[0].saga_id, first[0].outcome), (quick, Done));
    maker.reached(1).await;
    rig.send(vec![rig.ask(slow, Undo, "")]).await;
    let second = rig.replies(1).await;
    assert_eq!((second[0].kind, second[0].outcome), (Undo, Done));
    // Stopped now, the worker finishes what it has begun and answers it.
    worker.stop.cancel();
    maker.go.add_permits(1);
    let third = rig.replies(1).await;
    assert_eq!(
        (third[0].kind, third[0].outcome, code(&third[0])),
        (Do, Rejected, "undone")
    );
    worker
        .running
        .await
        .expect("no panic")
        .expect("an orderly end");
}

/// A command that comes again while its effect is under way does not begin it a second time, and
/// both are answered when it ends.
#[tokio::test]
async fn a_resent_command_joins_the_effect_under_way() {
    let mut rig = Rig::start().await;
    let maker = Maker::new();
    let worker = rig.worker(Step::outside(maker.clone()));
    let (slow, quick) = (SagaId::new(), SagaId::new());
    let command = rig.ask(slow, Do, "between");
    rig.send(vec![command.clone()]).await;
    maker.reached(1).await;
    rig.send(vec![command, rig.ask(quick, Do, "after")]).await;
    maker.reached(1).await; // the quick one's; so the resent one has been looked at too
    assert_eq!(maker.reached.available_permits(), 0);
    maker.go.add_permits(2);
    let replies = rig.replies(3).await;
    assert_eq!(
        replies.iter().filter(|reply| reply.saga_id == slow).count(),
        2
    );
    assert!(replies.iter().all(|reply| reply.outcome == Done));
    worker.stop.cancel();
    worker
        .running
        .await
        .expect("no panic")
        .expect("an orderly end");
}

/// A worker is killed with a batch in its hands: unacknowledged, it comes to the next worker.
#[tokio::test]
async fn a_killed_workers_batch_comes_again() {
    let mut rig = Rig::start().await;
    let maker = Maker::new();
    let (slow, quick) = (SagaId::new(), SagaId::new());
    // A runtime of its own, so that all of the worker dies at once, its connections too.
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let doomed = {
        let _inside = runtime.enter();
        rig.worker(Step::outside(maker.clone()))
    };
    rig.send(vec![rig.ask(slow, Do, "between"), rig.ask(quick, Do, "")])
        .await;
    maker.reached(1).await;
    assert_eq!(rig.replies(1).await[0].saga_id, quick);
    // Whatever is acknowledged because of that answer is so before the next one is published.
    rig.send(vec![rig.ask(SagaId::new(), Do, "")]).await;
    rig.replies(1).await;
    runtime.shutdown_background();
    drop(doomed);
    maker.go.add_permits(1);
    // The delivery was not acknowledged, since one of its envelopes was not answered: the heir
    // gets both. One is repeated from the ledger, one goes on from its outside id.
    let heir = rig.worker(Step::outside(maker.clone()));
    let mut missing = HashSet::from([slow, quick]);
    while !missing.is_empty() {
        for reply in rig.replies(1).await {
            assert_eq!(reply.outcome, Done, "{reply:?}");
            missing.remove(&reply.saga_id);
        }
    }
    assert_eq!(maker.world.confirms(), 3);
    heir.stop.cancel();
    heir.running
        .await
        .expect("no panic")
        .expect("an orderly end");
}
