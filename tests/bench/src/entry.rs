//! One result: its figures, its text, and whether the promises hold.

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::targets;

/// A result.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) benchmark: String,
    /// Which of the benchmark's results; empty for the only one.
    pub(crate) variant: String,
    /// For people.
    pub(crate) text: String,
    /// For programs.
    pub(crate) figures: Map<String, Value>,
    /// Promises that do not hold, with the offending rows.
    pub(crate) broken: Vec<String>,
}

impl Entry {
    /// One with these figures.
    pub(crate) fn new(variant: &str, text: String, figures: &impl Serialize) -> Result<Self> {
        let figures = serde_json::to_value(figures)?;
        Ok(Self {
            benchmark: String::new(),
            variant: variant.to_owned(),
            text,
            figures: figures.as_object().context("figures have names")?.clone(),
            broken: Vec::new(),
        })
    }

    /// Adds a figure.
    pub(crate) fn figure(&mut self, name: &str, value: impl Into<Value>) {
        self.figures.insert(name.to_owned(), value.into());
    }

    /// Says that a promise does not hold.
    pub(crate) fn breaks(&mut self, what: String) {
        self.broken.push(what);
    }

    /// Its name with its variant.
    pub(crate) fn title(&self) -> String {
        match self.variant.as_str() {
            "" => self.benchmark.clone(),
            variant => format!("{}, {variant}", self.benchmark),
        }
    }

    /// All of it for people, targets and promises too.
    pub(crate) fn told(&self) -> String {
        let mut text = format!("\n{}: {}", self.title(), self.text);
        for judged in targets::judge(&self.benchmark, &self.variant, &self.figures) {
            text += &judged.text();
        }
        if self.broken.is_empty() {
            return text + "  promises: every query of `guichet check` holds\n";
        }
        text + "  promises: BROKEN\n" + &self.broken.join("\n") + "\n"
    }

    /// All of it for programs.
    pub(crate) fn value(&self) -> Value {
        let mut value = self.figures.clone();
        let judged = targets::judge(&self.benchmark, &self.variant, &self.figures);
        value.insert("name".to_owned(), json!(self.benchmark));
        value.insert("variant".to_owned(), json!(self.variant));
        value.insert("targets".to_owned(), json!(judged));
        value.insert("promises_hold".to_owned(), json!(self.broken.is_empty()));
        Value::Object(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_tells_its_targets_and_what_is_broken() {
        let figures = json!({"cpu_percent_of_a_core": 0.5});
        let mut entry = Entry::new("", "quiet\n".to_owned(), &figures).expect("an object");
        entry.benchmark = "idle".to_owned();
        entry.figure("statements_per_s", 2.0);
        let told = entry.told();
        assert!(
            told.contains("0.500: met") && told.contains("2.000: missed"),
            "{told}"
        );
        assert!(told.contains("check` holds"));
        entry.breaks("no-oversell: offer 7".to_owned());
        assert!(entry.told().contains("BROKEN\nno-oversell: offer 7"));
        assert_eq!(entry.value()["promises_hold"], false);
        assert_eq!(entry.value()["targets"][0]["met"], true);
    }
}
