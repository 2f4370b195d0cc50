//! What a command answers with: on standard output, in the form that was asked for.

use std::io::{ErrorKind, Write};

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Serialize;

/// The forms of `-o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// One JSON document
    Json,
    /// One JSON document a line
    Jsonl,
}

/// A list: each row as a document, and as cells under `header`.
pub(crate) fn rows<T: Serialize>(
    format: Format,
    header: &[&str],
    rows: &[T],
    cells: impl Fn(&T) -> Vec<String>,
) -> Result<()> {
    let text = match format {
        Format::Table => {
            let header = header.iter().map(|name| name.to_uppercase()).collect();
            let lines: Vec<_> = std::iter::once(header)
                .chain(rows.iter().map(cells))
                .collect();
            table(&lines)
        }
        Format::Json => pretty(rows)?,
        Format::Jsonl => {
            let mut text = String::new();
            for row in rows {
                text.push_str(&serde_json::to_string(row).context("cannot write JSON")?);
                text.push('\n');
            }
            text
        }
    };
    print(&text)
}

/// One thing: as a document, and as named values below each other.
pub(crate) fn one<T: Serialize>(
    format: Format,
    thing: &T,
    fields: impl Fn(&T) -> Vec<(&'static str, String)>,
) -> Result<()> {
    let text = match format {
        Format::Table => {
            let pair = |(name, value): (&str, String)| vec![name.to_owned(), value];
            let rows: Vec<_> = fields(thing).into_iter().map(pair).collect();
            table(&rows)
        }
        Format::Json => pretty(thing)?,
        Format::Jsonl => serde_json::to_string(thing).context("cannot write JSON")? + "\n",
    };
    print(&text)
}

/// Writes to standard output. A reader that has had enough (`| head`) is not a failure.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(e).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

fn pretty<T: Serialize + ?Sized>(thing: &T) -> Result<String> {
    Ok(serde_json::to_string_pretty(thing).context("cannot write JSON")? + "\n")
}

/// Columns as wide as their widest cell, two blanks apart.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // Control characters of somebody's name must not steer the terminal.
            let clean: String = cell
                .chars()
                .map(|c| if c.is_control() { '\u{fffd}' } else { c })
                .collect();
            line.push_str(&format!("{clean:<width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_control_characters_do_nothing() {
        let rows = [["a", "long cell"], ["éé\u{1b}", "b"]];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec()).to_vec();
        assert_eq!(table(&rows), "a    long cell\néé\u{fffd}  b\n");
    }
}
