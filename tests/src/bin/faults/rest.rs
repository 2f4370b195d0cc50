//! When everything is at rest: not at the first moment in which nothing is to be done, for whoever has just
//! begun something may not be seen yet.

use checker::collect::Reader;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long nothing may have been to be done before it is judged.
const QUIET: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Since when nothing has been to be done.
#[derive(Debug, Default)]
struct Quiet {
    since: Option<Instant>,
}

impl Quiet {
    /// What was seen now; since when it has been quiet, once that was long enough.
    fn saw(&mut self, now: Instant, restless: bool) -> Option<Instant> {
        if restless {
            self.since = None;
            return None;
        }
        let since = *self.since.get_or_insert(now);
        (now.duration_since(since) >= QUIET).then_some(since)
    }
}

/// How long after the fault's end the time began in which every accepted order has ended, those too that asked for a
/// person; only what is held is not waited for.
pub(crate) async fn rest(
    database_url: &str,
    healed: Instant,
    within: Duration,
) -> Option<Duration> {
    let mut quiet = Quiet::default();
    while healed.elapsed() < within + QUIET {
        let restless = match Reader::connect(database_url).await {
            Ok(reader) => reader.restless().await.map_or(i64::MAX, |(count, _)| count),
            Err(_) => i64::MAX,
        };
        if let Some(since) = quiet.saw(Instant::now(), restless > 0) {
            return Some(since.duration_since(healed));
        }
        sleep(LOOK_EVERY).await;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_no_rest_and_whoever_moves_begins_it_anew() {
        let (begin, mut quiet) = (Instant::now(), Quiet::default());
        let mut saw = |ms: u64, restless| {
            let since = quiet.saw(begin + Duration::from_millis(ms), restless);
            since.map(|since| since.duration_since(begin).as_millis())
        };
        assert_eq!(saw(0, false), None);
        assert_eq!(saw(2_900, false), None);
        assert_eq!(saw(2_950, true), None);
        assert_eq!(saw(3_000, false), None);
        assert_eq!(saw(5_999, false), None);
        assert_eq!(saw(6_000, false), Some(3_000));
    }
}
