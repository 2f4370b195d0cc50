//! The rows of the database, as its tables have them. What the numbers mean is said in the migrations.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use uuid::Uuid;

/// All that is judged of the database, of one instant.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// What was ordered.
    pub orders: Vec<Order>,
    /// Its lines.
    pub items: Vec<Item>,
    /// The sagas.
    pub sagas: Vec<Saga>,
    /// What happened to them.
    pub history: Vec<Moment>,
    /// The ledger of effects.
    pub effects: Vec<Effect>,
    /// The tickets.
    pub tickets: Vec<Ticket>,
    /// Stock of each offer.
    pub stock: Vec<Stock>,
    /// Counters of tickets that limits are taken from.
    pub quotas: Vec<Quota>,
    /// What orders hold of them.
    pub takes: Vec<Take>,
    /// The definitions.
    pub definitions: Vec<Definition>,
    /// The log of what people did.
    pub audit: Vec<Audit>,
}

impl Books {
    /// By which definition each saga runs.
    pub(crate) fn definition_by_saga(&self) -> BTreeMap<Uuid, i16> {
        let sagas = self.sagas.iter();
        sagas.map(|saga| (saga.id, saga.definition)).collect()
    }
}

/// An order.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Order {
    /// Its id, which is its saga's.
    pub id: Uuid,
    /// What it costs.
    pub total_minor: i64,
    /// The buyer's address.
    pub email: String,
}

/// A line of an order.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Item {
    /// The order.
    pub order_id: Uuid,
    /// Its number in the order.
    pub line: i16,
    /// What is bought.
    pub offer_id: Uuid,
    /// How many.
    pub quantity: i64,
    /// Price of one.
    pub unit_amount_minor: i64,
}

/// A saga's row.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Saga {
    /// Its id.
    pub id: Uuid,
    /// 1 running, 2 waiting, 3 compensating, 4 completed, 5 compensated, 6 abandoned.
    pub state: i16,
    /// 2 held, 4 attention.
    pub flags: i16,
    /// Steps done, as bits.
    pub done: i64,
    /// Steps whose effect may be in force, as bits.
    pub maybe_in_force: i64,
    /// Steps whose undo failed, as bits.
    pub failed_undo: i64,
    /// The pivot's bit.
    pub pivot: i64,
    /// By which definition it runs.
    pub definition: i16,
    /// The number of the step it is at.
    pub step: Option<i16>,
    /// What is asked of it: 1 do, 2 undo, 3 probe.
    pub kind: Option<i16>,
    /// The number of its command.
    pub seq: i32,
    /// How often that was sent again.
    pub resends: i32,
    /// Why it ends.
    pub reason: Option<String>,
    /// Since when a person is asked.
    pub flagged_at_ms: Option<i64>,
    /// When it was last written.
    pub updated_at_ms: i64,
}

impl Saga {
    /// Whether it has come to an end.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.state >= 4
    }

    /// Whether it could not be read or stored, and is held for a person.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.flags & 2 != 0
    }

    /// Whether it asks for a person.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.flags & 4 != 0
    }

    /// Whether it stands visibly before a person.
    #[must_use]
    pub fn before_a_person(&self) -> bool {
        self.is_held() || self.asks()
    }

    /// When it was born: its id says it.
    #[must_use]
    pub fn born_at_ms(&self) -> i64 {
        let first = self.id.as_u128() >> 80;
        i64::try_from(first).unwrap_or_default()
    }
}

/// A row of a saga's history.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Moment {
    /// The saga.
    pub saga_id: Uuid,
    /// Its revision after it.
    pub rev: i32,
    /// When it was written.
    pub at_ms: i64,
    /// The number of the command it is about.
    pub seq: i32,
    /// 1 start, 2 reply, 3 wake, 4 signal, 5 end, 6 operator.
    pub input: i16,
    /// The step it is about.
    pub step: Option<i16>,
    /// What had been asked: 1 do, 2 undo, 3 probe.
    pub kind: Option<i16>,
    /// 1 done, 2 rejected, 3 retry, 4 unknown, 5 waiting.
    pub outcome: Option<i16>,
    /// The saga's state after it.
    pub state: i16,
    /// The command decided by it.
    pub next_seq: Option<i32>,
    /// Its step.
    pub next_step: Option<i16>,
    /// What it asks.
    pub next_kind: Option<i16>,
    /// Its attempt.
    pub next_attempt: Option<i16>,
    /// A code.
    pub code: Option<String>,
    /// More of it.
    pub detail: Option<Value>,
}

impl Moment {
    /// Whether a person stopped the saga for a while with it, or let it go on.
    #[must_use]
    pub fn is_of_a_pause(&self) -> bool {
        self.input == 6 && matches!(self.code.as_deref(), Some("pause" | "resume"))
    }
}

/// A row of the effect ledger.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Effect {
    /// The saga.
    pub saga_id: Uuid,
    /// The step's name.
    pub step: String,
    /// 1 claimed, 2 done, 3 rejected, 4 undone.
    pub state: i16,
}

/// A ticket.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Ticket {
    /// Its order.
    pub order_id: Uuid,
    /// The line of it.
    pub line: i16,
    /// Its event.
    pub event_id: Uuid,
    /// Its offer.
    pub offer_id: Uuid,
    /// Its number at the event.
    pub number: i32,
    /// Whether it is the free one of a companion.
    pub companion: bool,
    /// Whether it was taken back.
    pub revoked: bool,
}

/// Stock of an offer.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Stock {
    /// The offer.
    pub offer_id: Uuid,
    /// How many there are.
    pub capacity: i64,
    /// How many are taken.
    pub taken: i64,
    /// Whether its event was cancelled.
    pub cancelled: bool,
}

/// A counter that a limit is taken from.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Quota {
    /// Whose, and of which event.
    pub counter: String,
    /// How many tickets.
    pub taken: i64,
}

/// What an order took from a counter and did not give back.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Take {
    /// The order.
    pub order_id: Uuid,
    /// The step by which it did: a card is only counted once it pays.
    pub step: String,
    /// Whose, and of which event.
    pub counter: String,
    /// How many tickets.
    pub quantity: i64,
}

/// A definition.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Definition {
    /// Its id.
    pub id: i16,
    /// All of it.
    pub body: Value,
}

/// A row of the log of what people did.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Audit {
    /// 1, 2, 3 …
    pub id: i64,
    /// When, in microseconds since 1970.
    pub at_us: i64,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// To what.
    pub subject: Option<Uuid>,
    /// Why.
    pub reason: String,
    /// What else.
    pub detail: Value,
    /// The hash of the row before, in hexadecimal digits.
    pub previous: String,
    /// Its own.
    pub hash: String,
}
