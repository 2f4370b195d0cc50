//! What a row's hash is of, and whether a row follows from the one before. Pure.

use super::Head;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// A row of the audit log without its own hash.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// 1, 2, 3 and so on, without gaps.
    pub id: i64,
    /// When, by the database's clock, to the microsecond.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// To which saga, order or other thing.
    pub subject: Option<Uuid>,
    /// Why.
    pub reason: String,
    /// What else is worth keeping.
    pub detail: Value,
    /// The hash of the row before.
    #[serde(skip)]
    pub previous: Vec<u8>,
}

impl Row {
    /// SHA-256 of the row. Every field is preceded by its length, so that no two rows have the same
    /// bytes; a change of the form changes the first line.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        let mut field = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_be_bytes());
            hasher.update(bytes);
        };
        field(b"guichet.audit.v1");
        field(&self.previous);
        field(&self.id.to_be_bytes());
        field(&self.at.timestamp_micros().to_be_bytes());
        field(self.actor.as_bytes());
        field(self.action.as_bytes());
        field(self.subject.as_ref().map_or(&[][..], |id| id.as_bytes()));
        field(self.reason.as_bytes());
        field(canonical(&self.detail).as_bytes());
        hasher.finalize().into()
    }
}

/// JSON with sorted keys and no blanks: `jsonb` keeps neither the order of keys nor the spelling.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut keys: Vec<&String> = fields.keys().collect();
            keys.sort_unstable();
            let fields = keys
                .into_iter()
                .map(|key| format!("{}:{}", Value::from(key.as_str()), canonical(&fields[key])));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => {
            let items = items.iter().map(canonical);
            format!("[{}]", items.collect::<Vec<_>>().join(","))
        }
        plain => plain.to_string(),
    }
}

/// What is wrong with a row that should follow `head`, if anything is.
pub(super) fn problem(head: &Head, row: &Row, stored: &[u8]) -> Option<String> {
    let expected = head.id + 1;
    if row.id != expected {
        return Some(format!("row {expected} is missing before it"));
    }
    if row.previous != head.hash {
        return Some(format!("it does not hold the hash of row {}", head.id));
    }
    (row.hash() != stored).then(|| "its content does not match its hash".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row() -> Row {
        Row {
            id: 1,
            at: DateTime::from_timestamp_micros(1_700_000_000_123_456).expect("a time"),
            actor: "eve".into(),
            action: "review.approve".into(),
            subject: Some(Uuid::from_u128(7)),
            reason: "known customer".into(),
            detail: json!({"b": 1, "a": [true, {"z": null, "y": "ü\""}]}),
            previous: vec![0; 32],
        }
    }

    /// Logs in the field were hashed this way: a change is a new version of the first line.
    #[test]
    fn the_hash_of_a_row_does_not_change() {
        let hash: String = row()
            .hash()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let first = "fe52bfdd29a6754c807cc9737c2c6afe9fbc26d748ee3685e911a3715e0a5877";
        assert_eq!(hash, first);
    }

    #[test]
    fn every_field_counts() {
        let changes: [fn(&mut Row); 8] = [
            |row| row.id = 2,
            |row| row.at += chrono::TimeDelta::microseconds(1),
            |row| row.actor.push('x'),
            |row| row.action.push('x'),
            |row| row.subject = None,
            |row| row.reason.push('x'),
            |row| row.detail["a"][1]["z"] = json!(0),
            |row| row.previous[31] = 1,
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut changed = row();
            change(&mut changed);
            assert_ne!(changed.hash(), row().hash(), "change {number}");
        }
        let mut moved = row();
        (moved.actor, moved.action) = ("ever".into(), "eview.approve".into());
        assert_ne!(moved.hash(), row().hash(), "a letter over the border");
    }

    #[test]
    fn the_order_of_keys_does_not_count() {
        assert_eq!(canonical(&json!({"b": 1, "a": 2})), r#"{"a":2,"b":1}"#);
        assert_eq!(
            canonical(&row().detail),
            r#"{"a":[true,{"y":"ü\"","z":null}],"b":1}"#
        );
    }
}
