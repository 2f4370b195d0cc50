//! Properties of the state machine under any inputs in any order.

mod draw;

use contract::{Outcome, SagaId, StepKind};
use draw::{Act, acts, another, definitions};
use proptest::prelude::*;
use saga::{
    Action, Class, Definition, Illegal, Input, Instance, Now, ProbeMode, ReplyInput, Send, State,
    Steps, invariant, start, step,
};
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};
use uuid::Uuid;

/// A saga, and what is really in force outside.
struct World {
    definition: Definition,
    /// The version that it may be moved to.
    other: Definition,
    saga: Instance,
    ms: i64,
    seed: u64,
    really: Steps,
    /// What their workers were told by the definition, when they brought an effect about.
    told: BTreeMap<u8, Option<Value>>,
    /// Steps whose undo was done: a late do can never happen (the ledger's fence).
    fenced: Steps,
    decided: Steps,
    undo_order: Vec<u8>,
    sends: Vec<Send>,
    /// Rows of the audit log.
    audit: i64,
    /// Steps whose breaker is open.
    open: Steps,
}

impl World {
    fn new(definition: Definition, other: Definition, seed: u64) -> Self {
        let id = SagaId(Uuid::from_u128(1));
        let first = start(&definition, id, 5, Now::new(1_000_000, seed));
        let mut world = Self {
            definition,
            other,
            saga: first.next.clone(),
            ms: 1_000_000,
            seed,
            really: Steps::default(),
            told: BTreeMap::new(),
            fenced: Steps::default(),
            decided: Steps::default(),
            undo_order: Vec::new(),
            sends: Vec::new(),
            audit: 0,
            open: Steps::default(),
        };
        world.observe(first.send);
        world
    }

    fn observe(&mut self, send: Option<Send>) {
        assert_eq!(
            invariant::violated(&self.definition, &self.saga),
            None,
            "{:?}",
            self.saga
        );
        // What is held back counts as decided: another owner may have sent it.
        if let Some(cursor) = self.saga.cursor.filter(|at| at.kind == StepKind::Do) {
            self.decided.insert(cursor.step);
        }
        let Some(send) = send else { return };
        assert_eq!(send.seq, self.saga.seq);
        match send.kind {
            StepKind::Do => self.decided.insert(send.step),
            StepKind::Undo => {
                assert!(
                    self.decided.contains(send.step),
                    "no undo of a do that was never sent"
                );
                // What failed may be tried again after the others.
                if !self.undo_order.contains(&send.step) {
                    self.undo_order.push(send.step);
                }
            }
            StepKind::Probe => {}
        }
        self.sends.push(send);
    }

    fn now(&self) -> Now {
        let open = self.open;
        Now {
            open,
            ..Now::new(self.ms, self.seed)
        }
    }

    fn give(&mut self, input: &Input) -> Result<(), Illegal> {
        let before = self.saga.clone();
        let result = step(&self.definition, &before, input, self.now());
        if before.flags.paused && !before.state.is_end() {
            let of_a_pause = matches!(
                input,
                Input::Act(Action::Pause { .. } | Action::Resume { .. })
            );
            assert_eq!(result == Err(Illegal::Paused), !of_a_pause, "{input:?}");
        }
        let transition = result?;
        assert_eq!(transition.next.rev, before.rev + 1);
        let warns = transition.log.code.as_deref() == Some(saga::DEADLINE_NEAR);
        assert!(
            !warns || (transition.next.flags.warned && !before.flags.warned),
            "once"
        );
        let decided = transition.send.filter(|send| send.seq > before.seq);
        let cursor = transition.next.cursor;
        assert!(
            !(decided.is_some_and(|send| self.open.contains(send.step))
                && cursor.is_some_and(|cursor| cursor.kind == StepKind::Do)),
            "no do is sent to a step that is away"
        );
        assert!(
            transition.next.seq - before.seq <= 1,
            "one command at a time"
        );
        assert!(
            transition
                .next
                .wake_at
                .is_none_or(|at| at > self.ms || before.wake_at == Some(at))
        );
        self.saga = transition.next;
        self.observe(transition.send);
        Ok(())
    }

    /// A worker executes the outstanding command, truly.
    fn execute(&mut self, outcome: Outcome, really: bool) {
        let Some(cursor) = self.saga.cursor.filter(|cursor| cursor.outstanding) else {
            return;
        };
        let step = self
            .definition
            .step(cursor.step)
            .expect("a step of the definition");
        if cursor.kind == StepKind::Undo && self.really.contains(cursor.step) {
            let done_by = &self.told[&cursor.step];
            assert_eq!(*done_by, step.input, "undone by the version that did it");
        }
        let is_do = cursor.kind == StepKind::Do
            || (cursor.kind == StepKind::Probe && step.probe_mode == ProbeMode::Redo);
        match (cursor.kind, outcome) {
            (StepKind::Undo, Outcome::Done) => {
                self.really.remove(cursor.step);
                self.fenced.insert(cursor.step);
            }
            (StepKind::Undo, _) => {}
            // `rejected` may only be said by whoever made the effect impossible.
            (_, Outcome::Rejected) => self.really.remove(cursor.step),
            (_, Outcome::Done) => self.really.insert(cursor.step),
            (_, _) if is_do && really && !self.fenced.contains(cursor.step) => {
                self.really.insert(cursor.step);
            }
            _ => {}
        }
        if is_do && self.really.contains(cursor.step) {
            self.told.entry(cursor.step).or_insert(step.input.clone());
        }
    }

    fn reply(&self, outcome: Outcome, code: Option<&str>, retry_after_ms: Option<u32>) -> Input {
        Input::Reply(ReplyInput {
            seq: self.saga.seq,
            outcome,
            code: code.map(str::to_owned),
            retry_after_ms,
        })
    }

    /// An honest worker says `done` of a probe only if it is so, and `rejected` only if it is not.
    fn honest(&self, outcome: Outcome) -> Outcome {
        let Some(cursor) = self.saga.cursor else {
            return outcome;
        };
        let probes = cursor.kind == StepKind::Probe
            && self
                .definition
                .step(cursor.step)
                .is_some_and(|s| s.probe_mode == ProbeMode::Read);
        match outcome {
            Outcome::Done if probes && !self.really.contains(cursor.step) => Outcome::Unknown,
            Outcome::Rejected if probes && self.really.contains(cursor.step) => Outcome::Unknown,
            outcome => outcome,
        }
    }

    fn act(&mut self, act: &Act) {
        let waiting_step = self.saga.cursor.map_or(0, |cursor| cursor.step);
        let result = match act {
            Act::Answer {
                outcome,
                expired,
                really,
                retry_after_ms,
            } => {
                let outcome = self.honest(*outcome);
                // A worker that refuses an old command has done nothing with it.
                let code = (*expired && outcome == Outcome::Retry).then_some("expired");
                self.execute(outcome, *really && code.is_none());
                self.give(&self.reply(outcome, code, *retry_after_ms))
            }
            Act::LoseReply { really } => {
                self.execute(Outcome::Unknown, *really);
                Ok(())
            }
            Act::Stale { off, outcome } => {
                let stale = ReplyInput {
                    seq: self.saga.seq + off,
                    outcome: *outcome,
                    code: None,
                    retry_after_ms: None,
                };
                let before = self.saga.clone();
                let result = self.give(&Input::Reply(stale));
                assert!(result.is_err());
                assert_eq!(
                    self.saga, before,
                    "a stale reply changes and causes nothing"
                );
                result
            }
            Act::Sleep => {
                self.ms = self.saga.wake_at.map_or(self.ms, |at| at.max(self.ms));
                self.give(&Input::Wake)
            }
            Act::Nap(ms) => {
                self.ms += ms;
                self.give(&Input::Wake)
            }
            Act::Signal { kind, step } => {
                let before = self.saga.clone();
                let result = self.give(&Input::Signal {
                    step: step.unwrap_or(waiting_step),
                    kind: *kind,
                });
                assert!(result.is_ok() || self.saga == before);
                result
            }
            Act::Operator(action) => {
                let asked = self.saga.flags.attention;
                let before = self.saga.clone();
                let result = self.give(&Input::Act(action.clone()));
                assert!(result.is_err() || asked, "nobody acts unasked");
                assert!(result.is_ok() || self.saga == before);
                if let (Ok(()), Action::Correct { step }) = (&result, action) {
                    let others = |saga: &Instance| {
                        let failed = saga.failed_undo.iter();
                        failed.filter(|n| n != step).collect::<Vec<_>>()
                    };
                    assert_eq!(others(&self.saga), others(&before), "of this step alone");
                    assert!(!self.saga.failed_undo.contains(*step));
                }
                if let (Ok(()), Action::Resolve { step }) = (&result, action) {
                    if before.failed_undo.contains(*step) {
                        self.really.remove(*step);
                        self.fenced.insert(*step);
                    } else {
                        self.really.insert(*step);
                    }
                }
                result
            }
            Act::Away { open } => {
                self.open = open.iter().copied().collect();
                Ok(())
            }
            Act::Pause { resume } => {
                self.audit += 1;
                let audit = self.audit;
                let action = match resume {
                    true => Action::Resume { audit },
                    false => Action::Pause { audit },
                };
                let before = self.saga.clone();
                let result = self.give(&Input::Act(action));
                assert_eq!(self.saga.seq, before.seq, "no new command");
                assert!(result.is_ok() || self.saga == before);
                result
            }
            Act::Migrate => {
                let (before, to) = (self.saga.clone(), Arc::new(self.other.clone()));
                let from = self.definition.id;
                // The row that is written is one of the new version.
                let old = std::mem::replace(&mut self.definition, self.other.clone());
                let moved = step(&old, &before, &Input::Migrate { from, to }, self.now());
                match moved {
                    Ok(moved) => {
                        assert_eq!((moved.send, moved.next.seq), (None, before.seq));
                        (self.saga, self.other) = (moved.next, old);
                        self.observe(None);
                        Ok(())
                    }
                    Err(why) => {
                        self.definition = old;
                        Err(why)
                    }
                }
            }
            Act::End => self.give(&Input::End {
                reason: "customer_cancelled".into(),
            }),
        };
        if result == Err(Illegal::Ended) {
            assert!(self.saga.state.is_end());
        }
    }

    /// From now on everything answers well.
    fn heal(&mut self) {
        self.open = Steps::default();
        if self.saga.flags.paused {
            self.act(&Act::Pause { resume: true });
        }
        // A wait is looked into until its end, again and again.
        for _ in 0..1_000 {
            if self.saga.state.is_end() {
                return;
            }
            match self.saga.cursor {
                None => return,
                Some(cursor) if cursor.outstanding => {
                    let reads = cursor.kind == StepKind::Probe
                        && self
                            .definition
                            .step(cursor.step)
                            .is_some_and(|s| s.probe_mode == ProbeMode::Read);
                    let outcome = match (reads, self.really.contains(cursor.step)) {
                        (true, false) => Outcome::Unknown,
                        _ => Outcome::Done,
                    };
                    self.execute(outcome, true);
                    self.give(&self.reply(outcome, None, None))
                        .expect("the current command's reply");
                }
                Some(_) if self.saga.wake_at.is_some() => self.act(&Act::Sleep),
                Some(_) => return,
            }
        }
        panic!("does not end: {:?}", self.saga);
    }

    fn check_the_end(&self) {
        match self.saga.state {
            State::Completed => {
                let all: Steps = self
                    .definition
                    .steps
                    .iter()
                    .map(|step| step.number)
                    .collect();
                assert_eq!(self.really, all, "completed, so every effect is in force");
                for step in &self.definition.steps {
                    let told = self.told.get(&step.number);
                    assert!(
                        told.is_none_or(|told| *told == step.input),
                        "done by its version"
                    );
                }
            }
            State::Compensated => assert!(
                self.really.is_empty(),
                "compensated, so nothing is in force"
            ),
            State::Waiting => panic!("nobody asked for that: {:?}", self.saga),
            State::Abandoned => {
                let open = self.really.without(self.saga.failed_undo);
                assert!(open.is_empty(), "only what could not be undone is left");
                assert_eq!(self.saga.maybe_in_force, self.saga.failed_undo);
            }
            State::Running | State::Compensating => {
                assert!(
                    self.saga.flags.attention,
                    "only a person can go on, and is asked"
                );
                let open = self.really.without(self.saga.maybe_in_force);
                assert!(open.is_empty(), "what is in force is known as such");
                if self.saga.state == State::Compensating {
                    assert_eq!(self.saga.maybe_in_force, self.saga.failed_undo);
                } else {
                    assert!(self.saga.pivot_done());
                }
            }
        }
        let positions: Vec<usize> = self
            .undo_order
            .iter()
            .map(|number| {
                self.definition
                    .steps
                    .iter()
                    .position(|step| step.number == *number)
                    .expect("a step")
            })
            .collect();
        assert!(
            positions.is_sorted_by(|a, b| a > b),
            "undos run in reverse: {positions:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_it_ends_honestly(
        definition in definitions(), same in 0_usize..6, acts in acts(), seed: u64
    ) {
        let other = another(&definition, same);
        let mut world = World::new(definition, other, seed);
        for act in &acts {
            world.act(act);
        }
        world.heal();
        world.check_the_end();
    }

    #[test]
    fn an_order_ends_honestly(acts in acts(), second: bool, seed: u64) {
        let (first, other) = (saga::order::v1(), saga::order::v2());
        let (by, other) = if second { (other, first) } else { (first, other) };
        let mut world = World::new(by, other, seed);
        for act in &acts {
            world.act(act);
        }
        world.heal();
        world.check_the_end();
    }

    /// However a world fails, if it always fails the same way a saga comes to rest in bounded time.
    #[test]
    fn constant_failure_comes_to_rest(definition in definitions(), choice in 0_usize..5, at in 0_usize..6) {
        let outcome = [Outcome::Retry, Outcome::Unknown, Outcome::Rejected, Outcome::Waiting, Outcome::Done][choice];
        let steps = definition.steps.len();
        let mut world = World::new(definition.clone(), definition, 1);
        let begun = world.ms;
        for turn in 0..5_000 {
            if world.saga.state.is_end() || world.saga.wake_at.is_none() {
                break;
            }
            if world.saga.class(&world.definition) == Some(Class::Retriable) {
                return Ok(()); // tried for ever, by design
            }
            let answered = world.saga.cursor.is_some_and(|cursor| cursor.outstanding) && turn >= at;
            let act = if answered {
                Act::Answer { outcome, expired: false, really: true, retry_after_ms: None }
            } else {
                Act::Sleep
            };
            world.act(&act);
        }
        prop_assert!(world.saga.state.is_end() || world.saga.flags.attention, "{:?}", world.saga);
        let bound = 120_000 + i64::try_from(steps).expect("small") * (10_000 + 10_000 + 90_000 + 2 * 60_000);
        prop_assert!(world.ms - begun <= bound, "took {} ms", world.ms - begun);
    }

    /// The same state and input always decide the same.
    #[test]
    fn deterministic(acts in acts(), seed: u64) {
        let run = || {
            let mut world = World::new(saga::order::v1(), saga::order::v2(), seed);
            for act in &acts {
                world.act(act);
            }
            (world.saga, world.sends)
        };
        prop_assert_eq!(run(), run());
    }
}
