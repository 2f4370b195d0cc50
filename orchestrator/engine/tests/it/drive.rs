//! Sagas that go as they should, each in its own way.

use crate::world::{World, all_done, cancels, pay_is_refused, reviewed_while, trace_of};
use bus::Bus;
use contract::{Outcome, StepKind, StepName, TraceParent};
use engine::NewSignal;
use saga::State;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn many_sagas_complete_with_one_command_a_step_and_a_whole_history() {
    let world = World::new().await;
    let _orchestrator = world.orchestrator("one").await;
    let _workers = world.workers(all_done()).await;
    let mut events = world.client.events();
    let ids = world.start(300).await;
    for id in &ids {
        let view = world.ended(*id).await;
        assert_eq!(view.instance.state, State::Completed);
        let revs: Vec<i32> = view.timeline.iter().map(|moment| moment.rev).collect();
        assert_eq!(revs, [1, 2, 3, 4, 5, 6]);
        assert_eq!(view.timeline[4].status, "confirmed");
    }
    let commands = world.seen.lock().expect("no panic").len();
    assert_eq!(
        commands, 1_500,
        "bounded-work: without faults nothing is sent twice"
    );
    let mut confirmed = 0;
    while let Ok(event) = events.try_recv() {
        confirmed += usize::from(event.status == "confirmed");
    }
    assert!(confirmed > 0, "changes of status are announced");
}

/// A step that is tried for ever makes a history without end; what is shown of it has one.
#[tokio::test]
async fn of_a_long_history_the_newest_part_is_shown() {
    let world = World::new().await;
    let _orchestrator = world.orchestrator("one").await;
    let _workers = world.workers(all_done()).await;
    let id = world.start(1).await[0];
    world.ended(id).await;
    let most = i32::try_from(engine::view::TIMELINE_MAX).expect("small");
    // The pivot, row 5, is among what is read, and then it is not.
    for last in [most, most + 5] {
        let more = format!(
            "INSERT INTO history (saga_id, at, rev, seq, input, step, kind, attempt, state)
             SELECT saga_id, at, n, seq, 3, step, kind, n, 1
             FROM history, generate_series(7, {last}) AS n WHERE saga_id = '{id}' AND rev = 6
             ON CONFLICT DO NOTHING"
        );
        world.execute(&more).await;
        let timeline = world.view(id).await.timeline;
        let revs: Vec<i32> = timeline.iter().map(|moment| moment.rev).collect();
        let newest: Vec<i32> = (last - most + 1..=last).collect();
        assert_eq!(revs, newest);
        for moment in timeline {
            let status = ["pending", "confirmed"][usize::from(moment.rev >= 5)];
            assert_eq!(moment.status, status, "revision {}", moment.rev);
        }
    }
}

#[tokio::test]
async fn a_refusal_undoes_in_reverse() {
    let world = World::new().await;
    let _orchestrator = world.orchestrator("one").await;
    let _workers = world.workers(pay_is_refused("no\0 money")).await;
    let id = world.start(1).await[0];
    let view = world.ended(id).await;
    assert_eq!(view.instance.state, State::Compensated);
    assert_eq!(view.instance.reason.as_deref(), Some("card_declined"));
    assert_eq!(world.undone(), [StepName::FRAUD_CHECK, StepName::RESERVE]);
}

/// The trace of the request that started a saga is on all that is sent for it: by the gateway that
/// started it, by an owner that found it in the database, for what is done, undone and announced.
#[tokio::test]
async fn every_message_bears_the_trace_of_its_sagas_request() {
    let world = World::new().await;
    // Without an owner the client can only nudge one; here is somebody who listens.
    let config = world.namespace.config();
    let stop = CancellationToken::new();
    let listener = Bus::start(config, world.incarnation, stop.clone());
    let mut inbox = listener.consume_replies(16);
    listener.bind_shards(&[0, 1, 2, 3, 4, 5, 6, 7]);
    listener.ready().await;
    let mut ids = Vec::new();
    let signals = loop {
        ids.extend(world.start(1).await); // again, should the bindings not have been there yet
        if let Ok(Some(delivery)) =
            tokio::time::timeout(Duration::from_millis(500), inbox.recv()).await
        {
            break delivery.signals;
        }
    };
    for signal in &signals {
        let trace = signal.traceparent.map(TraceParent::trace_number);
        assert_eq!(trace, Some(trace_of(signal.saga_id)), "{signal:?}");
    }
    assert!(!signals.is_empty());
    stop.cancel();

    let mut events = world.client.events();
    let _workers = world.workers(pay_is_refused("")).await;
    let _orchestrator = world.orchestrator("one").await;
    ids.extend(world.start(3).await);
    for id in &ids {
        assert_eq!(world.ended(*id).await.instance.state, State::Compensated);
    }
    let seen = world.seen.lock().expect("no panic").clone();
    assert!(seen.len() >= ids.len() * 5, "{}", seen.len());
    for command in &seen {
        let trace = command.traceparent.trace_number();
        assert_eq!(trace, trace_of(command.saga_id), "{command:?}");
    }
    let first = tokio::time::timeout(Duration::from_secs(30), events.recv()).await;
    let mut next = first.expect("changes of status are announced");
    while let Some(event) = next {
        let trace = event.traceparent.map(TraceParent::trace_number);
        assert_eq!(trace, Some(trace_of(event.saga_id)), "{event:?}");
        next = events.try_recv().ok();
    }
}

#[tokio::test]
async fn a_decision_made_twice_is_applied_once() {
    let world = World::new().await;
    let _orchestrator = world.orchestrator("one").await;
    // The second `do` is the one that follows the decision.
    let script = reviewed_while(|command| command.seq == 2);
    let _workers = world.workers(script).await;
    let id = world.start(1).await[0];
    world.until_status(id, "in_review").await;
    for _ in 0..2 {
        world.execute(&format!(
            "INSERT INTO signals (id, saga_id, shard, kind, step, payload) \
             SELECT gen_random_uuid(), id, shard, 1, 'fraud-check', '{{}}' FROM sagas WHERE id = '{id}'"
        )).await;
    }
    assert_eq!(world.ended(id).await.instance.state, State::Completed);
    assert_eq!(world.seen(id, &StepName::FRAUD_CHECK, StepKind::Do), 2);
    world.every_signal_is_applied().await;
}

/// Ended from outside while it waits, in the middle of a step, and when it is too late.
#[tokio::test]
async fn an_end_undoes_in_reverse_and_comes_too_late_after_the_pivot() {
    let world = World::new().await;
    let _orchestrator = world.orchestrator("one").await;
    let decided = Arc::new(AtomicBool::new(false));
    let is_decided = Arc::clone(&decided);
    // The first one waits; the second one is never told of its mail.
    let script = Arc::new(move |command: &contract::Command, _| {
        let waits = !is_decided.load(Ordering::SeqCst);
        match (command.step.as_str(), command.kind) {
            ("fraud-check", StepKind::Do) if waits => vec![command.reply(Outcome::Waiting)],
            ("notify", _) => Vec::new(),
            _ => vec![command.reply(Outcome::Done)],
        }
    });
    let _workers = world.workers(script).await;
    let waiting = world.start(1).await[0];
    world.until_status(waiting, "in_review").await;
    let end = async |saga| {
        let end = NewSignal {
            id: uuid::Uuid::now_v7(),
            saga,
            what: cancels(),
        };
        let mut connection = world.database.connection().await;
        let told = engine::signal(&mut connection, &[end.clone(), end]).await;
        let told = told.expect("written");
        world.client.nudge(told.iter().copied());
        told
    };
    let told = end(waiting).await;
    assert_eq!((told.len(), told[0].waits), (1, true));
    let view = world.ended(waiting).await;
    assert_eq!(view.instance.state, State::Compensated);
    assert_eq!(view.instance.reason.as_deref(), Some("customer_cancelled"));
    assert_eq!(world.undone(), [StepName::FRAUD_CHECK, StepName::RESERVE]);
    assert_eq!(end(waiting).await, [], "it has ended");

    decided.store(true, Ordering::SeqCst);
    let late = world.start(1).await[0];
    world.until_status(late, "confirmed").await;
    assert_eq!(end(late).await.len(), 1);
    world.every_signal_is_applied().await;
    let view = world.view(late).await;
    assert_eq!(
        (view.status.name(), view.instance.reason),
        ("confirmed", None)
    );
}

#[tokio::test]
async fn transient_trouble_is_tried_again_and_duplicates_change_nothing() {
    let world = World::new().await;
    let _orchestrator = world.orchestrator("one").await;
    let script = Arc::new(|command: &contract::Command, _| {
        let outcome = if command.attempt < 3 {
            Outcome::Retry
        } else {
            Outcome::Done
        };
        let reply = command.reply(outcome).with_error("busy", "");
        let mut stale = reply.clone();
        stale.seq -= 1;
        vec![stale, reply.clone(), reply.clone(), reply]
    });
    let _workers = world.workers(script).await;
    let ids = world.start(5).await;
    for id in ids {
        let view = world.ended(id).await;
        assert_eq!(view.instance.state, State::Completed);
        assert_eq!(
            view.timeline.iter().filter(|m| m.input == "reply").count(),
            15
        );
        assert_eq!(world.seen(id, &StepName::PAY, StepKind::Do), 3);
    }
}
