//! By how much the times of a catalogue are moved. The Games it describes are over, and nobody buys
//! a ticket for the past.

use chrono::{DateTime, TimeDelta, Utc};

/// Times move by whole multiples of this many days: 52 weeks, so that weekdays stay.
pub const PERIOD_DAYS: i32 = 364;
/// The first session is at least this many days ahead after the move.
pub const AHEAD_DAYS: i32 = 60;

/// The days to add to published times, for a catalogue from `first_start` to `last_end`.
///
/// A catalogue loaded before keeps its `stored` shift until its last session is over: tickets are
/// sold for those times. Never negative.
#[must_use]
pub fn shift_days(
    first_start: DateTime<Utc>,
    last_end: DateTime<Utc>,
    stored: Option<i32>,
    now: DateTime<Utc>,
) -> i32 {
    if let Some(days) = stored
        && last_end + TimeDelta::days(days.into()) > now
    {
        return days;
    }
    let missing_ms = (now + TimeDelta::days(AHEAD_DAYS.into()) - first_start).num_milliseconds();
    let period_ms = TimeDelta::days(PERIOD_DAYS.into()).num_milliseconds();
    let periods = (missing_ms.max(0) + period_ms - 1) / period_ms;
    i32::try_from(periods).map_or(i32::MAX, |periods| periods.saturating_mul(PERIOD_DAYS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::Datelike;
    use proptest::prelude::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    #[test]
    fn paris_2024_takes_place_in_2027_for_who_loads_it_in_2026() {
        let (first, last) = (at("2024-07-24T13:00:00Z"), at("2024-08-11T15:15:00Z"));
        assert_eq!(
            shift_days(first, last, None, at("2026-11-23T08:00:00Z")),
            3 * 364
        );
        assert_eq!(shift_days(first, last, None, at("2024-01-01T00:00:00Z")), 0);
        // To the second: sixty days ahead is enough, a second less is not.
        assert_eq!(shift_days(first, last, None, at("2024-05-25T13:00:00Z")), 0);
        assert_eq!(
            shift_days(first, last, None, at("2024-05-25T13:00:01Z")),
            364
        );
    }

    #[test]
    fn a_loaded_catalogue_stays_where_it_is_until_it_is_over() {
        let (first, last) = (at("2024-07-24T13:00:00Z"), at("2024-08-11T15:15:00Z"));
        let during = at("2027-07-25T00:00:00Z");
        assert_eq!(shift_days(first, last, Some(1092), during), 1092);
        assert_eq!(shift_days(first, last, None, during), 1456);
        assert_eq!(
            shift_days(first, last, Some(1092), at("2027-08-20T00:00:00Z")),
            1456
        );
    }

    proptest! {
        #[test]
        fn it_is_the_least_multiple_that_is_far_enough(seconds in 0_i64..4_000_000_000) {
            let (first, last) = (at("2024-07-24T13:00:00Z"), at("2024-08-11T15:15:00Z"));
            let now = DateTime::from_timestamp(seconds, 0).expect("in range");
            let days = shift_days(first, last, None, now);
            let wanted = now + TimeDelta::days(60);
            let moved = first + TimeDelta::days(days.into());
            prop_assert_eq!(days % 364, 0);
            prop_assert_eq!(moved.weekday(), first.weekday());
            prop_assert!(moved >= wanted);
            prop_assert!(days == 0 || moved - TimeDelta::days(364) < wanted);
        }
    }
}
