//! The README speaks of what is there: its configuration keys with their defaults, the tests behind its
//! guarantees, the commands.

use crate::{names, read, root, table};
use serde::Serialize;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

/// Every key with its default, as the README writes it.
pub(crate) fn defaults() -> BTreeMap<String, String> {
    let mut keys = BTreeMap::new();
    let mut section = |name: &str, value: Value| flatten(name, &value, &mut keys);
    let database = database::Config::new("", "");
    section(
        "database",
        serde_json::json!({
            "url": "***",
            "pool_max": database.pool_max,
            "statement_timeout_ms": database.statement_timeout_ms,
            "wait_timeout_ms": database.wait_timeout_ms,
        }),
    );
    section("log", json(runtime::telemetry::Config::default()));
    section("admin", json(runtime::admin::Config::default()));
    section("amqp", json(bus::Config::default()));
    section("gateway", json(gateway::Config::default()));
    section("orchestrator", json(engine::Config::default()));
    section("worker", json(workers::Config::default()));
    section("fraud", json(workers::fraud_check::Config::default()));
    section("pay", json(workers::pay::Config::default()));
    section("issue", json(workers::issue::Config::default()));
    section("mail", json(workers::notify::Config::default()));
    section("psp", json(psp::Config::default()));
    keys
}

fn json(config: impl Serialize) -> Value {
    serde_json::to_value(config).expect("a configuration is JSON")
}

fn flatten(path: &str, value: &Value, keys: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) if fields.contains_key("weight") => {
            let mut parts: Vec<String> = ["weight", "threshold", "window_ms"]
                .iter()
                .filter_map(|key| Some(format!("{key} {}", fields.get(*key)?)))
                .collect();
            assert_eq!(parts.len(), fields.len(), "{path} has another field");
            keys.insert(path.to_owned(), std::mem::take(&mut parts).join(", "));
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                flatten(&format!("{path}.{name}"), value, keys);
            }
        }
        Value::Array(items) if items.len() > 3 => {
            keys.insert(path.to_owned(), format!("{} entries", items.len()));
        }
        Value::Null => {
            keys.insert(path.to_owned(), "none".to_owned());
        }
        Value::String(text) if text == "***" => {
            keys.insert(path.to_owned(), "secret".to_owned());
        }
        Value::String(text) if text.is_empty() => {
            keys.insert(path.to_owned(), "none".to_owned());
        }
        Value::String(text) => {
            keys.insert(path.to_owned(), text.clone());
        }
        other => {
            keys.insert(path.to_owned(), other.to_string());
        }
    }
}

#[test]
fn every_configuration_key_is_in_the_readme_with_its_default() {
    let mut written = BTreeMap::new();
    for row in table("README.md", "configuration") {
        let key = names(&row[0]).remove(0);
        let default = row[1].trim_matches('`').to_owned();
        assert!(
            written.insert(key.clone(), default).is_none(),
            "{key} twice"
        );
        assert!(row[2].len() > 5, "{key} is not explained");
    }
    let real = defaults();
    for (key, default) in &real {
        assert_eq!(written.get(key), Some(default), "README.md: {key}");
    }
    let unknown: Vec<_> = written
        .keys()
        .filter(|key| !real.contains_key(*key))
        .collect();
    assert!(
        unknown.is_empty(),
        "README.md has keys that do not exist: {unknown:?}"
    );
}

/// The names of all tests, those of property tests as well: they are written with the same attribute.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the folder can be read") {
            let path = entry.expect("the folder can be read").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(&path).expect("sources are UTF-8");
                found.extend(tests_of(&text).map(str::to_owned));
            }
        }
    }
    found
}

/// The functions of a source whose own attributes make them tests.
fn tests_of(source: &str) -> impl Iterator<Item = &str> {
    let mut marked = false;
    source.lines().filter_map(move |line| {
        let line = line.trim_start();
        marked |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        let line = line.strip_prefix("async ").unwrap_or(line);
        let (name, _) = line
            .strip_prefix("fn ")
            .filter(|_| marked)?
            .split_once('(')?;
        marked = false;
        Some(name)
    })
}

#[test]
fn a_function_counts_as_a_test_only_with_its_attribute() {
    let source = "
        #[test]
        fn plain() {}
        fn helper() {}
        proptest! {
            #[test]
            fn drawn(n in 0..9) {}
        }
        #[tokio::test(flavor = \"multi_thread\")]
        // With a word about it.
        async fn running() { fn inner() {} }
        async fn beside() {}
        // fn told() {}";
    let found: Vec<_> = tests_of(source).collect();
    assert_eq!(found, ["plain", "drawn", "running"]);
}

#[test]
fn every_guarantee_names_tests_that_exist() {
    let promises = [
        "no-oversell",
        "money-iff-ticket",
        "nothing-accepted-is-lost",
        "honest-end",
        "effects-once",
        "broker-is-transport",
        "every-end-undoes",
        "unknown-is-a-result",
        "failed-undo-is-work",
        "tamper-evident",
        "ordered-callbacks",
        "bounded-work",
        "prompt-end",
    ];
    let known = tests();
    let rows = table("README.md", "guarantees");
    let named: Vec<String> = rows.iter().map(|row| names(&row[0]).remove(0)).collect();
    assert_eq!(named, promises);
    for row in rows {
        let tests = names(&row[2]);
        assert!(
            !tests.is_empty() || row[2].contains("not built"),
            "{}: neither a test nor a word about it",
            row[0]
        );
        for test in tests {
            assert!(known.contains(&test), "{}: there is no test {test}", row[0]);
        }
    }
}

#[test]
fn every_trap_names_tests_that_exist() {
    let known = tests();
    for row in table("ARCHITECTURE.md", "traps") {
        let tests = names(&row[2]);
        assert!(!tests.is_empty(), "{}: nothing attacks it", row[0]);
        for test in tests {
            assert!(known.contains(&test), "{}: there is no test {test}", row[0]);
        }
    }
}

/// A promise that `guichet check` has no query for is named as one that rows cannot show.
#[test]
fn every_promise_is_checked_in_the_database_or_said_not_to_be() {
    let text = read("README.md");
    let (before, _) = text.split_once("<!-- guarantees -->").expect("the table");
    let (_, words) = before.rsplit_once("\n## ").expect("its heading");
    let checked: BTreeSet<&str> = inspector::check::statements()
        .map(|it| it.promise)
        .collect();
    for row in table("README.md", "guarantees") {
        let promise = names(&row[0]).remove(0);
        assert!(
            checked.contains(promise.as_str()) || words.contains(&format!("(`{promise}`)")),
            "{promise}: neither a query nor a word about it"
        );
    }
}

#[test]
fn every_package_that_may_be_installed_is_told_beforehand() {
    let script = read("ops/lib.sh");
    let (_, rest) = script
        .split_once("missing_packages() {")
        .expect("it is there");
    let (body, _) = rest.split_once("\n}").expect("it ends");
    let echoed = body
        .split("echo ")
        .skip(1)
        .filter_map(|rest| rest.split_whitespace().next());
    let packages: Vec<_> = echoed.filter(|word| !word.starts_with('\'')).collect();
    assert!(packages.contains(&"postgresql"), "{packages:?}");
    let readme = read("README.md");
    for package in packages {
        assert!(
            readme.contains(&format!("`{package}`")),
            "README.md: {package}"
        );
    }
}

#[test]
fn the_documents_link_to_what_is_there() {
    let documents = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
    ];
    for document in documents {
        for link in read(document).split("](").skip(1) {
            let target = link.split(')').next().unwrap_or_default();
            let local = !target.contains("://") && !target.starts_with(['#', 'm']);
            let path = target.split('#').next().unwrap_or_default();
            assert!(!local || root().join(path).exists(), "{document}: {target}");
        }
    }
}
