//! How long an order may take where nothing is wrong any more, and nobody was waited for.

use super::{BORN_MS, UNDONE, moment, sound};
use crate::{Evidence, books::Moment, promises::judge};

/// The commands of its definition, each answered before it would be sent again.
const COMMANDS_MS: i64 = 3 * 3 * 5_000;

/// A fault began and ended so long after the order's birth, and it ended so long after that.
fn in_flight(broken_ms: i64, healed_ms: i64, took_ms: i64) -> Evidence {
    let mut evidence = sound();
    evidence.broken_at_ms = BORN_MS + broken_ms;
    evidence.healed_at_ms = BORN_MS + healed_ms;
    evidence.books.sagas[1].updated_at_ms = BORN_MS + healed_ms + took_ms;
    evidence
}

fn is_late(evidence: &Evidence) -> bool {
    let violations = judge(evidence);
    let late = |one: &crate::Violation| one.promise == "prompt-end" && one.subject.contains("saga");
    assert!(violations.iter().all(late), "{violations:#?}");
    !violations.is_empty()
}

#[test]
fn what_met_no_fault_has_only_the_time_of_its_commands() {
    // It was born when everything was well again.
    assert!(!is_late(&in_flight(-5_000, 0, COMMANDS_MS)));
    assert!(is_late(&in_flight(-5_000, 0, COMMANDS_MS + 1)));
    // Nothing was wrong at all, so its time runs from its birth.
    let calm = |took_ms| Evidence {
        calm: Some(0),
        ..in_flight(1_000, 4_000, took_ms - 4_000)
    };
    assert!(!is_late(&calm(COMMANDS_MS)));
    assert!(is_late(&calm(COMMANDS_MS + 1)));
}

#[test]
fn what_met_a_fault_may_be_in_the_pause_that_its_time_gives() {
    // Nobody answered for 3 s: the next pause has at most these and another 5 s.
    assert!(!is_late(&in_flight(1_000, 4_000, COMMANDS_MS + 8_000)));
    assert!(is_late(&in_flight(1_000, 4_000, COMMANDS_MS + 8_001)));
    // Of the fault only what it lived through counts.
    assert!(is_late(&in_flight(-600_000, 3_000, COMMANDS_MS + 8_001)));
    // No pause is longer than its budget, of undos 60 s.
    assert!(!is_late(&in_flight(0, 600_000, COMMANDS_MS + 60_000)));
    assert!(is_late(&in_flight(0, 600_000, COMMANDS_MS + 60_001)));
}

/// It waited for its customer, between these moments.
fn waited(evidence: &mut Evidence, from_ms: i64, until_ms: i64) {
    let history = &mut evidence.books.history;
    let rev = i32::try_from(history.len()).expect("a few") + 1;
    let waits = Moment {
        at_ms: BORN_MS + from_ms,
        state: 2,
        ..moment(rev, None, 0, None)
    };
    let goes_on = Moment {
        at_ms: BORN_MS + until_ms,
        ..moment(rev + 1, None, 0, None)
    };
    history.extend([waits, goes_on].map(|one| Moment {
        saga_id: super::id(UNDONE),
        ..one
    }));
}

#[test]
fn a_wait_is_not_counted_and_one_that_was_over_before_changes_nothing() {
    let mut evidence = in_flight(1_000, 4_000, COMMANDS_MS + 68_000);
    assert!(is_late(&evidence));
    waited(&mut evidence, 10_000, 70_000);
    assert!(!is_late(&evidence));
    let mut evidence = in_flight(1_000, 4_000, COMMANDS_MS + 68_000);
    waited(&mut evidence, 500, 600);
    waited(&mut evidence, 10_000, 70_000);
    assert!(!is_late(&evidence));
}
