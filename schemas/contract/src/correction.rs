//! What a person may correct of a step's input, and the check before anything is kept.
//!
//! A step that is refused for what it was given (a mail address that bounces, a payment that the provider
//! knows by another name) is tried again with what a person has found out. Each step says which fields
//! that may be, and what each has to look like; nothing else of an order can be changed. The values are
//! personal data or as good as that: they are never shown, not even by `Debug`.

use crate::{StepKind, StepName};
use serde_json::{Map, Value};
use std::fmt;

/// Characters of a field's name that an error repeats.
const ECHO_MAX_CHARS: usize = 40;

/// What of one step may be corrected.
#[derive(Debug)]
pub struct Correctable {
    /// The step.
    pub step: StepName,
    /// Whether for its `do` or for its `undo`.
    pub kind: StepKind,
    /// The fields.
    pub fields: &'static [Field],
}

/// A field that may be corrected.
#[derive(Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it has to look like, for people.
    pub expects: &'static str,
    /// Whether a text does.
    pub is_good: fn(&str) -> bool,
}

/// A correction that was checked: only [`check`] makes one.
#[derive(Clone, PartialEq, Eq)]
pub struct Correction {
    step: StepName,
    kind: StepKind,
    fields: Map<String, Value>,
}

/// Why an input is no correction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CorrectionError {
    /// Nothing of the step may be corrected.
    #[error("nothing of the {0} of {1} can be corrected; what can: {2}")]
    Nothing(&'static str, StepName, String),
    /// It is no object, or an empty one.
    #[error("the input has to be a JSON object with at least one of: {0}")]
    NotAnObject(String),
    /// A field may not be corrected.
    #[error("`{0}` cannot be corrected; what can: {1}")]
    UnknownField(String, String),
    /// A field has the wrong shape.
    #[error("`{0}` has to be {1}")]
    BadField(&'static str, &'static str),
}

/// Checks what a person wants a step's `do` or `undo` to be tried again with.
///
/// # Errors
/// See [`CorrectionError`]. What was given is not repeated, but for the names of fields.
pub fn check(
    correctable: &[Correctable],
    step: &StepName,
    kind: StepKind,
    input: &Value,
) -> Result<Correction, CorrectionError> {
    let found = correctable
        .iter()
        .find(|one| one.step == *step && one.kind == kind);
    let allowed = found.ok_or_else(|| {
        let all = correctable.iter();
        let all =
            all.map(|one| format!("{} of the {} of {}", one.names(), one.kind.name(), one.step));
        CorrectionError::Nothing(
            kind.name(),
            step.clone(),
            all.collect::<Vec<_>>().join("; "),
        )
    })?;
    let fields = input.as_object().filter(|fields| !fields.is_empty());
    let fields = fields.ok_or_else(|| CorrectionError::NotAnObject(allowed.names()))?;
    for (name, value) in fields {
        let Some(field) = allowed.fields.iter().find(|field| field.name == name) else {
            let name = name.chars().take(ECHO_MAX_CHARS).collect();
            return Err(CorrectionError::UnknownField(name, allowed.names()));
        };
        if !value.as_str().is_some_and(field.is_good) {
            return Err(CorrectionError::BadField(field.name, field.expects));
        }
    }
    Ok(Correction {
        step: step.clone(),
        kind,
        fields: fields.clone(),
    })
}

impl Correctable {
    fn names(&self) -> String {
        let names: Vec<&str> = self.fields.iter().map(|field| field.name).collect();
        names.join(", ")
    }
}

impl Correction {
    /// The step.
    #[must_use]
    pub fn step(&self) -> &StepName {
        &self.step
    }

    /// Whether for its `do` or for its `undo`.
    #[must_use]
    pub fn kind(&self) -> StepKind {
        self.kind
    }

    /// Which fields it corrects.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.fields.keys().cloned().collect()
    }

    /// The fields with their values, as they are stored and nowhere else.
    #[must_use]
    pub fn into_fields(self) -> Value {
        Value::Object(self.fields)
    }
}

/// Without the values.
impl fmt::Debug for Correction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, step) = (self.kind.name(), &self.step);
        write!(f, "{:?} of the {kind} of {step}", self.names())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::email::is_email;
    use proptest::prelude::*;
    use serde_json::json;

    const ALL: &[Correctable] = &[Correctable {
        step: StepName::NOTIFY,
        kind: StepKind::Do,
        fields: &[Field {
            name: "email",
            expects: "an e-mail address",
            is_good: is_email,
        }],
    }];

    fn of(input: &Value) -> Result<Correction, CorrectionError> {
        check(ALL, &StepName::NOTIFY, StepKind::Do, input)
    }

    #[test]
    fn what_may_be_corrected_is_and_nothing_else() {
        let good = of(&json!({"email": "kim@example.org"})).expect("good");
        assert_eq!(good.names(), ["email"]);
        assert!(!format!("{good:?}").contains("kim"), "{good:?}");
        for (bad, says) in [
            (json!({}), "at least one of: email"),
            (json!("kim@example.org"), "at least one of: email"),
            (
                json!({"email": "kim@"}),
                "`email` has to be an e-mail address",
            ),
            (json!({"email": 7}), "`email` has to be an e-mail address"),
            (
                json!({"total": 1}),
                "`total` cannot be corrected; what can: email",
            ),
            (
                json!({"email": "kim@example.org", "name": "x"}),
                "`name` cannot be",
            ),
        ] {
            let error = of(&bad).expect_err("bad").to_string();
            assert!(error.contains(says), "{bad}: {error}");
        }
        let undo = check(
            ALL,
            &StepName::NOTIFY,
            StepKind::Undo,
            &json!({"email": "a@b.fr"}),
        );
        let says = undo.expect_err("not of its undo").to_string();
        assert!(says.contains("email of the do of notify"), "{says}");
    }

    proptest! {
        /// Whatever is written, what comes out is one of the fields that may be corrected, and good.
        #[test]
        fn only_what_is_good_comes_through(name in "[a-z]{1,6}|email", value in any::<String>()) {
            if let Ok(correction) = of(&json!({name.as_str(): value})) {
                prop_assert_eq!(name, "email");
                prop_assert!(is_email(&value));
                prop_assert_eq!(correction.into_fields(), json!({"email": value}));
            }
        }
    }
}
