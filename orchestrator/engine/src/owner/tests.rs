use super::*;
use contract::Outcome;
use saga::{ReplyInput, start};

const SHARD: i16 = 0;

fn owner_of(sagas: &[Instance]) -> Owner {
    let mut owner = Owner::new(Definitions::ours());
    owner.acquired(&[(SHARD, 1)]);
    for saga in sagas {
        assert_eq!(owner.take_in(saga.clone(), SHARD), Taken::In);
    }
    owner
}

fn begun(at: TimestampMs) -> Instance {
    start(&saga::order::v1(), SagaId::new(), 1, Now::new(at, 0)).next
}

/// Settles and commits one input; whether a command left.
fn given(owner: &mut Owner, saga: SagaId, input: Input, now: TimestampMs) -> bool {
    let plan = owner.settle(&[(saga, input)], Now::new(now, 0));
    let mut sent = false;
    for write in plan.writes {
        sent |= write.send.is_some();
        owner.committed(write, now);
    }
    sent
}

fn done(seq: i32) -> Input {
    Input::Reply(ReplyInput {
        seq,
        outcome: Outcome::Done,
        code: None,
        retry_after_ms: None,
    })
}

/// Two commands are lost. The first is sent again and answered at once: that it is answered late is the
/// loss, and no reason to let the second wait.
#[test]
fn an_answer_to_what_was_sent_again_is_no_backlog() {
    let (one, other) = (begun(0), begun(1_000));
    let mut owner = owner_of(&[one.clone(), other.clone()]);
    let due = owner.due(5_000, 10);
    assert_eq!(due, [one.id]);
    assert!(given(&mut owner, one.id, Input::Wake, 5_000));
    given(&mut owner, one.id, done(one.seq), 5_100);
    assert_eq!(
        owner.due(6_000, 10),
        [other.id],
        "sent again when it is due"
    );
}

/// The same after a new session with the broker: both are sent, and one of them is lost again.
#[test]
fn neither_is_an_answer_after_a_new_session() {
    let (one, other) = (begun(0), begun(0));
    let mut owner = owner_of(&[one.clone(), other.clone()]);
    owner.sent_again(&[one.id, other.id], 4_000);
    given(&mut owner, one.id, done(one.seq), 4_100);
    assert_eq!(owner.due(5_000, 10), [other.id]);
}

/// Nothing was lost, and all answers are late: then the second waits.
#[test]
fn a_late_answer_to_what_was_sent_once_is_a_backlog() {
    let (one, other) = (begun(0), begun(1_000));
    let mut owner = owner_of(&[one.clone(), other.clone()]);
    given(&mut owner, one.id, done(one.seq), 4_900);
    assert!(!owner.due(6_000, 10).contains(&other.id));
}

/// Those that sleep are told for admission: by a count, and each that left since.
#[test]
fn what_sleeps_is_counted() {
    let mut saga = begun(0);
    saga.state = saga::State::Waiting;
    saga.wake_at = Some(SLEEPS_MS + 1);
    let mut owner = owner_of(&[saga, begun(0)]);
    assert_eq!((owner.let_sleep(1), owner.asleep(SHARD)), (0, 0));
    assert_eq!((owner.let_sleep(0), owner.asleep(SHARD)), (1, 1));
    owner.counted_asleep(&[SHARD, SHARD + 1], [(SHARD + 1, 7)]);
    assert_eq!((owner.asleep(SHARD), owner.asleep(SHARD + 1)), (0, 7));
    owner.counted_asleep(&[SHARD], [(SHARD, 3)]);
    assert_eq!(owner.asleep(SHARD + 1), 7, "it was not asked about");
    owner.lose(&[SHARD]);
    assert_eq!(owner.asleep(SHARD), 0);
}

/// What is left of a withdrawn definition is asked for until nothing is; then again by whoever takes a shard, and
/// as long as something shows in memory.
#[test]
fn what_a_withdrawal_has_left_is_asked_for_until_nothing_is() {
    let saga = begun(0);
    let by = saga.definition;
    let mut owner = owner_of(std::slice::from_ref(&saga));
    assert!(owner.may_sleep_by(by), "nobody has looked");
    assert_eq!(owner.to_be_ended(by, 10), [saga.id]);
    owner.looked_for(by, true);
    assert!(
        owner.may_sleep_by(by),
        "it may have slept before it was ended"
    );
    owner.looked_for(by, false);
    assert!(!owner.may_sleep_by(by), "nothing is left");
    assert!(owner.may_sleep_by(by + 1), "of another one there may be");
    owner.acquired(&[(SHARD + 1, 1)]);
    assert!(owner.may_sleep_by(by), "the new shard's were not looked at");
    owner.looked_for(by, false);
    owner.looked_for(by, true);
    assert!(owner.may_sleep_by(by), "one has come");
    owner.looked_for(by, false);
    owner.lose(&[SHARD]);
    owner.acquired(&[(SHARD, 2)]);
    assert!(owner.may_sleep_by(by), "somebody else had the shard");
}
