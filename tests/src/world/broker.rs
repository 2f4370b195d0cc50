//! A RabbitMQ node on this machine and its own command-line tool, which alone tells of messages that somebody
//! has got and not acknowledged.

use anyhow::{Context, Result, ensure};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::process::Command;

const DEBIAN: &str = "/usr/lib/rabbitmq/lib";
/// What the tool has to know of its node; more than that is the node's own.
const TOLD: &[&str] = &["PATH", "LANG", "HOME", "ERL_EPMD_PORT", "ERL_EPMD_ADDRESS"];
/// How long messages that were worked on may take to be acknowledged.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(10);

/// A node that is private to whoever asks.
#[derive(Clone, Debug)]
pub struct Node {
    name: String,
    environment: Vec<(String, String)>,
    folder: PathBuf,
    /// Whom it runs as, if somebody else: user and group.
    user: Option<(u32, u32)>,
}

impl Node {
    /// The one with this environment.
    #[must_use]
    pub fn new(
        name: &str,
        environment: Vec<(String, String)>,
        folder: &Path,
        user: Option<(u32, u32)>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            environment,
            folder: folder.to_owned(),
            user,
        }
    }

    /// The one that was started to listen where the URL says, known by its environment; `None` if none was on
    /// this machine, or it is not ours to ask.
    #[must_use]
    pub fn at(url: &str) -> Option<Self> {
        let port = url::Url::parse(url).ok()?.port()?.to_string();
        let processes = fs::read_dir("/proc").ok()?.flatten();
        processes.map(|one| one.path()).find_map(|process| {
            let program = fs::read_to_string(process.join("comm")).ok()?;
            if program.trim() != "beam.smp" {
                return None;
            }
            let text = fs::read(process.join("environ")).ok()?;
            let text = String::from_utf8_lossy(&text).into_owned();
            let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
            let all: BTreeMap<&str, &str> = pairs.collect();
            if !listens_on(&all, &port) {
                return None;
            }
            let told = |key: &str| TOLD.contains(&key) || key.starts_with("RABBITMQ_");
            let environment = all.iter().filter(|(key, _)| told(key));
            let environment =
                environment.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            let owner = fs::metadata(&process).ok()?;
            let other = owner.uid() != nix::unistd::Uid::effective().as_raw();
            Some(Self {
                name: (*all.get("RABBITMQ_NODENAME")?).to_owned(),
                folder: PathBuf::from(all.get("HOME")?),
                user: other.then_some((owner.uid(), owner.gid())),
                environment: environment.collect(),
            })
        })
    }

    /// What its tool says.
    ///
    /// # Errors
    /// The tool cannot be run, or fails.
    pub async fn ctl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(script("rabbitmqctl")?);
        command
            .args(["-n", &self.name])
            .args(arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        let output = command.output().await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "rabbitmqctl {arguments:?}: {said}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// All messages of each queue whose name begins so, those too that somebody has got and not acknowledged,
    /// once they had time to be; parked ones stay.
    ///
    /// # Errors
    /// The tool fails, or says what is not understood.
    pub async fn messages(&self, prefix: &str, parked: &str) -> Result<BTreeMap<String, u64>> {
        let deadline = Instant::now() + ACKNOWLEDGED_WITHIN;
        loop {
            let list = ["list_queues", "--silent", "name", "messages"];
            let mut queues = queues(&self.ctl(&list).await?)?;
            queues.retain(|name, _| name.starts_with(prefix));
            let others = queues.iter().filter(|(name, _)| *name != parked);
            if others.map(|(_, count)| count).sum::<u64>() == 0 || Instant::now() > deadline {
                return Ok(queues);
            }
        }
    }
}

/// Whether this is the environment of a server with that port. A tool that asks one has all of it, and says that it
/// has read its settings: whoever is given that reads none.
fn listens_on(environment: &BTreeMap<&str, &str>, port: &str) -> bool {
    environment.get("RABBITMQ_NODE_PORT") == Some(&port)
        && !environment.contains_key("RABBITMQ_ENV_LOADED")
}

/// What the tool lists: on each line a name and a number.
fn queues(listed: &str) -> Result<BTreeMap<String, u64>> {
    let lines = listed.lines().filter(|line| !line.trim().is_empty());
    let queue = |line: &str| {
        let (name, count) = line.rsplit_once('\t').context("a name and a number")?;
        Ok::<_, anyhow::Error>((name.to_owned(), count.trim().parse()?))
    };
    lines
        .map(|line| queue(line).with_context(|| format!("rabbitmqctl says {line}")))
        .collect()
}

/// A script of the newest release.
///
/// # Errors
/// There is none.
pub fn script(name: &str) -> Result<String> {
    let releases = fs::read_dir(DEBIAN).context("RabbitMQ is not installed")?;
    let releases = releases
        .flatten()
        .map(|entry| entry.path().join("sbin").join(name));
    let newest = releases.filter(|path| path.exists()).max();
    Ok(newest
        .context("RabbitMQ is not installed")?
        .display()
        .to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tool_lists_is_read_and_nothing_else_is_taken_for_empty() {
        let read = queues("a.b c\t0\nd\t12\n").expect("a list");
        let expected = [("a.b c".to_owned(), 0), ("d".to_owned(), 12)];
        assert_eq!(read, expected.into());
        assert_eq!(queues("").expect("no queue"), BTreeMap::new());
        for strange in ["a", "a\tmany", "Error: nothing"] {
            assert!(queues(strange).is_err(), "{strange}");
        }
    }

    #[test]
    fn a_tool_that_asks_a_server_is_not_taken_for_it() {
        let server = BTreeMap::from([("RABBITMQ_NODE_PORT", "5672"), ("HOME", "/x")]);
        assert!(listens_on(&server, "5672"));
        assert!(!listens_on(&server, "5673"));
        let mut tool = server;
        tool.insert("RABBITMQ_ENV_LOADED", "1");
        assert!(!listens_on(&tool, "5672"));
    }
}
