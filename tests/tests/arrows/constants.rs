//! The constants of the product that are numbers or times, read from the sources.

use crate::{root, sources::rust_files};
use std::collections::BTreeMap;

/// What a bound is measured in, so that `250 ms` and `0.25 s` are the same and `10 s` and 10 are not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Quantity {
    Milliseconds(i64),
    Bytes(i64),
    Number(i64),
}

impl Quantity {
    /// A number in the unit that the end of its name tells: `timeout_ms`, `BODY_MAX_BYTES`.
    pub(crate) fn of_name(name: &str, number: i64) -> Self {
        let name = name.to_lowercase();
        let words: Vec<&str> = name.split('_').collect();
        match words.last().copied().unwrap_or_default() {
            "ms" => Self::Milliseconds(number),
            "s" => Self::Milliseconds(number * 1_000),
            "hours" => Self::Milliseconds(number * 3_600_000),
            "days" => Self::Milliseconds(number * 86_400_000),
            _ if words.contains(&"bytes") => Self::Bytes(number),
            _ => Self::Number(number),
        }
    }
}

/// A constant: one quantity, or the two ends of a range.
#[derive(Debug)]
pub(crate) struct Constant {
    /// From the root of the checkout.
    pub(crate) file: String,
    pub(crate) name: String,
    pub(crate) values: Vec<Quantity>,
}

/// A source without its tests and comments.
pub(crate) struct Source {
    pub(crate) file: String,
    pub(crate) code: String,
}

/// What is shipped: no tests, and nothing that only they use.
pub(crate) fn sources() -> Vec<Source> {
    let of_tests = |file: &str| file.contains("test") || file.ends_with("fixture.rs");
    let files = rust_files().into_iter().map(|(path, text)| {
        let file = path.strip_prefix(root()).expect("it is of the checkout");
        (file.to_string_lossy().into_owned(), text)
    });
    files
        .filter(|(file, _)| !of_tests(file))
        .map(|(file, text)| Source {
            file,
            code: without_tests(&text),
        })
        .collect()
}

/// Tests stand at the end of a file, in a module of their own.
fn without_tests(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let next = lines.peek().copied().unwrap_or_default();
        if line.starts_with("#[cfg(test)]") && next.contains("mod ") && next.ends_with('{') {
            break;
        }
        code.push_str(line.split("//").next().unwrap_or_default());
        code.push('\n');
    }
    code
}

/// A statement `const NAME: TYPE = EXPRESSION;`.
pub(crate) struct Statement<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) expression: &'a str,
    /// All of it, as it stands in the source.
    pub(crate) text: &'a str,
}

/// The constants of a source, of whatever type.
pub(crate) fn statements(code: &str) -> Vec<Statement<'_>> {
    let mut found = Vec::new();
    for (at, word) in code.match_indices("const ") {
        let line = code[..at].rsplit('\n').next().unwrap_or_default().trim();
        let alone = line.is_empty() || (line.starts_with("pub") && !line.contains(' '));
        let rest = &code[at + word.len()..];
        let statement = rest.split_once(';').filter(|_| alone);
        let parts = statement.and_then(|(all, _)| {
            let (head, expression) = all.split_once(" =")?;
            let (name, kind) = head.split_once(':')?;
            let upper = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            name.chars().all(upper).then_some(Statement {
                name,
                kind: kind.trim(),
                expression: expression.trim(),
                text: all,
            })
        });
        found.extend(parts);
    }
    found
}

/// Whether a type is one of numbers, ranges of numbers, times.
fn bounds(kind: &str) -> bool {
    let inner =
        kind.rsplit_once('<')
            .map_or(kind, |(outer, inner)| match outer.rsplit("::").next() {
                Some("Range" | "RangeInclusive" | "NonZero") => inner.trim_end_matches('>'),
                _ => "",
            });
    let inner = inner.rsplit("::").next().unwrap_or_default();
    let inner = inner.strip_prefix("NonZero").unwrap_or(inner);
    let number = inner.trim_start_matches(['u', 'i', 'U', 'I']);
    let number =
        number.len() < inner.len() && ["8", "16", "32", "64", "128", "size"].contains(&number);
    number || inner == "Duration" || inner == "TimeDelta"
}

/// The constants that may bound something, and those whose expression cannot be read.
pub(crate) fn constants(sources: &[Source]) -> (Vec<Constant>, Vec<String>) {
    let (mut found, mut unreadable) = (Vec::new(), Vec::new());
    for Source { file, code } in sources {
        let mut known = BTreeMap::new();
        for statement in statements(code).iter().filter(|one| bounds(one.kind)) {
            let Statement { name, .. } = *statement;
            match values(statement, &known) {
                Some(values) => {
                    if let [Quantity::Number(value)] = values.as_slice() {
                        known.insert(name.to_owned(), *value);
                    }
                    found.push(Constant {
                        file: file.clone(),
                        name: name.to_owned(),
                        values,
                    });
                }
                None => unreadable.push(format!("{file}: {name} = {}", statement.expression)),
            }
        }
    }
    (found, unreadable)
}

fn values(statement: &Statement<'_>, known: &BTreeMap<String, i64>) -> Option<Vec<Quantity>> {
    let Statement {
        name, expression, ..
    } = *statement;
    let of = |text| Some(Quantity::of_name(name, evaluate(text, known)?));
    if let Some((low, high)) = expression.split_once("..") {
        return Some(vec![of(low)?, of(high.trim_start_matches('='))?]);
    }
    let Some((function, argument)) = expression
        .strip_suffix(')')
        .and_then(|call| call.split_once('('))
        .filter(|(function, _)| function.contains("::"))
    else {
        return Some(vec![of(expression)?]);
    };
    let unit_ms = match function.rsplit("::").next()? {
        "from_millis" | "milliseconds" => 1,
        "from_secs" | "seconds" => 1_000,
        "from_mins" | "minutes" => 60_000,
        "from_hours" | "hours" => 3_600_000,
        "days" => 86_400_000,
        _ => return None,
    };
    Some(vec![Quantity::Milliseconds(
        evaluate(argument, known)? * unit_ms,
    )])
}

/// Sums, products and shifts of numbers and of constants above.
fn evaluate(text: &str, known: &BTreeMap<String, i64>) -> Option<i64> {
    let text = text.trim();
    for (operator, apply) in [
        ("<<", (|a, b| a << b) as fn(i64, i64) -> i64),
        (" + ", |a, b| a + b),
        (" - ", |a, b| a - b),
        (" * ", |a, b| a * b),
    ] {
        if let Some((left, right)) = text.rsplit_once(operator) {
            return Some(apply(evaluate(left, known)?, evaluate(right, known)?));
        }
    }
    let digits = text.replace('_', "");
    digits.parse().ok().or_else(|| known.get(text).copied())
}

#[test]
fn constants_are_read_as_the_compiler_does() {
    let source = |code: &str| Source {
        file: "a.rs".to_owned(),
        code: without_tests(code),
    };
    let code = source(
        "/// A bound.\npub(crate) const BODY_MAX_BYTES: usize = 64 * 1024;\n\
         const EVERY: std::time::Duration =\n    Duration::from_millis(2_500);\n\
         const HALF: u32 = 30; // at least\nconst ALL: u32 = 2 * HALF + 1;\n\
         const WITHIN_S: RangeInclusive<u32> = 1..=90;\nconst KEPT: TimeDelta = TimeDelta::days(14);\n\
         const NAME: &str = \"1\";\nconst RATE: f64 = 0.5;\npub const fn five() -> u32 { 5 }\n\
         #[cfg(test)]\nmod tests;\nconst BITS: u64 = 1 << 4;\n\
         #[cfg(test)]\nmod tests {\n    const LONG: usize = 7;\n}\n",
    );
    let (found, unreadable) = constants(&[code]);
    assert!(unreadable.is_empty(), "{unreadable:?}");
    let found: Vec<(&str, &[Quantity])> = found
        .iter()
        .map(|constant| (constant.name.as_str(), constant.values.as_slice()))
        .collect();
    use Quantity::{Bytes, Milliseconds, Number};
    let expected: [(&str, &[Quantity]); 7] = [
        ("BODY_MAX_BYTES", &[Bytes(65_536)]),
        ("EVERY", &[Milliseconds(2_500)]),
        ("HALF", &[Number(30)]),
        ("ALL", &[Number(61)]),
        ("WITHIN_S", &[Milliseconds(1_000), Milliseconds(90_000)]),
        ("KEPT", &[Milliseconds(14 * 86_400_000)]),
        ("BITS", &[Number(16)]),
    ];
    assert_eq!(found, expected);
    let (_, unreadable) = constants(&[source("const SIZE: usize = size_of::<u64>();")]);
    assert_eq!(unreadable, ["a.rs: SIZE = size_of::<u64>()"]);
}
