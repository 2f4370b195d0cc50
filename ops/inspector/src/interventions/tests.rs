//! What may be done to a saga, by whom, and that it is kept.

use super::*;
use database::testing::TestDatabase;
use diesel::sql_types::BigInt;
use diesel_async::SimpleAsyncConnection;
use saga::State;

/// A saga in this state, with these bits of failed undos, at notify (4) if it runs.
async fn saga(connection: &mut Connection, state: State, done: i32, failed: i32) -> SagaId {
    let definitions = Definitions::ours();
    engine::definitions::register(connection, &definitions)
        .await
        .expect("registered");
    let id = SagaId::new();
    let (number, ended) = (state as i16, state.is_end());
    let cursor = match state {
        State::Running => "4, 1",
        _ => "NULL, NULL",
    };
    let sql = format!(
        "INSERT INTO sagas (id, deadline, updated_at, trace_id, rev, seq, done, maybe_in_force,
                            failed_undo, pivot, shard, definition, state, flags, step, kind, ended,
                            reason)
         VALUES ('{id}', now(), now(), '{id}', 9, 8, {done}, {maybe}, {failed}, 8, 3, 1, {number},
                 {flags}, {cursor}, {ended},
                 {reason});
         INSERT INTO history (saga_id, at, rev, seq, input, state)
         VALUES ('{id}', now(), 1, 0, 1, 1)",
        maybe = done | failed,
        reason = match state {
            State::Compensating => "'customer_cancelled'",
            _ => "NULL",
        },
        flags = if failed > 0 || done & 8 != 0 { 4 } else { 0 },
    );
    connection.batch_execute(&sql).await.expect("written");
    id
}

async fn act(
    connection: &mut Connection,
    saga: SagaId,
    what: &Intervention,
    actor: &str,
) -> Result<Done, Error> {
    let definitions = Definitions::ours();
    intervene(connection, &definitions, saga, what, actor, "ticket 4711").await
}

async fn written(connection: &mut Connection) -> (usize, Vec<String>) {
    let filter = audit::Filter {
        limit: 100,
        ..audit::Filter::default()
    };
    let rows = audit::list(connection, filter).await.expect("readable");
    #[derive(diesel::QueryableByName)]
    struct Signals {
        #[diesel(sql_type = BigInt)]
        signals: i64,
    }
    let signals: Signals = diesel::sql_query("SELECT count(*) AS signals FROM signals")
        .get_result(connection)
        .await
        .expect("readable");
    let actions = rows.into_iter().map(|row| row.action).collect();
    (usize::try_from(signals.signals).expect("a count"), actions)
}

#[tokio::test]
async fn what_a_saga_does_not_ask_for_is_refused_and_leaves_nothing() {
    let database = TestDatabase::create().await;
    let mut connection = database.connection().await;
    let going = saga(&mut connection, State::Waiting, 1, 0).await;
    let confirmed = saga(&mut connection, State::Running, 15, 0).await;
    let over = saga(&mut connection, State::Compensated, 0, 0).await;
    let stuck = saga(&mut connection, State::Compensating, 0, 4).await;
    use Intervention::{ApproveAbandon, Compensate, RequestAbandon, Resolve, Retry};
    for (saga, what) in [
        (going, Retry),
        (going, Resolve(StepName::RESERVE)),
        (going, RequestAbandon),
        (going, ApproveAbandon),
        (confirmed, Compensate),
        (confirmed, RequestAbandon),
        (over, Compensate),
        (over, Retry),
        (stuck, Compensate),
        (stuck, Resolve(StepName::RESERVE)),
        (stuck, ApproveAbandon),
    ] {
        let refused = act(&mut connection, saga, &what, "ann").await;
        assert!(
            matches!(refused, Err(Error::Conflict(_))),
            "{what:?}: {refused:?}"
        );
    }
    let unknown = act(&mut connection, SagaId::new(), &Retry, "ann").await;
    assert!(
        matches!(unknown, Err(Error::NotFound { .. })),
        "{unknown:?}"
    );
    let nobody = act(&mut connection, stuck, &Retry, " \n").await;
    assert!(matches!(nobody, Err(Error::BadRequest(_))), "{nobody:?}");
    assert_eq!(written(&mut connection).await, (0, Vec::new()));
}

#[tokio::test]
async fn what_is_done_is_a_signal_and_an_audit_row_together() {
    let database = TestDatabase::create().await;
    let mut connection = database.connection().await;
    let stuck = saga(&mut connection, State::Compensating, 0, 4).await;
    let going = saga(&mut connection, State::Waiting, 1, 0).await;
    for (saga, what) in [
        (stuck, Intervention::Retry),
        (stuck, Intervention::Resolve(StepName::PAY)),
        (going, Intervention::Compensate),
    ] {
        let done = act(&mut connection, saga, &what, "ann").await;
        let done = done.expect("it is asked for");
        assert_eq!(done.told.len(), 1, "{what:?}");
        let signal = done.signal.expect("a signal");
        let came = what_came(&mut connection, saga, signal).await;
        assert_eq!(came.expect("readable"), None, "nobody looks at it here");
    }
    let (signals, actions) = written(&mut connection).await;
    let newest_first = ["saga.compensate", "saga.resolve", "saga.retry"];
    assert_eq!(
        (signals, actions),
        (3, newest_first.map(str::to_owned).into())
    );
}

#[tokio::test]
async fn giving_up_takes_two_people() {
    let database = TestDatabase::create().await;
    let mut connection = database.connection().await;
    let stuck = saga(&mut connection, State::Compensating, 0, 6).await;
    let asked = act(&mut connection, stuck, &Intervention::RequestAbandon, "ann").await;
    let asked = asked.expect("it may be asked for");
    assert_eq!(asked.signal, None, "nothing happens yet");
    let left = [StepName::FRAUD_CHECK, StepName::PAY];
    assert_eq!(asked.in_force, left, "what it leaves open is listed");
    for same in ["ann", " Ann "] {
        let alone = act(&mut connection, stuck, &Intervention::ApproveAbandon, same).await;
        assert!(matches!(alone, Err(Error::Conflict(_))), "{alone:?}");
    }
    let both = act(&mut connection, stuck, &Intervention::ApproveAbandon, "bob").await;
    assert!(both.expect("two people").signal.is_some());
    let (signals, actions) = written(&mut connection).await;
    assert_eq!(signals, 1);
    assert_eq!(actions, ["saga.abandon.approve", "saga.abandon.request"]);
}

const CORRECTABLE: &[contract::Correctable] = &[contract::Correctable {
    step: StepName::NOTIFY,
    kind: contract::StepKind::Do,
    fields: &[contract::correction::Field {
        name: "email",
        expects: "an e-mail address",
        is_good: contract::is_email,
    }],
}];

async fn corrected(
    connection: &mut Connection,
    saga: SagaId,
    step: &StepName,
    input: &Value,
) -> Result<Done, Error> {
    let definitions = Definitions::ours();
    let by = ("ann", "case 12");
    correct(
        connection,
        &definitions,
        saga,
        CORRECTABLE,
        (step, input),
        by,
    )
    .await
}

#[derive(diesel::QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

#[tokio::test]
async fn a_correction_its_audit_row_and_its_signal_are_one_and_only_the_first_has_the_values() {
    let database = TestDatabase::create().await;
    let mut connection = database.connection().await;
    let asking = saga(&mut connection, State::Running, 15, 0).await;
    let email = json!({"email": "kim@example.org"});
    let done = corrected(&mut connection, asking, &StepName::NOTIFY, &email).await;
    let done = done.expect("it asks for it");
    let mut lines = async |sql: &str| -> Vec<String> {
        let lines: Vec<Line> = diesel::sql_query(sql)
            .load(&mut connection)
            .await
            .expect("readable");
        lines.into_iter().map(|line| line.line).collect()
    };
    let kept = "SELECT concat_ws(' ', audit, step, kind, after_seq, made_by, reason, fields->>'email') AS line
                FROM corrections";
    let expected = format!("{} notify 1 8 ann case 12 kim@example.org", done.audit);
    assert_eq!(lines(kept).await, [expected]);
    let told = lines("SELECT payload::text AS line FROM signals").await;
    let audit = lines("SELECT concat(action, detail) AS line FROM audit").await;
    for (said, expected) in [(&told, "\"correct\""), (&audit, "saga.correct")] {
        let [said] = &said[..] else {
            panic!("one of each: {said:?}");
        };
        assert!(said.contains(expected) && said.contains("email"), "{said}");
        assert!(!said.contains("kim"), "{said}");
    }
    let changed = connection
        .batch_execute("UPDATE corrections SET made_by = 'bob'")
        .await;
    assert!(changed.is_err(), "it is never changed");
}

#[tokio::test]
async fn what_cannot_be_corrected_is_refused_and_leaves_nothing() {
    let database = TestDatabase::create().await;
    let mut connection = database.connection().await;
    let asking = saga(&mut connection, State::Running, 15, 0).await;
    let stuck = saga(&mut connection, State::Compensating, 0, 4).await;
    let going = saga(&mut connection, State::Waiting, 1, 0).await;
    let email = json!({"email": "kim@example.org"});
    for (saga, step, input, says) in [
        (
            asking,
            StepName::NOTIFY,
            json!({"email": "kim"}),
            "has to be",
        ),
        (
            asking,
            StepName::NOTIFY,
            json!({"name": "Kim"}),
            "what can: email",
        ),
        (
            asking,
            StepName::ISSUE,
            email.clone(),
            "nothing of the do of issue",
        ),
        (
            stuck,
            StepName::PAY,
            email.clone(),
            "nothing of the undo of pay",
        ),
        (
            stuck,
            StepName::NOTIFY,
            email.clone(),
            "nothing of the undo of notify",
        ),
    ] {
        let refused = corrected(&mut connection, saga, &step, &input).await;
        let Err(Error::BadRequest(why)) = &refused else {
            panic!("{step}: {refused:?}");
        };
        assert!(why.contains(says), "{why}");
    }
    let unasked = corrected(&mut connection, going, &StepName::NOTIFY, &email).await;
    assert!(matches!(unasked, Err(Error::Conflict(_))), "{unasked:?}");
    assert_eq!(written(&mut connection).await, (0, Vec::new()));
}
