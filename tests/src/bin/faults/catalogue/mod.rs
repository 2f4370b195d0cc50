//! The faults, by what they are done to.

pub(crate) mod clocks;
pub(crate) mod crowd;
pub(crate) mod messages;
pub(crate) mod network;
pub(crate) mod pairs;
pub(crate) mod paths;
pub(crate) mod people;
pub(crate) mod provider;
pub(crate) mod roles;
mod seen;
pub(crate) mod servers;
pub(crate) mod special;

/// The run in which nothing is done to anybody.
pub(crate) const CALM: &str = "calm";
