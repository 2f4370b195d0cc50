//! The faults, by what they are done to.

pub(crate) mod network;
pub(crate) mod roles;
pub(crate) mod servers;
pub(crate) mod special;

/// The run in which nothing is done to anybody.
pub(crate) const CALM: &str = "calm";
