//! The struct of sections, as serde walks it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::vec;

use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::source::{Source, Value};
use super::text::Text;

/// An error, and the section and key it is about as soon as that is known.
#[derive(Debug)]
pub(super) struct Error {
    message: String,
    section: Option<&'static str>,
    key: Option<&'static str>,
}

impl de::Error for Error {
    fn custom<M: fmt::Display>(message: M) -> Self {
        Self {
            message: message.to_string().replace('\n', ", "),
            section: None,
            key: None,
        }
    }

    fn missing_field(key: &'static str) -> Self {
        Self::custom(format_args!("the key {key} is not set, and has no default"))
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<toml::de::Error> for Error {
    fn from(error: toml::de::Error) -> Self {
        // Its `Display` quotes the line, and with it the value.
        de::Error::custom(error.message())
    }
}

/// What the repeated reading has learnt so far.
pub(super) struct Pass<'a> {
    source: &'a Source,
    problems: RefCell<Vec<String>>,
    /// Keys whose value was refused; the default stands in for it.
    refused: RefCell<BTreeSet<(&'static str, &'static str)>>,
    /// The keys of each section.
    keys: RefCell<BTreeMap<&'static str, &'static [&'static str]>>,
    /// Sections that cannot be had even so. They are read last, to reach the others.
    broken: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(source: &'a Source) -> Self {
        Self {
            source,
            problems: RefCell::default(),
            refused: RefCell::default(),
            keys: RefCell::default(),
            broken: RefCell::default(),
        }
    }

    pub(super) fn problems(&self) -> Vec<String> {
        self.problems.borrow().clone()
    }

    /// Notes an error. True if reading again can get further.
    pub(super) fn refuse(&self, error: &Error) -> bool {
        let (place, further) = match (error.section, error.key) {
            (Some(section), Some(key)) => (
                self.source.place(section, key),
                self.refused.borrow_mut().insert((section, key)),
            ),
            (Some(section), None) => (section.to_owned(), self.broken.borrow_mut().insert(section)),
            (None, _) => ("configuration".to_owned(), false),
        };
        let problem = format!("{place}: {}", error.message);
        self.problems.borrow_mut().push(problem);
        further
    }

    /// A problem that a section found in itself, with where its key was set; none if that key was
    /// refused already, because what the section saw is not what was written.
    pub(super) fn place(&self, section: &'static str, problem: &str) -> Option<String> {
        let end = problem.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let key = &problem[..end.unwrap_or(problem.len())];
        let known = self.keys.borrow().get(section).copied().unwrap_or_default();
        let Some(key) = known.iter().find(|known| **known == key) else {
            return Some(format!("{section}: {problem}"));
        };
        if self.refused.borrow().contains(&(section, *key)) {
            return None;
        }
        Some(format!("{}: {problem}", self.source.place(section, key)))
    }
}

/// The whole configuration.
pub(super) struct Root<'p, 'a>(pub(super) &'p Pass<'a>);

impl<'de> Deserializer<'de> for Root<'_, '_> {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        sections: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let Self(pass) = self;
        let unknown = pass.source.unknown_sections(sections);
        pass.problems.borrow_mut().extend(unknown);
        let mut order = sections.to_vec();
        order.sort_by_key(|section| pass.broken.borrow().contains(section));
        let sections = order.into_iter().map(|name| (name, Section { name, pass }));
        visitor.visit_map(Entries::new(sections.collect()))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(de::Error::custom("must be a struct of sections"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// One section; it is always there, if only with its defaults.
struct Section<'p, 'a> {
    name: &'static str,
    pass: &'p Pass<'a>,
}

impl<'de> Deserializer<'de> for Section<'_, '_> {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        keys: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let Self { name, pass } = self;
        let mut values = pass
            .source
            .section(name, keys, &mut pass.problems.borrow_mut());
        values.retain(|(key, _)| !pass.refused.borrow().contains(&(name, *key)));
        pass.keys.borrow_mut().insert(name, keys);
        let values = values.into_iter().map(|(key, value)| (key, (key, value)));
        visitor.visit_map(Entries::new(values.collect()))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(de::Error::custom("must be a struct of keys"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// Something that gives its part of the configuration to whoever can read it.
trait Part {
    fn read<'de, S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error>;
}

impl Part for Section<'_, '_> {
    fn read<'de, S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        let name = self.name;
        seed.deserialize(self).map_err(|error| Error {
            section: Some(name),
            ..error
        })
    }
}

impl Part for (&'static str, Value) {
    fn read<'de, S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        let (key, value) = self;
        let read = match value {
            Value::Text(text) => seed.deserialize(Text(text)),
            Value::Toml(value) => seed.deserialize(value).map_err(Error::from),
        };
        read.map_err(|error| Error {
            key: Some(key),
            ..error
        })
    }
}

/// A struct's fields with their parts.
struct Entries<P> {
    rest: vec::IntoIter<(&'static str, P)>,
    part: Option<P>,
}

impl<P> Entries<P> {
    fn new(parts: Vec<(&'static str, P)>) -> Self {
        Self {
            rest: parts.into_iter(),
            part: None,
        }
    }
}

impl<'de, P: Part> MapAccess<'de> for Entries<P> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some((name, part)) = self.rest.next() else {
            return Ok(None);
        };
        self.part = Some(part);
        seed.deserialize(name.into_deserializer()).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let part = self.part.take();
        part.ok_or_else(|| <Error as de::Error>::custom("a value was asked for before its key"))?
            .read(seed)
    }
}
