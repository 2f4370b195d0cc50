//! `simulate`: runs worlds in which everything goes wrong, by their seeds.

use clap::Parser;
use std::{process::ExitCode, time::Instant};
use tests::simulation::{Coverage, Race, Setting, bugs, run};

/// So many seeds have to reach everything.
const CAMPAIGN: u64 = 400;

/// Runs the simulation. A failure prints its seed, the promise and the story in order; the same seed
/// tells the same story.
#[derive(Parser)]
struct Arguments {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Orders in each world.
    #[arg(long, default_value_t = 20)]
    sagas: usize,
    /// Tell the story even if nothing is broken.
    #[arg(long)]
    story: bool,
    /// Plant each known bug and run until it is caught, at most `--seeds` worlds.
    #[arg(long)]
    planted: bool,
    /// Plant only the bug of this name; with `--story`, tell how it was caught.
    #[arg(long, value_name = "NAME", requires = "planted")]
    bug: Option<String>,
    /// Worlds in which every payment succeeds about when its time ends.
    #[arg(long)]
    races: bool,
}

impl Arguments {
    fn race(&self, seed: u64) -> Option<Race> {
        self.races.then(|| Race::of(seed))
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.planted {
        return planted(&arguments);
    }
    let begun = Instant::now();
    let mut coverage = Coverage::default();
    for seed in arguments.seed..arguments.seed.saturating_add(arguments.seeds) {
        let mut setting = Setting {
            seed,
            sagas: arguments.sagas,
            mix: None,
            race: arguments.race(seed),
            version: None,
            story: arguments.story,
        };
        let outcome = run(&setting);
        coverage.add(&outcome.coverage);
        say(&outcome.story);
        if let Some(violation) = outcome.violation {
            setting.story = true;
            say(&run(&setting).story);
            say(&[format!(
                "seed {seed} breaks {}, order {:?}: {}",
                violation.invariant, violation.order, violation.what
            )]);
            return ExitCode::FAILURE;
        }
    }
    let demanded = arguments.seeds >= CAMPAIGN && !arguments.races;
    let (first, seeds, sagas) = (arguments.seed, arguments.seeds, arguments.sagas);
    let leading = demanded.then(|| Setting::leading(first, seeds, sagas));
    let mut worlds = seeds;
    for setting in leading.into_iter().flatten() {
        worlds += 1;
        let outcome = run(&setting);
        coverage.add(&outcome.coverage);
        if let Some(violation) = outcome.violation {
            let story = true;
            say(&run(&Setting {
                story,
                ..setting.clone()
            })
            .story);
            say(&[format!("{setting:?} breaks {violation:?}")]);
            return ExitCode::FAILURE;
        }
    }
    say(&coverage.lines());
    let seconds = begun.elapsed().as_secs_f64();
    let rate = coverage.sagas as f64 / seconds * 60.0;
    say(&[format!(
        "{worlds} worlds, {} sagas in {seconds:.1} s: {rate:.0} sagas a minute",
        coverage.sagas
    )]);
    let (missing, impossible) = (coverage.missing(), coverage.impossible());
    if !missing.is_empty() {
        let why = match demanded {
            true => "",
            false => ", and not demanded of races or of so few seeds",
        };
        say(&[format!("never reached{why}: {}", missing.join(", "))]);
    }
    if !impossible.is_empty() {
        let what = impossible.join(", ");
        say(&[format!("reached, and said to be impossible: {what}")]);
    }
    match impossible.is_empty() && (missing.is_empty() || !demanded) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn planted(arguments: &Arguments) -> ExitCode {
    let seeds = arguments.seeds.max(1_000);
    let wanted = |planted: &&bugs::Planted| {
        let mut names = planted.bugs.iter().map(|bug| format!("{bug:?}"));
        let bug = arguments.bug.as_deref();
        bug.is_none_or(|bug| names.any(|name| name == bug))
    };
    let all: Vec<_> = bugs::ALL.iter().filter(wanted).collect();
    if all.is_empty() {
        say(&["No planted bug has this name: `--planted` lists them.".to_owned()]);
        return ExitCode::FAILURE;
    }
    let mut code = ExitCode::SUCCESS;
    for planted in all {
        let begun = Instant::now();
        let line = match bugs::catch(planted, seeds) {
            Some(caught) => {
                if arguments.story {
                    say(&bugs::story(planted, caught.seed));
                }
                let right = planted.breaks.contains(&caught.violation.invariant);
                if !right {
                    code = ExitCode::FAILURE;
                }
                let wrong = if right {
                    ""
                } else {
                    "  (another one was expected)"
                };
                format!(
                    "{:<45} {:<20} seed {:<4} {:.1} s{wrong}",
                    format!("{:?}", planted.bugs),
                    caught.violation.invariant,
                    caught.seed,
                    begun.elapsed().as_secs_f64()
                )
            }
            None => {
                code = ExitCode::FAILURE;
                format!("{:?} was not caught", planted.bugs)
            }
        };
        say(&[line]);
    }
    code
}

#[expect(clippy::print_stdout, reason = "the results are for whoever runs it")]
fn say(lines: &[String]) {
    for line in lines {
        println!("{line}");
    }
}
