//! Everything that is judged.

use crate::{books::Books, journal};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// What was collected when everything had come to rest, or should have.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// The customers' journal.
    pub journal: Vec<journal::Entry>,
    /// The payment provider's ledger.
    pub ledger: Vec<LedgerEntry>,
    /// The mails that arrived.
    pub mails: Vec<Mail>,
    /// The rows of the database.
    pub books: Books,
    /// What the public API shows of orders: their status, by id.
    pub shown: BTreeMap<Uuid, String>,
    /// Messages of each queue.
    pub queues: BTreeMap<String, u64>,
    /// The queue of what nobody could read, and how much of that was put there on purpose.
    pub parked: Parked,
    /// When the last fault began, in milliseconds since 1970.
    pub broken_at_ms: i64,
    /// When the last fault ended, in milliseconds since 1970.
    pub healed_at_ms: i64,
    /// What the fault explains that nothing else would.
    pub excused: Excused,
    /// If nothing went wrong: how many commands the orchestrators say they sent again.
    pub calm: Option<u64>,
}

/// What a fault may have caused, by its own declaration. No customer causes any of it by himself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Excused {
    /// Orders that were cancelled because their time was over: it lasted longer than they may take.
    pub late: bool,
    /// Orders that were cancelled because a step was tried, and then asked about, in vain: it lasted longer than
    /// that goes on.
    pub spent: bool,
}

/// The queue of what nobody could read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parked {
    /// Its name.
    pub queue: String,
    /// How many unreadable ones were sent.
    pub sent: u64,
}

/// A line of the provider's ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// The payment.
    pub payment_intent: String,
    /// The order, as the payment names it.
    pub reference: Option<String>,
    /// `authorised`, `captured`, `canceled`, `refunded` or `declined`.
    #[serde(rename = "type")]
    pub kind: String,
    /// In minor units.
    pub amount: i64,
}

/// A mail as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// To whom.
    pub to: String,
    /// Its Message-ID.
    pub message_id: String,
}
