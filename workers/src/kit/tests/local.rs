use super::*;
use crate::kit::testing::Bench;
use contract::Outcome::{self, Done, Rejected, Retry, Unknown, Waiting};
use contract::StepKind::{Do, Probe, Undo};

async fn script(worker: &Bench<Toy>, steps: &[(StepKind, &str, Outcome, &str)]) -> SagaId {
    let saga = SagaId::new();
    for (place, (kind, input, outcome, expected)) in steps.iter().enumerate() {
        let reply = worker.one(told(saga, *kind, input)).await;
        assert_eq!(
            (reply.outcome, code(&reply)),
            (*outcome, *expected),
            "step {place}"
        );
    }
    saga
}

/// The ledger's table, cell by cell, with the effect in the same database.
#[tokio::test]
async fn every_cell_of_the_ledger() {
    let shop = shop().await;
    let worker = Bench::new(Toy::default(), shop.pool.clone());
    // none
    script(
        &worker,
        &[(Probe, "", Unknown, "not_found"), (Do, "", Done, "")],
    )
    .await;
    script(
        &worker,
        &[(Undo, "", Done, ""), (Do, "", Rejected, "undone")],
    )
    .await;
    // claimed, nothing there
    let retry = (Do, "retry", Retry, "later");
    script(
        &worker,
        &[retry, (Probe, "", Unknown, "not_found"), (Do, "", Done, "")],
    )
    .await;
    script(
        &worker,
        &[retry, (Undo, "", Done, ""), (Do, "", Rejected, "undone")],
    )
    .await;
    // claimed, waiting with a trace
    let wait = (Do, "wait", Waiting, "");
    script(
        &worker,
        &[wait, (Probe, "", Waiting, ""), (Do, "", Done, "")],
    )
    .await;
    script(
        &worker,
        &[wait, (Undo, "", Done, ""), (Probe, "", Rejected, "undone")],
    )
    .await;
    // done
    let done = (Do, "", Done, "");
    script(&worker, &[done, done, (Probe, "", Done, "")]).await;
    let disputed = (Undo, "refuse", Rejected, "disputed");
    let saga = script(
        &worker,
        &[done, disputed, done, disputed, (Undo, "", Done, "")],
    )
    .await;
    let beside = format!(
        "SELECT count(*) FROM effects WHERE saga_id = '{saga}' AND state = 4 AND undo_refusal->>'code' = 'disputed'"
    );
    assert_eq!(shop.number(&beside).await, 1);
    // rejected
    let refused = (Do, "refuse", Rejected, "refused");
    let again = (Do, "", Rejected, "refused");
    script(
        &worker,
        &[
            refused,
            again,
            (Probe, "", Rejected, "refused"),
            (Undo, "", Done, ""),
            again,
        ],
    )
    .await;
    // undone
    script(
        &worker,
        &[
            (Undo, "", Done, ""),
            (Undo, "", Done, ""),
            (Probe, "", Rejected, "undone"),
        ],
    )
    .await;
    assert_eq!(toys(&shop).await, 4, "in force: what ended done");
}

/// One batch holds a do, its duplicate, its undo, and the do again: worked on in that order.
#[tokio::test]
async fn one_effect_several_times_in_a_batch() {
    let shop = shop().await;
    let worker = Bench::new(Toy::default(), shop.pool.clone());
    let (saga, other) = (SagaId::new(), SagaId::new());
    let batch = [
        (saga, Do),
        (other, Do),
        (saga, Do),
        (saga, Undo),
        (saga, Do),
        (saga, Probe),
    ];
    let replies = worker
        .process(batch.map(|(saga, kind)| ask(saga, kind)).to_vec())
        .await;
    let outcomes: Vec<_> = replies
        .iter()
        .flatten()
        .map(|reply| reply.outcome)
        .collect();
    assert_eq!(outcomes, [Done, Done, Done, Done, Rejected, Rejected]);
    let first = |n: usize| replies[n].as_ref().expect("answered");
    assert_eq!(first(0).output, first(2).output);
    assert_ne!(first(0).in_reply_to, first(2).in_reply_to);
    assert_eq!(toys(&shop).await, 1);
}

/// Ten workers get the same batch at once.
#[tokio::test]
async fn duplicates_at_ten_workers_are_one_effect() {
    let shop = shop().await;
    let sagas: Vec<SagaId> = (0..30).map(|_| SagaId::new()).collect();
    let workers: Vec<_> = (0..10)
        .map(|_| Bench::new(Toy::default(), shop.pool.clone()))
        .collect();
    let batches = workers.iter().enumerate().map(|(n, worker)| {
        let mut batch: Vec<Command> = sagas.iter().map(|saga| ask(*saga, Do)).collect();
        batch.rotate_left(n * 3);
        worker.process(batch)
    });
    for reply in futures_util::future::join_all(batches)
        .await
        .into_iter()
        .flatten()
        .flatten()
    {
        assert_eq!((reply.outcome, code(&reply)), (Done, ""));
    }
    assert_eq!(toys(&shop).await, 30);
}

/// Whatever a member does to its batch, the others are done.
#[tokio::test]
async fn poison_of_every_kind_stands_alone() {
    let shop = shop().await;
    for (poison, expected) in [
        ("poison", "database_refused"),
        ("panic", "database_refused"),
        ("miscount", "database_refused"),
    ] {
        let worker = Bench::new(Toy::default(), shop.pool.clone());
        let mut batch: Vec<Command> = (0..9).map(|_| ask(SagaId::new(), Do)).collect();
        batch.insert(4, told(SagaId::new(), Do, poison));
        let before = toys(&shop).await;
        let replies = worker.process(batch).await;
        for (place, reply) in replies.iter().flatten().enumerate() {
            let expected = if place == 4 {
                (Retry, expected)
            } else {
                (Done, "")
            };
            assert_eq!((reply.outcome, code(reply)), expected, "{poison} {place}");
        }
        assert_eq!(toys(&shop).await, before + 9);
    }
}

#[tokio::test]
async fn what_is_old_or_foreign_is_not_worked_on() {
    let shop = shop().await;
    let worker = Bench::new(Toy::default(), shop.pool.clone());
    let changed = |change: fn(&mut Command)| {
        let mut command = ask(SagaId::new(), Do);
        change(&mut command);
        command
    };
    let batch = vec![
        changed(|command| command.sent_at -= chrono::TimeDelta::minutes(2)),
        changed(|command| command.sent_at -= chrono::TimeDelta::hours(25)),
        changed(|command| command.incarnation = contract::Incarnation(1)),
        ask(SagaId::new(), Do),
    ];
    let replies = worker.process(batch).await;
    let expired = replies[0].as_ref().expect("answered");
    assert_eq!((expired.outcome, code(expired)), (Retry, "expired"));
    assert!(replies[1].is_none() && replies[2].is_none());
    assert_eq!(replies[3].as_ref().map(|reply| reply.outcome), Some(Done));
    assert_eq!(toys(&shop).await, 1);
    assert_eq!(shop.number("SELECT count(*) FROM effects").await, 1);
}

/// By the old time every command would be too old for ever, and with no work there is no answer of the
/// database to learn from.
#[tokio::test]
async fn a_clock_that_was_set_back_makes_nothing_too_old() {
    let shop = shop().await;
    let worker = Bench::new(Toy::default(), shop.pool.clone());
    for back in [61_000, 45_000, 500_000] {
        worker.is_ahead_by(back);
        let mut command = ask(SagaId::new(), Do);
        command.ttl_ms = 30_000;
        assert_eq!(worker.one(command).await.outcome, Done, "{back} ms");
    }
}

/// Killed between claim and commit: nothing is left, and the next worker does it.
#[tokio::test]
async fn a_worker_that_dies_in_mid_transaction_leaves_nothing() {
    let shop = shop().await;
    let doomed = Toy::default();
    let stopped = Arc::clone(&doomed.stopped);
    let (saga, neighbour) = (SagaId::new(), SagaId::new());
    let pool = shop.database.pool();
    let dying = tokio::spawn(async move {
        let worker = Bench::new(doomed, pool);
        worker
            .process(vec![ask(neighbour, Do), told(saga, Do, "stop")])
            .await
    });
    stopped.notified().await;
    dying.abort();
    let _ = dying.await;
    let worker = Bench::new(Toy::default(), shop.pool.clone());
    for saga in [neighbour, saga] {
        assert_eq!(worker.one(ask(saga, Do)).await.outcome, Done);
    }
    assert_eq!(toys(&shop).await, 2);
}

/// The server cuts the connection in mid-transaction; the batch is done on the next one.
#[tokio::test]
async fn a_cut_connection_is_survived() {
    let shop = shop().await;
    let worker = Bench::new(Toy::default(), shop.pool.clone());
    let mut batch: Vec<Command> = (0..3).map(|_| ask(SagaId::new(), Do)).collect();
    batch[1].input = Some(json!("hang up"));
    let replies = worker.process(batch).await;
    assert!(
        replies.iter().flatten().all(|reply| reply.outcome == Done),
        "{replies:?}"
    );
    assert_eq!(toys(&shop).await, 3);
}

/// The database is away: nothing is answered, nothing is lost, and nobody restarts anything.
#[tokio::test]
async fn an_absent_database_is_waited_for() {
    let shop = shop().await;
    let mut config = database::Config::new(shop.database.url(), "absent");
    config.wait_timeout_ms = 500;
    let pool = database::pool(&config).expect("sound");
    let worker = Bench::new(Toy::default(), pool);
    let name = shop
        .database
        .url()
        .rsplit('/')
        .next()
        .expect("a name")
        .to_owned();
    let server = std::env::var("GUICHET_DATABASE_URL").expect("set");
    let mut admin = database::connect(&database::Config::new(server, "admin"))
        .await
        .expect("the server");
    let allow = |allowed: bool| format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {allowed}");
    let run = async |admin: &mut Connection, sql: &str| {
        diesel::sql_query(sql)
            .execute(admin)
            .await
            .expect("the server obeys");
    };
    run(&mut admin, &allow(false)).await;
    let batch: Vec<Command> = (0..5).map(|_| ask(SagaId::new(), Do)).collect();
    let mut working = std::pin::pin!(worker.process(batch));
    let early = tokio::time::timeout(Duration::from_millis(1_500), &mut working).await;
    assert!(early.is_err(), "nothing can be answered: {early:?}");
    run(&mut admin, &allow(true)).await;
    let replies = working.await;
    assert!(
        replies.iter().flatten().all(|reply| reply.outcome == Done),
        "{replies:?}"
    );
    assert_eq!(toys(&shop).await, 5);
}

/// A row of the ledger that nobody can read costs its neighbours nothing, and is not taken for another.
#[tokio::test]
async fn a_ledger_row_that_cannot_be_read_stands_alone() {
    let shop = shop().await;
    let worker = Bench::new(Toy::default(), shop.pool.clone());
    let batch: Vec<Command> = (0..9).map(|_| ask(SagaId::new(), Do)).collect();
    let (step, bad) = (&batch[4].step, batch[4].saga_id);
    shop.run(&format!(
        "INSERT INTO effects (saga_id, step, definition, state, claimed_at, settled_at, error)
         VALUES ('{bad}', '{step}', 1, 3, now(), now(), '[7]')"
    ))
    .await;
    let replies = worker.process(batch).await;
    for (place, reply) in replies.iter().flatten().enumerate() {
        let expected = if place == 4 {
            (Retry, "database_refused")
        } else {
            (Done, "")
        };
        assert_eq!((reply.outcome, code(reply)), expected, "{place}");
    }
    assert_eq!(toys(&shop).await, 8);
}

/// What PostgreSQL ends for another's sake (a deadlock, a transaction that cannot be serialised) is tried
/// again as it is, and nobody stands alone for it.
#[tokio::test]
async fn what_is_ended_for_anothers_sake_is_tried_again() {
    for (number, code_of_it) in ["40P01", "40001"].into_iter().enumerate() {
        let shop = shop().await;
        shop.run(&format!(
            "CREATE SEQUENCE nth;
             CREATE FUNCTION end_it() RETURNS trigger LANGUAGE plpgsql AS
               'BEGIN
                  IF nextval(''nth'') <= 2 THEN RAISE ''deadlock detected'' USING ERRCODE = ''{code_of_it}''; END IF;
                  RETURN NULL;
                END';
             CREATE TRIGGER end_it AFTER INSERT ON effects FOR EACH STATEMENT EXECUTE FUNCTION end_it()"
        ))
        .await;
        let worker = Bench::new(Toy::default(), shop.pool.clone());
        let batch: Vec<Command> = (0..5).map(|_| ask(SagaId::new(), Do)).collect();
        let replies = worker.process(batch).await;
        assert!(
            replies.iter().flatten().all(|reply| reply.outcome == Done),
            "{number}: {replies:?}"
        );
        assert_eq!(toys(&shop).await, 5);
        let tries = shop.number("SELECT last_value FROM nth").await;
        assert_eq!(tries, 3, "the whole batch, twice in vain");
    }
}
