//! `crash-points`: has roles die at every named place, at its first and at its second passing, with orders
//! of every kind on their way, and judges what becomes of them.

use clap::Parser;
use std::{
    collections::VecDeque,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};
use tests::world::crashes::{Hit, Stage, places, versions_with};
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
    /// Worlds side by side.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

/// Where to die: at this passing of this place, with orders of this version.
struct Death {
    place: String,
    passing: u64,
    version: i16,
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
    let places: Vec<String> = places().into_iter().filter(wanted).collect();
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
    let (begun, count) = (Instant::now(), all.len());
    let left: Deaths = Arc::new(Mutex::new(all));
    let jobs = (0..arguments.jobs.max(1)).map(|_| spawn_local(job(Arc::clone(&left))));
    let mut failed = 0;
    for job in jobs.collect::<Vec<_>>() {
        failed += job.await.unwrap_or(1);
    }
    say(&format!(
        "{count} places and passings, {failed} failed, {:.0} s",
        begun.elapsed().as_secs_f64()
    ));
    match failed {
        0 if count > 0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Takes places until none is left; returns how many failed. After a failure the next has a new world.
async fn job(left: Deaths) -> usize {
    let mut failed = 0;
    let mut stage = None;
    loop {
        let next = left
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front();
        let Some(Death {
            place,
            passing,
            version,
        }) = next
        else {
            break;
        };
        let mut ready = match stage.take() {
            Some(stage) if Stage::version(&stage) == version => stage,
            Some(other) => {
                failed += struck(other).await;
                Stage::set(version).await
            }
            None => Stage::set(version).await,
        };
        let name = format!("{place}:{passing} order@{version}");
        let begun = Instant::now();
        let hit = spawn_local(async move {
            let hit = Box::pin(ready.hit(&place, passing)).await;
            (ready, hit)
        });
        match hit.await {
            Ok((same, Hit { rounds, recovery })) => {
                stage = Some(same);
                let (took, back) = (begun.elapsed().as_secs_f64(), recovery.as_secs_f64());
                say(&format!(
                    "ok      {name:<50} rounds {rounds}  at rest after {back:>4.1} s  in all {took:>4.1} s"
                ));
            }
            Err(error) => {
                failed += 1;
                say(&format!("FAILED  {name}: {error}"));
            }
        }
    }
    if let Some(stage) = stage {
        failed += struck(stage).await;
    }
    failed
}

/// Judges a whole world at its end: 1 when it fails.
async fn struck(stage: Stage) -> usize {
    usize::from(spawn_local(stage.strike()).await.is_err())
}

#[expect(clippy::print_stdout, reason = "the results are for whoever runs it")]
fn say(line: &str) {
    println!("{line}");
}
