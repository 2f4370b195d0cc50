//! An order that a person stopped for a while.

use super::{BORN_MS, moment, sound};
use crate::{Evidence, books::Moment, promises::judge};

/// Paused before its undo of `pay` for so long.
fn paused(evidence: &mut Evidence, for_ms: i64) {
    let of_a_person = |rev, at_ms, code: &str| Moment {
        input: 6,
        at_ms,
        code: Some(code.to_owned()),
        ..moment(rev, Some((0, 2)), 0, None)
    };
    let history = &mut evidence.books.history;
    let undone = history.pop().expect("its last moment");
    history.push(of_a_person(5, BORN_MS + 5, "pause"));
    history.push(of_a_person(6, BORN_MS + 5 + for_ms, "resume"));
    history.push(Moment {
        rev: 7,
        at_ms: BORN_MS + 10 + for_ms,
        ..undone
    });
    for moment in &mut history[4..6] {
        (moment.outcome, moment.next_seq) = (None, None);
    }
    evidence.books.sagas[1].updated_at_ms = BORN_MS + 10 + for_ms;
}

#[test]
fn a_pause_takes_no_time_and_excuses_nothing() {
    let mut evidence = sound();
    paused(&mut evidence, 3_600_000);
    assert_eq!(judge(&evidence), []);
    evidence.books.history[6].outcome = Some(3);
    let violations = judge(&evidence);
    let convicted = |promise| violations.iter().any(|one| one.promise == promise);
    assert!(convicted("every-end-undoes"), "{violations:#?}");
    let reached: Vec<String> = crate::reached(&evidence)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        reached,
        [
            "issue do unknown",
            "issue undo done",
            "pay do done",
            "pay undo pause",
            "pay undo retry",
            "operator pause",
            "operator resume",
            "end completed",
            "end customer_cancelled"
        ]
    );
}
