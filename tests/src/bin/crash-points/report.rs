//! What became of all deaths, for people: failures are shown as such.

use crate::{Death, Ended};
use std::{collections::BTreeMap, fmt::Write, process::Command, time::Duration};

/// What became of all deaths.
pub(crate) struct Report {
    ended: Vec<Ended>,
    /// Only orders of this version were sold.
    order: Option<i16>,
    /// Worlds that were broken at their end, and deaths that nobody came to.
    broken: usize,
}

/// The deaths at one place.
#[derive(Default)]
struct Line {
    deaths: Vec<String>,
    failed: usize,
    recovery: Duration,
}

impl Report {
    /// Of deaths in any order.
    pub(crate) fn of(mut ended: Vec<Ended>, order: Option<i16>, broken: usize) -> Self {
        ended.sort_by(|(one, _), (other, _)| one.cmp(other));
        Self {
            ended,
            order,
            broken,
        }
    }

    /// How many did not end well.
    pub(crate) fn failed(&self) -> usize {
        self.broken + self.ended.iter().filter(|(_, hit)| hit.is_err()).count()
    }

    /// As Markdown.
    pub(crate) fn page(&self) -> String {
        let versions = match self.order {
            Some(only) => format!("of `order@{only}`"),
            None => "of each version that comes by the place".to_owned(),
        };
        let mut page = format!(
            "# Deaths at named places\n\n\
             Written by `./ops/faults crash-points --report` at commit `{}`. Each process has died as by `kill -9` at \
             each place, once at the first and once at the second passing, with orders {versions} of the kinds that come by it on their \
             way; where it did not die there, that counts as failed. It was started again, each order was judged by its \
             end, its tickets and the provider's books, and every promise by `tests/checker`, as in the fault runs, \
             with messages counted that nobody has acknowledged; but the customers keep no journal here, so the checker \
             judges neither the reason of an end nor what they were told: whoever placed an order looks at both. *At rest*: the longest time from the moment at which the \
             process was ready again until the last order had ended. {} deaths, {} failed.\n\n\
             | place | deaths (version/passing) | failed | at rest |\n|---|---|---|---|\n",
            commit(),
            self.ended.len(),
            self.failed(),
        );
        let mut lines: BTreeMap<&str, Line> = BTreeMap::new();
        for (death, hit) in &self.ended {
            let Death {
                place,
                version,
                passing,
            } = death;
            let line = lines.entry(place).or_default();
            line.deaths.push(format!("{version}/{passing}"));
            match hit {
                Ok(hit) => line.recovery = line.recovery.max(hit.recovery),
                Err(_) => line.failed += 1,
            }
        }
        for (place, line) in &lines {
            let (deaths, failed) = (line.deaths.join(" "), line.failed);
            let recovery = line.recovery.as_secs_f64();
            let _ = writeln!(
                page,
                "| `{place}` | {deaths} | {failed} | {recovery:.1} s |"
            );
        }
        let failures = self.ended.iter().filter_map(|(death, hit)| {
            let error = hit.as_ref().err()?;
            Some(format!("\n- `{death}`: {}", error.replace('\n', " ")))
        });
        page.extend(failures);
        page
    }
}

/// The commit of the source; nothing outside a checkout.
fn commit() -> String {
    let git = Command::new("git")
        .args(["describe", "--always", "--dirty", "--abbrev=12"])
        .output();
    let output = git.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).trim().to_owned()
}
