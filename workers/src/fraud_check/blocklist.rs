//! The blocklist: who may not buy.

use super::{email::Email, subject::Subject};
use crate::Error;
use chrono::{DateTime, Utc};
use database::Connection;
use diesel::sql_types::{Array, Bool, Inet, Nullable, Text, Timestamptz};
use diesel_async::RunQueryDsl;
use ipnet::IpNet;
use std::{collections::HashSet, net::IpAddr};

/// What an entry names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockKind {
    /// A mailbox, by its subject's hash in hexadecimal digits.
    Email,
    /// A domain and those below it.
    Domain,
    /// A network; of an order, its address.
    Network,
    /// A payment fingerprint, by its subject's hash; read by the step `pay`.
    Fingerprint,
}

impl BlockKind {
    /// As it stands in `blocklist.kind`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Domain => "domain",
            Self::Network => "network",
            Self::Fingerprint => "fingerprint",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Email, Self::Domain, Self::Network, Self::Fingerprint]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }

    /// The value of an entry for what an operator wrote: an address, a domain, a network in the
    /// notation of RFC 4632 (or one address), a fingerprint. `None` when it is none of that kind.
    #[must_use]
    pub fn value(self, written: &str) -> Option<String> {
        let written = written.trim();
        match self {
            Self::Email => {
                let email = Email::fold(written);
                (!email.domain().is_empty()).then(|| Subject::email(&email).hex())
            }
            Self::Domain => {
                let domain = written.to_lowercase();
                let domain = domain.trim_end_matches('.');
                let good = domain.contains('.') && !domain.contains(['@', ' ', '\0', '/']);
                good.then(|| domain.to_owned())
            }
            Self::Network => written
                .parse::<IpNet>()
                .or_else(|_| written.parse::<IpAddr>().map(IpNet::from))
                .ok()
                .map(|network| network.trunc().to_string()),
            Self::Fingerprint => (!written.is_empty()).then(|| Subject::fingerprint(written).hex()),
        }
    }
}

database::statement! {
    /// Which of some mailboxes, domains, fingerprints and addresses are blocked.
    struct FindBlocked {
        kinds: Vec<&'static str> => Array<Text>,
        values: Vec<String> => Array<Text>,
        addresses: Vec<IpNet> => Array<Inet>,
        now: DateTime<Utc> => Timestamptz,
    } -> (Text, Nullable<Text>, Nullable<Inet>) =
    "SELECT b.kind, b.value, NULL::inet
     FROM unnest({kinds}, {values}) AS t(kind, value) JOIN blocklist b USING (kind, value)
     WHERE b.until IS NULL OR b.until > {now}
     UNION ALL
     SELECT 'network', NULL, t.address FROM unnest({addresses}) AS t(address)
     WHERE EXISTS (SELECT FROM blocklist b
                   WHERE b.network >>= t.address AND (b.until IS NULL OR b.until > {now}))"
}

database::statement! {
    /// Adds an entry, or renews it. Tells whether it is new.
    struct Block {
        kind: &'static str => Text,
        value: String => Text,
        reason: String => Text,
        by: String => Text,
        until: Option<DateTime<Utc>> => Nullable<Timestamptz>,
    } -> (Bool,) =
    "INSERT INTO blocklist (kind, value, reason, added_by, until)
     VALUES ({kind}, {value}, {reason}, {by}, {until})
     ON CONFLICT (kind, value) DO UPDATE
     SET reason = excluded.reason, added_by = excluded.added_by, until = excluded.until
     RETURNING xmax = 0"
}

/// Which of the texts (with their kinds) and addresses are blocked at `now`; addresses come back
/// as text.
///
/// # Errors
/// The database cannot be asked.
pub async fn find(
    connection: &mut Connection,
    texts: impl IntoIterator<Item = (BlockKind, String)>,
    addresses: impl IntoIterator<Item = IpAddr>,
    now: DateTime<Utc>,
) -> Result<HashSet<(BlockKind, String)>, Error> {
    let (kinds, values): (Vec<_>, Vec<_>) = texts
        .into_iter()
        .map(|(kind, value)| (kind.as_str(), value))
        .unzip();
    let addresses: Vec<IpNet> = addresses.into_iter().map(IpNet::from).collect();
    if values.is_empty() && addresses.is_empty() {
        return Ok(HashSet::new());
    }
    let find = FindBlocked {
        kinds,
        values,
        addresses,
        now,
    };
    let rows: Vec<(String, Option<String>, Option<IpNet>)> = find.load(connection).await?;
    let blocked = rows.into_iter().filter_map(|(kind, value, address)| {
        let text = value.or_else(|| Some(address?.addr().to_string()))?;
        Some((BlockKind::from_name(&kind)?, text))
    });
    Ok(blocked.collect())
}

/// Blocks a value ([`BlockKind::value`]), until a time or for good; tells whether the entry is new.
/// The caller writes the audit log, in the same transaction.
///
/// # Errors
/// The database refuses.
pub async fn block(
    connection: &mut Connection,
    kind: BlockKind,
    value: &str,
    reason: &str,
    by: &str,
    until: Option<DateTime<Utc>>,
) -> Result<bool, Error> {
    let block = Block {
        kind: kind.as_str(),
        value: value.to_owned(),
        reason: reason.to_owned(),
        by: by.to_owned(),
        until,
    };
    let (new,): (bool,) = block.get_result(connection).await?;
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_folded_as_an_order_is() {
        let email = BlockKind::Email.value(" A.nn+x@googlemail.com ");
        let order = Subject::email(&Email::fold("ann@gmail.com")).hex();
        assert_eq!(email, Some(order));
        let of = |kind: BlockKind, written| kind.value(written);
        assert_eq!(
            of(BlockKind::Domain, "Bad.Example."),
            Some("bad.example".into())
        );
        assert_eq!(
            of(BlockKind::Network, "192.0.2.7/24"),
            Some("192.0.2.0/24".into())
        );
        assert_eq!(
            of(BlockKind::Network, "2001:db8::1"),
            Some("2001:db8::1/128".into())
        );
        for (kind, bad) in [
            (BlockKind::Email, "ann"),
            (BlockKind::Domain, "a@b.example"),
            (BlockKind::Network, "localhost"),
            (BlockKind::Fingerprint, " "),
        ] {
            assert_eq!(of(kind, bad), None, "{bad}");
        }
    }
}
