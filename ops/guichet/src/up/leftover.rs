//! Processes of an earlier run that are still alive.
//!
//! The scenario: `up` was killed with SIGKILL. The kernel has told its children to stop, but a
//! database that is writing its last checkpoint may live on for a while, and starting a second one
//! on the same files is what must not happen. So each child is recorded in `run/`, and a run begins by
//! stopping whoever of them is still there. A process id alone says nothing, since the system uses it
//! again; the id together with the start time and the boot names one process for ever.

use std::{
    fs,
    io::ErrorKind,
    path::Path,
    str::FromStr,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::narrator::Narrator;

/// How long a leftover may take to stop by itself before it is killed.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the kernel may take to remove a killed process.
const AFTER_KILL: Duration = Duration::from_secs(10);
/// How often it is asked whether it is gone.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Names one process for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pid: Pid,
    /// In clock ticks since boot; none if the process was gone when we looked.
    started: Option<u64>,
    boot: String,
    stop: Signal,
}

impl Record {
    /// The record of a process that runs now.
    pub(crate) fn of(pid: Pid, stop: Signal) -> Self {
        Self {
            pid,
            started: started(pid),
            boot: boot(),
            stop,
        }
    }

    /// Writes it down.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let started = self.started.unwrap_or_default();
        let text = format!("{} {started} {} {}\n", self.pid, self.boot, self.stop);
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        Some(Self {
            pid: Pid::from_raw(words.next()?.parse().ok()?),
            started: words.next()?.parse().ok(),
            boot: words.next()?.to_owned(),
            stop: Signal::from_str(words.next()?).ok()?,
        })
    }

    fn lives(&self) -> bool {
        self.started.is_some() && self.boot == boot() && started(self.pid) == self.started
    }
}

/// Stops whoever a killed run has left, last started first.
pub(crate) fn stop_recorded(run: &Path, narrator: Narrator) -> Result<()> {
    let mut records = Vec::new();
    for entry in fs::read_dir(run).with_context(|| format!("cannot read {}", run.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let record = fs::read_to_string(entry.path()).ok();
        records.push((
            name,
            entry.path(),
            record.as_deref().and_then(Record::parse),
        ));
    }
    let started = |record: &Option<Record>| record.as_ref().and_then(|r| r.started);
    records.sort_by_key(|(_, _, record)| std::cmp::Reverse(started(record)));
    for (name, path, record) in records {
        if let Some(record) = record.filter(Record::lives) {
            stop(&name, &record, narrator)?;
        }
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

/// Stops a database server that works on `data` without our having recorded it, and removes a
/// `postmaster.pid` that would keep the next one from starting because another process now has the
/// id in it.
pub(crate) fn stop_postmaster(data: &Path, narrator: Narrator) -> Result<()> {
    let file = data.join("postmaster.pid");
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(anyhow!(e).context(format!("cannot read {}", file.display()))),
    };
    let pid = text
        .lines()
        .next()
        .and_then(|line| line.trim().parse().ok());
    let record = pid.map(|pid| Record::of(Pid::from_raw(pid), Signal::SIGINT));
    let works_here = |record: &Record| {
        let cwd = fs::read_link(format!("/proc/{}/cwd", record.pid)).ok();
        cwd.is_some() && cwd == data.canonicalize().ok()
    };
    if let Some(record) = record.filter(works_here) {
        return stop("postgres", &record, narrator);
    }
    fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))
}

fn stop(name: &str, record: &Record, narrator: Narrator) -> Result<()> {
    narrator.say(
        name,
        &format!("stopping process {} of an earlier run", record.pid),
    );
    for (signal, patience) in [(record.stop, PATIENCE), (Signal::SIGKILL, AFTER_KILL)] {
        // It may end between our look and the signal.
        let _ = kill(record.pid, signal);
        let began = Instant::now();
        while began.elapsed() < patience {
            if !record.lives() {
                return Ok(());
            }
            sleep(LOOK_EVERY);
        }
    }
    bail!(
        "process {} ({name}) of an earlier run does not go away",
        record.pid
    )
}

/// The start time, field 22 of `/proc/<pid>/stat`; none for a process that is gone or a zombie.
/// The second field is the program's name in parentheses and may hold anything, also blanks.
fn started(pid: Pid) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    if matches!(fields.first(), Some(&("Z" | "X"))) {
        return None;
    }
    fields.get(19)?.parse().ok()
}

fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::testing::TempDir;

    fn sleeper() -> (std::process::Child, Pid) {
        let child = Command::new("sleep")
            .arg("600")
            .spawn()
            .expect("sleep runs");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("ids are small"));
        (child, pid)
    }

    #[test]
    fn a_record_survives_being_written_down() {
        let record = Record::of(nix::unistd::getpid(), Signal::SIGINT);
        assert!(record.lives());
        let temp = TempDir::new();
        let path = temp.path().join("me");
        record.save(&path).expect("written");
        let text = fs::read_to_string(path).expect("there");
        assert_eq!(Record::parse(&text), Some(record));
        assert_eq!(Record::parse("nonsense"), None);
    }

    #[test]
    fn the_process_of_a_killed_run_is_stopped() {
        let (mut child, pid) = sleeper();
        let temp = TempDir::new();
        Record::of(pid, Signal::SIGTERM)
            .save(&temp.path().join("sleeper"))
            .expect("written");
        stop_recorded(temp.path(), Narrator::new()).expect("stopped");
        assert!(child.wait().is_ok_and(|status| !status.success()));
        assert_eq!(fs::read_dir(temp.path()).expect("there").count(), 0);
    }

    #[test]
    fn a_stranger_with_the_same_id_is_left_alone() {
        let (mut child, pid) = sleeper();
        let temp = TempDir::new();
        let mut record = Record::of(pid, Signal::SIGTERM);
        record.started = record.started.map(|ticks| ticks + 1);
        record.save(&temp.path().join("sleeper")).expect("written");
        stop_recorded(temp.path(), Narrator::new()).expect("nothing to stop");
        assert!(matches!(child.try_wait(), Ok(None)), "it must still run");
        child.kill().and_then(|()| child.wait()).expect("ended");
    }

    #[test]
    fn a_stale_postmaster_file_goes_and_its_stranger_stays() {
        let (mut child, pid) = sleeper();
        let temp = TempDir::new();
        let file = temp.path().join("postmaster.pid");
        fs::write(&file, format!("{pid}\n")).expect("written");
        stop_postmaster(temp.path(), Narrator::new()).expect("done");
        assert!(!file.exists());
        assert!(matches!(child.try_wait(), Ok(None)), "it must still run");
        child.kill().and_then(|()| child.wait()).expect("ended");
    }
}
