//! What the rules look at: an order as it was placed, and what can be told from it alone.

use super::{config::Config, email::Email, subject::Subject};
use contract::{EventId, OrderId, Tier};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};
use uuid::Uuid;

/// A line of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The event.
    pub event: EventId,
    /// Its tier.
    pub tier: Tier,
    /// Units; a wheelchair place with its companion is one.
    pub quantity: i32,
    /// Names for the tickets, when the buyer gave any.
    pub attendees: Vec<String>,
}

/// An order as it was placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderFacts {
    /// The order.
    pub order: OrderId,
    /// The buyer's account, if he was logged in.
    pub account: Option<Uuid>,
    /// His e-mail address, as given.
    pub email: String,
    /// His name, as given.
    pub name: String,
    /// Where the request came from.
    pub address: Option<IpAddr>,
    /// What it costs, in minor units of its currency.
    pub total_minor: i64,
    /// Its lines.
    pub lines: Vec<Line>,
}

impl OrderFacts {
    /// The folded e-mail address.
    #[must_use]
    pub fn folded_email(&self) -> Email {
        Email::fold(&self.email)
    }

    /// The client address, unless the configuration exempts it.
    #[must_use]
    pub fn address_for_rules(&self, config: &Config) -> Option<IpAddr> {
        let address = self.address?.to_canonical();
        let exempt = config
            .exempt_networks
            .iter()
            .any(|net| net.contains(&address));
        (!exempt).then_some(address)
    }

    /// Those for whom purchase limits count: the account, if any, and the mailbox.
    #[must_use]
    pub fn limited_subjects(&self) -> Vec<Subject> {
        let account = self.account.map(Subject::account);
        let email = Subject::email(&self.folded_email());
        account.into_iter().chain([email]).collect()
    }

    /// Tickets in all.
    #[must_use]
    pub fn tickets(&self) -> i32 {
        let quantities = self.lines.iter().map(|line| line.quantity);
        quantities.fold(0, i32::saturating_add)
    }

    /// Tickets per event, with the event's tier.
    #[must_use]
    pub fn tickets_by_event(&self) -> BTreeMap<EventId, (Tier, i32)> {
        let mut events = BTreeMap::new();
        for line in &self.lines {
            let (_, tickets) = events.entry(line.event).or_insert((line.tier, 0_i32));
            *tickets = tickets.saturating_add(line.quantity);
        }
        events
    }

    /// Digits before the `@` in per cent; 0 for short addresses, where a year of birth weighs much.
    #[must_use]
    pub fn email_digits_percent(&self) -> i64 {
        let email = self.folded_email();
        let length = email.local().chars().count();
        if length < 6 {
            return 0;
        }
        let digits = email.local().chars().filter(char::is_ascii_digit).count();
        i64::try_from(digits * 100 / length).unwrap_or(0)
    }

    /// Whether the buyer's name and his e-mail address have nothing in common: no part of the name
    /// (3 letters or more) occurs in it. A name that is not written in ASCII letters tells nothing.
    #[must_use]
    pub fn name_not_in_email(&self) -> bool {
        let (email, name) = (self.email.to_lowercase(), self.name.to_lowercase());
        let mut parts = name
            .split(|c: char| !c.is_alphanumeric())
            .filter(|part| part.len() >= 3 && part.is_ascii())
            .peekable();
        parts.peek().is_some() && !parts.any(|part| email.contains(part))
    }

    /// Whether attendees are named and the buyer is not one of them.
    #[must_use]
    pub fn buyer_not_attending(&self) -> bool {
        let buyer = folded_name(&self.name);
        let mut attendees = self
            .lines
            .iter()
            .flat_map(|line| &line.attendees)
            .peekable();
        attendees.peek().is_some() && attendees.all(|name| folded_name(name) != buyer)
    }

    /// The most tickets of one event that bear the same attendee's name; 0 without attendees.
    #[must_use]
    pub fn most_for_one_attendee(&self) -> i64 {
        let mut tickets: BTreeMap<(EventId, String), i64> = BTreeMap::new();
        for line in &self.lines {
            for name in &line.attendees {
                *tickets.entry((line.event, folded_name(name))).or_default() += 1;
            }
        }
        tickets.into_values().max().unwrap_or(0)
    }

    /// Different events.
    #[must_use]
    pub fn events(&self) -> i64 {
        let events: BTreeSet<EventId> = self.lines.iter().map(|line| line.event).collect();
        i64::try_from(events.len()).unwrap_or(i64::MAX)
    }
}

/// A name without case and superfluous blanks.
fn folded_name(name: &str) -> String {
    let words: Vec<&str> = name.split_whitespace().collect();
    words.join(" ").to_lowercase()
}
