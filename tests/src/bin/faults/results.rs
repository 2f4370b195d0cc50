//! What came of all runs, for people: failures are shown as such.
//!
//! Each run is a line of a file; the page is made of all its lines, so that the whole can be run in parts,
//! side by side or one after the other. Whoever wants a page of what he runs now deletes the file first.

use crate::{fault::Fault, reach, run::Outcome};
use anyhow::{Context, Result};
use contract::StepName;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

/// Failures of one run that are told one by one.
const TOLD_MAX: usize = 20;
/// Failures of one fault on the page.
const ON_PAGE_MAX: usize = 30;

/// How what came too late is told, in contrast to a broken promise.
const LATE: &str = "late: ";

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    fault: String,
    seed: u64,
    commit: String,
    load: String,
    orders: usize,
    seen: String,
    failed: Vec<String>,
    /// In seconds; none if it never came.
    recovered_s: Option<f64>,
    rest_s: Option<f64>,
    slowest_s: Option<f64>,
    /// Orders that were held, and that asked for a person.
    #[serde(default)]
    held: usize,
    #[serde(default)]
    asking: usize,
    /// What sagas have met: step, kind and outcome.
    #[serde(default)]
    reached: Vec<String>,
    /// Processes that wanted to run for each that could, when it was over.
    busy: f64,
}

impl Record {
    fn violations(&self) -> usize {
        let broken = self.failed.iter().filter(|one| !one.starts_with(LATE));
        broken.count()
    }

    fn is_late(&self) -> bool {
        self.failed.iter().any(|one| one.starts_with(LATE))
    }
}

/// All runs.
pub(crate) struct Results {
    runs: PathBuf,
    commit: String,
    load: String,
}

impl Results {
    /// Those of a file of runs, to which those of this commit and load are added.
    pub(crate) fn of(runs: &Path, commit: &str, load: &str) -> Self {
        Self {
            runs: runs.to_owned(),
            commit: commit.to_owned(),
            load: load.to_owned(),
        }
    }

    /// Adds a run, and says it in a few lines; what it failed by, or what is only told if it `passes`.
    pub(crate) fn add(
        &self,
        fault: &Fault,
        seed: u64,
        outcome: &Result<Outcome>,
        passes: bool,
    ) -> Result<String> {
        let record = self.record(fault, seed, outcome);
        if let Some(folder) = self.runs.parent() {
            fs::create_dir_all(folder)?;
        }
        let line = serde_json::to_string(&record)? + "\n";
        let mut file = fs::File::options()
            .create(true)
            .append(true)
            .open(&self.runs)?;
        file.write_all(line.as_bytes())
            .with_context(|| format!("cannot write {}", self.runs.display()))?;
        let slowest = outcome.as_ref().ok().and_then(|one| one.slowest.as_ref());
        let story = slowest.filter(|slowest| slowest.took > fault.recovery());
        let sold = outcome.as_ref().ok().and_then(|outcome| outcome.sold);
        let mut said = format!(
            "seen: {}\n    {} orders, recovered after {} (sold after {}), at rest after {}, the slowest order took {}",
            record.seen,
            record.orders,
            seconds(record.recovered_s),
            seconds(sold.map(|sold| sold.as_secs_f64())),
            seconds(record.rest_s),
            seconds(record.slowest_s),
        );
        if let Some(slowest) = story {
            let _ = write!(said, "\n    the slowest: {}", slowest.story);
        }
        for one in record.failed.iter().take(TOLD_MAX) {
            let mark = if passes { "told" } else { "FAILED" };
            let _ = write!(said, "\n    {mark} {one}");
        }
        if record.failed.len() > TOLD_MAX {
            let more = record.failed.len() - TOLD_MAX;
            let _ = write!(said, "\n    and {more} more");
        }
        Ok(said)
    }

    fn record(&self, fault: &Fault, seed: u64, outcome: &Result<Outcome>) -> Record {
        let in_seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        let mut record = Record {
            fault: fault.name.to_owned(),
            seed,
            commit: self.commit.clone(),
            load: self.load.clone(),
            orders: 0,
            seen: "-".to_owned(),
            failed: Vec::new(),
            recovered_s: None,
            rest_s: None,
            slowest_s: None,
            held: 0,
            asking: 0,
            reached: Vec::new(),
            busy: busy(),
        };
        match outcome {
            Err(error) => {
                let failed = format!("the run itself failed: {error:#}");
                record.failed.push(failed);
            }
            Ok(outcome) => {
                record.orders = outcome.orders;
                (record.held, record.asking) = (outcome.persons.held, outcome.persons.asking);
                record.seen.clone_from(&outcome.seen);
                record.reached = outcome.reached.iter().map(ToString::to_string).collect();
                record.recovered_s = in_seconds(outcome.recovery);
                record.rest_s = in_seconds(outcome.rest);
                record.slowest_s = in_seconds(outcome.slowest.as_ref().map(|one| one.took));
                let broken = outcome.violations.iter().map(ToString::to_string);
                record.failed.extend(broken);
                let limit = fault.recovery();
                match outcome.recovery {
                    Some(took) if took > limit => record.failed.push(format!(
                        "{LATE}recovery took {:.1} s, at most {limit:?} (load of the machine: {:.1} for each processor)",
                        took.as_secs_f64(),
                        record.busy
                    )),
                    Some(_) => {}
                    None => record.failed.push(format!("{LATE}no recovery within 60 s")),
                }
                if outcome.rest.is_none() {
                    let failed = format!("{LATE}not everything came to rest in time");
                    record.failed.push(failed);
                }
            }
        }
        record
    }

    /// Writes the page of all runs, of these faults in this order.
    pub(crate) fn write(&self, page: &Path, faults: &[Fault]) -> Result<()> {
        let records = self.records()?;
        if let Some(folder) = page.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(page, self::page(faults, &records))
            .with_context(|| format!("cannot write {}", page.display()))
    }

    /// All that was met in any run of the file.
    pub(crate) fn reached(&self) -> Result<BTreeSet<String>> {
        Ok(reached(&self.records()?))
    }

    fn records(&self) -> Result<Vec<Record>> {
        let lines = fs::read_to_string(&self.runs).unwrap_or_default();
        let records = lines.lines().map(serde_json::from_str);
        records
            .collect::<Result<_, _>>()
            .with_context(|| format!("{} is not of today", self.runs.display()))
    }
}

/// The load of the machine for each processor, by the kernel's mean of the last minute.
fn busy() -> f64 {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().and_then(|load| load.parse().ok());
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    load.unwrap_or(0.0_f64) / processors as f64
}

fn seconds(time: Option<f64>) -> String {
    time.map_or("never".to_owned(), |time| format!("{time:.1} s"))
}

/// The longest, and `never` if one never came.
fn longest(times: impl Iterator<Item = Option<f64>>) -> String {
    let mut all = Some(0.0_f64);
    for time in times {
        all = all.zip(time).map(|(all, time)| all.max(time));
    }
    seconds(all)
}

fn listed<'a>(of: impl Iterator<Item = &'a str>) -> String {
    let each: BTreeSet<&str> = of.collect();
    each.into_iter().collect::<Vec<_>>().join(", ")
}

/// As Markdown.
fn page(faults: &[Fault], records: &[Record]) -> String {
    let broken: usize = records.iter().map(Record::violations).sum();
    let late = records.iter().filter(|run| run.is_late()).count();
    let commits = listed(records.iter().map(|run| run.commit.as_str()));
    let loads = listed(records.iter().map(|run| run.load.as_str()));
    let (ran, missing): (Vec<&Fault>, Vec<&Fault>) = faults
        .iter()
        .partition(|fault| of(fault, records).count() > 0);
    let missing = listed(missing.iter().map(|fault| fault.name));
    let missing = match missing.is_empty() {
        true => "Every fault was run.".to_owned(),
        false => format!("**Not run: {missing}.**"),
    };
    let mut page = format!(
        "# What came of the fault runs\n\nWritten by `./ops/faults`: {} runs of {} faults at {commits}. Violations: \
         {broken}. Runs in which something came too late: {late}. Customers: {loads}. {missing}\n\n\
         *Recovered*: the longest time from the fault's end until every process was ready and somebody who came \
         after it had his ticket confirmed; in brackets what it may be. *At rest*: until the 3 s began in which every accepted order had \
         ended or stood before a person, those too that came after the fault's end, waited for a reviewer or were \
         given up by their customers. *Busy*: how many processes wanted to run for each that could at the end of a \
         run, at most; times that were taken above 1 say more of the machine. *Slowest*: the longest that an order took to its end, counted from the \
         fault's end or its own beginning, without the time in which it waited for somebody. *Held, asking*: orders \
         that stood before a person at the end, a violation unless the fault says that it leads there. *Violations*: \
         broken promises, faults that did nothing, and runs that failed themselves. *Late*: runs in which a time \
         was exceeded. Each stands below the table.\n\n\
         | fault | hypothesis | what was seen of it | runs | violations | late | orders | held, asking | recovered | at rest | slowest | busy | commit |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
        records.len(),
        ran.len(),
    );
    for fault in faults {
        let runs: Vec<&Record> = of(fault, records).collect();
        let Some(last) = runs.last() else { continue };
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} | {} | {} | {} | {}, {} | {} ({} s) | {} | {} | {:.1} | {} |",
            fault.name,
            fault.hypothesis,
            last.seen,
            runs.len(),
            runs.iter().map(|run| run.violations()).sum::<usize>(),
            runs.iter().filter(|run| run.is_late()).count(),
            runs.iter().map(|run| run.orders).sum::<usize>(),
            runs.iter().map(|run| run.held).sum::<usize>(),
            runs.iter().map(|run| run.asking).sum::<usize>(),
            longest(runs.iter().map(|run| run.recovered_s)),
            fault.recovery().as_secs(),
            longest(runs.iter().map(|run| run.rest_s)),
            longest(runs.iter().map(|run| run.slowest_s)),
            runs.iter().map(|run| run.busy).fold(0.0, f64::max),
            listed(runs.iter().map(|run| run.commit.as_str())),
        );
    }
    for fault in faults {
        let failures = of(fault, records).flat_map(|run| {
            let seed = run.seed;
            let told = move |one: &String| format!("- seed {seed}: {}", one.replace('\n', " "));
            run.failed.iter().map(told)
        });
        let failures: Vec<String> = failures.take(ON_PAGE_MAX).collect();
        if !failures.is_empty() {
            let _ = writeln!(
                page,
                "\n## Failures of `{}`\n\n{}",
                fault.name,
                failures.join("\n")
            );
        }
    }
    page + &met(records) + &reach::told(&reached(records))
}

fn reached(records: &[Record]) -> BTreeSet<String> {
    let met = records.iter().flat_map(|run| run.reached.iter());
    met.cloned().collect()
}

/// In how many runs some saga met each outcome of each command: what is 0 was not tried by anything here.
fn met(records: &[Record]) -> String {
    let outcomes = ["done", "rejected", "retry", "unknown", "waiting", "pause"];
    let mut met = format!(
        "\n## What sagas met\n\nRuns in which a worker answered so to a command of a step, or a person paused an \
         order that was at it. What can never be is 0, too.\n\n| command | {} |\n|---|---|---|---|---|---|---|\n",
        outcomes.join(" | ")
    );
    for step in StepName::OF_AN_ORDER {
        for kind in ["do", "undo", "probe"] {
            let runs = outcomes.map(|outcome| {
                let triple = format!("{} {kind} {outcome}", step.as_str());
                let in_it = |run: &&Record| run.reached.contains(&triple);
                records.iter().filter(in_it).count().to_string()
            });
            let _ = writeln!(met, "| {} {kind} | {} |", step.as_str(), runs.join(" | "));
        }
    }
    met
}

fn of<'a>(fault: &Fault, records: &'a [Record]) -> impl Iterator<Item = &'a Record> {
    let name = fault.name;
    records.iter().filter(move |run| run.fault == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_on_the_page_with_its_seed() {
        let faults = crate::fault::all();
        let record = |seed, failed: &[&str], recovered_s| Record {
            fault: faults[0].name.to_owned(),
            seed,
            commit: "abc".to_owned(),
            load: "few".to_owned(),
            orders: 7,
            seen: "it".to_owned(),
            failed: failed.iter().map(|one| (*one).to_owned()).collect(),
            recovered_s,
            rest_s: Some(1.0),
            slowest_s: Some(1.0),
            held: 2,
            asking: 1,
            reached: vec!["pay do retry".to_owned()],
            busy: 0.5,
        };
        let page = page(
            &faults,
            &[
                record(1, &[], Some(2.0)),
                record(2, &["no-oversell: broken", "late: no recovery"], None),
            ],
        );
        assert!(page.contains("2 runs of 1 faults at abc. Violations: 1."));
        let missing: Vec<&str> = page
            .lines()
            .filter(|line| line.contains("**Not run: "))
            .collect();
        assert!(missing.len() == 1 && missing[0].contains(faults[1].name));
        assert!(!missing[0].contains(faults[0].name));
        assert!(page.contains("| it | 2 | 1 | 1 | 14 | 4, 2 | never (10 s) | 1.0 s |"));
        assert!(page.contains("- seed 2: no-oversell: broken"));
        assert!(page.contains("| pay do | 0 | 0 | 2 | 0 | 0 | 0 |"));
        assert!(page.contains("Of 1") && page.contains("1 were met. Not met, though"));
        assert!(page.contains("| notify probe | 0 | 0 | 0 | 0 | 0 | 0 |"));
    }
}
