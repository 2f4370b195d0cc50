//! The operator's commands: each does one thing and ends.

pub(crate) mod act;
pub(crate) mod attention;
pub(crate) mod audit;
pub(crate) mod catalogue;
pub(crate) mod check;
pub(crate) mod config_print;
pub(crate) mod incarnation;
pub(crate) mod intervention;
pub(crate) mod migrate;
pub(crate) mod reconcile;
pub(crate) mod release;
pub(crate) mod review;
pub(crate) mod saga;
pub(crate) mod timeline;
pub(crate) mod versions;

/// What a command uses that only needs the database.
const ON_DATABASE: [&str; 1] = ["database"];
