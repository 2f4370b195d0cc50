//! CPU time of the processes that take part, from `/proc`, and of the whole machine beside it: on a
//! machine that others use at the same time a figure means little, so the table has to say so.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs, process,
};

use anyhow::{Context, Result};

/// Bytes of a page of memory.
const PAGE_BYTES: u64 = 4_096;

/// The kernel shows times in hundredths of a second to every program (`USER_HZ`), whatever it counts
/// in itself.
const US_PER_TICK: u64 = 10_000;

/// CPU time used until now.
#[derive(Debug, Clone)]
pub(crate) struct Cpu {
    ours: HashMap<(u32, u64), (String, u64)>,
    busy: u64,
    stolen: u64,
    total: u64,
}

/// CPU time of a span.
#[derive(Debug)]
pub(crate) struct Used {
    /// By process, in microseconds; several of one kind are one.
    pub(crate) us: BTreeMap<String, u64>,
    /// Share of the machine that these processes used, in per cent of all cores.
    pub(crate) ours_percent: f64,
    /// The same of everybody else, the kernel's own work included.
    pub(crate) others_percent: f64,
    /// What the host gave to other machines.
    pub(crate) stolen_percent: f64,
}

impl Cpu {
    /// Looks at our own processes.
    pub(crate) fn now() -> Result<Self> {
        let all = processes()?;
        let family = family(&all)?;
        let ours = family.iter().filter_map(|pid| {
            let process = all.get(pid)?;
            Some(((*pid, process.started), (name(*pid, &all), process.ticks)))
        });
        let ours = ours.collect();
        let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        let times: Vec<u64> = stat
            .lines()
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(1)
            .filter_map(|word| word.parse().ok())
            .collect();
        // user nice system idle iowait irq softirq steal
        let at = |index: usize| times.get(index).copied().unwrap_or(0);
        let busy = at(0) + at(1) + at(2) + at(5) + at(6);
        Ok(Self {
            ours,
            busy,
            stolen: at(7),
            total: busy + at(3) + at(4) + at(7),
        })
    }

    /// What was used since `before`.
    pub(crate) fn since(&self, before: &Self) -> Used {
        let mut us = BTreeMap::new();
        let mut ticks_of_ours = 0;
        for (id, (name, ticks)) in &self.ours {
            // One that was not there yet has used everything since.
            let earlier = before.ours.get(id).map_or(0, |(_, ticks)| *ticks);
            let used = ticks.saturating_sub(earlier);
            ticks_of_ours += used;
            *us.entry(name.clone()).or_insert(0) += used * US_PER_TICK;
        }
        let total = self.total.saturating_sub(before.total).max(1) as f64;
        let percent = |ticks: u64| 100.0 * ticks as f64 / total;
        let busy = self.busy.saturating_sub(before.busy);
        Used {
            us,
            ours_percent: percent(ticks_of_ours),
            others_percent: percent(busy.saturating_sub(ticks_of_ours)),
            stolen_percent: percent(self.stolen.saturating_sub(before.stolen)),
        }
    }
}

/// Memory that is resident now, in bytes, by process; several of one kind are one.
pub(crate) fn resident() -> Result<BTreeMap<String, u64>> {
    let all = processes()?;
    let mut bytes = BTreeMap::new();
    for pid in family(&all)? {
        let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
        let pages = statm.split_whitespace().nth(1);
        let pages: u64 = pages.and_then(|word| word.parse().ok()).unwrap_or(0);
        *bytes.entry(name(pid, &all)).or_insert(0) += pages * PAGE_BYTES;
    }
    Ok(bytes)
}

/// Our own processes: those below the `guichet up` that started us, if one did.
fn family(all: &HashMap<u32, Process>) -> Result<BTreeSet<u32>> {
    let us = all.get(&process::id()).context("we are not in /proc")?;
    let root = match all.get(&us.parent) {
        Some(parent) if parent.command == "guichet" => us.parent,
        _ => process::id(),
    };
    let mut family = BTreeSet::from([root]);
    // Parents have no lower numbers than their children for sure, so until nothing is found.
    loop {
        let found: Vec<u32> = all
            .iter()
            .filter(|(pid, process)| family.contains(&process.parent) && !family.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if found.is_empty() {
            return Ok(family);
        }
        family.extend(found);
    }
}

struct Process {
    parent: u32,
    started: u64,
    command: String,
    ticks: u64,
}

fn processes() -> Result<HashMap<u32, Process>> {
    let entries = fs::read_dir("/proc").context("cannot read /proc")?;
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    Ok(pids
        .filter_map(|pid| {
            // It may have ended since.
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            Some((pid, parse(&stat)?))
        })
        .collect())
}

/// A line of `/proc/PID/stat`; the command may itself hold blanks and brackets.
fn parse(stat: &str) -> Option<Process> {
    let (head, rest) = stat.rsplit_once(')')?;
    let (_, command) = head.split_once('(')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |index: usize| fields.get(index)?.parse::<u64>().ok();
    // With what its ended children used: backends of the database come and go.
    let ticks = field(11)? + field(12)? + field(13)? + field(14)?;
    Some(Process {
        parent: u32::try_from(field(1)?).ok()?,
        started: field(19)?,
        command: command.to_owned(),
        ticks,
    })
}

fn name(pid: u32, all: &HashMap<u32, Process>) -> String {
    if pid == process::id() {
        return "load generator".to_owned();
    }
    let Some(process) = all.get(&pid) else {
        return "unknown".to_owned();
    };
    match process.command.as_str() {
        "beam.smp" | "epmd" => "rabbitmq".to_owned(),
        "postgres" => "postgres".to_owned(),
        "guichet" | "bench" => fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .ok()
            .and_then(|line| role(line.split('\0').skip(1)))
            .unwrap_or_else(|| process.command.clone()),
        // A helper of whoever started it.
        _ => name(process.parent, all),
    }
}

/// What a process of ours plays: the words among its arguments that are no options, of `up` only that.
fn role<'a>(mut arguments: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut words = Vec::new();
    while let Some(argument) = arguments.next() {
        match argument {
            "--config" | "-o" | "--output" => drop(arguments.next()),
            "" => {}
            option if option.starts_with('-') => {}
            "up" => return Some("up".to_owned()),
            word => words.push(word),
        }
    }
    (!words.is_empty()).then(|| words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_brackets_is_read() {
        let stat = "7 (a) b) S 3 7 7 0 -1 4 0 0 0 0 10 20 3 4 20 0 1 0 99 0";
        let process = parse(stat).expect("it is sound");
        assert_eq!((process.parent, process.started), (3, 99));
        assert_eq!((process.command.as_str(), process.ticks), ("a) b", 37));
    }

    #[test]
    fn a_role_is_the_words_that_are_no_options() {
        let role = |line: &str| role(line.split(' '));
        assert_eq!(
            role("--config f.toml worker all").as_deref(),
            Some("worker all")
        );
        assert_eq!(role("up --dir x").as_deref(), Some("up"));
        assert_eq!(role("role mails 2525").as_deref(), Some("role mails 2525"));
    }

    #[test]
    fn our_own_time_is_seen() {
        let before = Cpu::now().expect("/proc is there");
        let began = std::time::Instant::now();
        while began.elapsed() < std::time::Duration::from_millis(100) {
            std::hint::black_box(began);
        }
        assert!(resident().expect("/proc is there")["load generator"] > 0);
        let used = Cpu::now().expect("/proc is there").since(&before);
        let ours = used.us.get("load generator").copied().unwrap_or(0);
        assert!(ours >= 10_000, "{used:?}");
    }
}
