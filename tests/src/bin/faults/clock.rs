//! Clocks that can be set, by libfaketime: the library stands between a process and the wall clock, and
//! reads from a file how far it is off. What counts the time between two moments is left alone, as it is
//! where a clock is set.

use anyhow::{Context, Result};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// That of the Debian package `libfaketime`, for programs with threads.
const LIBRARIES: &str = "/usr/lib";
const NAME: &str = "faketime/libfaketimeMT.so.1";

/// What a process has to be told for its clock to be set; nothing if it is not to be.
pub(crate) fn of(wanted: bool, root: &Path, name: &str) -> Result<Vec<(String, String)>> {
    if !wanted {
        return Ok(Vec::new());
    }
    set(root, name, 0)?;
    let told = [
        ("LD_PRELOAD", library()?),
        (
            "FAKETIME_TIMESTAMP_FILE",
            file(root, name).display().to_string(),
        ),
        // Seconds that it may take until a change is noticed.
        ("FAKETIME_CACHE_DURATION", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("FAKETIME_DONT_RESET", "1".to_owned()),
        ("TZ", "UTC".to_owned()),
    ];
    Ok(told.map(|(key, value)| (key.to_owned(), value)).to_vec())
}

/// Sets the clock ahead of the true time by so many seconds, or behind it.
pub(crate) fn set(root: &Path, name: &str, seconds: i64) -> Result<()> {
    let file = file(root, name);
    // Whoever reads it must not find half of it.
    let whole = file.with_extension("new");
    fs::write(&whole, format!("{seconds:+}\n"))?;
    fs::set_permissions(&whole, fs::Permissions::from_mode(0o644))?;
    fs::rename(&whole, &file).with_context(|| format!("cannot write {}", file.display()))
}

fn file(root: &Path, name: &str) -> PathBuf {
    root.join(format!("clock-{name}"))
}

fn library() -> Result<String> {
    let folders = fs::read_dir(LIBRARIES)?.flatten();
    let found = folders
        .map(|folder| folder.path().join(NAME))
        .find(|path| path.exists());
    let found = found.context("libfaketime is missing (Debian package libfaketime)")?;
    Ok(found.display().to_string())
}
