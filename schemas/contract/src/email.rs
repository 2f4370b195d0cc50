//! The shape of an e-mail address: one rule for what customers write and for what people correct.

/// RFC 5321.
const ADDRESS_MAX_BYTES: usize = 254;
const LOCAL_MAX_BYTES: usize = 64;
/// RFC 1035.
const LABEL_MAX_BYTES: usize = 63;

/// Whether it has the shape of an address (RFC 5321's lengths; one `@`; a domain with a dot). Whether
/// it exists only a mail tells.
#[must_use]
pub fn is_email(text: &str) -> bool {
    let graphic = |part: &str| {
        part.bytes()
            .all(|b| b.is_ascii_graphic() && !b"<>()[],;:\\\"@".contains(&b))
    };
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    let labels = || domain.split('.');
    let label = |label: &str| {
        (1..=LABEL_MAX_BYTES).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    text.len() <= ADDRESS_MAX_BYTES
        && (1..=LOCAL_MAX_BYTES).contains(&local.len())
        && graphic(local)
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && labels().count() >= 2
        && labels().all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_shape() {
        for good in [
            "a@b.fr",
            "first.last+tag@mail.example.org",
            "o'hara@x-y.example",
        ] {
            assert!(is_email(good), "{good}");
        }
        let long = format!("{}@example.org", "a".repeat(65));
        for bad in [
            "",
            "a",
            "a@b",
            "@b.fr",
            "a@",
            "a b@c.fr",
            "a@b..fr",
            "a@-b.fr",
            ".a@b.fr",
            "a..b@c.fr",
            "a\r\nBcc: x@y.fr",
            "a\0@b.fr",
            "é@b.fr",
            "a@b@c.fr",
            "<a@b.fr>",
            &long,
        ] {
            assert!(!is_email(bad), "{bad:?}");
        }
    }
}
