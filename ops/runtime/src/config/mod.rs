//! Configuration: environment over a TOML file over defaults, with every problem reported at once.
//!
//! A configuration is a struct of sections, each a struct of keys that all have defaults. The variable
//! `GUICHET_<SECTION>_<KEY>` sets a key (the section is the first word after the prefix, the key is the
//! rest), and `GUICHET_<SECTION>_<KEY>_FILE` names a file that holds the value, as secrets are mounted.
//! What a variable's text means follows from the type of the key: `8`, `true`, `a,b` or `["a", "b"]`.
//!
//! Nobody likes to fix a configuration one restart at a time. serde stops at the first error, so a key
//! that is refused is noted, left out (its default stands in) and the whole read again, until only the
//! problems are left to tell. Values are never quoted in a problem by this module: a password ends up
//! in the wrong variable sooner or later.
//!
//! ```
//! use runtime::config::{self, Sections};
//! use serde::Deserialize;
//!
//! #[derive(Debug, Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Config {
//!     database: Database,
//! }
//!
//! #[derive(Debug, Deserialize)]
//! #[serde(default, deny_unknown_fields)]
//! struct Database {
//!     pool_max: u16,
//! }
//!
//! impl Default for Database {
//!     fn default() -> Self {
//!         Self { pool_max: 8 }
//!     }
//! }
//!
//! impl Database {
//!     fn problems(&self) -> Vec<String> {
//!         let none = (self.pool_max == 0).then(|| "pool_max must be at least 1".to_owned());
//!         none.into_iter().collect()
//!     }
//! }
//!
//! impl Sections for Config {
//!     fn problems(&self) -> Vec<(&'static str, Vec<String>)> {
//!         vec![("database", self.database.problems())]
//!     }
//! }
//!
//! let env = [("GUICHET_DATABASE_POOL_MAX".to_owned(), "16".to_owned())];
//! let config: Config = config::load(None, env.into_iter(), &[], |_| true)?;
//! assert_eq!(config.database.pool_max, 16);
//! # Ok::<(), config::ConfigErrors>(())
//! ```

mod source;
mod text;
mod tree;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use serde::de::DeserializeOwned;

use source::Source;
use tree::{Pass, Root};

/// A configuration: a struct whose fields are the sections.
pub trait Sections: DeserializeOwned {
    /// What is wrong with the values although their types are right, by section. A problem begins with
    /// the key's name (`pool_max must be at least 1`), so that it can be shown with where it was set.
    fn problems(&self) -> Vec<(&'static str, Vec<String>)>;
}

/// Everything that is wrong with a configuration; shown one problem per line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigErrors(Vec<String>);

impl ConfigErrors {
    /// The problems: where, what, and what to do. Never empty.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for ConfigErrors {}

/// The environment of the process, for [`load`]. What is not UTF-8 is kept with marks in place of the
/// broken parts, so that it fails where it is used, and only if it is.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| {
        let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        (lossy(name), lossy(value))
    })
}

/// Reads a configuration: `env` over `file` over the defaults of `T`.
///
/// Variables that do not begin with `GUICHET_` are not ours; those in `allowed` (full names) begin so
/// but are somebody else's; any other that sets no key is a problem, since a misspelt one is silent.
/// Of the sections that are not `in_use` only keys and types are judged, not what the values say: who
/// does not use them need not have them right.
///
/// # Errors
/// All problems: an unreadable file, unknown sections and keys, values that do not fit their keys, and
/// what [`Sections::problems`] finds in the rest, as far as it is in use.
pub fn load<T: Sections>(
    file: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
    allowed: &[&str],
    in_use: impl Fn(&str) -> bool,
) -> Result<T, ConfigErrors> {
    let mut problems = Vec::new();
    let source = Source::read(file, env, allowed, &mut problems);
    let pass = Pass::new(&source);
    let read = loop {
        match T::deserialize(Root(&pass)) {
            Ok(read) => break Some(read),
            Err(error) => {
                if !pass.refuse(&error) {
                    break None;
                }
            }
        }
    };
    problems.extend(pass.problems());
    if let Some(read) = &read {
        let by_section = read.problems().into_iter();
        for (section, found) in by_section.filter(|(section, _)| in_use(section)) {
            problems.extend(
                found
                    .iter()
                    .filter_map(|problem| pass.place(section, problem)),
            );
        }
    }
    let mut seen = BTreeSet::new();
    problems.retain(|problem| seen.insert(problem.clone()));
    match read {
        Some(read) if problems.is_empty() => Ok(read),
        _ => Err(ConfigErrors(problems)),
    }
}

#[cfg(test)]
mod tests;
