//! Whether whoever wanted something was answered for good in the end, whatever he was told before.

use checker::journal::{Entry, What};
use std::collections::BTreeSet;

/// The keys of orders that were sent and never accepted nor refused for good. Whoever only looks whether
/// anything is sold sends his once, and does not come back.
pub(crate) fn unserved(journal: &[Entry]) -> BTreeSet<&str> {
    let mut asked = BTreeSet::new();
    let mut answered = BTreeSet::new();
    for entry in journal {
        match &entry.what {
            What::Asked { key, .. } if !key.contains("-look-") => drop(asked.insert(key.as_str())),
            What::Answered { key, status, .. } if *status < 500 && *status != 429 => {
                answered.insert(key.as_str());
            }
            _ => {}
        }
    }
    asked.difference(&answered).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn told_to_come_back_is_no_answer() {
        let entry = |what| Entry { at_ms: 0, what };
        let asked = |key: &str| {
            let (key, body) = (key.to_owned(), String::new());
            entry(What::Asked { key, body })
        };
        let answered = |key: &str, status| {
            let (key, body) = (key.to_owned(), String::new());
            entry(What::Answered {
                key,
                status,
                body,
                order: None,
            })
        };
        let mut journal = vec![
            asked("a"),
            answered("a", 503),
            asked("1-look-1"),
            asked("b"),
        ];
        journal.extend([answered("b", 429), asked("c"), answered("c", 422)]);
        assert_eq!(unserved(&journal), ["a", "b"].into());
        journal.extend([asked("a"), answered("a", 202)]);
        assert_eq!(unserved(&journal), ["b"].into());
    }
}
