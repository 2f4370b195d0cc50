//! Which crate may depend on which, and who may name which library: the tables of ARCHITECTURE.md
//! against `cargo metadata`.

use crate::{names, root, table};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

/// Each crate of the workspace with the packages it is built with, those for its tests left out.
fn workspace() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("metadata is JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages = metadata["packages"].as_array().expect("there are packages");
    let dependencies = |package: &Value| {
        let all = package["dependencies"].as_array().expect("a list");
        let built = all.iter().filter(|one| one["kind"] != "dev");
        built.map(|one| text(&one["name"])).collect()
    };
    packages
        .iter()
        .map(|package| (text(&package["name"]), dependencies(package)))
        .collect()
}

/// Arrows that are there and not in the table, and tables that speak of other crates.
fn strange_arrows(
    found: &BTreeMap<String, BTreeSet<String>>,
    allowed: &BTreeMap<String, BTreeSet<String>>,
) -> Vec<String> {
    let mut strange = Vec::new();
    for (name, dependencies) in found {
        let Some(may) = allowed.get(name) else {
            strange.push(format!("{name} is not in the table"));
            continue;
        };
        for dependency in dependencies {
            if found.contains_key(dependency) && !may.contains(dependency) {
                strange.push(format!("{name} -> {dependency}"));
            }
        }
    }
    let named = allowed
        .iter()
        .flat_map(|(name, may)| may.iter().chain([name]));
    let gone: BTreeSet<_> = named.filter(|name| !found.contains_key(*name)).collect();
    strange.extend(
        gone.into_iter()
            .map(|name| format!("there is no crate {name}")),
    );
    strange
}

fn allowed() -> BTreeMap<String, BTreeSet<String>> {
    let rows = table("ARCHITECTURE.md", "arrows").into_iter();
    rows.map(|row| {
        let name = names(&row[0]).remove(0);
        (name, names(&row[1]).into_iter().collect())
    })
    .collect()
}

#[test]
fn crates_depend_only_on_what_the_map_allows() {
    let strange = strange_arrows(&workspace(), &allowed());
    assert!(strange.is_empty(), "not in ARCHITECTURE.md: {strange:#?}");
}

#[test]
fn the_map_has_no_circle() {
    let mut open = allowed();
    while !open.is_empty() {
        let done: BTreeSet<String> = open
            .iter()
            .filter(|(_, may)| may.iter().all(|name| !open.contains_key(name)))
            .map(|(name, _)| name.clone())
            .collect();
        assert!(
            !done.is_empty(),
            "these depend on each other: {:?}",
            open.keys()
        );
        open.retain(|name, _| !done.contains(name));
    }
}

#[test]
fn libraries_are_named_only_where_the_map_allows() {
    let workspace = workspace();
    let mut strange = Vec::new();
    for row in table("ARCHITECTURE.md", "libraries") {
        let (library, may) = (names(&row[0]).remove(0), names(&row[1]));
        let users = workspace
            .iter()
            .filter(|(_, dependencies)| dependencies.contains(&library));
        let others = users.filter(|(name, _)| !may.contains(name));
        strange.extend(others.map(|(name, _)| format!("{name} names {library}")));
    }
    assert!(strange.is_empty(), "not in ARCHITECTURE.md: {strange:#?}");
}

#[test]
fn a_new_arrow_or_crate_would_be_seen() {
    let of = |pairs: &[(&str, &[&str])]| -> BTreeMap<String, BTreeSet<String>> {
        let pair = |(name, others): &(&str, &[&str])| {
            let others = others.iter().map(|name| (*name).to_owned()).collect();
            ((*name).to_owned(), others)
        };
        pairs.iter().map(pair).collect()
    };
    let allowed = of(&[
        ("top", &["middle", "bottom"]),
        ("middle", &["bottom"]),
        ("bottom", &[]),
    ]);
    assert!(strange_arrows(&allowed, &allowed).is_empty());
    let upwards = of(&[("top", &[]), ("middle", &[]), ("bottom", &["top", "serde"])]);
    assert_eq!(strange_arrows(&upwards, &allowed), ["bottom -> top"]);
    let other = of(&[("top", &["middle"]), ("middle", &[]), ("new", &[])]);
    assert_eq!(
        strange_arrows(&other, &allowed),
        ["new is not in the table", "there is no crate bottom"]
    );
}
