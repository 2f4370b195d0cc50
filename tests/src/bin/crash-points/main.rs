//! `crash-points`: has roles die at every named place, at its first and at its second passing, with orders
//! of the kinds that come by it on their way, and judges what becomes of them.

mod report;

use clap::Parser;
use report::Report;
use std::{
    collections::VecDeque,
    fmt,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};
use tests::world::crashes::{Hit, Stage, broker, places, versions_with};
use tokio::task::{LocalSet, spawn_local};

/// Dies everywhere. Prints a line for each place and passing; fails when a promise is broken at one, or
/// one is never reached.
#[derive(Parser)]
struct Arguments {
    /// Parts of the names of those places to die at; none: all.
    only: Vec<String>,
    /// Only with orders of this version (1 or 2); none: of each version that comes by a place.
    #[arg(long)]
    order: Option<i16>,
    /// Say where, and do nothing.
    #[arg(long)]
    list: bool,
    /// Write a page of the results here.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Worlds side by side.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

/// Where to die: at this passing of this place, with orders of this version.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Death {
    place: String,
    version: i16,
    passing: u64,
}

/// What became of it.
type Ended = (Death, Result<Hit, String>);

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            place,
            version,
            passing,
        } = self;
        write!(f, "{place}:{passing} order@{version}")
    }
}

type Deaths = Arc<Mutex<VecDeque<Death>>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    LocalSet::new().run_until(run()).await
}

async fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let wanted = |place: &String| {
        let only = &arguments.only;
        only.is_empty() || only.iter().any(|part| place.contains(part.as_str()))
    };
    let known = places();
    for part in &arguments.only {
        if !known.iter().any(|place| place.contains(part.as_str())) {
            say(&format!("FAILED  no place has {part} in its name"));
            return ExitCode::FAILURE;
        }
    }
    let places: Vec<String> = known.into_iter().filter(wanted).collect();
    let mut all = VecDeque::new();
    // A world serves one version: so those of one come together.
    for version in [1, 2] {
        let sold = arguments.order.is_none_or(|only| only == version);
        let with = places.iter().filter(|_| sold);
        for place in with.filter(|place| versions_with(place).contains(&version)) {
            all.extend([1, 2].map(|passing| Death {
                place: place.clone(),
                passing,
                version,
            }));
        }
    }
    if arguments.list {
        all.iter().for_each(|death| say(&death.to_string()));
        return ExitCode::SUCCESS;
    }
    if broker().is_none() {
        say("FAILED  unacknowledged messages are counted only where RabbitMQ runs on this machine");
        return ExitCode::FAILURE;
    }
    let (begun, count) = (Instant::now(), all.len());
    let left: Deaths = Arc::new(Mutex::new(all));
    let jobs = (0..arguments.jobs.max(1)).map(|_| spawn_local(job(Arc::clone(&left))));
    let (mut ended, mut broken) = (Vec::new(), 0);
    for job in jobs.collect::<Vec<_>>() {
        match job.await {
            Ok((of_job, struck)) => {
                ended.extend(of_job);
                broken += struck;
            }
            Err(_) => broken += 1,
        }
    }
    // After a job that cannot go on: what was not tried is not well.
    broken += count - ended.len();
    let report = Report::of(ended, arguments.order, broken);
    let failed = report.failed();
    say(&format!(
        "{count} deaths, {failed} failed, {:.0} s",
        begun.elapsed().as_secs_f64()
    ));
    if let Some(file) = &arguments.report
        && let Err(error) = std::fs::write(file, report.page())
    {
        say(&format!(
            "FAILED  {} cannot be written: {error}",
            file.display()
        ));
        return ExitCode::FAILURE;
    }
    match failed {
        0 if count > 0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Takes deaths until none is left; returns what became of each, and how many worlds were found broken at
/// their end. After a failure the next death has a new world.
async fn job(left: Deaths) -> (Vec<Ended>, usize) {
    let (mut ended, mut broken) = (Vec::new(), 0);
    let mut stage: Option<Stage> = None;
    loop {
        let next = left
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front();
        let Some(death) = next else {
            break;
        };
        let mut ready = match stage.take() {
            Some(stage) if stage.version() == death.version => stage,
            other => {
                if let Some(other) = other {
                    broken += struck(other).await;
                }
                Stage::set(death.version).await
            }
        };
        let (name, begun) = (death.to_string(), Instant::now());
        let (place, passing) = (death.place.clone(), death.passing);
        let hit = spawn_local(async move {
            let hit = Box::pin(ready.hit(&place, passing)).await;
            (ready, hit)
        });
        let result = match hit.await {
            Ok((same, hit)) => {
                stage = Some(same);
                let (took, back) = (begun.elapsed().as_secs_f64(), hit.recovery.as_secs_f64());
                say(&format!(
                    "ok      {name:<50} rounds {}  at rest after {back:>4.1} s  in all {took:>4.1} s",
                    hit.rounds
                ));
                Ok(hit)
            }
            Err(error) => {
                say(&format!("FAILED  {name}: {error}"));
                Err(error.to_string())
            }
        };
        ended.push((death, result));
    }
    if let Some(stage) = stage {
        broken += struck(stage).await;
    }
    (ended, broken)
}

/// Judges a whole world at its end: 1 when it fails.
async fn struck(stage: Stage) -> usize {
    usize::from(spawn_local(stage.strike()).await.is_err())
}

#[expect(clippy::print_stdout, reason = "the results are for whoever runs it")]
fn say(line: &str) {
    println!("{line}");
}
