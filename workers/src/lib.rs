//! The worker kit and the steps of an order.
//!
//! [`kit`] is what a step is made of, [`ledger`] why its effect comes about once; each step is one
//! module.
//!
//! This crate does not know the saga: no step can see, or depend on, what came before it or comes
//! after it, and so any definition may use it.

pub mod capture;
mod config;
mod error;
#[cfg(test)]
mod fixture;
pub mod fraud_check;
pub mod issue;
pub mod kit;
pub mod ledger;
pub mod notify;
pub mod pay;
pub mod reserve;

/// What a person may correct of what the steps are given.
pub const CORRECTABLE: &[contract::Correctable] = &[notify::CORRECTABLE, pay::CORRECTABLE];

pub use config::Config;
pub use error::Error;
pub use kit::{Context, Pools, Step, run};
