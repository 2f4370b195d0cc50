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

/// A broker that is away takes none of the time that its steps have; nobody is woken meanwhile.
#[test]
fn while_nothing_can_be_sent_nobody_is_woken_and_no_time_passes_for_a_step() {
    let (out, other) = (begun(0), begun(1_000));
    let mut owner = owner_of(&[out.clone(), other.clone()]);
    let budget = out.budget_until.expect("a budget");
    owner.stand_still(4_000);
    owner.stand_still(50_000); // noticed once more
    let back = 94_000;
    assert!(owner.due(back, 10).is_empty());
    assert_eq!(owner.next_wake(), None, "and there is nothing to wait for");
    owner.go_on(back);
    owner.sent_again(&[out.id, other.id], back);
    assert!(owner.due(back, 10).is_empty(), "they were sent just now");
    let now = owner.saga(out.id).expect("it is there");
    assert_eq!(now.budget_until, Some(budget + 90_000));
    assert_eq!(now.deadline, out.deadline, "its own time has gone on");
    assert_eq!(owner.next_wake(), Some(back + 5_000));
    assert_eq!(owner.due(back + 5_000, 10).len(), 2);
    assert!(
        given(&mut owner, out.id, Input::Wake, back + 5_000),
        "sent again, and not given up"
    );
}

/// A database whose clock is set has not let the time go by in which a step could have been done.
#[test]
fn a_leap_of_the_clock_is_no_time_of_a_step() {
    let saga = begun(0);
    let budget = saga.budget_until.expect("a budget");
    let mut owner = owner_of(std::slice::from_ref(&saga));
    owner.leapt(-999, 1_000);
    owner.leapt(999, 2_000);
    assert_eq!(owner.saga(saga.id), Some(&saga), "a drift");
    owner.leapt(120_000, 123_000);
    let now = owner.saga(saga.id).expect("it is there");
    assert_eq!(now.budget_until, Some(budget + 120_000));
    assert_eq!(now.deadline, saga.deadline, "its own time has gone on");
    assert!(owner.due(124_999, 10).is_empty(), "it is not late for that");
    assert_eq!(owner.due(125_000, 10), [saga.id], "nor later than it was");

    // Which is not missed for it.
    let mut owner = owner_of(std::slice::from_ref(&saga));
    let late = saga.deadline - 1_000;
    owner.leapt(late, late);
    assert_eq!(owner.due(saga.deadline, 10), [saga.id]);

    let mut owner = owner_of(std::slice::from_ref(&saga));
    owner.stand_still(1_000);
    owner.leapt(120_000, 123_000);
    owner.go_on(124_000);
    let now = owner.saga(saga.id).expect("it is there");
    assert_eq!(now.budget_until, Some(budget + 123_000), "and not twice");
}

/// What was lost in the moment in which the clock was set back is not waited for all the longer.
#[test]
fn a_clock_that_was_set_back_makes_nobody_wait() {
    let saga = begun(200_000);
    let mut owner = owner_of(std::slice::from_ref(&saga));
    owner.leapt(-120_000, 82_000);
    assert!(owner.due(84_999, 10).is_empty());
    assert_eq!(owner.due(85_000, 10), [saga.id]);
    let now = owner.saga(saga.id).expect("it is there");
    assert_eq!(now.budget_until, saga.budget_until, "it may only be more");
}

/// Its owner has died, and nobody knows of the outage: its row says since when it was due.
#[test]
fn what_nobody_minded_has_the_time_since_it_was_due() {
    let saga = begun(0);
    let mut owner = owner_of(&[]);
    let mut later = saga.clone();
    later.rev = 2; // when its command was decided is not known
    owner.take_in(later, SHARD);
    owner.sent_again(&[saga.id], 65_000);
    let now = owner.saga(saga.id).expect("it is there");
    assert_eq!(now.budget_until, saga.budget_until.map(|at| at + 60_000));
    assert_eq!(now.wake_at, Some(70_000));
}

/// The last answer may have been away when its time was nearly over: what is sent again can be answered.
#[test]
fn what_is_sent_again_has_at_least_the_time_of_one_answer() {
    let mut saga = begun(0);
    saga.rev = 2;
    saga.wake_at = saga.budget_until;
    let mut owner = owner_of(std::slice::from_ref(&saga));
    owner.sent_again(&[saga.id], 300_000);
    let now = owner.saga(saga.id).expect("it is there");
    assert_eq!(now.budget_until, Some(305_000));
}

/// Its own deadline ends what is late.
#[test]
fn whose_own_time_is_over_ends_once_something_can_be_sent() {
    let saga = begun(0);
    let mut owner = owner_of(std::slice::from_ref(&saga));
    owner.stand_still(1_000);
    let back = saga.deadline + 1;
    owner.go_on(back);
    owner.sent_again(&[saga.id], back);
    assert_eq!(owner.due(back, 10), [saga.id]);
    given(&mut owner, saga.id, Input::Wake, back);
    let now = owner.saga(saga.id).expect("it is undone");
    assert_eq!(now.reason.as_deref(), Some("deadline_exceeded"));
}

/// Who has lost all shards has heard nothing of what they need outside when they come back.
#[test]
fn breakers_go_with_the_last_shard() {
    let sagas: Vec<Instance> = (0..8).map(|_| at_pay()).collect();
    let mut owner = owner_of(&sagas);
    owner.acquired(&[(SHARD + 1, 1)]);
    for saga in &sagas {
        let away = Input::Reply(ReplyInput {
            seq: saga.seq,
            outcome: Outcome::Retry,
            code: Some("provider_unreachable".to_owned()),
            retry_after_ms: None,
        });
        given(&mut owner, saga.id, away, 1_000);
    }
    assert!(!owner.open().is_empty());
    owner.lose(&[SHARD + 1]);
    assert!(!owner.open().is_empty(), "it has the other one");
    owner.lose(&[SHARD]);
    assert!(owner.open().is_empty());
}

fn at_pay() -> Instance {
    let mut saga = begun(0);
    for _ in 0..2 {
        let definition = saga::order::v1();
        let next = saga::step(&definition, &saga, &done(saga.seq), Now::new(10, 0));
        saga = next.expect("it is its reply").next;
    }
    saga
}
