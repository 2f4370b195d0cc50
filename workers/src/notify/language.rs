//! The languages of the mails: one Fluent file each, in `locales/`. Everything that differs between
//! languages is in the files; here are only the arithmetic of money and of the calendar.

use super::text::one_line;
use chrono::{DateTime, Datelike, Timelike, Utc};
use chrono_tz::Tz;
use contract::Money;
use fluent_templates::{LanguageIdentifier, Loader, fluent_bundle::FluentValue, static_loader};
use std::{borrow::Cow, collections::HashMap};

static_loader! {
    static LOCALES = {
        locales: "./src/notify/locales",
        fallback_language: "en",
        // The marks that isolate a placeholder are meant for screens; mail readers show them.
        customise: |bundle| bundle.set_use_isolating(false),
    };
}

/// A language that mails are written in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Language(LanguageIdentifier);

impl Language {
    /// The language for a locale (BCP 47): the nearest there is, `fr` for `fr-CA`; English when the
    /// language is not there or the text is no locale.
    #[must_use]
    pub fn of(locale: &str) -> Self {
        let wanted = locale.parse::<LanguageIdentifier>().ok();
        let found = wanted.and_then(|wanted| {
            LOCALES
                .locales()
                .find(|have| have.language == wanted.language)
                .cloned()
        });
        Self(found.unwrap_or_else(|| LOCALES.fallback().clone()))
    }

    /// The tag, for `lang` in HTML and `Content-Language`.
    #[must_use]
    pub fn tag(&self) -> String {
        self.0.to_string()
    }

    /// Whether French names of places and sports are to be used.
    #[must_use]
    pub fn is_french(&self) -> bool {
        self.0.language.as_str() == "fr"
    }

    /// The text `id`.
    #[must_use]
    pub fn text(&self, id: &'static str) -> String {
        LOCALES.lookup(&self.0, id)
    }

    /// The text `id` with its placeholders filled. Text that comes from outside is made one line.
    #[must_use]
    pub fn text_with(
        &self,
        id: &'static str,
        arguments: &[(&'static str, Argument<'_>)],
    ) -> String {
        let arguments: HashMap<Cow<'static, str>, FluentValue<'_>> = arguments
            .iter()
            .map(|(name, value)| {
                let value = match value {
                    Argument::Text(text) => FluentValue::from(one_line(text)),
                    Argument::Number(number) => FluentValue::from(*number),
                };
                (Cow::Borrowed(*name), value)
            })
            .collect();
        LOCALES.lookup_with_args(&self.0, id, &arguments)
    }

    /// An amount: `€1,234.50`, `1 234,50 €`.
    #[must_use]
    pub fn money(&self, money: Money) -> String {
        let digits = money.currency.minor_digits();
        let unit = 10_u64.pow(digits);
        let minor = money.amount_minor.unsigned_abs();
        let mut amount = grouped(minor / unit, &self.text("digit-group"));
        if digits > 0 {
            let width = digits as usize;
            amount.push_str(&self.text("decimal-mark"));
            amount.push_str(&format!("{:0width$}", minor % unit));
        }
        if money.amount_minor < 0 {
            amount.insert(0, '-');
        }
        let symbol = money.currency.0.symbol().to_string();
        self.text_with(
            "money",
            &[
                ("amount", Argument::Text(&amount)),
                ("symbol", Argument::Text(&symbol)),
            ],
        )
    }

    /// A moment as the clocks at the place show it.
    #[must_use]
    pub fn local_time(&self, at: DateTime<Utc>, place: Tz) -> String {
        let at = at.with_timezone(&place);
        let date = self.text_with(
            "date",
            &[
                (
                    "weekday",
                    Argument::Number(i64::from(at.weekday().number_from_monday())),
                ),
                ("day", Argument::Number(i64::from(at.day()))),
                ("month", Argument::Number(i64::from(at.month()))),
                ("year", Argument::Text(&at.year().to_string())),
            ],
        );
        let (hour, minute) = (at.hour().to_string(), format!("{:02}", at.minute()));
        let time = self.text_with(
            "time",
            &[
                ("hour", Argument::Text(&hour)),
                ("hour-two-digits", Argument::Text(&format!("{hour:0>2}"))),
                ("minute", Argument::Text(&minute)),
            ],
        );
        self.text_with(
            "local-time",
            &[
                ("date", Argument::Text(&date)),
                ("time", Argument::Text(&time)),
            ],
        )
    }
}

/// What fills a placeholder.
#[derive(Clone, Copy, Debug)]
pub enum Argument<'a> {
    /// Text.
    Text(&'a str),
    /// A number, by which a text may choose its form.
    Number(i64),
}

fn grouped(number: u64, mark: &str) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 2);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push_str(mark);
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn euros(amount_minor: i64) -> Money {
        Money {
            amount_minor,
            currency: contract::Currency::EUR,
        }
    }

    #[test]
    fn a_locale_finds_the_nearest_language() {
        for (locale, tag) in [
            ("fr", "fr"),
            ("fr-CA", "fr"),
            ("fr_FR", "fr"),
            ("FR-fr", "fr"),
            ("en-GB", "en"),
            ("de", "en"),
            ("", "en"),
            ("not a locale\r\n", "en"),
        ] {
            assert_eq!(Language::of(locale).tag(), tag, "{locale:?}");
        }
    }

    #[test]
    fn money_is_written_as_the_language_does() {
        let (en, fr) = (Language::of("en"), Language::of("fr"));
        assert_eq!(en.money(euros(12_505)), "€125.05");
        assert_eq!(fr.money(euros(12_505)), "125,05\u{a0}€");
        assert_eq!(en.money(euros(123_456_789)), "€1,234,567.89");
        assert_eq!(
            fr.money(euros(123_456_700)),
            "1\u{202f}234\u{202f}567,00\u{a0}€"
        );
        let yen = Money {
            amount_minor: 1_500,
            currency: "JPY".parse().expect("a currency"),
        };
        assert_eq!(en.money(yen), "¥1,500");
    }

    #[test]
    fn time_is_that_of_the_place() {
        let summer: DateTime<Utc> = "2024-08-01T18:05:00Z".parse().expect("a time");
        let winter: DateTime<Utc> = "2027-01-30T23:30:00Z".parse().expect("a time");
        let paris = chrono_tz::Europe::Paris;
        let fr = Language::of("fr");
        assert_eq!(
            fr.local_time(summer, paris),
            "jeudi 1er août 2024 à 20 h 05 (heure locale)"
        );
        assert_eq!(
            fr.local_time(winter, paris),
            "dimanche 31 janvier 2027 à 0 h 30 (heure locale)"
        );
        let tahiti = chrono_tz::Pacific::Tahiti;
        assert_eq!(
            Language::of("en").local_time(summer, tahiti),
            "Thursday 1 August 2024, 08:05 (local time)"
        );
    }

    #[test]
    fn every_language_has_every_text() {
        let ids = |source: &str| -> Vec<String> {
            let mut ids: Vec<String> = source
                .lines()
                .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()))
                .filter_map(|line| Some(line.split_once(" =")?.0.to_owned()))
                .collect();
            ids.sort();
            ids
        };
        assert_eq!(
            ids(include_str!("locales/en.ftl")),
            ids(include_str!("locales/fr.ftl"))
        );
    }
}
