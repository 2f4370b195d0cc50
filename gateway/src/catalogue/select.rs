//! Choosing a page of events: what the query means, decided over a view without any I/O.

use super::{
    search,
    snapshot::{EventView, Order, View},
};
use crate::http::{ApiError, cursor, list::Paging, query::Query};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use contract::{Currency, EventId, ProblemCode};
use std::fmt::Write as _;
use uuid::Uuid;

/// Characters of `q` at most.
const Q_MAX: usize = 100;
/// Codes in one `sport` or `venue` at most.
const CODES_MAX: usize = 50;
/// Events on a page unless `limit` says otherwise.
const PAGE: usize = 20;

/// What `GET /v1/events` was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EventQuery {
    filter: Filter,
    order: Order,
    descending: bool,
    paging: Paging,
}

/// An event must meet all of it. What is said of offers must be met by one and the same offer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Filter {
    q: Option<String>,
    sports: Vec<String>,
    venues: Vec<String>,
    from: Option<DateTime<Utc>>,
    before: Option<DateTime<Utc>>,
    price_max: Option<i64>,
    currency: Option<Currency>,
    available: Option<bool>,
    accessible: Option<bool>,
}

/// A page: indexes into the snapshot's events, and the cursor of the next one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// In the order asked for.
    pub events: Vec<usize>,
    /// None on the last page.
    pub next_cursor: Option<String>,
}

impl EventQuery {
    /// Reads the text behind the `?`.
    ///
    /// # Errors
    /// [`ProblemCode::QueryInvalid`] with every parameter that is wrong.
    pub fn parse(raw: &str) -> Result<Self, ApiError> {
        let mut query = Query::parse(raw);
        let filter = Filter {
            q: query.take("q", |text| match text.chars().count() {
                0..=Q_MAX => Ok(search::fold(text)),
                _ => Err(format!("has more than {Q_MAX} characters")),
            }),
            sports: query.take("sport", codes).unwrap_or_default(),
            venues: query.take("venue", codes).unwrap_or_default(),
            from: query.take("from", |text| time(text, 0)),
            before: query.take("to", |text| time(text, 1)),
            price_max: query.take("price_max", |text| {
                let amount = text.parse().ok().filter(|amount: &i64| *amount >= 0);
                amount.ok_or_else(|| "must be an amount in minor units, such as 5000".to_owned())
            }),
            currency: query.take("currency", |text| {
                text.parse()
                    .map_err(|_| "must be a code of ISO 4217, such as EUR".to_owned())
            }),
            available: query.take_bool("available"),
            accessible: query.take_bool("accessible"),
        };
        let sort = query.take("sort", |text| {
            let (name, descending) = text.strip_prefix('-').map_or((text, false), |n| (n, true));
            let order = match name {
                "starts_at" => Order::StartsAt,
                "price" => Order::Price,
                "name" => Order::Name,
                _ => {
                    return Err(
                        "must be starts_at, price or name, with - for descending".to_owned()
                    );
                }
            };
            Ok((order, descending))
        });
        let (order, descending) = sort.unwrap_or((Order::StartsAt, false));
        let paging = Paging::from_query(&mut query, PAGE);
        query.finish()?;
        Ok(Self {
            filter,
            order,
            descending,
            paging,
        })
    }

    /// The page of a view at `now`.
    ///
    /// # Errors
    /// [`ProblemCode::CursorInvalid`].
    pub fn page(&self, view: &View, now: DateTime<Utc>) -> Result<Page, ApiError> {
        let bound_to = self.bound_to();
        let snapshot = &view.snapshot;
        let order = snapshot.order(self.order);
        let skip = match &self.paging.cursor {
            None => 0,
            Some(text) => {
                let id = Uuid::from_slice(&cursor::decode(&bound_to, text)?)
                    .ok()
                    .map(EventId);
                let rank = id
                    .and_then(|id| snapshot.rank(self.order, id))
                    .ok_or_else(|| {
                        ApiError::new(ProblemCode::CursorInvalid, "The cursor's event is gone.")
                    })?;
                1 + if self.descending {
                    order.len() - 1 - rank
                } else {
                    rank
                }
            }
        };
        let at = |place: usize| match self.descending {
            true => order[order.len() - 1 - place],
            false => order[place],
        };
        let mut events: Vec<usize> = Vec::with_capacity(self.paging.limit);
        for index in (skip..order.len()).map(at) {
            let event = &snapshot.events[index];
            if !self.filter.accepts(view, event, now) {
                continue;
            }
            if events.len() == self.paging.limit {
                let last = snapshot.events[events[events.len() - 1]].id;
                let next_cursor = Some(cursor::encode(&bound_to, last.0.as_bytes()));
                return Ok(Page {
                    events,
                    next_cursor,
                });
            }
            events.push(index);
        }
        Ok(Page {
            events,
            next_cursor: None,
        })
    }

    /// What a cursor belongs to: filter and order, not the page's length.
    fn bound_to(&self) -> String {
        let mut text = String::from("events ");
        // Derived Debug names each field with its value, and a new filter joins by itself.
        let _ = write!(
            text,
            "{:?} {:?} {}",
            self.filter, self.order, self.descending
        );
        text
    }
}

impl Filter {
    fn accepts(&self, view: &View, event: &EventView, now: DateTime<Utc>) -> bool {
        let one_of = |codes: &[String], code: &String| codes.is_empty() || codes.contains(code);
        self.from.is_none_or(|from| event.starts_at >= from)
            && self.before.is_none_or(|before| event.starts_at < before)
            && one_of(&self.sports, &event.sport.code)
            && one_of(&self.venues, &event.venue.code)
            && self
                .q
                .as_deref()
                .is_none_or(|q| search::matches(&event.haystack, q))
            && self.accepts_offers(view, event, now)
    }

    fn accepts_offers(&self, view: &View, event: &EventView, now: DateTime<Utc>) -> bool {
        let suits = |index: &usize| {
            let offer = &view.snapshot.offers[*index];
            self.price_max
                .is_none_or(|max| offer.price.amount_minor <= max)
                && self
                    .currency
                    .is_none_or(|currency| offer.price.currency == currency)
                && self
                    .accessible
                    .is_none_or(|accessible| offer.accessible == accessible)
        };
        let mut suiting = event.offers.clone().filter(suits);
        let says_nothing =
            self.price_max.is_none() && self.currency.is_none() && self.accessible.is_none();
        match self.available {
            None => says_nothing || suiting.next().is_some(),
            Some(true) => suiting.any(|index| view.buyable(index, now)),
            // Of what was asked for, there is something, but nothing to be had.
            Some(false) => {
                let mut suiting = suiting.peekable();
                (says_nothing || suiting.peek().is_some())
                    && !suiting.any(|index| view.buyable(index, now))
            }
        }
    }
}

fn codes(text: &str) -> Result<Vec<String>, String> {
    let codes: Vec<String> = text
        .split(',')
        .map(|code| code.trim().to_ascii_uppercase())
        .collect();
    let legal = |code: &String| !code.is_empty() && code.chars().all(|c| c.is_ascii_alphanumeric());
    match codes.len() <= CODES_MAX && codes.iter().all(legal) {
        true => Ok(codes),
        false => Err(format!(
            "must be 1 to {CODES_MAX} codes, such as ATH, parted by commas"
        )),
    }
}

/// A time, or a day: that day's beginning in UTC, `days` later.
fn time(text: &str, days: i64) -> Result<DateTime<Utc>, String> {
    let must = || "must be a time like 2027-07-21T00:00:00Z or a day like 2027-07-21".to_owned();
    if let Ok(day) = text.parse::<NaiveDate>() {
        let midnight = day.and_hms_opt(0, 0, 0).map(|midnight| midnight.and_utc());
        let then = midnight.and_then(|at| at.checked_add_signed(TimeDelta::days(days)));
        return then.ok_or_else(must);
    }
    // In a query `+` stands for a space, and few callers write `%2B` for the offset's sign.
    let at = DateTime::parse_from_rfc3339(&text.replace(' ', "+"))
        .map_err(|_| must())?
        .to_utc();
    // `to` is inclusive, as its name says; the filter's own bound is not.
    let then = if days == 0 {
        Some(at)
    } else {
        at.checked_add_signed(TimeDelta::microseconds(1))
    };
    then.ok_or_else(must)
}
