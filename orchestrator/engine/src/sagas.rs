//! The sagas that this process owns, in memory, with their timers.

use contract::{SagaId, StepKind};
use saga::{Instance, State, TimestampMs};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};

/// Timers of sagas that have moved on, beyond one for each that has not.
const OUTDATED_MAX: usize = 10_000;

/// A saga as it was last stored.
#[derive(Debug)]
pub(crate) struct Owned {
    pub(crate) instance: Instance,
    pub(crate) shard: i16,
    /// When its current command was decided, as far as this process knows.
    pub(crate) decided_at: Option<TimestampMs>,
    /// When that was sent last, as far as this process knows.
    pub(crate) sent_at: Option<TimestampMs>,
    /// When to look at it, whatever its row says.
    timer: Option<TimestampMs>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Sagas {
    owned: HashMap<SagaId, Owned>,
    /// Wake times, some of them outdated: a saga's row says which one counts.
    timers: BinaryHeap<Reverse<(TimestampMs, SagaId)>>,
}

impl Sagas {
    pub(crate) fn get(&self, id: SagaId) -> Option<&Owned> {
        self.owned.get(&id)
    }

    pub(crate) fn contains(&self, id: SagaId) -> bool {
        self.owned.contains_key(&id)
    }

    pub(crate) fn len(&self) -> usize {
        self.owned.len()
    }

    /// Takes in what was loaded or written; what has ended is forgotten.
    pub(crate) fn put(
        &mut self,
        instance: Instance,
        shard: i16,
        decided_at: Option<TimestampMs>,
        sent_at: Option<TimestampMs>,
    ) {
        if instance.state.is_end() {
            self.owned.remove(&instance.id);
            return;
        }
        let id = instance.id;
        let wake_at = timer(&instance);
        let before = self.owned.insert(
            id,
            Owned {
                instance,
                shard,
                decided_at,
                sent_at,
                timer: wake_at,
            },
        );
        if before.is_none_or(|before| before.timer != wake_at) {
            self.timers.extend(wake_at.map(|at| Reverse((at, id))));
            self.forget_outdated();
        }
    }

    /// A timer stays until its time, though its saga has moved on since; so now and then the heap is
    /// made anew of those that count.
    fn forget_outdated(&mut self) {
        if self.timers.len() < OUTDATED_MAX + 2 * self.owned.len() {
            return;
        }
        let timers = self.owned.iter().filter_map(|(id, owned)| {
            let at = owned.timer?;
            Some(Reverse((at, *id)))
        });
        self.timers = timers.collect();
    }

    /// A saga's command was sent again.
    pub(crate) fn sent(&mut self, id: SagaId, at: TimestampMs) {
        if let Some(owned) = self.owned.get_mut(&id) {
            owned.sent_at = Some(at);
        }
    }

    pub(crate) fn forget(&mut self, id: SagaId) -> Option<Owned> {
        self.owned.remove(&id)
    }

    /// Forgets those of which something is true; says of which shards they were, each as often as it had one.
    pub(crate) fn forget_those(&mut self, which: impl Fn(&Instance) -> bool) -> Vec<i16> {
        let gone = self.owned.extract_if(|_, owned| which(&owned.instance));
        gone.map(|(_, owned)| owned.shard).collect()
    }

    pub(crate) fn forget_shards(&mut self, shards: &[i16]) {
        self.owned.retain(|_, owned| !shards.contains(&owned.shard));
    }

    /// The time of the next timer, which may be outdated.
    pub(crate) fn next_wake(&self) -> Option<TimestampMs> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Up to `most` sagas whose time has come. Their timers are gone: whoever does not move a saga
    /// puts it back with [`Self::postpone`].
    pub(crate) fn due(&mut self, now: TimestampMs, most: usize) -> Vec<SagaId> {
        let mut due = Vec::new();
        while due.len() < most {
            match self.timers.peek() {
                Some(Reverse((at, _))) if *at <= now => {}
                _ => break,
            }
            let Some(Reverse((at, id))) = self.timers.pop() else {
                break;
            };
            if self
                .owned
                .get(&id)
                .is_some_and(|owned| owned.timer == Some(at))
            {
                due.push(id);
            }
        }
        due
    }

    /// Looks at a saga again at `at`, whatever its row says.
    pub(crate) fn postpone(&mut self, id: SagaId, at: TimestampMs) {
        if let Some(owned) = self.owned.get_mut(&id) {
            owned.timer = Some(at);
            self.timers.push(Reverse((at, id)));
            self.forget_outdated();
        }
    }

    /// Of those that wait before a `do` of a step the ones that are not looked at until `at`.
    pub(crate) fn before_beyond(&self, step: u8, at: TimestampMs) -> Vec<SagaId> {
        let beyond = |owned: &&Owned| owned.timer.is_some_and(|timer| timer > at);
        let waits = |owned: &&Owned| {
            let due = owned.instance.wake_at.is_some_and(|due| due <= at);
            due && is_before(&owned.instance, step)
        };
        let owned = self.owned.values().filter(waits).filter(beyond);
        owned.map(|owned| owned.instance.id).collect()
    }

    /// Those that wait before a `do` of a step, though their time may have come.
    pub(crate) fn before(&self, step: u8) -> impl Iterator<Item = SagaId> {
        let waits = move |owned: &&Owned| is_before(&owned.instance, step);
        self.owned
            .values()
            .filter(waits)
            .map(|owned| owned.instance.id)
    }

    /// Those with a command that has no answer, in the order of their ids.
    pub(crate) fn outstanding(&self) -> Vec<SagaId> {
        let waits = |owned: &&Owned| {
            owned
                .instance
                .cursor
                .is_some_and(|cursor| cursor.outstanding)
        };
        let owned = self.owned.values().filter(waits);
        let mut ids: Vec<SagaId> = owned.map(|owned| owned.instance.id).collect();
        ids.sort_unstable();
        ids
    }

    /// Those that run by a definition, before their pivot, that nothing ends or stops.
    pub(crate) fn to_be_ended(&self, definition: i16) -> impl Iterator<Item = SagaId> {
        let goes_on = move |saga: &&Instance| {
            let forward = matches!(saga.state, State::Running | State::Waiting);
            let stopped = saga.flags.paused || saga.flags.held;
            let by_it = saga.definition == definition && saga.reason.is_none();
            by_it && forward && !stopped && !saga.pivot_done()
        };
        let sagas = self.owned.values().map(|owned| &owned.instance);
        sagas.filter(goes_on).map(|saga| saga.id)
    }

    /// How many are before their pivot, by shard.
    pub(crate) fn before_pivot(&self) -> HashMap<i16, i32> {
        let mut count = HashMap::new();
        for owned in self.owned.values() {
            let forward = matches!(owned.instance.state, State::Running | State::Waiting);
            if forward && !owned.instance.pivot_done() {
                *count.entry(owned.shard).or_insert(0) += 1;
            }
        }
        count
    }
}

/// Whether a saga pauses before it does a step.
pub(crate) fn is_before(saga: &Instance, step: u8) -> bool {
    let at = |cursor: saga::Cursor| {
        cursor.step == step && cursor.kind == StepKind::Do && !cursor.outstanding
    };
    saga.state == State::Running && !saga.flags.paused && saga.cursor.is_some_and(at)
}

/// When a saga is to be woken: not while it is paused, though its row keeps the time.
fn timer(saga: &Instance) -> Option<TimestampMs> {
    saga.wake_at.filter(|_| !saga.flags.paused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use saga::Now;

    #[test]
    fn only_the_latest_timer_of_a_saga_counts() {
        let definition = saga::order::v1();
        let mut sagas = Sagas::default();
        let id = SagaId::new();
        let mut saga = saga::start(&definition, id, 1, Now::new(0, 0)).next;
        for wake_at in [50, 10, 90] {
            saga.wake_at = Some(wake_at);
            sagas.put(saga.clone(), 0, None, None);
        }
        assert!(sagas.due(89, 10).is_empty());
        assert_eq!(sagas.due(90, 10), [id]);
        assert!(sagas.due(1_000, 10).is_empty(), "a timer fires once");
        sagas.postpone(id, 2_000);
        assert_eq!(sagas.next_wake(), Some(2_000));
        saga.state = State::Completed;
        sagas.put(saga, 0, None, None);
        assert!(sagas.due(3_000, 10).is_empty() && sagas.len() == 0);
    }

    #[test]
    fn outdated_timers_do_not_pile_up() {
        let definition = saga::order::v1();
        let mut sagas = Sagas::default();
        let mut live: Vec<Instance> = (0..10)
            .map(|_| saga::start(&definition, SagaId::new(), 1, Now::new(0, 0)).next)
            .collect();
        let far = 1_000_000;
        for move_ in 0..5 * OUTDATED_MAX as i64 {
            let saga = &mut live[move_ as usize % 10];
            saga.wake_at = Some(far + move_);
            sagas.put(saga.clone(), 0, None, None);
            assert!(sagas.timers.len() <= OUTDATED_MAX + 20);
        }
        let mut due = sagas.due(far * 2, 100);
        due.sort_unstable();
        let mut all: Vec<SagaId> = live.iter().map(|saga| saga.id).collect();
        all.sort_unstable();
        assert_eq!(due, all, "each fires once, none is lost");
    }
}
