//! Faults on the real thing: `./ops/faults [--seeds N] [--seconds S] [--only NAME]`.
//!
//! The real binary in all its roles, two processes of each, on a real PostgreSQL and a real RabbitMQ of its
//! own, each talking to each through a TCP fault proxy. While customers come, one thing goes wrong and is
//! put right again. Then everything has to come to rest, and a checker that shares no code with Guichet
//! (`tests/checker`) judges every promise.

mod campaign;
mod catalogue;
mod clerks;
mod clock;
mod customers;
mod disk;
mod fault;
mod meddler;
mod operator;
mod reach;
mod rest;
mod results;
mod reviewer;
mod role;
mod run;
mod served;
mod servers;
mod stage;
mod story;
mod supervisor;
mod verdict;

use anyhow::{Context, Result, ensure};
use campaign::Campaign;
use clap::Parser;
use fault::Fault;
use results::Results;
use run::Load;
use std::{
    cell::RefCell,
    fs,
    io::Write,
    path::PathBuf,
    process::{Command, ExitCode},
    time::Duration,
};
use verdict::{SHORT_WITHIN, Watch};

/// Does what can go wrong to real processes and servers, and judges whether every promise was kept
#[derive(Debug, Parser)]
#[command(
    name = "faults",
    max_term_width = 100,
    after_help = "\
Each run lets customers come for some seconds, brings one fault about in their midst, looks whether it took
effect, ends it, waits until everything is at rest, and judges. Exit code 1: a promise was broken, a fault did
nothing, or a recovery took too long (with --ci: twice as long as it may, or all of it more than 5 minutes).

  ./ops/faults                              every fault once
  ./ops/faults --only broker-data-deleted   one of them; with --seeds 20 twenty times, each another story
  ./ops/faults --only provider-away-ten-minutes
                                            a provider that is not there for ten minutes
                                            (the whole also fails if something was met in no run of the file)
  rm -f .guichet/faults/runs.jsonl; ./ops/faults --seeds 3 --report tests/RESULTS.md
                                            the page of results that is kept with the source"
)]
struct Arguments {
    /// Run each fault so often, each time with another seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    seeds: u64,
    /// The first seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// So long customers come in one run
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(4..=7200))]
    seconds: u64,
    /// So many customers come each second
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    /// Run so many at once, each on a stage of its own. A run mostly waits; the page says how many
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    jobs: u8,
    /// Only these; several with commas
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Only a short selection: the kills, what servers forget, a dead provider. It fails, and says what took it,
    /// when it takes longer than 5 minutes. A recovery that took longer than it may is told, and fails it
    /// from twice that time on, for whoever builds shares his machine; a broken promise always does
    #[arg(long)]
    ci: bool,
    /// Print the faults and what should be true whatever they do
    #[arg(long)]
    list: bool,
    /// Add each run to this file, as a line of JSON
    #[arg(
        long,
        value_name = "FILE",
        default_value = ".guichet/faults/runs.jsonl"
    )]
    runs: PathBuf,
    /// Write a page of all runs in that file here, after each fault
    #[arg(
        long,
        value_name = "FILE",
        default_value = ".guichet/faults/RESULTS.md"
    )]
    report: PathBuf,
    /// The guichet binary
    #[arg(long, value_name = "FILE", default_value = "target/release/guichet")]
    binary: PathBuf,
    /// Leave servers' data and logs where they are
    #[arg(long)]
    keep: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match all(&arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Progress; without a reader it is not missed.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

async fn all(arguments: &Arguments) -> Result<bool> {
    let chosen = chosen(arguments)?;
    if arguments.list {
        for fault in &chosen {
            writeln!(std::io::stdout(), "{:<24} {}", fault.name, fault.hypothesis)?;
        }
        return Ok(true);
    }
    let binary = fs::canonicalize(&arguments.binary).with_context(|| {
        format!(
            "{} is missing: ./ops/faults builds it",
            arguments.binary.display()
        )
    })?;
    let load = Load {
        rate_per_s: arguments.rate,
        lasting: Duration::from_secs(arguments.seconds),
    };
    let results = Results::of(&arguments.runs, &commit(), &describe(arguments));
    let seeds = arguments.seed..arguments.seed + arguments.seeds;
    let runs = chosen
        .iter()
        .flat_map(|fault| seeds.clone().map(move |seed| (*fault, seed)));
    let campaign = Campaign {
        load,
        results,
        report: arguments.report.clone(),
        binary,
        keep: arguments.keep,
        short: arguments.ci,
        watch: RefCell::new(Watch::start(arguments.ci.then_some(SHORT_WITHIN))),
        to_run: RefCell::new(runs.collect()),
        missing: RefCell::default(),
    };
    // Their customers are tasks of the runtime; who plays the faults only waits.
    let jobs = (0..arguments.jobs).map(|_| campaign.work());
    let came = futures_util::future::join_all(jobs).await;
    let mut well = true;
    for one in came {
        well &= one?;
    }
    say(&format!("report: {}", arguments.report.display()));
    let whole = arguments.only.is_empty() && !arguments.ci;
    well &= campaign::met(&campaign.results.reached()?, whole);
    let watch = campaign.watch.borrow();
    if watch.left().is_none() {
        say(&format!(
            "FAILED {}",
            watch.told(&campaign.missing.borrow())
        ));
        well = false;
    }
    Ok(well)
}

fn chosen(arguments: &Arguments) -> Result<Vec<Fault>> {
    let all = fault::all();
    for name in &arguments.only {
        ensure!(
            all.iter().any(|fault| fault.name == name),
            "there is no fault {name}: see --list"
        );
    }
    let wanted = |fault: &Fault| {
        (arguments.only.is_empty() || arguments.only.iter().any(|name| name == fault.name))
            && (!arguments.ci || fault.ci)
    };
    Ok(all.into_iter().filter(wanted).collect())
}

fn commit() -> String {
    let git = Command::new("git")
        .args(["describe", "--always", "--dirty", "--abbrev=12"])
        .output();
    git.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}

fn describe(arguments: &Arguments) -> String {
    let at_once = match arguments.jobs {
        1 => String::new(),
        jobs => format!(", {jobs} runs at once"),
    };
    format!(
        "{} a second for {} s and as long as the fault lasts{at_once}",
        arguments.rate, arguments.seconds
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_selection_may_run_several_at_once() {
        let given = [
            "faults",
            "--ci",
            "--rate",
            "5",
            "--seconds",
            "6",
            "--jobs",
            "2",
        ];
        let arguments = Arguments::try_parse_from(given).expect("all of it goes together");
        assert_eq!((arguments.ci, arguments.jobs), (true, 2));
    }
}
