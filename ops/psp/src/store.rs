//! All that the provider knows, in memory and in the ledger's file.
//!
//! A [`Change`] is what one request did. It is written to the file first and applied to memory then, by the
//! same function that applies the file's records at the start, so both always agree.
//!
//! What bounds the memory is the number of records: objects, ledger entries and keys all come from a record,
//! and a record comes from a request of bounded size. Once `records_max` are stored, requests that would
//! change anything are refused. The most recent events are kept besides, up to [`EVENTS_MAX`].

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::Error;
use crate::cards::Card;
use crate::id;
use crate::intent::{Intent, Method, Refund};
use crate::journal::{Journal, Place};
use crate::keys::{Key, Keys, Lookup};
use crate::step::{Movement, MovementKind};

/// How many of the most recent events are kept.
const EVENTS_MAX: usize = 10_000;

/// What one request did.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Change {
    /// When, in milliseconds since 1970. Never falls from one change to the next.
    pub(crate) at: i64,
    /// The request's id.
    pub(crate) request: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) intent: Option<Intent>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refund: Option<Refund>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) method: Option<Method>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) movements: Vec<Movement>,
    /// Ids and types.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) events: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<KeyRecord>,
}

impl Change {
    /// Nothing yet, by this request at this time.
    pub(crate) fn new(at_ms: i64, request: String) -> Self {
        Self {
            at: at_ms,
            request,
            ..Self::default()
        }
    }

    /// Whether it changes nothing, so that only an answer would be worth a record.
    pub(crate) fn is_empty(&self) -> bool {
        self.intent.is_none() && self.method.is_none()
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct KeyRecord {
    text: String,
    asked: String,
    status: u16,
}

/// The part of a record that is read again to repeat an answer.
#[derive(Deserialize)]
struct StoredReply<'a> {
    request: String,
    key: KeyRecord,
    #[serde(borrow)]
    reply: &'a RawValue,
}

/// An answer as it goes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
    /// The request that got it first, if this repeats it.
    pub(crate) original: Option<String>,
}

impl Answer {
    pub(crate) fn new(status: u16, body: Vec<u8>) -> Self {
        Self {
            status,
            body: body.into(),
            original: None,
        }
    }
}

/// A line of the ledger. Its number is its place in the list, from 1.
#[derive(Debug)]
struct Entry {
    at_ms: i64,
    intent: u32,
    kind: MovementKind,
    amount: i64,
    key: Option<Box<str>>,
}

/// A line of the ledger as `GET /_sim/ledger` shows it.
#[derive(Debug, Serialize)]
pub(crate) struct EntryView<'a> {
    seq: usize,
    at: String,
    payment_intent: &'a str,
    reference: Option<&'a str>,
    #[serde(rename = "type")]
    kind: MovementKind,
    amount: i64,
    currency: &'a str,
    idempotency_key: Option<&'a str>,
}

/// Something that happened, with the object as it was then.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) kind: String,
    /// In seconds.
    pub(crate) created: i64,
    pub(crate) intent: Arc<Intent>,
    pub(crate) refund: Option<Arc<Refund>>,
    pub(crate) request: String,
    pub(crate) key: Option<Box<str>>,
}

/// All that the provider knows.
#[derive(Debug)]
pub(crate) struct Store {
    journal: Journal,
    books: Books,
    records_max: usize,
}

/// The part in memory.
#[derive(Debug, Default)]
pub(crate) struct Books {
    records: usize,
    last_ms: i64,
    /// Oldest first, as everything here.
    pub(crate) intents: Vec<Arc<Intent>>,
    intent_ids: HashMap<Box<str>, u32>,
    /// Each intent as it was before its last change.
    before: Vec<Option<Arc<Intent>>>,
    pub(crate) refunds: Vec<Arc<Refund>>,
    refund_ids: HashMap<Box<str>, u32>,
    /// When which refund ends, in milliseconds and by its place.
    unsettled: BTreeSet<(i64, u32)>,
    methods: HashMap<Box<str>, Method>,
    entries: Vec<Entry>,
    references: HashMap<Box<str>, Vec<u32>>,
    pub(crate) events: VecDeque<Event>,
    keys: Keys,
}

impl Store {
    /// Opens the ledger and restores everything from it.
    pub(crate) fn open(path: &Path, records_max: usize) -> Result<Self, Error> {
        let mut books = Books::default();
        let journal = Journal::open(path, |place, record| {
            let change: Change = serde_json::from_slice(record).map_err(|e| e.to_string())?;
            books.apply(change, place).map(drop)
        })?;
        Ok(Self {
            journal,
            books,
            records_max,
        })
    }

    pub(crate) fn books(&self) -> &Books {
        &self.books
    }

    /// Whether the bound on records is hit.
    pub(crate) fn is_full(&self) -> bool {
        self.books.records >= self.records_max
    }

    /// The stored answer to this key, if there is one.
    pub(crate) fn look_up(&self, key: &Key, now_ms: i64) -> Lookup {
        self.books.keys.look_up(key, now_ms)
    }

    /// The answer that stands at `place`, byte for byte as it was given.
    pub(crate) fn stored(&self, place: Place) -> std::io::Result<Answer> {
        let record = self.journal.read(place)?;
        let stored: StoredReply<'_> = serde_json::from_slice(&record)?;
        Ok(Answer {
            status: stored.key.status,
            body: Bytes::copy_from_slice(stored.reply.get().as_bytes()),
            original: Some(stored.request),
        })
    }

    /// The present in milliseconds, which never falls, even if the clock does.
    pub(crate) fn now_ms(&self, clock_ms: i64) -> i64 {
        clock_ms.max(self.books.last_ms)
    }

    /// Writes the change, and with a key the answer to it; then applies it. On an error nothing happened.
    pub(crate) fn commit(
        &mut self,
        mut change: Change,
        key: Option<&Key>,
        answer: &Answer,
    ) -> std::io::Result<Vec<Event>> {
        change.key = key.map(|key| KeyRecord {
            text: key.text.clone(),
            asked: format!("{:032x}", key.request),
            status: answer.status,
        });
        let mut record = Vec::with_capacity(1024 + answer.body.len());
        serde_json::to_writer(&mut record, &change)?;
        if key.is_some() {
            // The answer is JSON on one line already; it goes into the record as it is.
            record.pop();
            record.extend_from_slice(b",\"reply\":");
            record.extend_from_slice(&answer.body);
            record.push(b'}');
        }
        record.push(b'\n');
        let place = self.journal.append(&record)?;
        self.books
            .apply(change, place)
            .map_err(std::io::Error::other)
    }
}

impl Books {
    /// Takes over what a record says; returns the events of it.
    fn apply(&mut self, change: Change, place: Place) -> Result<Vec<Event>, String> {
        let intent = change.intent.map(Arc::new);
        let at = match &intent {
            Some(intent) => Some(self.put_intent(intent)?),
            None if change.movements.is_empty() => None,
            None => return Err("it moves money of no intent".to_owned()),
        };
        let key = change.key.as_ref().map(|key| key.text.as_str());
        if let (Some(at), Some(intent)) = (at, &intent) {
            for movement in &change.movements {
                let number = index(self.entries.len())?;
                self.entries.push(Entry {
                    at_ms: change.at,
                    intent: at,
                    kind: movement.kind,
                    amount: movement.amount,
                    key: key.map(Into::into),
                });
                if let Some(reference) = intent.reference() {
                    let entries = self.references.entry(reference.into()).or_default();
                    entries.push(number);
                }
            }
        }
        let refund = change.refund.map(Arc::new);
        if let Some(refund) = &refund {
            self.put_refund(refund)?;
        }
        if let Some(method) = change.method {
            self.methods.insert(method.id.clone(), method);
        }
        if let Some(key) = &change.key {
            let request = u128::from_str_radix(&key.asked, 16).map_err(|e| e.to_string())?;
            let name = id::digest(&[key.text.as_bytes()]);
            self.keys.store(name, request, place, change.at);
        }
        self.records += 1;
        self.last_ms = self.last_ms.max(change.at);
        let mut events = Vec::with_capacity(change.events.len());
        for (id, kind) in change.events {
            let intent = intent.as_ref().ok_or("it tells of no intent")?;
            let event = Event {
                id,
                kind,
                created: change.at / 1000,
                intent: Arc::clone(intent),
                refund: refund.clone(),
                request: change.request.clone(),
                key: change.key.as_ref().map(|key| key.text.as_str().into()),
            };
            events.push(event.clone());
            self.events.push_back(event);
        }
        while self.events.len() > EVENTS_MAX {
            self.events.pop_front();
        }
        Ok(events)
    }

    fn put_intent(&mut self, intent: &Arc<Intent>) -> Result<u32, String> {
        if let Some(at) = self.intent_ids.get(&intent.id) {
            let place = self.intents.get_mut(*at as usize);
            let place = place.ok_or("the index of intents is wrong")?;
            let before = std::mem::replace(place, Arc::clone(intent));
            if let Some(kept) = self.before.get_mut(*at as usize) {
                *kept = Some(before);
            }
            return Ok(*at);
        }
        let at = index(self.intents.len())?;
        self.intent_ids.insert(intent.id.clone(), at);
        self.intents.push(Arc::clone(intent));
        self.before.push(None);
        Ok(at)
    }

    fn put_refund(&mut self, refund: &Arc<Refund>) -> Result<(), String> {
        let at = match self.refund_ids.get(&refund.id) {
            Some(at) => {
                let place = self.refunds.get_mut(*at as usize);
                let place = place.ok_or("the index of refunds is wrong")?;
                if let Some(settles) = place.settles {
                    self.unsettled.remove(&(settles.at_ms, *at));
                }
                *place = Arc::clone(refund);
                *at
            }
            None => {
                let at = index(self.refunds.len())?;
                self.refund_ids.insert(refund.id.clone(), at);
                self.refunds.push(Arc::clone(refund));
                at
            }
        };
        if let Some(settles) = refund.settles {
            self.unsettled.insert((settles.at_ms, at));
        }
        Ok(())
    }

    /// When the next refund ends, in milliseconds since 1970.
    pub(crate) fn next_settlement_ms(&self) -> Option<i64> {
        self.unsettled.first().map(|(at_ms, _)| *at_ms)
    }

    /// A refund that ends now, if there is one.
    pub(crate) fn refund_due(&self, now_ms: i64) -> Option<&Arc<Refund>> {
        let (at_ms, at) = self.unsettled.first()?;
        self.refunds.get(*at as usize).filter(|_| *at_ms <= now_ms)
    }

    /// The intent with this id as it was before its last change.
    pub(crate) fn intent_before(&self, id: &str) -> Option<&Arc<Intent>> {
        self.before.get(self.intent_position(id)?)?.as_ref()
    }

    pub(crate) fn intent_position(&self, id: &str) -> Option<usize> {
        self.intent_ids.get(id).map(|at| *at as usize)
    }

    pub(crate) fn intent(&self, id: &str) -> Option<&Arc<Intent>> {
        self.intents.get(self.intent_position(id)?)
    }

    /// The intent with this id, or whose charge or payment method has it.
    pub(crate) fn intent_behind(&self, id: &str) -> Option<&Arc<Intent>> {
        self.intent(id).or_else(|| self.intent(&id::intent_of(id)?))
    }

    pub(crate) fn refund_position(&self, id: &str) -> Option<usize> {
        self.refund_ids.get(id).map(|at| *at as usize)
    }

    pub(crate) fn refund(&self, id: &str) -> Option<&Arc<Refund>> {
        self.refunds.get(self.refund_position(id)?)
    }

    /// A payment method: one made by itself, one of an intent, or a test method as nobody's.
    pub(crate) fn method(&self, id: &str) -> Option<Method> {
        if let Some(method) = self.methods.get(id) {
            return Some(method.clone());
        }
        if id.starts_with("pm_card_") {
            let card = Card::of_test_id(id)?;
            return Some(Method::of_payer(id.to_owned(), card, None, 0));
        }
        self.intent_behind(id)?.method_called(id).cloned()
    }

    /// How many lines the ledger has.
    pub(crate) fn entry_count(&self) -> usize {
        self.entries.len()
    }

    /// The line with this place in the list.
    pub(crate) fn entry(&self, at: usize) -> Option<EntryView<'_>> {
        let entry = self.entries.get(at)?;
        let intent = self.intents.get(entry.intent as usize)?;
        Some(EntryView {
            seq: at + 1,
            at: time(entry.at_ms),
            payment_intent: &intent.id,
            reference: intent.reference(),
            kind: entry.kind,
            amount: entry.amount,
            currency: &intent.currency,
            idempotency_key: entry.key.as_deref(),
        })
    }

    /// The places of the lines with this reference.
    pub(crate) fn entries_of(&self, reference: &str) -> &[u32] {
        self.references.get(reference).map_or(&[], Vec::as_slice)
    }
}

fn index(length: usize) -> Result<u32, String> {
    u32::try_from(length).map_err(|_| "there are too many objects".to_owned())
}

/// RFC 3339 with milliseconds.
fn time(at_ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(at_ms)
        .unwrap_or_default()
        .to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}
