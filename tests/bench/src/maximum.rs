//! The most that can be done: the highest rate that is kept up, found by trying.
//!
//! A rate is kept up if nothing is refused and the orders do not pile up. Each trial is short; who measures
//! at what was found runs his own window there, and is told if it was not kept up for so long.

use anyhow::{Result, bail};

use crate::{
    load::Load,
    run,
    shop::Orders,
    world::{World, say},
};

/// Where to begin when nothing is known.
const FIRST_PER_S: u32 = 200;
/// Found precisely enough when it lies between two rates that differ by so much.
const CLOSE: f64 = 1.08;
/// From one rate to the next while nothing bounds the search.
const STRIDE: f64 = 1.5;
/// Trials at most.
const TRIALS: usize = 18;

/// What has been learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Search {
    kept_up: Option<u32>,
    not_kept_up: Option<u32>,
    guess: u32,
}

impl Search {
    fn new(guess: Option<u32>) -> Self {
        Self {
            kept_up: None,
            not_kept_up: None,
            guess: guess.unwrap_or(FIRST_PER_S),
        }
    }

    /// The rate to try next; none when it is found.
    fn next(&self) -> Option<u32> {
        let scaled = |rate: u32, by: f64| ((f64::from(rate) * by).round() as u32).max(1);
        match (self.kept_up, self.not_kept_up) {
            (None, None) => Some(self.guess),
            (Some(low), None) => Some(scaled(low, STRIDE).max(low + 1)),
            (None, Some(high)) => (high > 1).then(|| scaled(high, 1.0 / STRIDE)),
            (Some(low), Some(high)) => {
                let near = f64::from(high) <= f64::from(low) * CLOSE || high <= low + 1;
                let between = (f64::from(low) * f64::from(high)).sqrt().round() as u32;
                (!near).then(|| between.clamp(low + 1, high - 1))
            }
        }
    }

    fn learn(&mut self, rate: u32, kept_up: bool) {
        if kept_up {
            self.kept_up = Some(rate);
        } else {
            self.not_kept_up = Some(rate);
        }
    }
}

/// Looks for it, beginning at a guess. `orders` makes the orders of one trial.
pub(crate) async fn find(
    world: &mut World,
    guess: Option<u32>,
    trial: Trial,
    orders: impl AsyncFn(&mut World, u64) -> Result<Orders>,
) -> Result<u32> {
    let mut search = Search::new(guess);
    for _ in 0..TRIALS {
        let Some(rate) = search.next() else { break };
        let load = Load::flat(rate, trial.seconds, trial.connections);
        let orders = orders(world, load.requests()).await?;
        let kept_up = run::trial(world, &orders, &load, trial.allowance_s).await?;
        let words = if kept_up { "kept up" } else { "not kept up" };
        say(&format!("looking for the most: {rate} orders/s {words}"));
        search.learn(rate, kept_up);
    }
    match search.kept_up {
        Some(rate) => Ok(rate),
        None => bail!("not even {} orders/s are kept up", search.guess),
    }
}

/// How a rate is tried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trial {
    pub(crate) seconds: u32,
    pub(crate) connections: usize,
    /// As in [`crate::run::Run::sustained`].
    pub(crate) allowance_s: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(most: u32, guess: Option<u32>) -> (Option<u32>, usize) {
        let mut search = Search::new(guess);
        let mut trials = 0;
        while let Some(rate) = search.next() {
            search.learn(rate, rate <= most);
            trials += 1;
            assert!(trials < 100, "{search:?}");
        }
        (search.kept_up, trials)
    }

    #[test]
    fn the_most_is_found_closely_and_soon() {
        for most in [3, 150, 201, 999, 2_345, 20_000] {
            let (rate, trials) = found(most, None);
            let rate = rate.expect("some rate is kept up");
            assert!(
                rate <= most && f64::from(rate) * CLOSE + 1.0 >= f64::from(most),
                "{rate} of {most}"
            );
            assert!(trials <= TRIALS, "{trials} for {most}");
        }
        let (rate, trials) = found(1_000, Some(980));
        assert!(
            rate.is_some_and(|rate| rate >= 930) && trials <= 6,
            "{rate:?} {trials}"
        );
        assert_eq!(found(0, None).0, None);
    }
}
