//! The query of a URL, read strictly: a parameter that is not known, given twice or wrong is refused,
//! and all of them are reported at once. A filter that is silently ignored sells the wrong ticket.

use super::ApiError;
use contract::{FieldProblem, ProblemCode};
use std::collections::BTreeMap;

/// Parameters of one query at most.
const PARAMETERS_MAX: usize = 50;
/// Characters of a value that a detail repeats.
const ECHO_MAX: usize = 40;

/// A query on its way into types.
#[derive(Debug, Default)]
pub struct Query {
    values: BTreeMap<String, String>,
    problems: Vec<FieldProblem>,
}

impl Query {
    /// Splits the text behind the `?`.
    #[must_use]
    pub fn parse(raw: &str) -> Self {
        let mut query = Self::default();
        for (count, (name, value)) in url::form_urlencoded::parse(raw.as_bytes()).enumerate() {
            if count == PARAMETERS_MAX {
                query.problem(&name, format!("more than {PARAMETERS_MAX} parameters"));
                break;
            }
            if query.values.contains_key(&*name) {
                query.problem(&name, "given more than once".to_owned());
            } else if value.contains('\0') {
                query.problem(&name, "contains a NUL character".to_owned());
            } else {
                query.values.insert(name.into_owned(), value.into_owned());
            }
        }
        query
    }

    /// Takes a parameter, if it is there and `read` accepts it; `read` says in a few words what it
    /// must be.
    pub fn take<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.values.remove(name)?;
        match read(&text) {
            Ok(value) => Some(value),
            Err(must) => {
                let echo: String = text.chars().take(ECHO_MAX).collect();
                self.problem(name, format!("`{echo}` {must}"));
                None
            }
        }
    }

    /// Takes `true` or `false`.
    pub fn take_bool(&mut self, name: &str) -> Option<bool> {
        self.take(name, |text| {
            text.parse().map_err(|_| "must be true or false".to_owned())
        })
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// [`ProblemCode::QueryInvalid`] with each parameter that is wrong.
    pub fn finish(mut self) -> Result<(), ApiError> {
        for name in std::mem::take(&mut self.values).into_keys() {
            self.problem(&name, "this route has no such parameter".to_owned());
        }
        if self.problems.is_empty() {
            return Ok(());
        }
        let mut error = ApiError::new(
            ProblemCode::QueryInvalid,
            "Query parameters are not valid; see `errors` for each of them.",
        );
        for problem in self.problems {
            error = error.field(problem.pointer, ProblemCode::QueryInvalid, problem.detail);
        }
        Err(error)
    }

    fn problem(&mut self, name: &str, detail: String) {
        let name: String = name.chars().take(ECHO_MAX).collect();
        self.problems.push(FieldProblem {
            pointer: format!("?{name}"),
            code: ProblemCode::QueryInvalid.code().to_owned(),
            detail,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let mut query = Query::parse("a=true&b=maybe&c=1&c=2&d=%00&e");
        assert_eq!(query.take_bool("a"), Some(true));
        assert_eq!(query.take_bool("b"), None);
        assert_eq!(query.take_bool("absent"), None);
        let error = query.finish().expect_err("much is wrong");
        let pointers: Vec<&str> = error.fields().iter().map(|f| f.pointer.as_str()).collect();
        assert_eq!(pointers, ["?c", "?d", "?b", "?c", "?e"]);
        assert!(Query::parse("").finish().is_ok());
    }
}
