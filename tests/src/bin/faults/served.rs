//! Whether whoever wanted something was answered for good in the end, whatever he was told before.

use checker::journal::{Entry, What};
use std::collections::{BTreeMap, BTreeSet};

/// What one customer heard of his order.
#[derive(Default)]
struct Heard {
    /// When he sent it for the last time.
    last_ms: i64,
    /// Whether it was accepted or refused for good.
    for_good: bool,
    /// Whether he was told to come back, and why.
    told: bool,
}

/// The keys of orders that were sent and never accepted nor refused for good. Whoever only looks whether
/// anything is sold sends his once, and does not come back.
///
/// Until `gone_ms` a fault explains that customers gave up, for it lasted longer than they try: those who were
/// told to come back, by a problem with a code. Silence is explained by nothing, nor that somebody tried
/// later and was not served.
pub(crate) fn unserved(journal: &[Entry], gone_ms: Option<i64>) -> BTreeSet<&str> {
    let mut customers: BTreeMap<&str, Heard> = BTreeMap::new();
    for entry in journal {
        match &entry.what {
            What::Asked { key, .. } if !key.contains("-look-") => {
                customers.entry(key).or_default().last_ms = entry.at_ms;
            }
            What::Answered {
                key, status, body, ..
            } => {
                let Some(heard) = customers.get_mut(key.as_str()) else {
                    continue;
                };
                match status {
                    429 | 503 => heard.told |= body.contains("\"code\""),
                    500.. => {}
                    _ => heard.for_good = true,
                }
            }
            _ => {}
        }
    }
    let explained = |heard: &Heard| heard.told && gone_ms.is_some_and(|gone| heard.last_ms < gone);
    let unserved = customers
        .into_iter()
        .filter(|(_, heard)| !heard.for_good && !explained(heard));
    unserved.map(|(key, _)| key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(at_ms: i64, key: &str) -> Entry {
        let (key, body) = (key.to_owned(), String::new());
        let what = What::Asked { key, body };
        Entry { at_ms, what }
    }

    fn answered(at_ms: i64, key: &str, status: u16, body: &str) -> Entry {
        let (key, body) = (key.to_owned(), body.to_owned());
        let what = What::Answered {
            key,
            status,
            body,
            order: None,
        };
        Entry { at_ms, what }
    }

    const AWAY: &str = r#"{"code":"payment_unavailable"}"#;

    #[test]
    fn told_to_come_back_is_no_answer() {
        let mut journal = vec![
            asked(0, "a"),
            answered(1, "a", 503, AWAY),
            asked(0, "1-look-1"),
            asked(0, "b"),
        ];
        journal.extend([answered(1, "b", 429, AWAY), asked(0, "c")]);
        journal.push(answered(1, "c", 422, AWAY));
        assert_eq!(unserved(&journal, None), ["a", "b"].into());
        journal.extend([asked(2, "a"), answered(3, "a", 202, "{}")]);
        assert_eq!(unserved(&journal, None), ["b"].into());
    }

    #[test]
    fn a_fault_of_minutes_explains_who_was_told_and_gave_up_and_no_silence() {
        let journal = [
            asked(0, "told"),
            answered(1, "told", 503, AWAY),
            asked(0, "silence"),
            asked(0, "broken"),
            answered(1, "broken", 500, AWAY),
            asked(0, "without a reason"),
            answered(1, "without a reason", 503, ""),
            asked(0, "tried afterwards"),
            answered(1, "tried afterwards", 503, AWAY),
            asked(100, "tried afterwards"),
        ];
        let convicted = ["broken", "silence", "tried afterwards", "without a reason"];
        assert_eq!(unserved(&journal, Some(100)), convicted.into());
        assert_eq!(unserved(&journal, None).len(), 5);
    }
}
