//! The idempotency keys: which request each was first used for, and where its answer stands in the ledger.
//!
//! The answers themselves stay in the file, so a key costs about a hundred bytes of memory. As at Stripe a
//! key is forgotten after 24 hours.

use std::collections::{HashMap, VecDeque};

use crate::id;
use crate::journal::Place;

/// How long a key is remembered, in milliseconds.
const KEPT_MS: i64 = 24 * 60 * 60 * 1000;

/// The `Idempotency-Key` of a request with what the request asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) text: String,
    /// Digest of the key.
    pub(crate) name: u128,
    /// Digest of method, path and parameters.
    pub(crate) request: u128,
}

impl Key {
    pub(crate) fn new(text: String, request: u128) -> Self {
        let name = id::digest(&[text.as_bytes()]);
        Self {
            text,
            name,
            request,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Known {
    request: u128,
    place: Place,
    at_ms: i64,
}

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lookup {
    Free,
    /// The answer to the same request.
    Stored(Place),
    /// It was used for another request.
    Reused,
}

/// All keys of the last 24 hours.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    known: HashMap<u128, Known>,
    /// Oldest first.
    order: VecDeque<(u128, i64)>,
}

impl Keys {
    pub(crate) fn look_up(&self, key: &Key, now_ms: i64) -> Lookup {
        match self.known.get(&key.name) {
            Some(known) if now_ms - known.at_ms >= KEPT_MS => Lookup::Free,
            Some(known) if known.request == key.request => Lookup::Stored(known.place),
            Some(_) => Lookup::Reused,
            None => Lookup::Free,
        }
    }

    /// Remembers a key and forgets those whose time is over.
    pub(crate) fn store(&mut self, name: u128, request: u128, place: Place, at_ms: i64) {
        while let Some((oldest, since)) = self.order.front().copied() {
            if at_ms - since < KEPT_MS {
                break;
            }
            self.order.pop_front();
            if self
                .known
                .get(&oldest)
                .is_some_and(|known| known.at_ms == since)
            {
                self.known.remove(&oldest);
            }
        }
        let known = Known {
            request,
            place,
            at_ms,
        };
        self.known.insert(name, known);
        self.order.push_back((name, at_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_kept_for_a_day() {
        let place = |offset| Place { offset, length: 1 };
        let key = Key::new("k".into(), 1);
        let other = Key::new("k".into(), 2);
        let mut keys = Keys::default();
        assert_eq!(keys.look_up(&key, 0), Lookup::Free);
        keys.store(key.name, key.request, place(7), 0);
        assert_eq!(keys.look_up(&key, KEPT_MS - 1), Lookup::Stored(place(7)));
        assert_eq!(keys.look_up(&other, KEPT_MS - 1), Lookup::Reused);
        assert_eq!(keys.look_up(&other, KEPT_MS), Lookup::Free);
        keys.store(other.name, other.request, place(9), KEPT_MS);
        assert_eq!(keys.look_up(&other, KEPT_MS), Lookup::Stored(place(9)));
        assert_eq!((keys.known.len(), keys.order.len()), (1, 1));
    }
}
