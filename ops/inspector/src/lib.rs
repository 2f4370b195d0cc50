//! Looking inside, and the [`interventions`] of people in what asks for their [`attention`], the
//! [`review`]s of held orders, their moves to another version of a definition ([`migrate`]), the end of a
//! version ([`withdraw`]) and the [`audit`] log that keeps every one of them; the promises as queries
//! ([`check`]), what the payment provider has against what we have ([`reconcile`]), and another life of the
//! database ([`incarnation`]).
//!
//! It writes rows of reviews, signals and the audit log, and never a saga's: whatever an operator
//! does, the engine decides what follows.

pub mod attention;
pub mod audit;
pub mod check;
mod error;
pub mod incarnation;
pub mod interventions;
pub mod migrate;
pub mod reconcile;
pub mod review;
pub mod sagas;
pub mod withdraw;

pub use error::{Error, LIST_MAX};
