//! The catalogue: what is sold, where and when, at which prices.

pub mod load;
pub mod plan;
pub mod pricing;
pub mod shift;
pub mod source;
pub mod tier;
