//! All runs that were asked for, one after the other or several at once: each has a stage of its own, with
//! folders and ports of its own, and what it shares with the others is only the machine.

use crate::{
    fault::{self, Fault},
    reach,
    results::Results,
    run::{Load, Outcome, Run},
    say,
    stage::Stage,
    verdict::{self, Watch},
};
use anyhow::{Result, anyhow};
use std::{
    cell::RefCell,
    collections::{BTreeSet, VecDeque},
    path::PathBuf,
    time::Instant,
};

/// Runs that are still to do, and what became of the others.
pub(crate) struct Campaign {
    pub(crate) load: Load,
    pub(crate) results: Results,
    pub(crate) report: PathBuf,
    pub(crate) binary: PathBuf,
    pub(crate) keep: bool,
    /// Whether it is the short selection.
    pub(crate) short: bool,
    pub(crate) watch: RefCell<Watch>,
    /// Faults and seeds.
    pub(crate) to_run: RefCell<VecDeque<(Fault, u64)>>,
    /// What was not run to its end.
    pub(crate) missing: RefCell<Vec<&'static str>>,
}

impl Campaign {
    /// Does one after the other until none is left, on the same stage as long as that serves; whether all went
    /// well.
    pub(crate) async fn work(&self) -> Result<bool> {
        let mut well = true;
        let mut stage: Option<Stage> = None;
        while let Some((fault, seed)) = self.next() {
            if self.watch.borrow().left().is_none() {
                self.missing.borrow_mut().push(fault.name);
                continue;
            }
            say(&format!("{} (seed {seed})", fault.name));
            let passes;
            (passes, stage) = self.run(&fault, seed, stage).await?;
            well &= passes;
            self.results.write(&self.report, &fault::all())?;
        }
        if let Some(stage) = stage {
            well &= closed(stage, self.keep).await;
        }
        Ok(well)
    }

    fn next(&self) -> Option<(Fault, u64)> {
        self.to_run.borrow_mut().pop_front()
    }

    /// One run: whether it passes, and its stage if another may have it.
    async fn run(
        &self,
        fault: &Fault,
        seed: u64,
        stage: Option<Stage>,
    ) -> Result<(bool, Option<Stage>)> {
        let began = Instant::now();
        let run = match self.stage_of(fault, stage).await {
            Ok(stage) => Run::prepare(stage, seed, self.load, fault).await,
            Err(error) => Err(error),
        };
        let mut run = match run {
            Ok(run) => run,
            Err(error) => {
                let said = self.results.add(fault, seed, &Err(error), false)?;
                say(&format!("{} (seed {seed}):\n    {said}", fault.name));
                self.watch.borrow_mut().took(fault.name, began.elapsed());
                return Ok((false, None));
            }
        };
        let left = self.watch.borrow().left();
        let outcome = match left {
            Some(left) => tokio::time::timeout(left, run.play(fault))
                .await
                .unwrap_or_else(|_| Err(anyhow!("the time of the selection is over"))),
            None => Err(anyhow!("the time of the selection is over")),
        };
        if self.watch.borrow().left().is_none() {
            let missing = outcome.is_err().then_some(fault.name);
            self.missing.borrow_mut().extend(missing);
        }
        let took = began.elapsed();
        self.watch.borrow_mut().took(fault.name, took);
        let passes = |one: &Outcome| verdict::passes(one, fault.recovery(), self.short);
        let passes = outcome.as_ref().is_ok_and(passes);
        let said = self.results.add(fault, seed, &outcome, passes)?;
        // Others may have said something since it began.
        say(&format!(
            "{} (seed {seed}):\n    {said} ({} s in all)",
            fault.name,
            took.as_secs()
        ));
        // What is broken stays broken, and is not to be counted against the next. Who was only late is not.
        let kept = outcome.as_ref().is_ok_and(verdict::kept);
        if kept && outcome.is_ok_and(|one| one.stained) {
            return Ok((passes & closed(run.stage, self.keep).await, None));
        } else if kept {
            return Ok((passes, Some(run.stage)));
        } else {
            say(&format!("    logs stay in {}", run.stage.root.display()));
            closed(run.stage, true).await;
        }
        Ok((passes, None))
    }

    /// The stage that a fault needs: that of the last one, or a new one.
    async fn stage_of(&self, fault: &Fault, last: Option<Stage>) -> Result<Stage> {
        match last {
            Some(stage) if stage.setting == fault.setting => return Ok(stage),
            Some(other) => other.close(self.keep).await?,
            None => {}
        }
        let root = std::env::temp_dir().join(format!("guichet-faults-{}", uuid::Uuid::now_v7()));
        say(&format!("    a new stage in {}", root.display()));
        Stage::build(&root, &self.binary, fault.setting).await
    }
}

/// Whether all was met that has to be. A selection need not, and only tells what it did not; what cannot be
/// fails both.
pub(crate) fn met(reached: &BTreeSet<String>, whole: bool) -> bool {
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

/// Whether a stage could be taken down. One that could not fails the campaign, and does not end it.
async fn closed(stage: Stage, keep: bool) -> bool {
    match stage.close(keep).await {
        Ok(()) => true,
        Err(error) => {
            say(&format!("a stage could not be taken down: {error:#}"));
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_met_fails_the_whole_and_no_selection_and_what_cannot_be_both() {
        let all: BTreeSet<String> = reach::missing(&BTreeSet::new()).into_iter().collect();
        assert!(met(&all, true) && met(&all, false));
        let mut less = all.clone();
        assert!(less.remove("operator abandon"));
        assert!(!met(&less, true) && met(&less, false));
        let mut more = all;
        more.insert("notify undo done".to_owned());
        assert!(!met(&more, true) && !met(&more, false));
    }
}
