//! Identifiers and stable hashes in the alphabet Stripe uses.
//!
//! An intent's id ends in two characters that are `00`; its payment methods and charges are numbered upwards
//! from there. So they need no table of their own: their ids lead back to the intent by the shared stem.

use sha2::{Digest, Sha256};

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The highest number within an intent: what two characters can say, less the intent's own `00`.
pub(crate) const SERIAL_MAX: u16 = 62 * 62 - 1;

/// `count` characters, at most 21, that say 125 bits of `value`.
pub(crate) fn base62(mut value: u128, count: usize) -> String {
    let mut out = String::with_capacity(count);
    for _ in 0..count {
        out.push(char::from(ALPHABET[(value % 62) as usize]));
        value /= 62;
    }
    out
}

/// An id such as `re_3…`, of Stripe's usual length.
pub(crate) fn fresh(prefix: &str, random: u128) -> String {
    format!("{prefix}_3{}00", base62(random, 21))
}

/// The id with another prefix that is part `number` of the intent `intent_id`.
pub(crate) fn part_of_intent(prefix: &str, intent_id: &str, number: u16) -> String {
    let stem = stem(intent_id).unwrap_or(intent_id);
    let high = char::from(ALPHABET[usize::from(number / 62) % 62]);
    let low = char::from(ALPHABET[usize::from(number % 62)]);
    format!("{prefix}_{stem}{high}{low}")
}

/// The id of the intent that the charge or payment method `id` belongs to, if it has that form.
pub(crate) fn intent_of(id: &str) -> Option<String> {
    Some(format!("pi_{}00", stem(id)?))
}

/// What the ids of an intent and its parts share: no prefix, no number.
fn stem(id: &str) -> Option<&str> {
    let (_, rest) = id.split_once('_')?;
    if !rest.is_ascii() || rest.len() < 3 {
        return None;
    }
    Some(&rest[..rest.len() - 2])
}

/// The first 16 bytes of SHA-256 over the parts, each closed by a NUL so that no two lists are alike.
pub(crate) fn digest(parts: &[&[u8]]) -> u128 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
        hash.update([0]);
    }
    let bytes = hash.finalize();
    let mut head = [0_u8; 16];
    head.copy_from_slice(&bytes[..16]);
    u128::from_be_bytes(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_lead_back_to_their_intent() {
        let intent = fresh("pi", u128::MAX);
        assert_eq!(intent.len(), 27, "as long as Stripe's: {intent}");
        for number in [1, 61, 62, 63, SERIAL_MAX] {
            let charge = part_of_intent("ch", &intent, number);
            assert_ne!(&charge[3..], &intent[3..]);
            assert_eq!(intent_of(&charge).as_deref(), Some(intent.as_str()));
        }
        assert_ne!(
            part_of_intent("ch", &intent, 61),
            part_of_intent("ch", &intent, SERIAL_MAX)
        );
        assert_eq!(intent_of("nonsense"), None);
        assert_eq!(intent_of("pm_é"), None);
    }

    #[test]
    fn digests_keep_their_parts_apart() {
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
    }
}
