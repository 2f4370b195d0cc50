//! Small file systems in memory, to be filled up. Making one needs root.

use anyhow::{Context, Result, ensure};
use std::{path::Path, process::Command};

/// Room for a server with a few thousand orders, its log and a little more.
const SIZE: &str = "size=400m,mode=755";

/// Puts one there.
pub(crate) fn mount(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path)?;
    let status = Command::new("mount")
        .args(["-t", "tmpfs", "-o", SIZE, "tmpfs"])
        .arg(path)
        .status()
        .context("cannot run mount")?;
    ensure!(
        status.success(),
        "a small file system can only be made by root"
    );
    Ok(())
}

/// Takes it away.
pub(crate) fn unmount(path: &Path) {
    // What stays is told by the removal of the folder, which then fails.
    let _ = Command::new("umount").arg("--lazy").arg(path).status();
}

/// Fills what is left of it; the file is the whole fault.
pub(crate) fn fill(path: &Path) -> Result<std::path::PathBuf> {
    let file = path.join("filler");
    let mut filler = std::fs::File::create(&file)?;
    let block = vec![0_u8; 64 * 1024];
    // Ends when there is no room any more, which is the purpose.
    while std::io::Write::write_all(&mut filler, &block).is_ok() {}
    Ok(file)
}
