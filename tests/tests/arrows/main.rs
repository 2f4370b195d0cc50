//! The rules that no compiler keeps: which crate may know which, how long a file may grow, and that the
//! documents speak of what is there. No server is needed.

mod bounds;
mod constants;
mod crates;
mod readme;
mod sources;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The checkout.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(name: &str) -> String {
    let path = root().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The rows of the table between `<!-- name -->` and `<!-- end -->`, without its two head rows.
fn table(document: &str, name: &str) -> Vec<Vec<String>> {
    let text = read(document);
    let begin = format!("<!-- {name} -->");
    let (_, rest) = text
        .split_once(&begin)
        .unwrap_or_else(|| panic!("{document} has no {begin}"));
    let (table, _) = rest.split_once("<!-- end -->").expect("the table ends");
    let rows = table.lines().filter(|line| line.starts_with('|')).skip(2);
    let rows: Vec<Vec<String>> = rows
        .map(|row| {
            let cells = row.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().to_owned()).collect()
        })
        .collect();
    assert!(!rows.is_empty(), "{document}: the table {name} is empty");
    rows
}

/// What stands in backticks.
fn names(cell: &str) -> Vec<String> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}
