//! Faults on the real thing: `./ops/faults [--seeds N] [--seconds S] [--only NAME]`.
//!
//! The real binary in all its roles, two processes of each, on a real PostgreSQL and a real RabbitMQ of its
//! own, each talking to each through a TCP fault proxy. While customers come, one thing goes wrong and is
//! put right again. Then everything has to come to rest, and a checker that shares no code with Guichet
//! (`tests/checker`) judges every promise.

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
mod verdict;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Parser;
use fault::Fault;
use results::Results;
use run::{Load, Outcome, Run};
use stage::Stage;
use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
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
    let mut watch = Watch::start(arguments.ci.then_some(SHORT_WITHIN));
    let (mut well, mut missing) = (true, Vec::new());
    let mut stage: Option<Stage> = None;
    for fault in &chosen {
        for seed in arguments.seed..arguments.seed + arguments.seeds {
            if watch.left().is_none() {
                missing.push(fault.name);
                continue;
            }
            say(&format!("{} (seed {seed})", fault.name));
            let began = Instant::now();
            let run = match stage_of(fault, stage.take(), &binary, arguments.keep).await {
                Ok(stage) => Run::prepare(stage, seed, load, fault).await,
                Err(error) => Err(error),
            };
            let mut run = match run {
                Ok(run) => run,
                Err(error) => {
                    let said = results.add(fault, seed, &Err(error), false)?;
                    say(&format!("    {said}"));
                    watch.took(fault.name, began.elapsed());
                    well = false;
                    continue;
                }
            };
            let outcome = match watch.left() {
                Some(left) => tokio::time::timeout(left, run.play(fault))
                    .await
                    .unwrap_or_else(|_| Err(anyhow!("the time of the selection is over"))),
                None => Err(anyhow!("the time of the selection is over")),
            };
            if watch.left().is_none() {
                missing.extend(outcome.is_err().then_some(fault.name));
            }
            let took = began.elapsed();
            watch.took(fault.name, took);
            let passes = |one: &Outcome| verdict::passes(one, fault.recovery(), arguments.ci);
            let passes = outcome.as_ref().is_ok_and(passes);
            let said = results.add(fault, seed, &outcome, passes)?;
            say(&format!("    {said} ({} s in all)", took.as_secs()));
            well &= passes;
            // What is broken stays broken, and is not to be counted against the next. Who was only late is not.
            let kept = outcome.as_ref().is_ok_and(verdict::kept);
            if kept && outcome.is_ok_and(|one| one.stained) {
                run.stage.close(arguments.keep).await?;
            } else if kept {
                stage = Some(run.stage);
            } else {
                say(&format!("    logs stay in {}", run.stage.root.display()));
                run.stage.close(true).await?;
            }
        }
        results.write(&arguments.report, &fault::all())?;
    }
    if let Some(stage) = stage {
        stage.close(arguments.keep).await?;
    }
    say(&format!("report: {}", arguments.report.display()));
    well &= met(&results.reached()?, arguments);
    if watch.left().is_none() {
        say(&format!("FAILED {}", watch.told(&missing)));
        well = false;
    }
    Ok(well)
}

/// Whether all was met that has to be. A selection need not, and only tells what it did not; what cannot be
/// fails both.
fn met(reached: &BTreeSet<String>, arguments: &Arguments) -> bool {
    let whole = arguments.only.is_empty() && !arguments.ci;
    let (missing, strange) = (reach::missing(reached), reach::strange(reached));
    if !missing.is_empty() {
        let mark = if whole { "FAILED" } else { "told" };
        say(&format!("{mark} never met: {}", missing.join(", ")));
    }
    if !strange.is_empty() {
        let strange = strange.join(", ");
        say(&format!("FAILED met, and it cannot be: {strange}"));
    }
    strange.is_empty() && (missing.is_empty() || !whole)
}

/// The stage that a fault needs: that of the last one, or a new one.
async fn stage_of(fault: &Fault, last: Option<Stage>, binary: &Path, keep: bool) -> Result<Stage> {
    match last {
        Some(stage) if stage.setting == fault.setting => return Ok(stage),
        Some(other) => other.close(keep).await?,
        None => {}
    }
    let root = std::env::temp_dir().join(format!("guichet-faults-{}", uuid::Uuid::now_v7()));
    say(&format!("    a new stage in {}", root.display()));
    Stage::build(&root, binary, fault.setting).await
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
    format!(
        "{} a second for {} s and as long as the fault lasts",
        arguments.rate, arguments.seconds
    )
}
