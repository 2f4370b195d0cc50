//! The public HTTP API: catalogue, orders and their streams

pub mod catalogue;
