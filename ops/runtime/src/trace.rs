//! Fresh ids for a trace.

/// A random trace id and parent id, never zero, for the `traceparent` of what starts here.
///
/// The cores are pure and take such ids as input; this is where a shell gets them.
#[must_use]
pub fn fresh() -> (u128, u64) {
    (
        rand::random_range(1..=u128::MAX),
        rand::random_range(1..=u64::MAX),
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_are_two() {
        let (first, second) = (super::fresh(), super::fresh());
        assert_ne!(first.0, second.0);
        assert_ne!(first.1, second.1);
    }
}
