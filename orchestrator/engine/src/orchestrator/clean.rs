//! What workers send, made fit for the database.

use serde_json::Value;

/// PostgreSQL takes no NUL in text or JSON.
pub(super) fn clean(value: Value) -> Value {
    match value {
        Value::String(text) if text.contains('\0') => text.replace('\0', "\u{fffd}").into(),
        Value::Array(items) => items.into_iter().map(clean).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(key, value)| (key.replace('\0', "\u{fffd}"), clean(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other,
    }
}

/// A code as the contract allows it: what came may be anything.
pub(super) fn clean_code(code: &str) -> String {
    let allowed = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_';
    code.chars()
        .filter(allowed)
        .take(contract::CODE_MAX_CHARS)
        .collect()
}
