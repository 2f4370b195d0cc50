//! The servers: private ones that can be killed, stopped, filled up and thrown away.

pub(crate) mod child;
pub(crate) mod postgres;
pub(crate) mod rabbitmq;

pub(crate) use child::Child;
pub(crate) use postgres::Postgres;
pub(crate) use rabbitmq::RabbitMq;

use anyhow::{Context, Result};
use nix::unistd::{Uid, User, chown};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

/// Whom a server runs as: the user of its Debian package when we are root, else ourselves.
pub(crate) fn user_of(package: &str) -> Result<Option<User>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    let user = User::from_name(package)?;
    user.with_context(|| format!("there is no user `{package}`; its Debian package makes one"))
        .map(Some)
}

/// Makes a folder of a server's own.
pub(crate) fn folder(path: &Path, user: Option<&User>) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    own(path, user)
}

/// Gives a path to a server.
pub(crate) fn own(path: &Path, user: Option<&User>) -> Result<()> {
    match user {
        Some(user) => chown(path, Some(user.uid), Some(user.gid))
            .with_context(|| format!("cannot give {} away", path.display())),
        None => Ok(()),
    }
}

/// Writes a file of a server's own.
pub(crate) fn write(path: &Path, text: &str, user: Option<&User>) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    own(path, user)
}
