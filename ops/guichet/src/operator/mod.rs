//! The operator's commands: each does one thing and ends.

pub(crate) mod catalogue;
pub(crate) mod config_print;
pub(crate) mod migrate;

use crate::config::Uses;

/// A command that only needs the database.
pub(crate) struct OnDatabase;

impl Uses for OnDatabase {
    const SECTIONS: &'static [&'static str] = &["database"];
}
