//! The public HTTP API: catalogue, orders and their streams
