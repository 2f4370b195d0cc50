//! `guichet config print`

use std::path::Path;

use anyhow::Context;

use crate::{
    config,
    failure::Failure,
    output::{self, Format},
};

/// Prints the whole configuration as it takes effect, secrets as `***`.
pub(crate) fn run(file: Option<&Path>, format: Format) -> Result<(), Failure> {
    // Also what is not complete yet.
    let config = config::load(file, &[])?;
    let text = match format {
        Format::Table => toml::to_string(&config).context("cannot write TOML")?,
        Format::Json => serde_json::to_string_pretty(&config).context("cannot write JSON")? + "\n",
        Format::Jsonl => serde_json::to_string(&config).context("cannot write JSON")? + "\n",
    };
    Ok(output::print(&text)?)
}
