//! Whom limits and velocity are counted for.
//!
//! Counters hold the first half of a SHA-256 of kind and value, not the value: personal data stands
//! in the order's row and nowhere else. (128 bits: nobody meets another one's counter by chance, and
//! who forges a collision shares a limit with himself.) It is a pseudonym, not an anonymisation (who has a list of
//! addresses can try them), so erasing a person means deleting the counters of his hashes as well.
//! It has no secret key on purpose: every process must reach the same counter, and a changed key
//! would silently forget every limit.

use super::email::Email;
use ipnet::{IpNet, Ipv6Net};
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use uuid::Uuid;

/// What kind of subject it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An account.
    Account,
    /// A mailbox.
    Email,
    /// A client address; of IPv6 its /64, which is what one customer is given.
    Address,
    /// What the payment provider calls the card behind a payment method.
    Fingerprint,
}

impl Kind {
    /// As it stands in the tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Email => "email",
            Self::Address => "address",
            Self::Fingerprint => "fingerprint",
        }
    }
}

/// Someone or something that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    /// What it is.
    pub kind: Kind,
    /// The first 16 bytes of the SHA-256 of kind and value.
    pub hash: [u8; 16],
}

impl Subject {
    fn new(kind: Kind, value: &[u8]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(kind.as_str());
        hasher.update([0]);
        hasher.update(value);
        let whole: [u8; 32] = hasher.finalize().into();
        let mut hash = [0; 16];
        hash.copy_from_slice(&whole[..16]);
        Self { kind, hash }
    }

    /// The hash in hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        self.hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// An account.
    #[must_use]
    pub fn account(id: Uuid) -> Self {
        Self::new(Kind::Account, id.as_bytes())
    }

    /// A mailbox.
    #[must_use]
    pub fn email(email: &Email) -> Self {
        Self::new(Kind::Email, email.key().as_bytes())
    }

    /// A client address.
    #[must_use]
    pub fn address(address: IpAddr) -> Self {
        Self::new(
            Kind::Address,
            customer_network(address).to_string().as_bytes(),
        )
    }

    /// A payment fingerprint, as the provider wrote it.
    #[must_use]
    pub fn fingerprint(fingerprint: &str) -> Self {
        Self::new(Kind::Fingerprint, fingerprint.as_bytes())
    }
}

/// The network that stands for one customer: the IPv4 address itself (also when written as
/// IPv6), or the /64.
fn customer_network(address: IpAddr) -> IpNet {
    match address.to_canonical() {
        IpAddr::V4(address) => IpNet::from(IpAddr::V4(address)),
        IpAddr::V6(address) => {
            let host = Ipv6Net::from(address);
            // 64 is a valid prefix length of IPv6; the host network stands in if it were not.
            IpNet::V6(Ipv6Net::new(address, 64).map_or(host, |network| network.trunc()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Subject {
        Subject::address(text.parse().expect("an address"))
    }

    #[test]
    fn a_customer_of_ipv6_is_his_64() {
        assert_eq!(address("2001:db8:1:2:3::4"), address("2001:db8:1:2:ffff::"));
        assert_ne!(address("2001:db8:1:2::1"), address("2001:db8:1:3::1"));
        assert_eq!(address("::ffff:192.0.2.7"), address("192.0.2.7"));
        assert_ne!(address("192.0.2.7"), address("192.0.2.8"));
    }

    #[test]
    fn the_same_text_of_another_kind_is_another_subject() {
        let email = Subject::email(&Email::fold("a@b.example"));
        assert_ne!(email, Subject::fingerprint("a@b.example"));
        assert_ne!(email.hash, Subject::fingerprint("a@b.example").hash);
    }
}
