//! Where a private server keeps its data, and as which user it runs.
//!
//! As an ordinary user the answer is simple: under `.guichet/`, as ourselves. As root, PostgreSQL
//! refuses to start, and a broker should not run with such rights either: each server then runs as
//! the system user that its Debian package made. That user may be unable to enter the checkout
//! (root's home is closed to others), and then the data lives under `/var/lib/guichet/<id>/` with a
//! link to it in `.guichet/`. The id is random and remembered in `.guichet/state`; data that a former
//! `.guichet/` at the same path left there is removed, since nobody has its passwords any more.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, MetadataExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, anyhow, bail};
use nix::unistd::{Uid, User, chown};

use super::{home::Home, leftover, narrator::Narrator};

/// Where root's servers keep what they cannot keep in the checkout.
const ELSEWHERE: &str = "/var/lib/guichet";

/// A server's folder and the user whose it is.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The folder, closed to everybody else.
    pub(crate) dir: PathBuf,
    /// The user to run as; none when that is ourselves.
    pub(crate) user: Option<User>,
}

impl Place {
    /// Makes ready the folder for the server `name` whose package has the system user `package_user`.
    pub(crate) fn prepare(
        home: &Home,
        name: &str,
        package_user: &str,
        narrator: Narrator,
    ) -> Result<Self> {
        let link = home.path(name);
        if !Uid::effective().is_root() {
            make_dir(&link, 0o700)?;
            return Ok(Self {
                dir: link,
                user: None,
            });
        }
        let user = match link.metadata() {
            // Made when we were not root, or by us for the package's user: whose it is stays so.
            Ok(found) if found.uid() != 0 => User::from_uid(Uid::from_raw(found.uid()))?
                .ok_or_else(|| {
                    anyhow!("{} belongs to user {}, who does not exist", link.display(), found.uid())
                })?,
            _ => User::from_name(package_user)?.ok_or_else(|| {
                anyhow!("there is no user `{package_user}`, whom {name} runs as when started by root; its Debian package makes one")
            })?,
        };
        let dir = if may_enter(&user, home.dir())? {
            link
        } else {
            elsewhere(home, name, &link, &user, narrator)?
        };
        make_dir(&dir, 0o700)?;
        let place = Self {
            dir,
            user: Some(user),
        };
        place.own(&place.dir)?;
        Ok(place)
    }

    /// Gives a path that we made to the server's user.
    pub(crate) fn own(&self, path: &Path) -> Result<()> {
        if let Some(user) = &self.user {
            chown(path, Some(user.uid), Some(user.gid)).with_context(|| {
                format!("cannot give {} to the user {}", path.display(), user.name)
            })?;
        }
        Ok(())
    }

    /// Makes a folder inside, for the server's user alone.
    pub(crate) fn make(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        make_dir(&path, 0o700)?;
        self.own(&path)?;
        Ok(path)
    }

    /// Writes a file inside, readable by the server's user alone.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        super::home::write_private(&path, text)?;
        self.own(&path)?;
        Ok(path)
    }
}

fn make_dir(path: &Path, mode: u32) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .with_context(|| format!("cannot make {}", path.display()))
}

/// Asks the kernel rather than reading modes: there are access lists, mounts and name spaces.
fn may_enter(user: &User, dir: &Path) -> Result<bool> {
    let status = Command::new("setpriv")
        .args(super::process::as_user(user))
        .args(["--", "test", "-x"])
        .arg(dir)
        .current_dir("/")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("cannot run setpriv (Debian package util-linux)")?;
    Ok(status.success())
}

fn elsewhere(
    home: &Home,
    name: &str,
    link: &Path,
    user: &User,
    narrator: Narrator,
) -> Result<PathBuf> {
    let base = Path::new(ELSEWHERE);
    make_dir(base, 0o755)?;
    let ours = base.join(home.id());
    remove_abandoned(base, &ours, home.dir(), narrator)?;
    make_dir(&ours, 0o755)?;
    let owner = ours.join("checkout");
    fs::write(&owner, home.dir().as_os_str().as_encoded_bytes())
        .with_context(|| format!("cannot write {}", owner.display()))?;
    let dir = ours.join(name);
    match fs::read_link(link) {
        Ok(target) if target == dir => return Ok(dir),
        Ok(_) => fs::remove_file(link)
            .with_context(|| format!("cannot replace the link {}", link.display()))?,
        Err(_) if link.exists() => bail!(
            "{} is there, but the user {} may not enter it; remove it to start afresh",
            link.display(),
            user.name
        ),
        Err(_) => {}
    }
    symlink(&dir, link).with_context(|| format!("cannot link {}", link.display()))?;
    narrator.say(
        name,
        &format!(
            "the user {} may not enter {}, so its data is in {} (linked)",
            user.name,
            home.dir().display(),
            dir.display()
        ),
    );
    Ok(dir)
}

/// Removes what earlier folders at our path left behind.
fn remove_abandoned(base: &Path, ours: &Path, home: &Path, narrator: Narrator) -> Result<()> {
    for entry in fs::read_dir(base).with_context(|| format!("cannot read {ELSEWHERE}"))? {
        let dir = entry?.path();
        let theirs = fs::read(dir.join("checkout")).unwrap_or_default();
        if dir == ours || theirs != home.as_os_str().as_encoded_bytes() {
            continue;
        }
        leftover::stop_postmaster(&dir.join("postgres/data"), narrator)?;
        fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        narrator.say(
            "servers",
            &format!(
                "removed {}, left by an earlier .guichet at this path",
                dir.display()
            ),
        );
    }
    Ok(())
}
