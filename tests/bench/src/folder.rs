//! Where the roles of a run write.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use tokio::process::Command;
use uuid::Uuid;

use crate::world::say;

/// What the folders of the runs are called, before a number.
const FOLDER: &[u8] = b"roles-";

/// A new folder for what the roles write.
///
/// Thousands of mails are files, and a run ends by removing them. For some minutes ext4 does not give
/// out removed inodes again, and looks at each of them for every new file nearby: of runs in close
/// succession the second one would spend a third of the worker's time there. So folders are asked to
/// lie apart on the disk, each where nothing was removed. Other file systems refuse, and need it not.
pub(crate) async fn make(parent: &Path) -> Result<PathBuf> {
    let cannot = || format!("cannot make a folder in {}", parent.display());
    fs::create_dir_all(parent).with_context(cannot)?;
    for entry in fs::read_dir(parent).with_context(cannot)? {
        let old = entry?;
        if old.file_name().as_encoded_bytes().starts_with(FOLDER) {
            remove(&old.path())?;
        }
    }
    let apart = Command::new("chattr").arg("+T").arg(parent).output().await;
    if !apart.is_ok_and(|output| output.status.success()) {
        say("chattr +T is refused here: repeated runs may differ");
    }
    let name = format!("{}{}", FOLDER.escape_ascii(), Uuid::now_v7().simple());
    let dir = parent.join(name);
    fs::create_dir(&dir).with_context(cannot)?;
    dir.canonicalize().with_context(cannot)
}

/// Removes one with all that is in it.
pub(crate) fn remove(dir: &Path) -> Result<()> {
    fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))
}
