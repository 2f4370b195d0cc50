//! The header `Idempotency-Key`.

use super::store::Key;
use crate::http::ApiError;
use contract::ProblemCode;
use http::HeaderMap;
use sha2::{Digest, Sha256};
use std::ops::RangeInclusive;

/// How long a key is: one can neither be guessed nor be abused to store things.
const LENGTH_BYTES: RangeInclusive<usize> = 16..=255;

/// Whose keys these are: those of all guests are one space.
const GUESTS: &str = "guests";

/// The caller's key, of which only the SHA-256 is kept.
///
/// # Errors
/// There is none, more than one, or it is not 16 to 255 printable ASCII characters.
pub(super) fn of(headers: &HeaderMap) -> Result<Key, ApiError> {
    let mut keys = headers.get_all("idempotency-key").iter();
    let Some(key) = keys.next() else {
        return Err(ApiError::new(
            ProblemCode::IdempotencyKeyMissing,
            "Send a header Idempotency-Key of 16 to 255 characters, the same when you repeat the order.",
        ));
    };
    let printable = |byte: &u8| (0x20..=0x7e).contains(byte);
    let good = LENGTH_BYTES.contains(&key.len()) && key.as_bytes().iter().all(printable);
    if !good || keys.next().is_some() {
        return Err(ApiError::new(
            ProblemCode::IdempotencyKeyInvalid,
            "The Idempotency-Key must be given once and have 16 to 255 printable ASCII characters.",
        ));
    }
    Ok(Key {
        scope: GUESTS,
        hash: Sha256::digest(key.as_bytes()).into(),
    })
}
