//! Stripe's signature of a webhook (<https://docs.stripe.com/webhooks#verify-manually>): an
//! HMAC-SHA256, in hexadecimal digits, over the time of sending, a dot and the body. The time keeps an
//! old message from being sent again by somebody else. While a secret is changed there is one
//! signature for each.

use hmac::{Hmac, KeyInit, Mac};
use runtime::Secret;
use sha2::Sha256;

/// How far the time of sending may be from ours, in seconds.
const TOLERANCE_S: i64 = 300;
/// Signatures of one header that are looked at.
const SIGNATURES_MAX: usize = 8;

/// Whether the header signs the body by the secret, within the last five minutes.
pub(super) fn is_valid(secret: &Secret, header: &str, body: &[u8], now_s: i64) -> bool {
    let parts = || {
        header
            .split(',')
            .filter_map(|part| part.trim().split_once('='))
    };
    let Some(sent_s) = parts().find(|part| part.0 == "t").map(|part| part.1) else {
        return false;
    };
    let recent = sent_s
        .parse::<i64>()
        .is_ok_and(|at| now_s.abs_diff(at) <= TOLERANCE_S.unsigned_abs());
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes())
        .expect("HMAC takes a key of any length");
    mac.update(sent_s.as_bytes());
    mac.update(b".");
    mac.update(body);
    let signatures = parts().filter(|part| part.0 == "v1").take(SIGNATURES_MAX);
    recent
        && signatures
            .filter_map(|part| bytes(part.1))
            .any(|signature| mac.clone().verify_slice(&signature).is_ok())
}

/// From hexadecimal digits.
fn bytes(hex: &str) -> Option<Vec<u8>> {
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with Python's hmac module from Stripe's description of the scheme.
    const SIGNED: &str =
        "t=1700000000,v1=c89214b5b5da833daed6f0b8c5bb6bd58cea9022bd80ccc78230f3942d632925";
    const BODY: &[u8] = br#"{"id":"evt_1"}"#;

    fn valid(secret: &str, header: &str, body: &[u8], now_s: i64) -> bool {
        is_valid(&Secret::new(secret), header, body, now_s)
    }

    #[test]
    fn stripes_signature_is_taken_for_five_minutes() {
        for now_s in [1_699_999_700, 1_700_000_000, 1_700_000_300] {
            assert!(valid("whsec_test", SIGNED, BODY, now_s));
        }
        for now_s in [1_699_999_699, 1_700_000_301, i64::MIN, i64::MAX] {
            assert!(!valid("whsec_test", SIGNED, BODY, now_s));
        }
        let zeros = "0".repeat(64);
        let (time, signature) = SIGNED.split_once(',').expect("two parts");
        let several = format!("{time},v1={zeros},v0=x,{signature}");
        assert!(valid("whsec_test", &several, BODY, 1_700_000_000));
    }

    #[test]
    fn anything_else_is_not() {
        let now_s = 1_700_000_000;
        assert!(!valid("whsec_other", SIGNED, BODY, now_s));
        assert!(!valid("whsec_test", SIGNED, br#"{"id":"evt_2"}"#, now_s));
        let later = SIGNED.replace("t=1700000000", "t=1700000001");
        assert!(!valid("whsec_test", &later, BODY, now_s));
        let digest = &SIGNED[16..];
        for header in [
            "",
            "t=",
            "t=1700000000",
            "t=x,v1=00",
            "t=1700000000,v1=",
            "v1",
            "=,=",
            &format!("t=99999999999999999999,v1={digest}"),
            &format!("t=1700000000,v0={digest}"),
            &format!("t=1700000000,v1={}", "é".repeat(32)),
            &format!("t=1700000000,v1=+{}", &digest[1..]),
        ] {
            assert!(!valid("whsec_test", header, BODY, now_s), "{header}");
        }
    }
}
