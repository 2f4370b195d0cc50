//! The words of the mail. Pure: the same order gives the same words.

use super::{
    language::{Argument, Language},
    text::{html, one_line},
};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use contract::{Money, OrderId};

/// An order that is confirmed, with what its mail tells.
#[derive(Clone, Debug, PartialEq)]
pub struct Confirmation {
    /// The order.
    pub order_id: OrderId,
    /// Where the mail goes.
    pub email: String,
    /// The buyer.
    pub name: String,
    /// His language, as BCP 47 has it.
    pub locale: String,
    /// What he paid.
    pub total: Money,
    /// His tickets, in the order in which they are listed.
    pub tickets: Vec<Ticket>,
}

/// A ticket as the mail shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Ticket {
    /// Name of the event in the catalogue, which begins with that of its sport.
    pub event: String,
    /// Name of the sport.
    pub sport: Name,
    /// When it begins.
    pub starts_at: DateTime<Utc>,
    /// Name of the venue.
    pub venue: Name,
    /// The venue's city.
    pub city: String,
    /// The clocks there.
    pub time_zone: Tz,
    /// The price category.
    pub category: String,
    /// Of a wheelchair place.
    pub accessible: bool,
    /// Not the place itself but its companion's, free of charge.
    pub companion: bool,
    /// Whom it admits.
    pub holder: String,
    /// Its number within the event.
    pub number: u32,
    /// What the gate reads.
    pub code: String,
}

/// A name in both languages of the catalogue.
#[derive(Clone, Debug, PartialEq)]
pub struct Name {
    /// English.
    pub en: String,
    /// French.
    pub fr: String,
}

impl Name {
    fn in_language(&self, language: &Language) -> &str {
        if language.is_french() && !self.fr.is_empty() {
            &self.fr
        } else {
            &self.en
        }
    }
}

/// The words of a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// One line.
    pub subject: String,
    /// The body for any reader; lines end in LF.
    pub text: String,
    /// The same for readers that show HTML: no image, no style sheet, no link, nothing fetched.
    pub html: String,
}

/// The words of an order's confirmation, in the language of the order.
#[must_use]
pub fn render(order: &Confirmation) -> Rendered {
    let language = Language::of(&order.locale);
    let subject = subject(&language, order);
    let lead = Lead::of(&language, order);
    Rendered {
        text: text(&language, &lead, order),
        html: page(&language, &subject, &lead, order),
        subject,
    }
}

fn subject(language: &Language, order: &Confirmation) -> String {
    let mut events: Vec<String> = order.tickets.iter().map(|t| title(language, t)).collect();
    let first = events.first().cloned().unwrap_or_default();
    events.sort();
    events.dedup();
    let others = i64::try_from(events.len()).unwrap_or(i64::MAX) - 1;
    let event = Argument::Text(&first);
    if others > 0 {
        let others = Argument::Number(others);
        language.text_with("subject-many", &[("event", event), ("others", others)])
    } else {
        language.text_with("subject", &[("event", event)])
    }
}

/// What stands before and after the tickets, one line each.
struct Lead {
    greeting: String,
    intro: String,
    order: (String, String),
    total: (String, String),
    hint: String,
    footer: String,
}

impl Lead {
    fn of(language: &Language, order: &Confirmation) -> Self {
        let count = i64::try_from(order.tickets.len()).unwrap_or(i64::MAX);
        Self {
            greeting: language.text_with("greeting", &[("name", Argument::Text(&order.name))]),
            intro: language.text_with("intro", &[("count", Argument::Number(count))]),
            order: (language.text("order"), order.order_id.to_string()),
            total: (language.text("total"), language.money(order.total)),
            hint: language.text("code-hint"),
            footer: language.text("footer"),
        }
    }
}

/// The event's name; its sport, with which the catalogue's name begins, in the mail's language.
fn title(language: &Language, ticket: &Ticket) -> String {
    let sport = ticket.sport.in_language(language);
    let rest = ticket
        .event
        .strip_prefix(&*ticket.sport.en)
        .and_then(|rest| rest.strip_prefix(": "));
    match rest {
        Some(rest) if language.is_french() => one_line(&format!("{sport}\u{a0}: {rest}")),
        _ => one_line(&ticket.event),
    }
}

/// What a ticket says under its title, label and value.
fn facts(language: &Language, ticket: &Ticket) -> Vec<(String, String)> {
    let category = match (ticket.accessible, ticket.companion) {
        (_, true) => "category-companion",
        (true, false) => "category-accessible",
        (false, false) => "category-standard",
    };
    let category = language.text_with(category, &[("category", Argument::Text(&ticket.category))]);
    let venue = ticket.venue.in_language(language);
    vec![
        (
            language.text("venue"),
            one_line(&format!("{venue}, {}", ticket.city)),
        ),
        (language.text("category"), category),
        (language.text("holder"), one_line(&ticket.holder)),
        (language.text("ticket"), ticket.number.to_string()),
        (language.text("code"), one_line(&ticket.code)),
    ]
}

fn text(language: &Language, lead: &Lead, order: &Confirmation) -> String {
    let colon = colon(language);
    let mut out = format!(
        "{}\n\n{}\n\n{}{colon}{}\n{}{colon}{}\n",
        lead.greeting, lead.intro, lead.order.0, lead.order.1, lead.total.0, lead.total.1
    );
    for ticket in &order.tickets {
        let when = language.local_time(ticket.starts_at, ticket.time_zone);
        out.push_str(&format!("\n{}\n{when}\n", title(language, ticket)));
        for (label, value) in facts(language, ticket) {
            out.push_str(&format!("{label}{colon}{value}\n"));
        }
    }
    out.push_str(&format!("\n{}\n\n{}\n", lead.hint, lead.footer));
    out
}

fn colon(language: &Language) -> &'static str {
    if language.is_french() {
        "\u{a0}: "
    } else {
        ": "
    }
}

fn page(language: &Language, subject: &str, lead: &Lead, order: &Confirmation) -> String {
    let tag = html(&language.tag());
    let paragraph = |text: &str| format!("<p>{}</p>\n", html(text));
    let pair = |(label, value): &(String, String)| {
        format!("<dt>{}</dt><dd>{}</dd>\n", html(label), html(value))
    };
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"{tag}\">\n<head>\n<meta charset=\"utf-8\">\n\
         <title>{0}</title>\n</head>\n<body>\n<main>\n<h1>{0}</h1>\n",
        html(subject)
    );
    out.push_str(&paragraph(&lead.greeting));
    out.push_str(&paragraph(&lead.intro));
    out.push_str(&format!(
        "<dl>\n{}{}</dl>\n",
        pair(&lead.order),
        pair(&lead.total)
    ));
    for ticket in &order.tickets {
        let when = language.local_time(ticket.starts_at, ticket.time_zone);
        out.push_str(&format!(
            "<section>\n<h2>{}</h2>\n",
            html(&title(language, ticket))
        ));
        out.push_str(&paragraph(&when));
        let facts: String = facts(language, ticket).iter().map(pair).collect();
        out.push_str(&format!("<dl>\n{facts}</dl>\n</section>\n"));
    }
    out.push_str(&paragraph(&lead.hint));
    out.push_str(&paragraph(&lead.footer));
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in crate::notify) fn confirmation(locale: &str) -> Confirmation {
        let venue = Name {
            en: "Aquatics Centre".into(),
            fr: "Centre Aquatique".into(),
        };
        let ticket = Ticket {
            event: "Diving: Women's 10m Platform Final".into(),
            sport: Name {
                en: "Diving".into(),
                fr: "Plongeon".into(),
            },
            starts_at: "2027-01-31T18:00:00Z".parse().expect("a time"),
            venue,
            city: "Saint-Denis".into(),
            time_zone: chrono_tz::Europe::Paris,
            category: "A".into(),
            accessible: false,
            companion: false,
            holder: "Zoë <b>O'Neil</b> & Söhne".into(),
            number: 41,
            code: "v1.AAECAwQFBgcICQ.c2lnbmF0dXJl".into(),
        };
        Confirmation {
            order_id: "019ab000-0000-7000-8000-000000000001"
                .parse()
                .expect("an id"),
            email: "zoe@example.org".into(),
            name: "Zoë O'Neil\r\nBcc: everyone@example.org".into(),
            locale: locale.into(),
            total: Money {
                amount_minor: 123_450,
                currency: contract::Currency::EUR,
            },
            tickets: vec![
                ticket.clone(),
                Ticket {
                    companion: true,
                    accessible: true,
                    number: 43,
                    ..ticket.clone()
                },
                Ticket {
                    event: "Opening Ceremony: Opening Ceremony".into(),
                    sport: Name {
                        en: "Opening Ceremony".into(),
                        fr: "Cérémonie d'ouverture".into(),
                    },
                    accessible: true,
                    number: 42,
                    ..ticket
                },
            ],
        }
    }

    #[test]
    fn the_mail_in_english() {
        let mail = render(&confirmation("en-GB"));
        insta::assert_snapshot!(
            "english_text",
            format!("Subject: {}\n\n{}", mail.subject, mail.text)
        );
        insta::assert_snapshot!("english_html", mail.html);
    }

    #[test]
    fn the_mail_in_french() {
        let mail = render(&confirmation("fr-CA"));
        insta::assert_snapshot!(
            "french_text",
            format!("Subject: {}\n\n{}", mail.subject, mail.text)
        );
        insta::assert_snapshot!("french_html", mail.html);
    }

    #[test]
    fn one_ticket_is_one_ticket() {
        let mut order = confirmation("fr");
        order.tickets.truncate(1);
        let mail = render(&order);
        assert!(mail.text.contains("Voici votre billet."), "{}", mail.text);
        assert_eq!(
            mail.subject,
            "Vos billets\u{a0}: Plongeon\u{a0}: Women's 10m Platform Final"
        );
    }

    proptest! {
        #[test]
        fn no_text_from_outside_adds_a_line_or_a_tag(wild in any::<String>(), french in any::<bool>()) {
            let mut order = confirmation(if french { "fr" } else { "en" });
            let plain = render(&order);
            order.name = wild.clone();
            for ticket in &mut order.tickets {
                ticket.holder = wild.clone();
                ticket.category = wild.clone();
                ticket.code = wild.clone();
                ticket.city = wild.clone();
                ticket.event = wild.clone();
            }
            let mail = render(&order);
            prop_assert!(!mail.subject.chars().any(char::is_control));
            prop_assert_eq!(mail.text.lines().count(), plain.text.lines().count());
            let tags = |page: &str| page.matches('<').count();
            prop_assert_eq!(tags(&mail.html), tags(&plain.html));
        }
    }
}
