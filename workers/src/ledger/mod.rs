//! The effect ledger: one row per saga and step that says how far an effect has come.
//!
//! The scenario it is made for: a `do` is slow, its command is sent again, an undo is decided, and
//! all three arrive at three workers in any order, each perhaps twice, and any worker may be killed
//! at any line. The effect must come about at most once, and once undone never come back.
//!
//! - One row decides. Whoever inserts it has claimed the effect; everybody else sees the row. All
//!   writes are conditional on its state, and no verdict leads out of `rejected` or `undone`.
//! - An undo that comes first writes `undone` itself, so that the `do` behind it finds a refusal.
//! - An effect in our own database is written in the transaction of its row: there is no between.
//! - An effect outside is claimed first, and its id there is stored on condition that the row is
//!   still `claimed` ([`Ledger::store_outside_id`]). So either the `do` finds that an undo was
//!   there, before it went on; or the undo finds the outside id, and makes the effect definite
//!   where it is made.
//! - A refusal stays one, but for a person who has corrected what the step is given: a command that was
//!   decided after that may try once more ([`plan::reopens`]). So a duplicate does not, and nothing that
//!   is done or undone ever does.
//! - A verdict that finds the row settled by somebody else is not the answer; the row is.
//!
//! [`plan`] is the protocol as pure functions; `open` executes them for a batch.

pub(crate) mod corrections;
pub(crate) mod handle;
pub(crate) mod open;
pub mod plan;
pub(crate) mod sql;

pub use handle::Ledger;
pub use plan::{Action, LedgerRow, State, decide};
pub(crate) use sql::outside_ids;
