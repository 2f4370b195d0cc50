//! Tests that prove behaviour from the outside.
//!
//! Here is what several of them use: the world around a role, as real as it can be.

pub mod eventually;
pub mod orders;
pub mod provider;
pub mod simulation;
pub mod smtp_sink;
pub mod world;
