//! `bounded-work` and `prompt-end`: how much was sent, and how long it took, against the definition.

use super::{Found, reasons};
use crate::{
    Evidence,
    books::{Definition, Saga},
    times::{Times, times_of},
};
use std::collections::{BTreeMap, BTreeSet};

/// What a person did.
const OPERATOR: i16 = 6;

pub(super) fn bounded_work(evidence: &Evidence, found: &mut Found<'_>) {
    let books = &evidence.books;
    let definition = books.definition_by_saga();
    let times = all_times(&books.definitions);
    let mut again: BTreeMap<_, i32> = BTreeMap::new();
    for moment in &books.history {
        // A wake that leaves the command as it is sends it again.
        if moment.input == 3 && moment.next_seq == Some(moment.seq) {
            let command = (moment.saga_id, moment.seq, moment.step, moment.kind);
            *again.entry(command).or_default() += 1;
        }
    }
    for saga in books.sagas.iter().filter(|saga| saga.resends > 0) {
        let count = again
            .entry((saga.id, saga.seq, saga.step, saga.kind))
            .or_default();
        *count = saga.resends.max(*count);
    }
    for ((saga, seq, step, kind), count) in &again {
        let times = definition.get(saga).and_then(|id| times.get(id));
        let most = times
            .zip(step.zip(*kind))
            .and_then(|(times, (step, kind))| times.resends(step, kind));
        if most.is_some_and(|most| *count > most) {
            let detail = format!("command {seq} was sent again {count} times, at most {most:?}");
            found.that(format!("saga {saga}"), detail);
        }
    }
    let Some(sent_again) = evidence.calm else {
        return;
    };
    if sent_again > 0 {
        found.that(
            "orchestrators",
            format!("{sent_again} commands sent again, and nothing was wrong"),
        );
    }
    for ((saga, seq, ..), count) in again {
        let detail = format!("command {seq} was sent again {count} times, and nothing was wrong");
        found.that(format!("saga {saga}"), detail);
    }
    for moment in books
        .history
        .iter()
        .filter(|moment| moment.next_attempt > Some(1))
    {
        let detail = format!(
            "step {:?} was tried again, and nothing was wrong",
            moment.next_step
        );
        found.that(format!("saga {}", moment.saga_id), detail);
    }
}

pub(super) fn prompt_end(evidence: &Evidence, found: &mut Found<'_>) {
    let books = &evidence.books;
    let times = all_times(&books.definitions);
    for saga in &books.sagas {
        if !saga.ended() {
            let subject = format!("saga {}", saga.id);
            found.that(&subject, format!("it has not ended (state {})", saga.state));
        }
    }
    for (saga, took) in ends(evidence) {
        let unwell_ms = match evidence.calm {
            Some(_) => 0,
            None => evidence.healed_at_ms - saga.born_at_ms().max(evidence.broken_at_ms),
        };
        let times = times.get(&saga.definition);
        let most = times.map(|times| times.prompt_ms(unwell_ms.max(0)));
        if most.is_some_and(|most| took > most) {
            let detail =
                format!("it took {took} ms where nothing was wrong any more, at most {most:?}");
            found.that(format!("saga {}", saga.id), detail);
        }
    }
    reasons::explained(evidence, found);
}

/// Each saga that has ended, and the milliseconds that this took from its birth or the last fault's end, whichever
/// came later, and where nothing was wrong at all from its birth; without those in which it waited for somebody
/// outside, was paused, or waited for a person to deal with what was refused for good.
pub fn ends(evidence: &Evidence) -> Vec<(&Saga, i64)> {
    let books = &evidence.books;
    let healed_at_ms = match evidence.calm {
        Some(_) => i64::MIN,
        None => evidence.healed_at_ms,
    };
    let mut waited: BTreeMap<_, i64> = BTreeMap::new();
    let mut since: BTreeMap<_, i64> = BTreeMap::new();
    let mut paused = BTreeSet::new();
    let mut asking = BTreeSet::new();
    for moment in &books.history {
        if let Some(began) = since.remove(&moment.saga_id) {
            // One that was over before counts for nothing.
            *waited.entry(moment.saga_id).or_default() += (moment.at_ms - began).max(0);
        }
        match moment.code.as_deref() {
            Some("pause") if moment.is_of_a_pause() => drop(paused.insert(moment.saga_id)),
            Some("resume") if moment.is_of_a_pause() => drop(paused.remove(&moment.saga_id)),
            _ => {}
        }
        if reasons::is_refused_for_good(moment) {
            asking.insert(moment.saga_id);
        } else if moment.input == OPERATOR && !moment.is_of_a_pause() {
            asking.remove(&moment.saga_id);
        }
        let waits = paused.contains(&moment.saga_id) || asking.contains(&moment.saga_id);
        if moment.state == 2 || waits {
            since.insert(moment.saga_id, moment.at_ms.max(healed_at_ms));
        }
    }
    let ended = books.sagas.iter().filter(|saga| saga.ended());
    let took = ended.map(|saga| {
        let from = saga.born_at_ms().max(healed_at_ms);
        let waited = waited.get(&saga.id).copied().unwrap_or_default();
        (saga, saga.updated_at_ms - from - waited)
    });
    took.collect()
}

fn all_times(definitions: &[Definition]) -> BTreeMap<i16, Times> {
    definitions
        .iter()
        .map(|one| (one.id, times_of(&one.body)))
        .collect()
}
