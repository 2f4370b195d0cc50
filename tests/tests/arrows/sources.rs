//! What every source file keeps to.

use crate::root;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A longer file has more than one reason to exist.
const LINES_MAX: usize = 500;

/// All Rust files of ours.
pub(crate) fn rust_files() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    walk(&root(), &mut found);
    assert!(
        found.len() > 100,
        "the sources are not where they should be"
    );
    found
}

fn walk(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the folder can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            // Build output, and the data of private servers.
            if name != "target" && !name.starts_with('.') {
                walk(&path, found);
            }
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).expect("sources are UTF-8");
            found.push((path, text));
        }
    }
}

#[test]
fn no_file_is_longer_than_500_lines() {
    let mut long = Vec::new();
    for (path, text) in rust_files() {
        let lines = text.lines().count();
        if lines > LINES_MAX {
            long.push(format!("{}: {lines} lines", path.display()));
        }
    }
    assert!(long.is_empty(), "to be split: {long:#?}");
}

#[test]
fn no_test_is_switched_off_and_nothing_is_left_for_later() {
    // Put together here, so that this file does not find itself.
    let marks = ["#[ign", "TO", "FIX", "todo", "unimplem", "dbg"];
    let ends = ["ore", "DO:", "ME", "!(", "ented!(", "!("];
    let words: Vec<String> = marks
        .iter()
        .zip(ends)
        .map(|(a, b)| format!("{a}{b}"))
        .collect();
    let mut left = Vec::new();
    for (path, text) in rust_files() {
        for (number, line) in text.lines().enumerate() {
            if let Some(word) = words.iter().find(|word| line.contains(word.as_str())) {
                left.push(format!("{}:{}: {word}", path.display(), number + 1));
            }
        }
    }
    assert!(left.is_empty(), "{left:#?}");
}
