//! The SQL of sagas: a handful of statements of fixed shape over arrays.

pub(crate) mod advance;
pub(crate) mod definition;
pub(crate) mod lease;
pub(crate) mod row;
pub(crate) mod signal;
pub(crate) mod start;
