//! The signed code of a ticket, which a gate can check without any network.
//!
//! `GT1.` and base64url (no padding) of 105 bytes, 144 characters in all:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version, 1 |
//! | 4 | key id: the first bytes of the SHA-256 of the public key |
//! | 16 | ticket id |
//! | 16 | event id |
//! | 4 | number, big-endian |
//! | 64 | Ed25519 signature (RFC 8032) of the 41 bytes before |
//!
//! It holds no name: whoever finds it learns nothing about the holder. Whether the ticket was
//! revoked or scanned is not in it either; a gate knows that from its list.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use contract::{EventId, TicketId};
use ed25519_dalek::{
    Signature, Signer, SigningKey, VerifyingKey,
    pkcs8::{DecodePrivateKey, EncodePublicKey, spki::der::pem::LineEnding},
};
use sha2::{Digest, Sha256};
use std::fmt;
use uuid::Uuid;

/// What a code begins with.
pub const PREFIX: &str = "GT1.";

const VERSION: u8 = 1;
const SIGNED_BYTES: usize = 41;
const SIGNATURE_BYTES: usize = 64;

/// Which key signed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(pub [u8; 4]);

impl KeyId {
    /// The id of a public key.
    #[must_use]
    pub fn of(key: &VerifyingKey) -> Self {
        let hash = Sha256::digest(key.as_bytes());
        Self([hash[0], hash[1], hash[2], hash[3]])
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// What a code says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Content {
    /// The ticket.
    pub ticket_id: TicketId,
    /// Its event.
    pub event_id: EventId,
    /// Its number at the event.
    pub number: u32,
}

impl Content {
    fn signed_bytes(self, key: KeyId) -> [u8; SIGNED_BYTES] {
        let mut bytes = [0; SIGNED_BYTES];
        bytes[0] = VERSION;
        bytes[1..5].copy_from_slice(&key.0);
        bytes[5..21].copy_from_slice(self.ticket_id.0.as_bytes());
        bytes[21..37].copy_from_slice(self.event_id.0.as_bytes());
        bytes[37..41].copy_from_slice(&self.number.to_be_bytes());
        bytes
    }

    /// The code of a ticket, made of its row.
    #[must_use]
    pub fn code(self, key: KeyId, signature: &[u8; SIGNATURE_BYTES]) -> String {
        let bytes = [&self.signed_bytes(key)[..], signature].concat();
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// Why a code is not accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CodeError {
    /// Not a code at all, or of a later version.
    #[error("not a ticket code of version 1")]
    Malformed,
    /// Signed by a key that is not among the given ones.
    #[error("signed by an unknown key")]
    UnknownKey,
    /// Not what was signed.
    #[error("the signature does not fit")]
    Forged,
}

/// Reads a code and checks its signature against the known keys.
///
/// # Errors
/// The code is not to be trusted; see [`CodeError`].
pub fn verify(code: &str, keys: &[VerifyingKey]) -> Result<Content, CodeError> {
    let text = code.strip_prefix(PREFIX).ok_or(CodeError::Malformed)?;
    if text.len() > 200 {
        return Err(CodeError::Malformed);
    }
    let bytes = URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| CodeError::Malformed)?;
    let (signed, signature) = bytes
        .split_first_chunk::<SIGNED_BYTES>()
        .ok_or(CodeError::Malformed)?;
    let signature = Signature::from_slice(signature).map_err(|_| CodeError::Malformed)?;
    if signed[0] != VERSION {
        return Err(CodeError::Malformed);
    }
    let key_id = KeyId([signed[1], signed[2], signed[3], signed[4]]);
    let of_id = |key: &&VerifyingKey| KeyId::of(key) == key_id;
    let mut known = keys.iter().filter(of_id).peekable();
    if known.peek().is_none() {
        return Err(CodeError::UnknownKey);
    }
    // Strict: one code has one signature.
    if !known.any(|key| key.verify_strict(signed, &signature).is_ok()) {
        return Err(CodeError::Forged);
    }
    let uuid = |range: std::ops::Range<usize>| Uuid::from_slice(&signed[range]);
    Ok(Content {
        ticket_id: TicketId(uuid(5..21).map_err(|_| CodeError::Malformed)?),
        event_id: EventId(uuid(21..37).map_err(|_| CodeError::Malformed)?),
        number: u32::from_be_bytes([signed[37], signed[38], signed[39], signed[40]]),
    })
}

/// The text is no key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "not an Ed25519 private key: PKCS#8 in PEM, or a seed of 32 bytes as 64 hexadecimal digits or base64"
)]
pub struct BadKey;

/// The private key that signs tickets.
#[derive(Clone)]
pub struct Signatory {
    key: SigningKey,
    id: KeyId,
}

impl fmt::Debug for Signatory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signatory").field(&self.id).finish()
    }
}

impl Signatory {
    /// Reads a key: PKCS#8 in PEM, or a seed of 32 bytes in hexadecimal or base64 (either
    /// alphabet).
    ///
    /// # Errors
    /// The text is none of these.
    pub fn read(text: &str) -> Result<Self, BadKey> {
        let text = text.trim();
        let key = if text.starts_with("-----BEGIN") {
            SigningKey::from_pkcs8_pem(text).map_err(|_| BadKey)?
        } else {
            SigningKey::from_bytes(&seed(text).ok_or(BadKey)?)
        };
        let id = KeyId::of(&key.verifying_key());
        Ok(Self { key, id })
    }

    /// The id of the key.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        self.id
    }

    /// The public key, for gates.
    #[must_use]
    pub fn public_key(&self) -> VerifyingKey {
        self.key.verifying_key()
    }

    /// The public key in PEM, as `openssl pkey -pubin` reads it.
    #[must_use]
    pub fn public_key_pem(&self) -> String {
        // A public key of 32 bytes always has a PEM form.
        let pem = self.public_key().to_public_key_pem(LineEnding::LF);
        pem.unwrap_or_default()
    }

    /// Signs a ticket.
    #[must_use]
    pub fn sign(&self, content: Content) -> [u8; SIGNATURE_BYTES] {
        self.key.sign(&content.signed_bytes(self.id)).to_bytes()
    }
}

fn seed(text: &str) -> Option<[u8; 32]> {
    if text.len() == 64 {
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        return Some(bytes);
    }
    let text = text
        .trim_end_matches('=')
        .replace('+', "-")
        .replace('/', "_");
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEED: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";

    fn signatory() -> Signatory {
        Signatory::read(SEED).expect("the first seed of RFC 8032")
    }

    fn content() -> Content {
        Content {
            ticket_id: TicketId::new(),
            event_id: EventId::new(),
            number: 4711,
        }
    }

    fn code(content: Content) -> String {
        let signatory = signatory();
        content.code(signatory.key_id(), &signatory.sign(content))
    }

    #[test]
    fn a_code_says_what_was_signed() {
        let content = content();
        let code = code(content);
        assert_eq!(code.len(), 144);
        assert_eq!(verify(&code, &[signatory().public_key()]), Ok(content));
    }

    #[test]
    fn a_key_has_several_forms() {
        use ed25519_dalek::pkcs8::EncodePrivateKey;
        let bytes = seed(SEED).expect("a seed");
        let base64 = base64::engine::general_purpose::STANDARD.encode(bytes);
        let pem = signatory().key.to_pkcs8_pem(LineEnding::LF).expect("a PEM");
        for form in [SEED, &base64, &format!("{}\n", *pem)] {
            let read = Signatory::read(form).expect("a key");
            assert_eq!(read.key_id(), signatory().key_id());
        }
        for bad in [
            "",
            "abc",
            &SEED[1..],
            &SEED.replace('9', "x"),
            "-----BEGIN X-----",
        ] {
            assert_eq!(Signatory::read(bad).err(), Some(BadKey), "{bad}");
        }
        assert!(
            signatory()
                .public_key_pem()
                .starts_with("-----BEGIN PUBLIC KEY-----\n")
        );
        assert!(!format!("{:?}", signatory()).contains("9d61"));
    }

    #[test]
    fn a_key_that_is_not_known_is_told_from_a_forgery() {
        let other = Signatory::read(&SEED.replace('6', "7")).expect("a key");
        let code = code(content());
        assert_eq!(
            verify(&code, &[other.public_key()]),
            Err(CodeError::UnknownKey)
        );
        assert_eq!(verify(&code, &[]), Err(CodeError::UnknownKey));
    }

    proptest! {
        /// Whatever bit is changed, the code is refused.
        #[test]
        fn a_changed_code_is_refused(bit in 0..105_usize * 8) {
            let code = code(content());
            let mut bytes = URL_SAFE_NO_PAD.decode(&code[PREFIX.len()..]).expect("base64");
            bytes[bit / 8] ^= 1 << (bit % 8);
            let changed = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
            prop_assert!(verify(&changed, &[signatory().public_key()]).is_err());
        }

        #[test]
        fn any_text_is_survived(text in ".{0,300}") {
            prop_assert!(verify(&text, &[signatory().public_key()]).is_err());
            let prefixed = format!("{PREFIX}{text}");
            prop_assert!(verify(&prefixed, &[signatory().public_key()]).is_err());
        }
    }
}
