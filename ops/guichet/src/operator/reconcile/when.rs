//! Times as an operator writes them.

use chrono::{DateTime, Utc};

/// A time, or so long before `now_s`; in seconds since 1970.
pub(super) fn moment(text: &str, now_s: i64) -> Option<i64> {
    match duration_s(text) {
        Some(ago) => Some(now_s.saturating_sub(ago)),
        None => Some(text.parse::<DateTime<Utc>>().ok()?.timestamp()),
    }
}

/// `90s`, `90m`, `48h`, `7d` in seconds.
pub(super) fn duration_s(text: &str) -> Option<i64> {
    let unit = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    let number: u32 = text[..text.len() - 1].parse().ok()?;
    i64::from(number).checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(moment("90m", 10_000), Some(4_600));
        assert_eq!(moment("1970-01-01T00:01:00Z", 10_000), Some(60));
        assert_eq!(duration_s("7d"), Some(7 * 86_400));
        for bad in ["", "d", "-1d", "7w", "7", "é"] {
            assert_eq!(duration_s(bad), None, "{bad:?}");
        }
        assert_eq!(
            duration_s("1h"),
            Some(inspector::reconcile::SETTLED_AFTER_S)
        );
    }
}
