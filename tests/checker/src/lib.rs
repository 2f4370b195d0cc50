//! Judges from the outside whether Guichet kept its promises.
//!
//! It collects what others say ([`Evidence`]): what its customers were told ([`journal`]), the payment
//! provider's own ledger, the mails that arrived, what the public API shows, how full the queues are, and
//! the rows of the database, read on a connection of its own that can only read. From that alone each
//! promise is judged by a pure function of its name ([`promises`]).
//!
//! It knows no crate of Guichet: whoever decides wrongly there cannot be excused by the same mistake here.
//! What it knows of tables, numbers and formats it has from the migrations and the documents.

pub mod books;
pub mod collect;
pub mod evidence;
pub mod journal;
pub mod promises;
mod reached;
pub mod times;

pub use evidence::{Evidence, Excused};
pub use promises::{Violation, ends, judge};
pub use reached::{Reached, reached};
