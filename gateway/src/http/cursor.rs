//! Cursors: where a page ended, opaque to the caller and bound to the query that made it, so that it
//! cannot be carried to another filter or order, where it would silently skip items. Every gateway
//! reads every other's; nothing in it is secret.

use super::ApiError;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use contract::ProblemCode;
use sha2::{Digest, Sha256};

const CHECK_BYTES: usize = 8;

/// A cursor for a position in the answer to a query.
#[must_use]
pub fn encode(query: &str, position: &[u8]) -> String {
    let mut bytes = check(query, position).to_vec();
    bytes.extend_from_slice(position);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The position in a cursor.
///
/// # Errors
/// [`ProblemCode::CursorInvalid`]: it is damaged, or was made for another query.
pub fn decode(query: &str, cursor: &str) -> Result<Vec<u8>, ApiError> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).unwrap_or_default();
    match bytes.split_at_checked(CHECK_BYTES) {
        Some((found, position)) if found == check(query, position) => Ok(position.to_vec()),
        _ => Err(ApiError::new(
            ProblemCode::CursorInvalid,
            "The cursor is damaged or was made for other filters; repeat the query without it.",
        )
        .field(
            "?cursor",
            ProblemCode::CursorInvalid,
            "not a cursor of this query",
        )),
    }
}

fn check(query: &str, position: &[u8]) -> [u8; CHECK_BYTES] {
    let mut hash = Sha256::new();
    hash.update(b"guichet cursor 1\0");
    hash.update((query.len() as u64).to_be_bytes());
    hash.update(query.as_bytes());
    hash.update(position);
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&hash.finalize()[..CHECK_BYTES]);
    check
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cursor_returns_to_its_own_query_only(
            query in ".{0,40}",
            other in ".{0,40}",
            position in proptest::collection::vec(any::<u8>(), 0..40),
            flip in 0_usize..1_000,
        ) {
            let cursor = encode(&query, &position);
            prop_assert_eq!(decode(&query, &cursor).expect("its own"), position);
            prop_assert_eq!(decode(&other, &cursor).is_ok(), other == query);
            let mut damaged = cursor.into_bytes();
            let at = flip % damaged.len();
            damaged[at] = if damaged[at] == b'A' { b'B' } else { b'A' };
            let damaged = String::from_utf8(damaged).expect("ASCII");
            prop_assert!(decode(&query, &damaged).is_err());
        }

        #[test]
        fn anything_else_is_refused(text in ".{0,80}") {
            let error = decode("q", &text).expect_err("not a cursor");
            prop_assert_eq!(error.code(), ProblemCode::CursorInvalid);
        }
    }
}
