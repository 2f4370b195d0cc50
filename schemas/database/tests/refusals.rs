//! What PostgreSQL itself refuses to store, whoever asks: the promises that no defect of ours can
//! break.

use database::{Connection, testing::TestDatabase};
use diesel::result::{DatabaseErrorKind::CheckViolation, Error};
use diesel_async::SimpleAsyncConnection;

/// A live saga whose third step may be in force, a completed one, and an offer of 10 places.
const SOUND: &str = "
    INSERT INTO sagas (id, deadline, updated_at, trace_id, rev, seq, done, maybe_in_force, pivot, shard,
                       definition, state, ended, reason, approver)
    SELECT id::uuid, now(), now(), id::uuid, 1, 1, done, maybe, 8, 0, 1, state, state >= 4, reason, approver
    FROM (VALUES
      ('01930000-0000-7000-8000-000000000001', 3, 7, 1, NULL, NULL),
      ('01930000-0000-7000-8000-000000000002', 31, 31, 4, NULL, NULL),
      ('01930000-0000-7000-8000-000000000003', 0, 0, 5, 'sold_out', NULL),
      ('01930000-0000-7000-8000-000000000004', 7, 7, 6, 'lost_at_sea', 'bob')
    ) AS given(id, done, maybe, state, reason, approver);
    INSERT INTO stock VALUES ('00000000-0000-0000-0000-0000000000f1', 10, 10)";

/// A change, the constraint that forbids it, and a change beside it that is allowed.
const REFUSED: &[(&str, &str, &str)] = &[
    (
        "honest_end",
        "UPDATE sagas SET state = 5, ended = true, maybe_in_force = 4 WHERE state = 1",
        "UPDATE sagas SET state = 5, ended = true, maybe_in_force = 0 WHERE state = 1",
    ),
    (
        "honest_end",
        "UPDATE sagas SET maybe_in_force = 1 WHERE state = 5",
        "UPDATE sagas SET rev = 2 WHERE state = 5",
    ),
    (
        "completed_has_pivot",
        "UPDATE sagas SET state = 4, ended = true, done = 7 WHERE state = 1",
        "UPDATE sagas SET state = 4, ended = true, done = 15 WHERE state = 1",
    ),
    (
        "abandoned_has_approver",
        "UPDATE sagas SET state = 6, ended = true, reason = 'lost_at_sea' WHERE state = 1",
        "UPDATE sagas SET state = 6, ended = true, reason = 'lost_at_sea', approver = 'bob' WHERE state = 1",
    ),
    (
        "abandoned_has_approver",
        "UPDATE sagas SET reason = NULL WHERE state = 6",
        "UPDATE sagas SET reason = 'lost' WHERE state = 6",
    ),
    (
        "ended_says_state",
        "UPDATE sagas SET ended = true WHERE state = 1",
        "UPDATE sagas SET ended = true, state = 4, done = 31 WHERE state = 1",
    ),
    (
        "no_oversell",
        "UPDATE stock SET taken = taken + 1",
        "UPDATE stock SET taken = taken - 10",
    ),
    (
        "no_oversell",
        "UPDATE stock SET taken = taken - 11",
        "UPDATE stock SET capacity = capacity + 1, taken = taken + 1",
    ),
    (
        "no_oversell",
        "UPDATE stock SET capacity = 9",
        "UPDATE stock SET capacity = 11",
    ),
];

#[tokio::test]
async fn a_row_that_would_break_a_promise_cannot_be_stored() {
    let database = TestDatabase::create().await;
    let mut connection = database.connection().await;
    for (constraint, refused, allowed) in REFUSED {
        assert_eq!(
            tried(&mut connection, refused).await.as_deref(),
            Some(*constraint),
            "{refused}"
        );
        assert_eq!(tried(&mut connection, allowed).await, None, "{allowed}");
    }
}

/// Tries a change on the sound rows and takes it back: the constraint that was in the way.
async fn tried(connection: &mut Connection, change: &str) -> Option<String> {
    connection
        .batch_execute(&format!("BEGIN; {SOUND}"))
        .await
        .expect("sound rows are stored");
    let tried = connection.batch_execute(change).await;
    connection
        .batch_execute("ROLLBACK")
        .await
        .expect("rolled back");
    match tried {
        Ok(()) => None,
        Err(Error::DatabaseError(CheckViolation, about)) => {
            Some(about.constraint_name().unwrap_or_default().to_owned())
        }
        Err(other) => panic!("{change}: {other}"),
    }
}
