//! The ledger as it is opened for a round, and the steps whose effect is in our own database: one
//! transaction for all of a round.

use super::{
    customer::Fraud,
    database::{Review, number_of},
    worker::Letter,
    world::{Event, World},
};
use contract::{Refusal, StepKind};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use workers::{
    kit::{Claim, Verdict},
    ledger::{
        LedgerRow,
        plan::{Action, Change, Group, State, decide, record, reopens},
    },
    reserve::{
        Taken,
        allocate::{Request, allocate},
    },
};

/// What a command may do.
#[derive(Debug)]
pub(super) enum Opened {
    Work(Box<Claim>),
    Answer(Verdict),
}

impl World {
    /// Claims, fences and reads, in the order of the real one: what is inserted first is what the
    /// commands of the round find.
    pub(super) fn open(&mut self, step: usize, letters: &[Letter], round: &[Group]) -> Vec<Opened> {
        let mut fresh = Vec::with_capacity(round.len());
        for group in round {
            let command = &letters[group.members[0]].command;
            let row = &mut self.db.orders[number_of(group.saga_id)].effects[step];
            fresh.push(group.kind == StepKind::Do && row.is_none());
            if row.is_none() {
                match decide(None, group.kind) {
                    Action::Act => {}
                    Action::Fence => {
                        let mut fence = LedgerRow::claimed(command.definition);
                        fence.state = State::Undone;
                        *row = Some(fence);
                    }
                    _ => {}
                }
            }
        }
        for (group, fresh) in round.iter().zip(&fresh) {
            let command = &letters[group.members[0]].command;
            let row = &mut self.db.orders[number_of(group.saga_id)].effects[step];
            if *fresh && row.is_none() {
                *row = Some(LedgerRow::claimed(command.definition));
            }
        }
        for (group, fresh) in round.iter().zip(&fresh) {
            if !fresh {
                let seqs = group.members.iter().map(|n| letters[*n].command.seq);
                self.reopen(step, group, seqs.max().unwrap_or(0));
            }
        }
        let opened = round.iter().zip(fresh).map(|(group, fresh)| {
            let command = letters[group.members[0]].command.as_ref().clone();
            let row = &mut self.db.orders[number_of(group.saga_id)].effects[step];
            let found = row.as_ref().filter(|_| !fresh);
            match decide(found, group.kind) {
                Action::Act | Action::Undo | Action::Ask => {
                    let row = found.cloned();
                    Opened::Work(Box::new(Claim { command, row }))
                }
                Action::Fence => {
                    if let Some(row) = row {
                        row.state = State::Undone;
                    }
                    Opened::Answer(Verdict::done())
                }
                Action::Answer(verdict) => Opened::Answer(verdict),
            }
        });
        opened.collect()
    }

    /// What was refused may be tried again once somebody has corrected it; what is done may not.
    fn reopen(&mut self, step: usize, group: &Group, seq: i32) {
        let number = number_of(group.saga_id);
        let orders = &mut self.db.orders[number];
        let newest = orders.corrected(step).map(|row| row.newest);
        let (Some(row), Some(newest)) = (&mut orders.effects[step], newest) else {
            return;
        };
        let was = row.state;
        let opening = reopens(row, group.kind, seq, newest);
        let Some(next) = opening.and_then(|opening| opening.apply(row)) else {
            return;
        };
        *row = next;
        self.coverage.reached("a refusal is opened again");
        if was != State::Rejected {
            let what = format!("step {step} was {was:?}, and is brought about again");
            self.broken("effects-once", Some(number), what);
        }
    }

    /// Works on what was opened: undos first, for what they give back may be taken by the same batch.
    pub(super) fn local(&mut self, step: usize, mut opened: Vec<Opened>) -> Vec<Opened> {
        for kind in [StepKind::Undo, StepKind::Do, StepKind::Probe] {
            let mut claims = Vec::new();
            for (place, one) in opened.iter().enumerate() {
                match one {
                    Opened::Work(claim) if claim.command.kind == kind => {
                        claims.push((place, claim.as_ref().clone()))
                    }
                    _ => {}
                }
            }
            if claims.is_empty() {
                continue;
            }
            let verdicts = self.bring_about(step, kind, &claims);
            for ((place, order, verdict), (_, claim)) in verdicts.into_iter().zip(&claims) {
                let change = record(kind, &verdict, claim.row.as_ref());
                self.change(order, step, change.as_ref());
                opened[place] = Opened::Answer(verdict);
                self.effect(order, step);
            }
        }
        opened
    }

    pub(super) fn change(&mut self, order: usize, step: usize, change: Option<&Change>) -> bool {
        change.is_some_and(|change| self.db.change(order, step, change))
    }

    fn bring_about(
        &mut self,
        step: usize,
        kind: StepKind,
        claims: &[(usize, Claim)],
    ) -> Vec<(usize, usize, Verdict)> {
        let numbers = claims
            .iter()
            .map(|(place, claim)| (*place, number_of(claim.saga_id())));
        let verdicts: Vec<Verdict> = match (step, kind) {
            (_, StepKind::Probe) => claims.iter().map(|(_, claim)| standing(claim)).collect(),
            (0, StepKind::Do) => self.reserve(claims),
            (0, StepKind::Undo) => claims
                .iter()
                .map(|(_, claim)| self.give_back(claim))
                .collect(),
            (1, StepKind::Do) => claims.iter().map(|(_, claim)| self.check(claim)).collect(),
            (1, StepKind::Undo) => claims
                .iter()
                .map(|(_, claim)| self.uncheck(number_of(claim.saga_id())))
                .collect(),
            (_, StepKind::Do) => claims
                .iter()
                .map(|(_, claim)| self.issue(number_of(claim.saga_id())))
                .collect(),
            (_, StepKind::Undo) => claims
                .iter()
                .map(|(_, claim)| self.revoke(number_of(claim.saga_id())))
                .collect(),
        };
        numbers
            .zip(verdicts)
            .map(|((place, order), verdict)| (place, order, verdict))
            .collect()
    }

    fn reserve(&mut self, claims: &[(usize, Claim)]) -> Vec<Verdict> {
        let mut requests: Vec<Request> = Vec::with_capacity(claims.len());
        for (_, claim) in claims {
            let mut request = Request::new();
            for item in &self.orders[number_of(claim.saga_id())].view.items {
                *request.entry(item.offer_id).or_default() += i64::from(item.quantity);
            }
            requests.push(request);
        }
        let allocation = allocate(&self.db.shelves(), &requests);
        if let Err(check) = self.db.take(&allocation.taken, 1) {
            self.broken(check, None, format!("{:?} are given out", allocation.taken));
        }
        let decisions = allocation.decisions.into_iter().zip(requests).zip(claims);
        let mut verdicts = Vec::with_capacity(claims.len());
        for ((decision, request), (_, claim)) in decisions {
            let number = number_of(claim.saga_id());
            verdicts.push(match decision {
                Ok(()) => {
                    if self.db.orders[number]
                        .held
                        .replace(request.clone())
                        .is_some()
                    {
                        self.broken(
                            "effects-once",
                            Some(number),
                            "it takes its places twice".to_owned(),
                        );
                    }
                    Verdict::Done(serde_json::to_value(Taken { taken: request }).ok())
                }
                Err(refusal) => Verdict::refused(refusal),
            });
        }
        verdicts
    }

    fn give_back(&mut self, claim: &Claim) -> Verdict {
        let number = number_of(claim.saga_id());
        let output: Option<&Value> = claim.output();
        let taken = output.and_then(|output| serde_json::from_value::<Taken>(output.clone()).ok());
        let Some(taken) = taken else {
            return Verdict::retry("bad_output", "The ledger does not say what was taken.");
        };
        let back: BTreeMap<_, _> = taken.taken;
        if let Err(check) = self.db.take(&back, -1) {
            self.broken(
                check,
                Some(number),
                "more is given back than was taken".to_owned(),
            );
        }
        if self.db.orders[number].held.take().is_none() {
            self.broken(
                "effects-once",
                Some(number),
                "it gives back what it does not have".to_owned(),
            );
        }
        Verdict::done()
    }

    fn check(&mut self, claim: &Claim) -> Verdict {
        let number = number_of(claim.saga_id());
        let fraud = self.orders[number].fraud;
        let row = &mut self.db.orders[number];
        if let Some(waits_for) = claim.output().filter(|_| row.review.is_some()) {
            return match row.review {
                Some(Review::Approved) => Verdict::done(),
                Some(Review::Rejected) => {
                    row.quota = false;
                    Verdict::refused(Refusal::ReviewRejected)
                }
                Some(Review::Withdrawn) => Verdict::refused(Refusal::ReviewExpired),
                Some(Review::Open) | None => Verdict::Waiting(waits_for.clone()),
            };
        }
        if fraud == Fraud::Reject {
            return Verdict::refused(Refusal::FraudRefused);
        }
        if std::mem::replace(&mut row.quota, true) {
            self.broken(
                "effects-once",
                Some(number),
                "it counts twice toward its limits".to_owned(),
            );
        }
        if let Fraud::Review(answer) = fraud {
            self.db.orders[number].review = Some(Review::Open);
            if answer.is_some() {
                let after = self.rng.range(1, 60_000);
                self.after(after, Event::Review(number));
            }
            return Verdict::Waiting(json!({"waits_for": "review"}));
        }
        Verdict::Done(Some(json!({"score": 1})))
    }

    fn uncheck(&mut self, number: usize) -> Verdict {
        let row = &mut self.db.orders[number];
        row.quota = false;
        if row.review == Some(Review::Open) {
            row.review = Some(Review::Withdrawn);
        }
        Verdict::done()
    }

    fn issue(&mut self, number: usize) -> Verdict {
        if self.orders[number].event_cancelled {
            return Verdict::refused(Refusal::EventCancelled);
        }
        let places = self.orders[number].places();
        if std::mem::replace(&mut self.db.orders[number].tickets, places) > 0 {
            self.broken(
                "effects-once",
                Some(number),
                "its tickets are made twice".to_owned(),
            );
        }
        Verdict::Done(Some(json!({"tickets": places})))
    }

    fn revoke(&mut self, number: usize) -> Verdict {
        self.db.orders[number].tickets = 0;
        Verdict::done()
    }
}

/// How an effect stands that has begun and is not done: a local one can only be waiting.
fn standing(claim: &Claim) -> Verdict {
    match claim.output() {
        Some(output) => Verdict::Waiting(output.clone()),
        None => Verdict::unknown("not_found", "Nothing is known of this effect."),
    }
}
