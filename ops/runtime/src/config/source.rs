//! Where values come from, before anything is known of the sections.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

const PREFIX: &str = "GUICHET_";
/// Longer than any key or certificate chain; a wrong path (a device, a log) must not fill the memory.
const FILE_MAX_BYTES: u64 = 64 * 1024;

/// The environment and the file, split into sections and keys.
pub(super) struct Source {
    /// By section and key, in lower case; keys as written, so some end in `_file`.
    env: BTreeMap<String, BTreeMap<String, String>>,
    file: toml::Table,
    file_name: String,
}

/// A value as it was found.
pub(super) enum Value {
    /// Of a variable: its meaning depends on the key.
    Text(String),
    /// Of the file.
    Toml(toml::Value),
}

impl Source {
    pub(super) fn read(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        allowed: &[&str],
        problems: &mut Vec<String>,
    ) -> Self {
        let mut sections: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for (name, value) in env.filter(|(name, _)| !allowed.contains(&name.as_str())) {
            let Some(rest) = name.strip_prefix(PREFIX) else {
                continue;
            };
            match rest.to_ascii_lowercase().split_once('_') {
                Some((section, key)) if !section.is_empty() && !key.is_empty() => {
                    let keys = sections.entry(section.to_owned()).or_default();
                    keys.insert(key.to_owned(), value);
                }
                _ => problems.push(format!(
                    "{name}: unknown; variables are {PREFIX}<SECTION>_<KEY>. Correct or unset it"
                )),
            }
        }
        let file_name = file.map_or_else(String::new, |path| path.display().to_string());
        let file = match file.map(read_toml) {
            None => toml::Table::new(),
            Some(Ok(table)) => table,
            Some(Err(problem)) => {
                problems.push(format!("{file_name}: {problem}"));
                toml::Table::new()
            }
        };
        Self {
            env: sections,
            file,
            file_name,
        }
    }

    /// Sections that were given but are not among `known`, as problems.
    pub(super) fn unknown_sections(&self, known: &[&str]) -> Vec<String> {
        let listed = known.join(", ");
        let unknown = |section: &&String| !known.contains(&section.as_str());
        let in_env = self.env.keys().filter(unknown).flat_map(|section| {
            let variables = self.env[section].keys();
            variables.map(move |key| variable(section, key))
        });
        let in_file = self
            .file
            .keys()
            .filter(unknown)
            .map(|section| format!("{}, {section}", self.file_name));
        in_env
            .chain(in_file)
            .map(|place| {
                format!("{place}: no such section; there are {listed}. Correct or remove it")
            })
            .collect()
    }

    /// The values given for `known` keys of a section. Problems: keys that are not known, and values
    /// that cannot be had.
    pub(super) fn section(
        &self,
        section: &str,
        known: &[&'static str],
        problems: &mut Vec<String>,
    ) -> Vec<(&'static str, Value)> {
        let none = BTreeMap::new();
        let env = self.env.get(section).unwrap_or(&none);
        let none = toml::Table::new();
        let file = match self.file.get(section) {
            None => &none,
            Some(toml::Value::Table(table)) => table,
            Some(_) => {
                let place = format!("{}, {section}", self.file_name);
                problems.push(format!(
                    "{place}: is a section; write [{section}] above its keys"
                ));
                &none
            }
        };
        let mut used = BTreeSet::new();
        let mut found = Vec::new();
        for &key in known {
            let key_file = file_key(key, known);
            let direct = env.get(key);
            let indirect = key_file.as_ref().and_then(|key| env.get(key));
            used.extend(
                [Some(key.to_owned()), key_file.clone()]
                    .into_iter()
                    .flatten(),
            );
            let value = match (direct, indirect) {
                (Some(text), None) => Some(Value::Text(text.clone())),
                (None, Some(path)) => match read_value(Path::new(path)) {
                    Ok(text) => Some(Value::Text(text)),
                    Err(problem) => {
                        let variable = variable(section, &format!("{key}_file"));
                        problems.push(format!("{variable}: {problem}"));
                        None
                    }
                },
                (Some(_), Some(_)) => {
                    let variable = variable(section, key);
                    problems.push(format!(
                        "{variable}: also set by {variable}_FILE; unset one"
                    ));
                    None
                }
                (None, None) => file.get(key).cloned().map(Value::Toml),
            };
            found.extend(value.map(|value| (key, value)));
        }
        let listed = known.join(", ");
        let unknown_env = env.keys().filter(|key| !used.contains(*key));
        let unknown_env = unknown_env.map(|key| variable(section, key));
        let unknown_file = file.keys().filter(|key| !known.contains(&key.as_str()));
        let unknown_file = unknown_file.map(|key| self.in_file(section, key));
        problems.extend(unknown_env.chain(unknown_file).map(|place| {
            format!("{place}: no such key; {section} has {listed}. Correct or remove it")
        }));
        found
    }

    /// Where a key got its value, or could get one.
    pub(super) fn place(&self, section: &str, key: &str) -> String {
        let plain = variable(section, key);
        let keys = self.env.get(section);
        if keys.is_some_and(|keys| keys.contains_key(key)) {
            return plain;
        }
        if keys.is_some_and(|keys| keys.contains_key(&format!("{key}_file"))) {
            return format!("{plain}_FILE");
        }
        let table = self.file.get(section).and_then(toml::Value::as_table);
        if table.is_some_and(|table| table.contains_key(key)) {
            return self.in_file(section, key);
        }
        plain
    }

    fn in_file(&self, section: &str, key: &str) -> String {
        format!("{}, {section}.{key}", self.file_name)
    }
}

fn variable(section: &str, key: &str) -> String {
    format!("{PREFIX}{section}_{key}").to_ascii_uppercase()
}

/// The key whose variable names a file for `key`, unless the section has a key of that very name.
fn file_key(key: &str, known: &[&str]) -> Option<String> {
    let file_key = format!("{key}_file");
    (!known.contains(&file_key.as_str())).then_some(file_key)
}

fn read_toml(path: &Path) -> Result<toml::Table, String> {
    let text = read_text(path)?;
    text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().map_or("", |span| &text[..span.start]);
        let line = before.matches('\n').count() + 1;
        let message = error.message().replace('\n', ", ");
        format!("line {line} is not TOML: {message}")
    })
}

fn read_text(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_MAX_BYTES + 1).read_to_string(&mut text))
        .map_err(|error| format!("cannot be read: {error}"))?;
    if text.len() as u64 > FILE_MAX_BYTES {
        return Err(format!("is longer than {FILE_MAX_BYTES} bytes"));
    }
    Ok(text)
}

fn read_value(path: &Path) -> Result<String, String> {
    let text = read_text(path).map_err(|problem| format!("{} {problem}", path.display()))?;
    // Editors and `echo` end a file with a line break that is no part of the value.
    let value = text.strip_suffix('\n').unwrap_or(&text);
    Ok(value.strip_suffix('\r').unwrap_or(value).to_owned())
}
