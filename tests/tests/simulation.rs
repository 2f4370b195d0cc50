//! A short campaign of the simulation, and the proof that it sees: each planted bug is caught, by the
//! promise that it breaks.

use std::process::Command;
use tests::simulation::{Coverage, Mix, Race, Racer, Setting, bugs, run};

/// Worlds of the short campaign; the long one is `cargo run -p tests --bin simulate`.
const SEEDS: u64 = 400;
/// Races of payments and captures against the end of their time; more: `simulate --races --seeds 1000`.
const RACES: u64 = 10_000;
/// A bug shows within so many worlds: the rarest in about one of a hundred, and a change of any other fault
/// tells each seed another story.
const CAUGHT_WITHIN: u64 = 500;
/// How a race ends where nothing else goes wrong.
const ENDS: [&str; 3] = ["tickets", "money back", "never charged"];
/// A bug that another protection covers does not show in so many.
const COVERED_FOR: u64 = 60;

fn world(seed: u64, story: bool) -> Setting {
    let (sagas, mix, race, version) = (12, None, None, None);
    Setting {
        seed,
        sagas,
        mix,
        race,
        version,
        story,
    }
}

/// Every payment succeeds about when its time ends; in every other world nothing else goes wrong.
fn races(seed: u64, story: bool) -> Setting {
    let calm = seed.is_multiple_of(2);
    Setting {
        mix: calm.then(Mix::none),
        race: Some(Race::of(seed)),
        ..world(seed, story)
    }
}

#[test]
fn every_promise_is_kept_in_every_world() {
    let mut reached = Coverage::default();
    for seed in 1..=SEEDS {
        let outcome = run(&world(seed, false));
        if let Some(broken) = outcome.violation {
            let story = run(&world(seed, true)).story.join("\n");
            panic!("{story}\nseed {seed} breaks {broken:?}");
        }
        reached.add(&outcome.coverage);
    }
    for setting in Setting::leading(1, SEEDS, 12) {
        let outcome = run(&setting);
        let broken = outcome.violation;
        assert!(broken.is_none(), "{setting:?} breaks {broken:?}");
        reached.add(&outcome.coverage);
    }
    let missing = reached.missing();
    assert!(missing.is_empty(), "never reached: {missing:?}");
    let impossible = reached.impossible();
    assert!(impossible.is_empty(), "cannot be: {impossible:?}");
}

/// A payment or a capture that succeeds when its time ends is tickets or the money back: never both, never neither.
#[test]
fn payments_race_against_the_end_of_their_time() {
    let mut reached = Coverage::default();
    let mut seed = 0;
    while reached.all_races() < RACES {
        seed += 1;
        let outcome = run(&races(seed, false));
        if let Some(broken) = outcome.violation {
            let story = run(&races(seed, true)).story.join("\n");
            panic!("{story}\nseed {seed} breaks {broken:?}");
        }
        if seed.is_multiple_of(2) {
            let races = [Racer::Pay, Racer::Capture].map(|of| outcome.coverage.races(of));
            let by_people = |end: &&str| !ENDS.contains(end);
            let ends = races.iter().flat_map(|ends| ends.keys());
            assert_eq!(ends.copied().find(by_people), None, "seed {seed}");
        }
        reached.add(&outcome.coverage);
    }
    for of in [Racer::Pay, Racer::Capture] {
        let ends = reached.races(of);
        let all: u64 = ends.values().sum();
        assert!(all > RACES / 10, "{of:?}: {:#?}", reached.lines());
        assert!(!ends.contains_key("nobody knows why"), "{of:?}: {ends:#?}");
        for end in ENDS {
            // What is only authorised is let go of for nothing, as a rule; only a capture of which nobody heard
            // in time has to be given back.
            let one_in = match (of, end) {
                (Racer::Capture, "money back") => 300,
                _ => 20,
            };
            let share = ends.get(end).unwrap_or(&0) * one_in / all;
            assert!(share > 0, "{of:?}, {end}: {:#?}", reached.lines());
        }
    }
}

#[test]
fn a_seed_is_one_story() {
    for seed in [3, 33, 333] {
        let (one, other) = (run(&world(seed, true)), run(&world(seed, true)));
        assert!(one.story.len() > 20, "seed {seed} tells nothing");
        assert_eq!(one.story, other.story, "seed {seed}");
    }
}

/// The enum's own text says which there are, so that none can be forgotten.
#[test]
fn every_bug_that_has_a_name_is_planted() {
    let text = include_str!("../../schemas/contract/src/planted.rs");
    let (_, text) = text.split_once("pub enum Bug {").expect("the enum");
    let (text, _) = text.split_once("\n}").expect("its end");
    let lines = text.lines().map(str::trim);
    let names: Vec<&str> = lines.filter_map(|line| line.strip_suffix(',')).collect();
    let names: Vec<&str> = names
        .into_iter()
        .filter(|name| !name.contains(' '))
        .collect();
    assert!(names.len() > 30, "{names:?}");
    let planted = bugs::ALL.iter().flat_map(|one| one.bugs);
    let planted: Vec<String> = planted.map(|bug| format!("{bug:?}")).collect();
    let is_forgotten = |name: &&str| !planted.iter().any(|one| one == name);
    let forgotten: Vec<&str> = names.into_iter().filter(is_forgotten).collect();
    assert_eq!(forgotten, Vec::<&str>::new());
}

#[test]
fn every_planted_bug_is_caught_by_the_promise_that_it_breaks() {
    for planted in bugs::ALL {
        let caught = bugs::catch(planted, CAUGHT_WITHIN);
        let caught = caught.unwrap_or_else(|| panic!("{:?} was not caught", planted.bugs));
        assert!(
            planted.breaks.contains(&caught.violation.invariant),
            "{:?} was caught by {caught:?}",
            planted.bugs
        );
        let sound = bugs::without(planted, caught.seed);
        assert!(
            sound.is_none(),
            "{:?}: it is not the bug: {sound:?}",
            planted.bugs
        );
    }
}

/// Or one of them would be enough to be caught by, and the other nothing that is seen.
#[test]
fn of_a_pair_neither_is_enough() {
    for planted in bugs::ALL.iter().filter(|planted| planted.bugs.len() > 1) {
        let seed = bugs::only_together(planted, CAUGHT_WITHIN);
        assert!(seed.is_some(), "{:?}: one of them is enough", planted.bugs);
    }
}

#[test]
fn what_another_protection_covers_is_harmless_alone() {
    for planted in bugs::HARMLESS_ALONE {
        let caught = bugs::catch(planted, COVERED_FOR);
        assert!(caught.is_none(), "{:?}: {caught:?}", planted.bugs);
    }
}

#[test]
fn no_bug_and_no_place_to_die_is_built_into_the_binary() {
    let features = |package: &str| {
        let output = Command::new(env!("CARGO"))
            .args([
                "tree",
                "--offline",
                "--edges",
                "features",
                "--package",
                package,
            ])
            .output()
            .expect("cargo runs");
        assert!(output.status.success(), "cargo tree -p {package}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let (tests, binary) = (features("tests"), features("guichet"));
    for feature in ["planted", "crash-points"] {
        let feature = format!("contract feature \"{feature}\"");
        assert!(
            tests.contains(&feature),
            "this test looks for the wrong thing"
        );
        assert!(!binary.contains(&feature), "{feature}");
    }
}
