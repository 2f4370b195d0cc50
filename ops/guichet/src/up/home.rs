//! The folder `.guichet/`: everything `up` keeps for one checkout.
//!
//! | path | holds |
//! |---|---|
//! | `lock` | locked by the one `up` that uses the folder |
//! | `state` | an id and the chosen ports (TOML) |
//! | `secrets/` | generated passwords and keys, one a file, readable by the owner only |
//! | `run/` | which processes the present or a killed run has started |
//! | `log/` | what they write |
//! | `postgres/`, `rabbitmq/` | the private servers' data |

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, TryLockError},
    io::{ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};

use super::ports;
use crate::failure::Failure;

/// The folder, held by this process until it is dropped.
#[derive(Debug)]
pub(crate) struct Home {
    dir: PathBuf,
    state: State,
    /// Promised in this run, so that no two parts get the same.
    promised: BTreeSet<u16>,
    lock: File,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    /// Tells the data of this folder from that of any other, also of a later one at the same path.
    id: String,
    #[serde(default)]
    ports: BTreeMap<String, u16>,
}

impl Home {
    /// Opens the folder, making it if there is none, and locks it.
    ///
    /// # Errors
    /// A conflict when another `up` is using it; otherwise what is wrong with the folder.
    pub(crate) fn open(dir: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let dir = dir
            .canonicalize()
            .with_context(|| format!("cannot find {}", dir.display()))?;
        let lock = lock(&dir)?;
        // Logs of servers may hold what people typed, so they are private like the secrets.
        for part in ["run", "log", "secrets"] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir.join(part))
                .with_context(|| format!("cannot make {}/{part}", dir.display()))?;
        }
        let state = load(&dir.join("state"))?;
        let home = Self {
            dir,
            state,
            promised: BTreeSet::new(),
            lock,
        };
        home.save()?;
        Ok(home)
    }

    /// The folder's absolute path.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A random name that no other folder has.
    pub(crate) fn id(&self) -> &str {
        &self.state.id
    }

    /// A path inside the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The port called `name`: the remembered one if it is free, else `preferred`, else any.
    pub(crate) fn port(&mut self, name: &str, preferred: Option<u16>) -> Result<u16> {
        let wish = self.state.ports.get(name).copied().or(preferred);
        let port = ports::keep_or_choose(wish, &self.promised)?;
        self.promised.insert(port);
        if self.state.ports.insert(name.to_owned(), port) != Some(port) {
            self.save()?;
        }
        Ok(port)
    }

    /// Whether somebody else listens on a port promised in this run. To be asked while nothing of
    /// ours does.
    pub(crate) fn lost_a_port(&self) -> bool {
        self.promised.iter().any(|port| !ports::is_free(*port))
    }

    /// Lets every port of this run be chosen again.
    pub(crate) fn forget_promises(&mut self) {
        self.promised.clear();
    }

    /// The secret called `name`, with whether it already existed; made by `generate` if not.
    pub(crate) fn secret(
        &self,
        name: &str,
        generate: impl FnOnce() -> String,
    ) -> Result<(String, bool)> {
        let path = self.secret_path(name);
        match fs::read_to_string(&path) {
            Ok(secret) if !secret.trim().is_empty() => return Ok((secret.trim().to_owned(), true)),
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(anyhow!(e).context(format!("cannot read {}", path.display()))),
        }
        let secret = generate();
        write_private(&path, &secret)?;
        Ok((secret, false))
    }

    /// Where the secret called `name` is kept.
    pub(crate) fn secret_path(&self, name: &str) -> PathBuf {
        self.dir.join("secrets").join(name)
    }

    fn save(&self) -> Result<()> {
        let text = toml::to_string(&self.state).context("cannot write the state as TOML")?;
        write_private(&self.path("state"), &text)
    }
}

/// A child that was just forked holds a copy of the file until it becomes another program. Closing
/// ours would then not release the lock; this does.
impl Drop for Home {
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

/// A random secret of 192 bits, in letters that need no escaping in a URL, SQL or a configuration file.
pub(crate) fn random_secret() -> String {
    rand::random::<[u8; 24]>()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Replaces a file as a whole, readable by its owner only: a kill in the middle leaves the old one.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<()> {
    let new = path.with_extension("new");
    // A leftover of a killed run keeps its mode when it is opened again, so it goes first.
    let _ = fs::remove_file(&new);
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn lock(dir: &Path) -> Result<File, Failure> {
    let path = dir.join("lock");
    let mut file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| {
            format!(
                "cannot open {} (if the folder belongs to another user, remove it or run as that user)",
                path.display()
            )
        })?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let pid = fs::read_to_string(&path).unwrap_or_default();
            return Err(Failure::conflict(anyhow!(
                "{} is in use by `guichet up` (process {}): stop that one first, or choose another folder with --dir",
                dir.display(),
                pid.trim()
            )));
        }
        Err(TryLockError::Error(e)) => {
            return Err(anyhow!(e)
                .context(format!("cannot lock {}", path.display()))
                .into());
        }
    }
    file.set_len(0)
        .and_then(|()| file.write_all(std::process::id().to_string().as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(file)
}

fn load(path: &Path) -> Result<State> {
    match fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text).with_context(|| {
            format!(
                "{} is damaged; remove its folder to start afresh",
                path.display()
            )
        }),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(State {
            id: random_secret()[..12].to_owned(),
            ports: BTreeMap::new(),
        }),
        Err(e) => Err(anyhow!(e).context(format!("cannot read {}", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::testing::TempDir;

    #[test]
    fn what_is_chosen_once_is_remembered() {
        let temp = TempDir::new();
        let mut first = Home::open(temp.path()).expect("a fresh folder");
        let (id, port) = (first.id().to_owned(), first.port("a", None).expect("one"));
        let other = first.port("b", None).expect("another");
        assert_ne!(port, other);
        let (secret, existed) = first.secret("s", random_secret).expect("a secret");
        assert!(!existed);
        drop(first);

        let mut second = Home::open(temp.path()).expect("the same folder");
        assert_eq!(second.id(), id);
        assert_eq!(second.port("a", None).expect("the same"), port);
        assert_eq!(
            second.secret("s", || unreachable!()).expect("the same"),
            (secret, true)
        );
    }

    #[test]
    fn a_second_user_of_the_folder_is_told_who_has_it() {
        let temp = TempDir::new();
        let _first = Home::open(temp.path()).expect("a fresh folder");
        let refused = Home::open(temp.path()).expect_err("it is locked");
        assert_eq!(refused.exit(), 4);
        let text = refused.to_string();
        assert!(text.contains(&std::process::id().to_string()), "{text}");
    }

    #[test]
    fn secrets_are_for_the_owner_only() {
        let temp = TempDir::new();
        let home = Home::open(temp.path()).expect("a fresh folder");
        home.secret("s", random_secret).expect("a secret");
        let mode = |path: PathBuf| fs::metadata(path).expect("it exists").permissions().mode();
        assert_eq!(mode(home.secret_path("s")) & 0o777, 0o600);
        assert_eq!(mode(home.path("secrets")) & 0o777, 0o700);
        assert_eq!(mode(home.path("state")) & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_state_is_named_and_not_overwritten() {
        let temp = TempDir::new();
        fs::write(temp.path().join("state"), "id = ").expect("written");
        let refused = Home::open(temp.path()).expect_err("it is damaged");
        assert!(
            refused.to_string().contains("state is damaged"),
            "{refused}"
        );
        let kept = fs::read_to_string(temp.path().join("state")).expect("still there");
        assert_eq!(kept, "id = ");
    }
}
