//! What runs by a definition that is withdrawn: which of it is ended, and until when it is looked for.
//!
//! One that waits for long is not in memory, so in each round the stored ones are asked for, which reads every
//! live saga of the shards. That ends with the first round that finds none, neither stored nor in memory: what
//! comes after it (a gateway had not heard, a person lets one go on) comes through memory, where each round
//! looks. Whatever that finds may sleep before it is ended, so then the stored ones are asked for again; and so
//! they are of shards that were just taken.

use super::Owner;
use contract::{
    SagaId,
    planted::{Bug, planted},
};

impl Owner {
    /// Whether sagas that run by a withdrawn definition may be stored and not in memory.
    #[must_use]
    pub fn may_sleep_by(&self, definition: i16) -> bool {
        self.rid_of.get(&definition) != Some(&self.held)
    }

    /// A round has looked for what runs by a withdrawn definition, and found some or none.
    pub fn looked_for(&mut self, definition: i16, found: bool) {
        match found {
            true => self.rid_of.remove(&definition),
            false => self.rid_of.insert(definition, self.held.clone()),
        };
    }

    /// Of the sagas in memory that run by a definition those that can be ended and are not ending, in the
    /// order of their ids; at most so many.
    #[must_use]
    pub fn to_be_ended(&self, definition: i16, most: usize) -> Vec<SagaId> {
        if planted(Bug::WithdrawnGoesOn) {
            return Vec::new();
        }
        let mut ids: Vec<SagaId> = self.sagas.to_be_ended(definition).collect();
        ids.sort_unstable();
        ids.truncate(most);
        ids
    }
}
