//! `tamper-evident`: each row of the log of what people did holds the hash of the one before, and its own
//! is that of its content. How a row is hashed is written here once more, from its description.

use super::Found;
use crate::{Evidence, books::Audit};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// What the first row holds instead of a hash.
const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

pub(super) fn tamper_evident(evidence: &Evidence, found: &mut Found<'_>) {
    let mut previous = NOTHING;
    for (row, place) in evidence.books.audit.iter().zip(1..) {
        let subject = format!("row {}", row.id);
        if row.id != place {
            found.that(&subject, format!("row {place} is missing"));
            return;
        }
        if row.previous != previous {
            found.that(&subject, "it does not hold the hash of the row before");
        }
        if hash(row) != row.hash {
            found.that(&subject, "its content does not match its hash");
        }
        previous = &row.hash;
    }
}

pub(super) fn hash(row: &Audit) -> String {
    let mut hasher = Sha256::new();
    let mut field = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_be_bytes());
        hasher.update(bytes);
    };
    field(b"guichet.audit.v1");
    field(&bytes(&row.previous));
    field(&row.id.to_be_bytes());
    field(&row.at_us.to_be_bytes());
    field(row.actor.as_bytes());
    field(row.action.as_bytes());
    field(row.subject.as_ref().map_or(&[], |id| &id.as_bytes()[..]));
    field(row.reason.as_bytes());
    field(sorted(&row.detail).as_bytes());
    let mut digits = String::new();
    for byte in hasher.finalize() {
        // Writing to a string cannot fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

fn bytes(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks_exact(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.filter_map(byte).collect()
}

/// JSON without blanks, keys sorted.
fn sorted(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut pairs: Vec<_> = fields.iter().collect();
            pairs.sort_unstable_by_key(|(key, _)| *key);
            let pairs = pairs.iter().map(|(key, value)| {
                let key = Value::from(key.as_str());
                format!("{key}:{}", sorted(value))
            });
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => {
            format!(
                "[{}]",
                items.iter().map(sorted).collect::<Vec<_>>().join(",")
            )
        }
        plain => plain.to_string(),
    }
}
