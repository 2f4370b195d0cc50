//! "Bounds and time-outs" in ARCHITECTURE.md against the code, both ways.
//!
//! **The rule.** Every constant of the product whose type is a number, a range of numbers or a time is a
//! bound, unless [`NO_BOUNDS`] says why it is none; and so is every whole number in the configuration,
//! unless [`NO_BOUNDING_KEYS`] does. Each stands in a row of a table of that section: the row's last cell
//! names the file, below the folder in the title above, or the configuration's key (`the same`: as in the
//! row before); the cell before states the value, `4,096`, `64 KiB`, `250 ms`, `5 s`, `10 min`, `48 h`,
//! `14 days`. Two constants of a file with the same value are stated twice. What stands in brackets is a
//! remark. A value that is stated and is neither a constant's nor a key's of the row is an error too.
//!
//! A bound without a name would not be found, so the usual places for one must not hold a bare number.

use crate::{
    constants::{Quantity, constants, sources, statements},
    names, read,
    readme::defaults,
};
use std::collections::{BTreeMap, BTreeSet};

/// Numbers that are no bounds.
const NO_BOUNDS: [(&str, &[&str], &str); 15] = [
    (
        "gateway/src/catalogue/plan.rs",
        &["ID_TIME_MS"],
        "the ids' time",
    ),
    (
        "gateway/src/catalogue/pricing.rs",
        &["EVENING"],
        "an hour of the day",
    ),
    (
        "gateway/src/catalogue/shift.rs",
        &["PERIOD_DAYS", "AHEAD_DAYS"],
        "the calendar's rule",
    ),
    (
        "gateway/src/catalogue/tier.rs",
        &["MOST_WANTED"],
        "a rule of the catalogue",
    ),
    ("gateway/src/http/cursor.rs", &["CHECK_BYTES"], "a format"),
    (
        "ops/guichet/src/up/probe.rs",
        &["METHOD_FRAME"],
        "a number of the protocol",
    ),
    ("ops/inspector/src/audit/mod.rs", &["LOCK"], "a lock's name"),
    ("ops/psp/src/id.rs", &["SERIAL_MAX"], "a format"),
    (
        "ops/runtime/src/metrics/process.rs",
        &["KIBIBYTE"],
        "a unit",
    ),
    (
        "orchestrator/bus/src/confirmed.rs",
        &["PERSISTENT"],
        "a number of the protocol",
    ),
    (
        "orchestrator/bus/src/transient.rs",
        &["TRANSIENT"],
        "a number of the protocol",
    ),
    (
        "orchestrator/saga/src/order.rs",
        &["SECOND", "MINUTE"],
        "units",
    ),
    (
        "schemas/database/src/line.rs",
        &["HEAD"],
        "a number of the protocol",
    ),
    (
        "schemas/database/src/migrations.rs",
        &["LOCK"],
        "a lock's name",
    ),
    (
        "workers/src/issue/code.rs",
        &["VERSION", "SIGNED_BYTES", "SIGNATURE_BYTES"],
        "a format",
    ),
];

/// Whole numbers in the configuration that are no bounds.
const NO_BOUNDING_KEYS: [(&str, &str); 4] = [
    ("fraud.reject_at", "a score"),
    ("fraud.review_at", "a score"),
    ("psp.fault_seed", "chance"),
    ("psp.latency_ms", "none unless asked for"),
];

/// A row: what it is about, the values it states, and where they stand.
#[derive(Debug)]
struct Row {
    what: String,
    stated: Vec<Quantity>,
    places: Vec<String>,
}

/// The rows of the tables with three columns (that of the definition has more).
fn rows(section: &str) -> Vec<Row> {
    let (mut rows, mut folder): (Vec<Row>, String) = Default::default();
    for line in section.lines() {
        if line.starts_with("### ") {
            folder = names(line).pop().unwrap_or_default();
        }
        let cells: Vec<&str> = match line.strip_prefix('|').and_then(|row| row.strip_suffix('|')) {
            Some(row) => row.split('|').map(str::trim).collect(),
            None => continue,
        };
        let &[what, stated, place] = cells.as_slice() else {
            continue;
        };
        if place == "where" || place.starts_with("---") {
            continue;
        }
        let places = match (place, rows.last()) {
            ("the same", Some(row)) => row.places.clone(),
            _ => names(place)
                .iter()
                .map(|name| located(&folder, name))
                .collect(),
        };
        rows.push(Row {
            what: what.to_owned(),
            stated: quantities(stated),
            places,
        });
    }
    rows
}

fn located(folder: &str, name: &str) -> String {
    match name.ends_with(".rs") {
        true => format!("{folder}/{name}"),
        false => name.to_owned(),
    }
}

/// The quantities in a cell.
fn quantities(cell: &str) -> Vec<Quantity> {
    let mut found = Vec::new();
    let mut rest = cell;
    while let Some(at) = rest.find(|c: char| c == '(' || c.is_ascii_digit()) {
        rest = &rest[at..];
        if rest.starts_with('(') {
            rest = rest.split_once(')').map_or("", |(_, after)| after);
            continue;
        }
        let digit_or_mark = |c: char| c.is_ascii_digit() || c == ',' || c == '.';
        let end = rest.find(|c| !digit_or_mark(c)).unwrap_or(rest.len());
        let number = rest[..end].trim_end_matches([',', '.']).replace(',', "");
        rest = &rest[end..];
        let unit = rest.trim_start();
        let unit = unit.split(|c: char| !c.is_ascii_alphabetic()).next();
        let number: f64 = number.parse().unwrap_or(f64::NAN);
        let times = |unit: f64| (number * unit).round() as i64;
        found.push(match unit.unwrap_or_default() {
            "ms" => Quantity::Milliseconds(times(1.0)),
            "s" => Quantity::Milliseconds(times(1_000.0)),
            "min" => Quantity::Milliseconds(times(60_000.0)),
            "h" => Quantity::Milliseconds(times(3_600_000.0)),
            "days" => Quantity::Milliseconds(times(86_400_000.0)),
            "bytes" => Quantity::Bytes(times(1.0)),
            "KiB" => Quantity::Bytes(times(1_024.0)),
            "MiB" => Quantity::Bytes(times(1_048_576.0)),
            _ => Quantity::Number(times(1.0)),
        });
    }
    found
}

/// What is bounded: for each file or key the names with their values.
type Bounds = BTreeMap<String, Vec<(String, Quantity)>>;

fn bounds() -> Bounds {
    let sources = sources();
    let (constants, unreadable) = constants(&sources);
    assert!(
        unreadable.is_empty(),
        "write these as simple sums or products of numbers: {unreadable:#?}"
    );
    let mut bounds = Bounds::new();
    for constant in constants {
        let of_file = |(file, names, _): &(&str, &[&str], &str)| {
            *file == constant.file && names.contains(&constant.name.as_str())
        };
        if !NO_BOUNDS.iter().any(of_file) {
            let values = constant.values.into_iter();
            let named = values.map(|value| (constant.name.clone(), value));
            bounds.entry(constant.file).or_default().extend(named);
        }
    }
    for (key, default) in defaults() {
        let excluded = NO_BOUNDING_KEYS.iter().any(|(known, _)| *known == key);
        if let (Ok(number), false) = (default.parse(), excluded) {
            let value = Quantity::of_name(&key, number);
            bounds.insert(key.clone(), vec![(key, value)]);
        }
    }
    bounds
}

/// What the tables and the code say differently.
fn differences(rows: &[Row], bounds: &Bounds) -> Vec<String> {
    let mut different = Vec::new();
    for (place, named) in bounds {
        let of_place = rows.iter().filter(|row| row.places.contains(place));
        let stated: Vec<Quantity> = of_place.flat_map(|row| row.stated.clone()).collect();
        let count = |values: &[Quantity], value| values.iter().filter(|v| **v == value).count();
        let values: Vec<Quantity> = named.iter().map(|(_, value)| *value).collect();
        let missing = named
            .iter()
            .filter(|(_, value)| count(&stated, *value) < count(&values, *value));
        different.extend(
            missing.map(|(name, value)| format!("{place}: no row states {name}, {value:?}")),
        );
    }
    for Row {
        what,
        stated,
        places,
    } in rows
    {
        let gone = places.iter().filter(|place| !bounds.contains_key(*place));
        different.extend(gone.map(|place| format!("`{what}`: nothing is bounded in {place}")));
        let there: BTreeSet<Quantity> = places
            .iter()
            .flat_map(|place| bounds.get(place).into_iter().flatten())
            .map(|(_, value)| *value)
            .collect();
        let wrong = stated.iter().filter(|value| !there.contains(value));
        different.extend(wrong.map(|value| format!("`{what}`: {value:?} is not in {places:?}")));
        if stated.is_empty() || places.is_empty() {
            different.push(format!("`{what}`: states no value, or no place"));
        }
    }
    different
}

fn section() -> String {
    let text = read("ARCHITECTURE.md");
    let (_, rest) = text
        .split_once("\n## Bounds and time-outs\n")
        .expect("the section is there");
    rest.split("\n## ").next().unwrap_or_default().to_owned()
}

#[test]
fn every_bound_is_in_the_tables_with_its_value() {
    let rows = rows(&section());
    assert!(rows.len() > 100, "the tables are not where they should be");
    let different = differences(&rows, &bounds());
    assert!(
        different.is_empty(),
        "ARCHITECTURE.md, Bounds and time-outs (the rule stands in tests/tests/arrows/bounds.rs): \
         {different:#?}"
    );
}

#[test]
fn what_is_no_bound_is_still_there() {
    let (constants, _) = constants(&sources());
    for (file, names, why) in NO_BOUNDS {
        for name in names {
            let there = constants
                .iter()
                .any(|one| one.file == file && one.name == *name);
            assert!(there, "{file} has no {name} ({why}) any more");
        }
    }
    let keys = defaults();
    for (key, why) in NO_BOUNDING_KEYS {
        assert!(keys.contains_key(key), "there is no key {key} ({why})");
    }
}

/// Where a bound would stand as a bare number, and from how many digits on it is one.
const NAMELESS: [(&str, usize); 14] = [
    ("Duration::from_millis(", 1),
    ("Duration::from_secs(", 1),
    ("Duration::from_mins(", 1),
    ("Duration::from_hours(", 1),
    ("TimeDelta::milliseconds(", 1),
    ("TimeDelta::seconds(", 1),
    ("TimeDelta::minutes(", 1),
    ("TimeDelta::hours(", 1),
    ("TimeDelta::days(", 1),
    (" LIMIT ", 2),
    (".take(", 2),
    ("channel(", 2),
    ("Semaphore::new(", 2),
    ("buffer_unordered(", 1),
];

fn nameless(code: &str) -> Vec<String> {
    let mut rest = code.to_owned();
    for statement in statements(code) {
        rest = rest.replace(statement.text, "");
    }
    let mut found = Vec::new();
    for (before, digits_min) in NAMELESS {
        for after in rest.split(before).skip(1) {
            let digit = |c: &char| c.is_ascii_digit() || *c == '_';
            let number: String = after.chars().take_while(digit).collect();
            if number.len() >= digits_min {
                found.push(format!("{before}{number}"));
            }
        }
    }
    found
}

#[test]
fn bounds_have_names() {
    let found = sources().into_iter().flat_map(|source| {
        let found = nameless(&source.code).into_iter();
        found.map(move |what| format!("{}: {what}", source.file))
    });
    let found: Vec<String> = found.collect();
    assert!(found.is_empty(), "give these a name, and a row: {found:#?}");
}

#[test]
fn a_new_a_changed_and_a_removed_bound_would_be_seen() {
    let tables = "### Here (`a/src`)\n\n| what | default | where |\n|---|---|---|\n\
                  | waiting, at once (about) | 2.5 s and 1,024 (or 9) | `b.rs`, `c.max` |\n\
                  | a body | 64 KiB | `b.rs` |\n| another | 1 min | the same |\n";
    let bounds = |of_file: &[(&str, Quantity)]| -> Bounds {
        let named = |(name, value): &(&str, Quantity)| ((*name).to_owned(), *value);
        Bounds::from([
            ("a/src/b.rs".to_owned(), of_file.iter().map(named).collect()),
            (
                "c.max".to_owned(),
                vec![("c.max".to_owned(), Quantity::Number(1_024))],
            ),
        ])
    };
    let (wait, body) = (Quantity::Milliseconds(2_500), Quantity::Bytes(65_536));
    let minute = Quantity::Milliseconds(60_000);
    let of = |bounds| differences(&rows(tables), &bounds);
    let as_told = [("WAIT", wait), ("BODY_BYTES", body), ("MINUTE", minute)];
    assert_eq!(of(bounds(&as_told)), Vec::<String>::new());
    let mut new = as_told.to_vec();
    new.push(("LATER", minute));
    assert_eq!(
        of(bounds(&new)).len(),
        2,
        "one minute is stated, two are there"
    );
    let changed = [
        ("WAIT", wait),
        ("BODY_BYTES", Quantity::Bytes(1)),
        as_told[2],
    ];
    assert_eq!(
        of(bounds(&changed)).len(),
        2,
        "one not stated, one stated wrongly"
    );
    assert_eq!(of(bounds(&as_told[..2])).len(), 1, "one is stated and gone");
    assert_eq!(
        nameless("const A: Duration = Duration::from_secs(5);"),
        [""; 0]
    );
    assert_eq!(nameless("sleep(Duration::from_secs(5))").len(), 1);
    assert_eq!(
        nameless("\"SELECT 1 LIMIT 1\", \"SELECT 2 LIMIT 20\"").len(),
        1
    );
}

/// The definition's table: each step's times, as far as its cells state numbers.
#[test]
fn the_definition_is_as_its_table_says() {
    // The versions differ in how many steps they have, so a row tells whose it is.
    for (definition, cells) in [(saga::order::v1(), 34), (saga::order::v2(), 41)] {
        let seen = rows_of(&definition);
        assert_eq!(
            seen,
            cells,
            "{}: seven rows of all its steps, one of which is never undone",
            definition.label()
        );
        assert_eq!(definition.deadline_ms, 600_000, "10 minutes");
    }
}

fn rows_of(definition: &saga::Definition) -> usize {
    let ms = |ms: u32| Quantity::Milliseconds(i64::from(ms));
    let policy = |policy: &saga::RetryPolicy| {
        let budget = policy.budget_ms.map(ms);
        [ms(policy.initial_ms), ms(policy.max_ms)]
            .into_iter()
            .chain(budget)
            .collect()
    };
    let mut seen = 0;
    for line in section().lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        if cells.len() != definition.steps.len() + 1 {
            continue;
        }
        for (step, cell) in definition.steps.iter().zip(&cells[1..]) {
            let told = quantities(cell);
            let is: Vec<Quantity> = match cells[0] {
                "`do`: first pause, longest pause, budget" => policy(&step.do_policy),
                "probe: the same" => policy(&step.probe_policy),
                "undo: the same" if !told.is_empty() => policy(&step.undo_policy),
                "sent again after" => (0..told.len()).map(|n| ms(step.resend_ms << n)).collect(),
                "time to live of a command" => vec![ms(step.ttl_ms)],
                "waits at most" => {
                    let waiting = step.waiting.iter();
                    waiting.map(|waiting| ms(waiting.deadline_ms)).collect()
                }
                "asks for a person" => {
                    let after = step.attention_after.into_iter();
                    after.map(|after| Quantity::Number(after.into())).collect()
                }
                _ => continue,
            };
            seen += 1;
            assert_eq!(told, is, "{}: {}", step.name, cells[0]);
        }
    }
    seen
}
