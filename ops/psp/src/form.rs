//! Stripe's request format: form-encoded parameters whose names nest with brackets.
//!
//! Each parameter is taken out by name; what is left at the end was unknown, which is an error as at Stripe.
//! So a misspelt parameter is never silently without effect.

use url::form_urlencoded;

use crate::error::StripeError;
use crate::intent::Metadata;

/// How many parameters a request may have.
const PARAMETERS_MAX: usize = 500;

/// How many metadata an object may have, and how long they may be, as at Stripe.
const METADATA_MAX: usize = 50;
const METADATA_KEY_MAX_CHARS: usize = 40;
const METADATA_VALUE_MAX_CHARS: usize = 500;

/// The parameters of one request.
#[derive(Debug)]
pub(crate) struct Params {
    pairs: Vec<(String, String)>,
}

impl Params {
    /// Reads a body or a query string.
    pub(crate) fn read(encoded: &[u8]) -> Result<Self, StripeError> {
        let pairs: Vec<_> = form_urlencoded::parse(encoded)
            .take(PARAMETERS_MAX + 1)
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        if pairs.len() > PARAMETERS_MAX {
            return Err(StripeError::invalid(format!(
                "Too many parameters: at most {PARAMETERS_MAX} are read."
            )));
        }
        Ok(Self { pairs })
    }

    /// The text of `name`, the last one if it is given twice. Empty counts as an error, as at Stripe.
    pub(crate) fn text(&mut self, name: &'static str) -> Result<Option<String>, StripeError> {
        let mut found = None;
        self.pairs.retain_mut(|(key, value)| {
            let same = key == name;
            if same {
                found = Some(std::mem::take(value));
            }
            !same
        });
        match found {
            Some(value) if value.is_empty() => Err(StripeError::invalid(format!(
                "You passed an empty string for '{name}'. We assume empty values are an attempt to unset \
                 a parameter; however '{name}' cannot be unset. You should remove '{name}' from your \
                 request or supply a non-empty value."
            ))
            .code("parameter_invalid_empty")
            .param(name)),
            found => Ok(found),
        }
    }

    /// The same, bounded to `max` characters.
    pub(crate) fn bounded(
        &mut self,
        name: &'static str,
        max: usize,
    ) -> Result<Option<Box<str>>, StripeError> {
        let Some(value) = self.text(name)? else {
            return Ok(None);
        };
        let length = value.chars().count();
        if length > max {
            return Err(StripeError::invalid(format!(
                "Invalid {name}: must be at most {max} characters (it has {length})."
            ))
            .param(name));
        }
        Ok(Some(value.into()))
    }

    pub(crate) fn required<T>(name: &'static str, value: Option<T>) -> Result<T, StripeError> {
        value.ok_or_else(|| {
            StripeError::invalid(format!("Missing required param: {name}."))
                .code("parameter_missing")
                .param(name)
        })
    }

    pub(crate) fn integer(&mut self, name: &'static str) -> Result<Option<i64>, StripeError> {
        let Some(value) = self.text(name)? else {
            return Ok(None);
        };
        value.parse().map(Some).map_err(|_| {
            StripeError::invalid(format!("Invalid integer: {value}"))
                .code("parameter_invalid_integer")
                .param(name)
        })
    }

    pub(crate) fn boolean(&mut self, name: &'static str) -> Result<bool, StripeError> {
        match self.text(name)?.as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => {
                Err(StripeError::invalid(format!("Invalid boolean: {other}")).param(name))
            }
        }
    }

    /// One of the given words.
    pub(crate) fn word<T: Copy>(
        &mut self,
        name: &'static str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, StripeError> {
        let Some(value) = self.text(name)? else {
            return Ok(None);
        };
        let found = words.iter().find(|(word, _)| *word == value);
        let (_, meaning) = found.ok_or_else(|| {
            let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            StripeError::invalid(format!(
                "Invalid {name}: must be one of {}",
                known.join(", ")
            ))
            .param(name)
        })?;
        Ok(Some(*meaning))
    }

    /// `metadata[…]` of a new object. An empty value means no such key.
    pub(crate) fn metadata(&mut self) -> Result<Metadata, StripeError> {
        let mut metadata = self.metadata_changes()?;
        metadata.retain(|(_, value)| !value.is_empty());
        Ok(metadata)
    }

    /// `metadata[…]`, within Stripe's bounds. An empty value takes a key away.
    pub(crate) fn metadata_changes(&mut self) -> Result<Metadata, StripeError> {
        let mut metadata = Metadata::new();
        for (name, value) in self.taken(|name| name.starts_with("metadata[")) {
            let key = &name["metadata[".len()..];
            let refused = |why: &str| {
                Err(StripeError::invalid(format!("Invalid metadata: {why}")).param(name.clone()))
            };
            let Some(key) = key.strip_suffix(']').filter(|key| !key.is_empty()) else {
                return refused("keys are written as metadata[key].");
            };
            if key.contains(['[', ']']) {
                return refused("keys cannot contain square brackets.");
            }
            if key.chars().count() > METADATA_KEY_MAX_CHARS
                || value.chars().count() > METADATA_VALUE_MAX_CHARS
            {
                return refused("keys have at most 40 characters, values at most 500.");
            }
            metadata.retain(|(known, _)| &**known != key);
            metadata.push((key.into(), value.into()));
        }
        if metadata.len() > METADATA_MAX {
            return Err(StripeError::invalid(
                "Invalid metadata: at most 50 keys are kept.",
            ));
        }
        Ok(metadata)
    }

    /// `expand[]=…` or `expand[0]=…`: the paths.
    pub(crate) fn expand(&mut self) -> Vec<String> {
        let pairs = self.taken(|name| name == "expand" || name.starts_with("expand["));
        pairs.into_iter().map(|(_, path)| path).collect()
    }

    /// Parameters that Stripe knows and this simulator reads without effect, with all that nests in them.
    pub(crate) fn tolerate(&mut self, names: &[&str]) {
        self.taken(|name| {
            let outer = name.split_once('[').map_or(name, |(outer, _)| outer);
            names.contains(&outer)
        });
    }

    /// Whether there is a parameter `outer[…]`.
    pub(crate) fn has_nested(&self, outer: &str) -> bool {
        self.pairs.iter().any(|(name, _)| {
            name.strip_prefix(outer)
                .is_some_and(|rest| rest.starts_with('['))
        })
    }

    /// Refuses what nobody took.
    pub(crate) fn finish(self) -> Result<(), StripeError> {
        let Some((name, _)) = self.pairs.into_iter().next() else {
            return Ok(());
        };
        Err(
            StripeError::invalid(format!("Received unknown parameter: {name}"))
                .code("parameter_unknown")
                .param(name),
        )
    }

    fn taken(&mut self, wanted: impl Fn(&str) -> bool) -> Vec<(String, String)> {
        let (taken, rest) = std::mem::take(&mut self.pairs)
            .into_iter()
            .partition(|(name, _)| wanted(name));
        self.pairs = rest;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Params {
        Params::read(text.as_bytes()).expect("within the bounds")
    }

    #[test]
    fn nested_names_and_lists_are_read() {
        let mut params =
            read("metadata[order_id]=o%201&metadata%5Ba%5D=&expand[]=x&expand[0]=y&amount=5");
        assert_eq!(
            params.metadata().expect("valid"),
            vec![("order_id".into(), "o 1".into())]
        );
        assert_eq!(params.expand(), ["x", "y"]);
        assert_eq!(params.integer("amount"), Ok(Some(5)));
        assert_eq!(params.finish(), Ok(()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let code = |error: StripeError| (error.code, error.param.map(|param| param.to_string()));
        let unknown = read("amuont=5").finish().expect_err("unknown");
        assert_eq!(
            code(unknown),
            (Some("parameter_unknown"), Some("amuont".into()))
        );
        let integer = read("amount=5.0")
            .integer("amount")
            .expect_err("no integer");
        assert_eq!(
            code(integer),
            (Some("parameter_invalid_integer"), Some("amount".into()))
        );
        let empty = read("amount=").integer("amount").expect_err("empty");
        assert_eq!(
            code(empty),
            (Some("parameter_invalid_empty"), Some("amount".into()))
        );
        assert!(read("confirm=yes").boolean("confirm").is_err());
        assert!(read("metadata[a").metadata().is_err());
        assert!(read("metadata[a][b]=1").metadata().is_err());
        assert!(
            read(&format!("metadata[a]={}", "x".repeat(501)))
                .metadata()
                .is_err()
        );
        assert!(Params::read("a=1&".repeat(501).as_bytes()).is_err());
    }
}
