//! What the engine logs of a saga, and that each line bears its trace.

use crate::world::{World, eventually, pay_is_refused, trace_of};
use contract::{Command, Outcome, SagaId, StepKind, StepName};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, LazyLock, Mutex},
};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer,
    filter::LevelFilter,
    layer::{Context, SubscriberExt},
    util::SubscriberInitExt,
};

/// A line's fields; `message` and `level` are among them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line(pub(crate) BTreeMap<&'static str, String>);

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

/// All lines of this process, of every test in it.
pub(crate) static LINES: LazyLock<Arc<Mutex<Vec<Line>>>> = LazyLock::new(|| {
    let lines = Arc::default();
    tracing_subscriber::registry()
        .with(Keep(Arc::clone(&lines)).with_filter(LevelFilter::INFO))
        .init();
    lines
});

struct Keep(Arc<Mutex<Vec<Line>>>);

impl<S: Subscriber> Layer<S> for Keep {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        line.0.insert("level", event.metadata().level().to_string());
        self.0.lock().expect("no panic holds it").push(line);
    }
}

/// Waits for lines about a saga that begin with `message`.
pub(crate) async fn said(saga: SagaId, message: &str) -> Vec<Line> {
    let saga = saga.to_string();
    eventually(message, async || {
        let lines = LINES.lock().expect("no panic holds it");
        let mine: Vec<Line> = lines
            .iter()
            .filter(|line| line.0.get("saga_id") == Some(&saga))
            .filter(|line| line.0["message"].starts_with(message))
            .cloned()
            .collect();
        (!mine.is_empty()).then_some(mine)
    })
    .await
}

/// A saga's trace as it stands in a line.
fn trace(saga: SagaId) -> String {
    format!("{:032x}", trace_of(saga))
}

#[tokio::test]
async fn an_ended_saga_is_one_line_with_its_state_reason_and_trace() {
    LazyLock::force(&LINES);
    let world = World::new().await;
    let _orchestrator = world.orchestrator("one").await;
    let _workers = world.workers(pay_is_refused("")).await;
    let id = world.start(1).await[0];
    world.ended(id).await;
    let ended = said(id, "a saga has ended").await;
    let [line] = ended.as_slice() else {
        panic!("one line: {ended:?}");
    };
    assert_eq!(line.0["level"], "INFO");
    assert_eq!(line.0["trace_id"], trace(id));
    assert_eq!(line.0["state"], "compensated");
    assert_eq!(line.0["reason"], "card_declined");
}

#[tokio::test]
async fn a_saga_that_needs_a_person_is_told_with_its_trace() {
    LazyLock::force(&LINES);
    let world = World::new().await;
    let _orchestrator = world.orchestrator("one").await;
    let script = Arc::new(|command: &Command, _| {
        // The payment cannot be taken back.
        let refuse = command.kind == StepKind::Undo || command.step == StepName::ISSUE;
        let outcome = if refuse {
            Outcome::Rejected
        } else {
            Outcome::Done
        };
        vec![command.reply(outcome).with_error("disputed", "")]
    });
    let _workers = world.workers(script).await;
    let id = world.start(1).await[0];
    let told = said(id, "a saga needs a person's attention").await;
    assert_eq!(told[0].0["level"], "WARN");
    assert_eq!(told[0].0["trace_id"], trace(id));
    assert_eq!(told[0].0["state"], "compensating");
}

#[tokio::test]
async fn a_saga_that_is_held_is_told_with_its_trace() {
    LazyLock::force(&LINES);
    let world = World::new().await;
    let _workers = world
        .workers(Arc::new(|command: &Command, _| {
            let code = command.saga_id.to_string().replace('-', "");
            vec![command.reply(Outcome::Rejected).with_error(&code, "")]
        }))
        .await;
    let ids = world.start(3).await;
    let refused = ids[0].to_string().replace('-', "");
    world
        .execute(&format!(
            "ALTER TABLE history ADD CONSTRAINT refused CHECK (code <> '{refused}')"
        ))
        .await;
    world
        .execute(&format!(
            "UPDATE sagas SET definition = 77 WHERE id = '{}'",
            ids[1]
        ))
        .await;
    world
        .execute(&format!(
            "UPDATE sagas SET step = 300 WHERE id = '{}'",
            ids[2]
        ))
        .await;
    let _orchestrator = world.orchestrator("one").await;
    for (id, message) in [
        (ids[0], "the database refuses this saga's change"),
        (ids[1], "unknown definition"),
        (ids[2], "unreadable row"),
    ] {
        let told = said(id, message).await;
        assert_eq!(told[0].0["level"], "ERROR");
        assert_eq!(told[0].0["trace_id"], trace(id), "{message}");
    }
}
