//! The mail as it travels: headers and parts.

use super::{
    language::Language,
    render::{Confirmation, render},
    text::one_line,
};
use lettre::{
    Address, Message,
    message::{
        Mailbox, MultiPart,
        header::{Header, HeaderName, HeaderValue},
    },
};
use std::time::SystemTime;

/// Why an order has no mail.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// The buyer's address is none.
    #[error("the address is not one that mail can be sent to")]
    Recipient,
    /// A defect of ours.
    #[error("the mail cannot be put together")]
    Parts(#[from] lettre::error::Error),
}

/// Puts the mail together. Its Message-ID is that of the order, the same each time, by which
/// readers and servers know a mail that came twice.
///
/// # Errors
/// See [`ComposeError`].
pub fn compose(
    order: &Confirmation,
    from: &Mailbox,
    at: SystemTime,
) -> Result<Message, ComposeError> {
    let address: Address = order.email.parse().map_err(|_| ComposeError::Recipient)?;
    let name = Some(one_line(&order.name)).filter(|name| !name.is_empty());
    let words = render(order);
    let message = Message::builder()
        .from(from.clone())
        .to(Mailbox::new(name, address))
        .subject(words.subject)
        .date(at)
        .message_id(Some(message_id(order, from)))
        .header(AutoSubmitted)
        .header(ContentLanguage(Language::of(&order.locale).tag()))
        .multipart(MultiPart::alternative_plain_html(words.text, words.html))?;
    Ok(message)
}

/// `<ORDER.confirmation@DOMAIN>`.
fn message_id(order: &Confirmation, from: &Mailbox) -> String {
    format!("<{}.confirmation@{}>", order.order_id, from.email.domain())
}

/// RFC 3834: no holiday note in return, please.
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

#[derive(Clone)]
struct ContentLanguage(String);

impl Header for ContentLanguage {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Content-Language")
    }

    fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self(text.to_owned()))
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::render::tests::confirmation;
    use proptest::prelude::*;

    fn from() -> Mailbox {
        "Guichet <tickets@guichet.example>"
            .parse()
            .expect("a mailbox")
    }

    /// The names of the headers before the first part.
    fn headers(message: &Message) -> Vec<String> {
        let bytes = String::from_utf8(message.formatted()).expect("ASCII");
        let (head, _) = bytes.split_once("\r\n\r\n").expect("a body");
        head.split("\r\n")
            .filter(|line| !line.starts_with([' ', '\t']))
            .map(|line| line.split(':').next().unwrap_or_default().to_owned())
            .collect()
    }

    #[test]
    fn the_same_order_has_the_same_message_id() {
        let (order, at) = (confirmation("fr"), SystemTime::UNIX_EPOCH);
        let once = compose(&order, &from(), at).expect("composes");
        let again = compose(&order, &from(), SystemTime::now()).expect("composes");
        let id = |m: &Message| m.headers().get_raw("Message-ID").map(str::to_owned);
        assert_eq!(
            id(&once).as_deref(),
            Some("<019ab000-0000-7000-8000-000000000001.confirmation@guichet.example>")
        );
        assert_eq!(id(&once), id(&again));
    }

    #[test]
    fn an_address_that_is_none_has_no_mail() {
        for bad in [
            "",
            "nobody",
            "a@b\r\nBcc: c@d",
            "a@b, c@d",
            "a\0@b",
            "<a@b>",
        ] {
            let mut order = confirmation("en");
            order.email = bad.into();
            let got = compose(&order, &from(), SystemTime::UNIX_EPOCH);
            assert!(matches!(got, Err(ComposeError::Recipient)), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_name_adds_a_header(wild in any::<String>()) {
            let mut order = confirmation("en");
            let plain = headers(&compose(&order, &from(), SystemTime::UNIX_EPOCH).expect("composes"));
            order.name = format!("x{wild}\r\nBcc: everyone@example.org\r\n\r\n{wild}");
            order.tickets[0].event = order.name.clone();
            let message = compose(&order, &from(), SystemTime::UNIX_EPOCH).expect("composes");
            prop_assert_eq!(headers(&message), plain);
        }
    }
}
