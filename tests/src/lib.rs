//! Tests that prove behaviour from the outside, and the benchmarks
