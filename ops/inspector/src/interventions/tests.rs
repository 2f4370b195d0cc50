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
