//! How long to wait before the next attempt to connect.

use std::time::Duration;

const FIRST_MS: u64 = 100;

/// The pause after `failures` failures in a row: doubling from 100 ms up to `max_ms`, and of that a
/// part between half and all, chosen by `chance` in `0.0..1.0`, so that a fleet does not return in
/// step.
pub(crate) fn pause(failures: u32, max_ms: u64, chance: f64) -> Duration {
    let full = FIRST_MS
        .saturating_mul(1 << failures.saturating_sub(1).min(20))
        .min(max_ms);
    Duration::from_millis(full).mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_to_its_bound_and_stays() {
        assert_eq!(pause(1, 5_000, 1.0), Duration::from_millis(100));
        assert_eq!(pause(1, 5_000, 0.0), Duration::from_millis(50));
        assert_eq!(pause(3, 5_000, 1.0), Duration::from_millis(400));
        assert_eq!(pause(u32::MAX, 5_000, 1.0), Duration::from_millis(5_000));
        assert_eq!(pause(u32::MAX, 5_000, 0.0), Duration::from_millis(2_500));
    }
}
