//! What came of all runs, for people: failures are shown as such.

use crate::fault::Fault;
use crate::run::Outcome;
use std::{collections::BTreeMap, fmt::Write, time::Duration};

#[derive(Default)]
struct Line {
    hypothesis: &'static str,
    seen: String,
    limit: Duration,
    runs: u32,
    orders: usize,
    failed: Vec<String>,
    recovery: Duration,
    rest: Duration,
    slowest: Duration,
}

/// The page.
#[derive(Default)]
pub(crate) struct Results {
    lines: BTreeMap<usize, (&'static str, Line)>,
}

impl Results {
    /// Adds a run; answers whether all was well, and says it in one line.
    pub(crate) fn add(
        &mut self,
        place: usize,
        fault: &Fault,
        seed: u64,
        outcome: &anyhow::Result<Outcome>,
    ) -> (bool, String) {
        let (_, line) = self
            .lines
            .entry(place)
            .or_insert_with(|| (fault.name, Line::default()));
        (line.hypothesis, line.limit) = (fault.hypothesis, fault.recovery());
        line.runs += 1;
        let mut failed = Vec::new();
        let mut said = String::new();
        match outcome {
            Err(error) => failed.push(format!("the run itself failed: {error:#}")),
            Ok(outcome) => {
                line.orders += outcome.orders;
                line.seen.clone_from(&outcome.seen);
                failed.extend(outcome.violations.iter().map(ToString::to_string));
                match outcome.recovery {
                    Some(took) => {
                        line.recovery = line.recovery.max(took);
                        if took > line.limit {
                            failed.push(format!(
                                "recovery took {:.1} s, at most {:?}",
                                took.as_secs_f64(),
                                line.limit
                            ));
                        }
                    }
                    None => failed.push("no recovery within 60 s".to_owned()),
                }
                match outcome.rest {
                    Some(took) => line.rest = line.rest.max(took),
                    None => failed.push("not everything came to rest in time".to_owned()),
                }
                let seconds = |time: Option<Duration>| {
                    time.map_or("never".to_owned(), |time| {
                        format!("{:.1} s", time.as_secs_f64())
                    })
                };
                said = format!(
                    "seen: {}\n    {} orders, recovered after {}, at rest after {}, the slowest order took {}",
                    outcome.seen,
                    outcome.orders,
                    seconds(outcome.recovery),
                    seconds(outcome.rest),
                    seconds(outcome.slowest.as_ref().map(|slowest| slowest.took))
                );
                if let Some(slowest) = &outcome.slowest {
                    line.slowest = line.slowest.max(slowest.took);
                    if slowest.took > line.limit {
                        let _ = write!(said, "\n    the slowest: {}", slowest.story);
                    }
                }
            }
        }
        let well = failed.is_empty();
        for one in failed.iter().take(20) {
            let _ = write!(said, "\n    FAILED {one}");
        }
        if failed.len() > 20 {
            let _ = write!(said, "\n    and {} more", failed.len() - 20);
        }
        line.failed
            .extend(failed.into_iter().map(|one| format!("seed {seed}: {one}")));
        (well, said)
    }

    /// As Markdown.
    pub(crate) fn page(&self, commit: &str, load: &str) -> String {
        let mut page = format!(
            "# What came of the fault runs\n\nWritten by `./ops/faults` at commit `{commit}`: {load}.\n\n\
             *Recovered*: the longest time from the fault's end until every process was ready and somebody who came \
             after it had his ticket confirmed. *At rest*: until every accepted order had ended or stood before a \
             person, those too that came after the fault's end, waited for a reviewer or were given up by their \
             customers. *Slowest*: the longest that an order took to its end, counted from the fault's end or its \
             own beginning, without the time in which it waited for somebody. *Failures*: promises broken, and \
             recoveries that took too long; each stands below the table.\n\n\
             | fault | hypothesis | what was seen of it | runs | orders | failures | recovered (at most) | at rest | slowest |\n\
             |---|---|---|---|---|---|---|---|---|\n"
        );
        for (name, line) in self.lines.values() {
            let _ = writeln!(
                page,
                "| `{name}` | {} | {} | {} | {} | {} | {:.1} s ({} s) | {:.1} s | {:.1} s |",
                line.hypothesis,
                line.seen,
                line.runs,
                line.orders,
                line.failed.len(),
                line.recovery.as_secs_f64(),
                line.limit.as_secs(),
                line.rest.as_secs_f64(),
                line.slowest.as_secs_f64()
            );
        }
        for (name, line) in self
            .lines
            .values()
            .filter(|(_, line)| !line.failed.is_empty())
        {
            let _ = writeln!(page, "\n## Failures of `{name}`\n");
            for one in line.failed.iter().take(30) {
                let _ = writeln!(page, "- {}", one.replace('\n', " "));
            }
        }
        page
    }
}
