//! What a customer sends, and whether it can be sold: pure.

use super::show::{Item, Priced};
use crate::{
    catalogue::{EventStatus, Snapshot},
    http::ApiError,
    openapi::Money,
};
use chrono::{DateTime, Utc};
use contract::{EventId, OfferId, ProblemCode, is_email};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use uuid::Uuid;

/// Lines of one order at most.
pub(super) const LINES_MAX: usize = 20;
/// Units of one line at most; what a person may buy altogether is the purchase limits' affair.
pub(super) const QUANTITY_MAX: i64 = 30;
/// Characters of a name.
const NAME_MAX: usize = 100;
/// A language tag that every reader has to take (RFC 5646).
const LOCALE_MAX_BYTES: usize = 35;
/// The provider's id of a payment method.
const METHOD_MAX_BYTES: usize = 100;

/// An order to be placed.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderRequest {
    /// What to buy: 1 to 20 lines, all or nothing.
    #[schema(min_items = 1, max_items = 20)]
    pub(super) items: Vec<ItemRequest>,
    /// How to pay.
    pub(super) payment: PaymentRequest,
    /// Where tickets are sent.
    #[schema(format = "email", max_length = 254)]
    pub(super) email: String,
    /// The buyer; tickets without an attendee bear this name.
    #[schema(min_length = 1, max_length = 100)]
    pub(super) name: String,
    /// Language of what is sent, a BCP 47 tag.
    #[serde(default = "english")]
    #[schema(example = "fr", default = "en")]
    pub(super) locale: String,
}

/// One line.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ItemRequest {
    /// An offer of an event.
    pub(super) offer_id: Uuid,
    /// How many.
    #[schema(value_type = u32, minimum = 1, maximum = 30)]
    pub(super) quantity: serde_json::Number,
    /// Who comes: none, or one for each place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) attendees: Option<Vec<AttendeeRequest>>,
}

/// A person who comes.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AttendeeRequest {
    /// The name on the ticket.
    #[schema(min_length = 1, max_length = 100)]
    pub(super) name: String,
}

/// How to pay. No card number ever comes here.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PaymentRequest {
    /// A payment method of the payment provider's.
    #[schema(example = "pm_card_visa")]
    pub(super) method: String,
}

fn english() -> String {
    "en".to_owned()
}

/// An order that may be placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ValidOrder {
    pub(crate) lines: Vec<Line>,
    pub(crate) total: contract::Money,
    pub(crate) payment_method: String,
    pub(crate) email: String,
    pub(crate) name: String,
    pub(crate) locale: String,
}

impl ValidOrder {
    /// Lines and total as they are shown.
    pub(super) fn priced(&self) -> Priced {
        let code = self.total.currency.code();
        let money = |amount| Money {
            amount,
            currency: code.to_owned(),
        };
        let item = |line: &Line| Item {
            offer_id: line.offer_id.0,
            event_id: line.event_id.0,
            quantity: line.quantity,
            unit_price: money(line.unit_amount_minor),
        };
        Priced {
            items: self.lines.iter().map(item).collect(),
            total: money(self.total.amount_minor),
        }
    }
}

/// A line of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) offer_id: OfferId,
    pub(crate) event_id: EventId,
    pub(crate) quantity: i32,
    pub(crate) unit_amount_minor: i64,
    pub(crate) attendees: Option<Vec<String>>,
}

impl OrderRequest {
    /// A fingerprint of the request, blind to white space and the order of fields.
    pub(super) fn hash(&self) -> [u8; 32] {
        let canonical = serde_json::to_vec(self).expect("made of JSON types only");
        Sha256::digest(canonical).into()
    }

    /// The order, priced, if every field is right and every offer is on sale at `now`.
    ///
    /// # Errors
    /// All wrong fields at once, under the code of the first.
    pub(super) fn validate(
        &self,
        catalogue: &Snapshot,
        now: DateTime<Utc>,
    ) -> Result<ValidOrder, ApiError> {
        let mut wrong = Wrong::default();
        if self.items.is_empty() || self.items.len() > LINES_MAX {
            let detail = format!("An order has 1 to {LINES_MAX} lines.");
            wrong.add(
                "/items".to_owned(),
                ProblemCode::QuantityOutOfRange,
                &detail,
            );
        }
        let mut lines = Vec::new();
        let mut prices = Vec::new();
        for (index, item) in self.items.iter().enumerate().take(LINES_MAX) {
            if let Some((line, price)) = item.validate(index, catalogue, now, &mut wrong) {
                lines.push(line);
                prices.push(price);
            }
        }
        if prices
            .windows(2)
            .any(|pair| pair[0].currency != pair[1].currency)
        {
            let detail = "The lines of one order must have the same currency.";
            wrong.add("/items".to_owned(), ProblemCode::MixedCurrencies, detail);
        }
        let name = text(&self.name, "/name", &mut wrong);
        let email = self.email.trim();
        if !is_email(email) {
            wrong.add(
                "/email".to_owned(),
                ProblemCode::ValidationFailed,
                "This is not an e-mail address.",
            );
        }
        if !is_locale(&self.locale) {
            let detail = "This is not a BCP 47 language tag such as fr or en-GB.";
            wrong.add("/locale".to_owned(), ProblemCode::ValidationFailed, detail);
        }
        let method = &self.payment.method;
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if !method.starts_with("pm_")
            || method.len() > METHOD_MAX_BYTES
            || !method.bytes().all(word)
        {
            let detail = "This is not a payment method of the provider's (pm_…).";
            wrong.add(
                "/payment/method".to_owned(),
                ProblemCode::ValidationFailed,
                detail,
            );
        }
        let total = lines
            .iter()
            .try_fold(0_i64, |sum, line: &Line| {
                sum.checked_add(
                    line.unit_amount_minor
                        .checked_mul(i64::from(line.quantity))?,
                )
            })
            .zip(prices.first());
        wrong.into_result()?;
        let Some((amount_minor, price)) = total else {
            return Err(ApiError::new(
                ProblemCode::QuantityOutOfRange,
                "The total is too large.",
            ));
        };
        Ok(ValidOrder {
            lines,
            total: contract::Money {
                amount_minor,
                currency: price.currency,
            },
            payment_method: method.clone(),
            email: email.to_owned(),
            name,
            locale: self.locale.clone(),
        })
    }
}

impl ItemRequest {
    fn validate(
        &self,
        index: usize,
        catalogue: &Snapshot,
        now: DateTime<Utc>,
        wrong: &mut Wrong,
    ) -> Option<(Line, contract::Money)> {
        let at = |field: &str| format!("/items/{index}/{field}");
        let quantity = self
            .quantity
            .as_i64()
            .filter(|n| (1..=QUANTITY_MAX).contains(n));
        if quantity.is_none() {
            let whole = self.quantity.as_f64().is_none_or(|n| n.fract() == 0.0);
            let code = match whole {
                true => ProblemCode::QuantityOutOfRange,
                false => ProblemCode::WrongType,
            };
            wrong.add(
                at("quantity"),
                code,
                &format!("A whole number from 1 to {QUANTITY_MAX}."),
            );
        }
        let attendees = self.attendees.as_ref().map(|attendees| {
            let count = i64::try_from(attendees.len()).unwrap_or(i64::MAX);
            if quantity.is_some_and(|quantity| quantity != count) {
                let detail = "Give no attendees, or one for each place.";
                wrong.add(at("attendees"), ProblemCode::ValidationFailed, detail);
            }
            let bounded = attendees
                .iter()
                .take(usize::try_from(QUANTITY_MAX).unwrap_or(usize::MAX));
            bounded
                .enumerate()
                .map(|(n, who)| text(&who.name, &at(&format!("attendees/{n}/name")), wrong))
                .collect()
        });
        let Some(offer) = catalogue.offer(OfferId(self.offer_id)) else {
            wrong.add(
                at("offer_id"),
                ProblemCode::OfferUnknown,
                "There is no such offer.",
            );
            return None;
        };
        if offer.starts_at <= now {
            wrong.add(
                at("offer_id"),
                ProblemCode::EventPast,
                "The event has begun or is over.",
            );
            return None;
        }
        if offer.status != EventStatus::OnSale {
            wrong.add(
                at("offer_id"),
                ProblemCode::EventNotOnSale,
                "The event is not on sale.",
            );
            return None;
        }
        let line = Line {
            offer_id: offer.id,
            event_id: offer.event_id,
            quantity: i32::try_from(quantity?).ok()?,
            unit_amount_minor: offer.price.amount_minor,
            attendees,
        };
        Some((line, offer.price))
    }
}

/// Collects every wrong field.
#[derive(Default)]
struct Wrong(Vec<(String, ProblemCode, String)>);

impl Wrong {
    fn add(&mut self, pointer: String, code: ProblemCode, detail: &str) {
        self.0.push((pointer, code, detail.to_owned()));
    }

    fn into_result(self) -> Result<(), ApiError> {
        let Some((_, code, detail)) = self.0.first() else {
            return Ok(());
        };
        let refused = ApiError::new(*code, format!("{detail} See `errors`."));
        Err(self
            .0
            .into_iter()
            .fold(refused, |refused, (pointer, code, detail)| {
                refused.field(pointer, code, detail)
            }))
    }
}

/// Turns the direction of the text around it: what is read is not what is written.
fn turns(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A name as it can be printed: trimmed, 1 to 100 characters, one of them a letter or digit, no control
/// characters.
fn text(given: &str, pointer: &str, wrong: &mut Wrong) -> String {
    let name = given.trim();
    let length = name.chars().count();
    let is_control = |c: char| c.is_control() || turns(c);
    let readable = name.chars().any(char::is_alphanumeric);
    if !readable || length > NAME_MAX || name.chars().any(is_control) {
        let detail = format!(
            "1 to {NAME_MAX} characters, a letter among them and none of them a control character."
        );
        wrong.add(pointer.to_owned(), ProblemCode::ValidationFailed, &detail);
    }
    name.to_owned()
}

fn is_locale(text: &str) -> bool {
    let mut parts = text.split('-');
    let language = parts.next().unwrap_or_default();
    text.len() <= LOCALE_MAX_BYTES
        && (2..=3).contains(&language.len())
        && language.bytes().all(|b| b.is_ascii_alphabetic())
        && parts.all(|part| {
            (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_have_a_shape() {
        for good in ["fr", "en-GB", "zh-Hant-TW"] {
            assert!(is_locale(good), "{good}");
        }
        for bad in [
            "",
            "f",
            "french",
            "fr_FR",
            "fr-",
            "-fr",
            "fr-\0",
            "fr-123456789",
        ] {
            assert!(!is_locale(bad), "{bad:?}");
        }
    }
}
