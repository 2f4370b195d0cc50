//! One mailbox, one key: the form of an e-mail address under which limits and velocity are counted.
//!
//! The harm is not the same on both sides: two spellings taken for two people let one buyer have
//! twice the limit; two people taken for one refuse an honest buyer. So only what is known to reach
//! the same mailbox is folded:
//! - upper and lower case: no provider of note tells them apart;
//! - a tag after `+`: Gmail, Outlook, iCloud, Proton, Fastmail and the defaults of Postfix and Exim
//!   deliver `me+x@` to `me@`; addresses that merely contain a `+` are next to none;
//! - dots before the `@`, but only at Gmail (`gmail.com`, `googlemail.com`), which ignores them;
//!   elsewhere `a.b@` and `ab@` are two people;
//! - a dot after the domain;
//! - spaces, which are no part of an address.
//!
//! The key is never written to: mail goes to the address as the customer gave it.

/// An e-mail address in parts, folded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email {
    local: String,
    domain: String,
}

impl Email {
    /// Folds an address. What has no `@` becomes all local part; nothing fails here, since the
    /// gateway has already refused what is no address.
    #[must_use]
    pub fn fold(address: &str) -> Self {
        let lower = address.split_whitespace().collect::<String>();
        let lower = lower.to_lowercase();
        let (local, domain) = lower.rsplit_once('@').unwrap_or((&lower, ""));
        let domain = match domain.trim_end_matches('.') {
            "googlemail.com" => "gmail.com",
            other => other,
        };
        let untagged = match local.split_once('+') {
            Some((before, _)) if !before.is_empty() => before,
            _ => local,
        };
        let undotted = untagged.replace('.', "");
        let local = if domain == "gmail.com" && !undotted.is_empty() {
            undotted
        } else {
            untagged.to_owned()
        };
        Self {
            local,
            domain: domain.to_owned(),
        }
    }

    /// Before the `@`.
    #[must_use]
    pub fn local(&self) -> &str {
        &self.local
    }

    /// After the `@`.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// What stands for the mailbox.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}@{}", self.local, self.domain)
    }

    /// The domain and the ones above it, but not the last label alone: `a.b.example`, `b.example`.
    pub fn domains(&self) -> impl Iterator<Item = &str> {
        let mut next = Some(self.domain.as_str());
        std::iter::from_fn(move || {
            let domain = next.filter(|domain| domain.contains('.'))?;
            next = domain.split_once('.').map(|(_, above)| above);
            Some(domain)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(address: &str) -> String {
        Email::fold(address).key()
    }

    #[test]
    fn spellings_of_one_mailbox_have_one_key() {
        assert_eq!(key(" Ann.Lee+paris@Example.ORG. "), "ann.lee@example.org");
        assert_eq!(key("A.n.n+x+y@googlemail.com"), "ann@gmail.com");
        assert_eq!(key("ann@googlemail.com ."), "ann@gmail.com");
        assert_eq!(key("ann@gmail.com"), key("a.nn@GMail.com"));
    }

    #[test]
    fn two_mailboxes_keep_two_keys() {
        assert_ne!(key("a.nn@example.org"), key("ann@example.org"));
        assert_ne!(key("ann@example.org"), key("ann@example.com"));
        assert_ne!(key("+1@example.org"), key("+2@example.org"));
        assert_ne!(key("...@gmail.com"), key("....@gmail.com"));
    }

    #[test]
    fn the_domains_above_are_seen() {
        let email = Email::fold("x@a.b.example");
        let domains: Vec<_> = email.domains().collect();
        assert_eq!(domains, ["a.b.example", "b.example"]);
        assert_eq!(Email::fold("nobody").domains().count(), 0);
    }

    proptest! {
        #[test]
        fn folding_again_changes_nothing(address in "[a-zA-Z0-9.+]{1,12}@[a-zA-Z]{1,6}\\.(com|ORG)|.{0,20}") {
            prop_assert_eq!(key(&key(&address)), key(&address));
        }

        #[test]
        fn case_and_tag_never_matter(local in "[a-z][a-z.]{0,9}", tag in "[a-z+]{0,5}", gmail: bool) {
            let domain = if gmail { "gmail.com" } else { "example.org" };
            let plain = key(&format!("{local}@{domain}"));
            let tagged = format!("{local}+{tag}@{domain}").to_uppercase();
            prop_assert_eq!(key(&tagged), plain);
        }
    }
}
