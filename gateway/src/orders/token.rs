//! A guest's key to his order: an HMAC of its id, so that the same order always has the same token
//! and none is stored.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use contract::OrderId;
use hmac::{Hmac, KeyInit, Mac};
use runtime::Secret;
use sha2::Sha256;

/// What the token is for; another use of the secret has another text.
const PURPOSE: &[u8] = b"guichet order token v1\0";

/// Makes and checks tokens.
pub(crate) struct Tokens {
    mac: Hmac<Sha256>,
}

impl Tokens {
    /// With the gateway's secret.
    pub(crate) fn new(secret: &Secret) -> Self {
        let mac = Hmac::new_from_slice(secret.expose().as_bytes());
        Self {
            mac: mac.expect("HMAC takes a key of any length"),
        }
    }

    /// The order's token: 43 characters of base64url.
    pub(crate) fn of(&self, order: OrderId) -> String {
        URL_SAFE_NO_PAD.encode(self.mac_of(order).finalize().into_bytes())
    }

    /// Whether the token is this order's, compared in constant time.
    pub(crate) fn opens(&self, order: OrderId, token: &str) -> bool {
        let bytes = URL_SAFE_NO_PAD.decode(token).unwrap_or_default();
        self.mac_of(order).verify_slice(&bytes).is_ok()
    }

    fn mac_of(&self, order: OrderId) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        mac.update(PURPOSE);
        mac.update(order.0.as_bytes());
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_its_own_order_only() {
        let tokens = Tokens::new(&"s".repeat(32).into());
        let (one, other) = (OrderId::new(), OrderId::new());
        let token = tokens.of(one);
        assert_eq!(token, tokens.of(one));
        assert!(tokens.opens(one, &token));
        for bad in [
            tokens.of(other),
            String::new(),
            token[1..].to_owned(),
            format!("{token}A"),
        ] {
            assert!(!tokens.opens(one, &bad), "{bad}");
        }
        assert!(!Tokens::new(&"t".repeat(32).into()).opens(one, &token));
    }
}
