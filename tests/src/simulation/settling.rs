//! An orchestrator's loop: take what came and what is due, read, plan, commit, publish, acknowledge.

use super::{
    broker::{Body, Queue},
    database::{HISTORY_KEY, SHARDS, SignalRow, Told, number_of},
    judge::{Judge, Why},
    orchestrator::{Act, Fate, Given},
    world::{Event, INCARNATION, World, tell},
};
use contract::{Command, Reply, SagaId, StepKind};
use engine::{Owner, Sender, Settled, shard_of};
use saga::{Definition, Input, Now, Plan, ReplyInput, State, breaker::Turned};
use std::{collections::HashSet, rc::Rc, sync::Arc};

const BATCH_MAX: usize = 500;
const REREADS_MAX: u8 = 3;
/// Whoever looks again by himself does it within this time.
const SOON_MS: i64 = 60_000;

/// Why a process does not know a batch to be written.
enum Unwritten {
    /// It has not heard.
    Unheard,
    /// The database refuses it.
    Refused,
}

impl World {
    pub(super) fn poll(&mut self, i: usize) {
        let process = &mut self.orchestrators[i];
        process.poll_at = None;
        if process.busy || !process.up || process.stalled_until > self.now {
            return;
        }
        let mut given = Vec::new();
        while let Some(queue) = process.session {
            let Some(body) = self.broker.pop(Queue::Replies(queue)) else {
                break;
            };
            match &body {
                Body::Replies(replies) => given.extend(replies.iter().map(|reply| as_input(reply))),
                _ => process.look = true,
            }
            process.taken.push(body);
        }
        process.heed_leap(self.now);
        let clock = process.clock(self.now);
        let due = process.owner.due(clock, BATCH_MAX);
        for id in &due {
            if process.owner.late_by(*id, clock).is_some() {
                self.judge.sent_into_a_backlog(number_of(*id));
            }
        }
        given.extend(due.into_iter().map(|saga| Given {
            saga,
            input: Input::Wake,
            signal: None,
        }));
        if !given.is_empty() {
            process.parts.push((given, 0));
            process.busy = true;
            return self.next_part(i);
        }
        // Whatever came only says that there is something to look for: it is acknowledged before anybody looks.
        process.taken.clear();
        if process.look {
            return self.look_around(i, false);
        }
        if let Some(at) = process.owner.next_wake() {
            let at = self.now + (at - clock).max(1);
            process.poll_at = Some(at);
            self.at(
                at,
                Event::Orchestrator(i, self.orchestrators[i].life, Act::Poll),
            );
        }
    }

    pub(super) fn next_part(&mut self, i: usize) {
        if let Some((given, rereads)) = self.orchestrators[i].parts.pop() {
            return self.act_soon(i, Act::Read(given, rereads));
        }
        let process = &mut self.orchestrators[i];
        process.busy = false;
        let count = process.taken.len();
        if count > 0 {
            self.act(i, 4, Act::Acknowledge(count));
        }
        self.act(i, 0, Act::Poll);
    }

    fn try_again(&mut self, i: usize, given: Vec<Given>, rereads: u8) {
        let process = &mut self.orchestrators[i];
        process.failures += 1;
        let pause = 50 << process.failures.min(6);
        self.act(i, pause, Act::Read(given, rereads));
    }

    pub(super) fn read(&mut self, i: usize, given: Vec<Given>, rereads: u8) {
        let ids = || given.iter().map(|one| one.saga);
        let unknown = self.orchestrators[i].owner.unknown(ids());
        if !unknown.is_empty() && self.fate() != Fate::Done {
            self.commit_failed(i, ids());
            return self.try_again(i, given, rereads);
        }
        let process = &mut self.orchestrators[i];
        for id in unknown {
            if let Some(saga) = self.db.saga(id) {
                process.owner.take_in(saga.clone(), shard_of(id, SHARDS));
            }
        }
        process.seed = process.seed.wrapping_add(1);
        process.heed_leap(self.now);
        let now = Now::new(process.clock(self.now), process.seed);
        let inputs = inputs_of(&given);
        for (id, input) in &inputs {
            if *input == Input::Wake && process.owner.tries(*id) {
                self.coverage.reached("a command is let through");
            }
        }
        let plan = process.owner.settle(&inputs, now);
        if plan.writes.is_empty() {
            return self.settled(i, plan, given, rereads, &HashSet::new());
        }
        self.act_soon(i, Act::Commit(Box::new(plan), given, rereads));
    }

    fn commit_failed(&mut self, i: usize, ids: impl Iterator<Item = SagaId> + Clone) {
        for id in ids.clone() {
            self.judge.doubt(number_of(id), i);
        }
        self.orchestrators[i].owner.commit_failed(ids);
    }

    pub(super) fn commit(&mut self, i: usize, plan: Plan, given: Vec<Given>, rereads: u8) {
        let fate = self.fate();
        let answer = match fate {
            Fate::Failed => Err(Unwritten::Unheard),
            Fate::Done | Fate::Unheard => self.advance(i, &plan, &given),
        };
        let answer = if fate == Fate::Unheard {
            Err(Unwritten::Unheard)
        } else {
            answer
        };
        match Owner::moved_by(&plan, answer) {
            Ok(moved) => {
                self.orchestrators[i].failures = 0;
                self.settled(i, plan, given, rereads, &moved);
            }
            Err(why) => {
                self.commit_failed(i, given.iter().map(|one| one.saga));
                match why {
                    Unwritten::Unheard => self.try_again(i, given, rereads),
                    Unwritten::Refused => self.halve(i, given, rereads),
                }
            }
        }
    }

    /// What is refused is tried in halves, until the culprit stands alone.
    fn halve(&mut self, i: usize, mut given: Vec<Given>, rereads: u8) {
        if let [culprit] = given.as_slice() {
            let what = "the database refuses its change, and it is held".to_owned();
            return self.broken("prompt-end", Some(number_of(culprit.saga)), what);
        }
        let second = given.split_off(given.len() / 2);
        self.orchestrators[i].parts.push((second, rereads));
        self.act_soon(i, Act::Read(given, rereads));
    }

    /// The transaction, with the judge beside it.
    fn advance(
        &mut self,
        i: usize,
        plan: &Plan,
        given: &[Given],
    ) -> Result<HashSet<SagaId>, Unwritten> {
        let before = plan
            .writes
            .iter()
            .map(|write| self.db.saga(write.next.id).cloned());
        let before: Vec<_> = before.collect();
        let moved = match self.db.advance(&plan.writes) {
            Ok(moved) => moved,
            Err(HISTORY_KEY) => return Err(Unwritten::Refused),
            Err(check) => {
                self.broken(check, None, "the database refuses it".to_owned());
                return Err(Unwritten::Unheard);
            }
        };
        let moved: HashSet<SagaId> = moved.into_iter().collect();
        let db_now = self.db_now();
        let planned = self.orchestrators[i].clock(self.now).max(db_now);
        self.orchestrators[i].observe(self.now, db_now);
        for (write, before) in plan.writes.iter().zip(before) {
            let number = number_of(write.next.id);
            let (Some(before), true) = (before, moved.contains(&write.next.id)) else {
                continue;
            };
            let mut state = before.state;
            for one in &write.applied {
                self.coverage
                    .applied(state, &given[one.input].input, &one.log);
                state = one.log.state;
                tell!(
                    self,
                    Some(number),
                    "{} applies {} to {:?}: {}, {:?}",
                    self.called(i),
                    told(&given[one.input].input),
                    one.log.cursor.map(|c| (c.step, c.kind, c.attempt)),
                    one.log.state.name(),
                    one.log.send.map(|s| (s.seq, s.step, s.kind))
                );
            }
            if write.next.flags.attention && !before.flags.attention {
                let after = self.rng.range(1_000, 120_000);
                self.operators += 1;
                self.after(after, Event::Operator(number));
            }
            let open = |row: &SignalRow| {
                !row.applied && row.order == number && matches!(row.told, Told::Nudge(_))
            };
            if self.orders[number].is_told() && !self.db.signals.iter().any(open) {
                self.judge.sleeps_on(number, &write.next, planned + SOON_MS);
            }
            let near = |log: &saga::Log| log.code.as_deref() == Some(saga::DEADLINE_NEAR);
            if write.applied.iter().any(|one| near(&one.log)) {
                self.coverage.reached("a deadline is near");
                self.judge.warned(number);
            }
            if Judge::rests(&write.next) {
                self.coverage.ended(&write.next);
            }
            let definition = self.definition(write.next.definition);
            let (row, truth) = (&self.db.orders[number], &self.orders[number]);
            self.judge
                .wrote(number, &before, write, row, truth, &definition);
            if self.healed {
                let from = self.healed_at.unwrap_or(self.now);
                self.judge.goes_on(number, &before, write, self.now, from);
            }
        }
        Ok(moved)
    }

    /// What follows from a batch whose plan is committed.
    fn settled(
        &mut self,
        i: usize,
        plan: Plan,
        given: Vec<Given>,
        rereads: u8,
        moved: &HashSet<SagaId>,
    ) {
        let now = self.orchestrators[i].clock(self.now);
        let sender = self.sender(i);
        let process = &mut self.orchestrators[i];
        let mut conflicts = HashSet::new();
        let mut outdated = Vec::new();
        let mut commands = Vec::new();
        let open = process.owner.open();
        for write in plan.writes {
            if !moved.contains(&write.next.id) {
                conflicts.insert(write.next.id);
                continue;
            }
            let definition = process.owner.definition(write.next.definition);
            if let (Some(sender), Some(send), Some(definition)) = (&sender, write.send, definition)
            {
                let command = sender.command(definition, &write.next, send);
                commands.extend(command.map(|command| (Rc::new(command), Why::Written)));
            }
            let owner = &process.owner;
            if let Some(cursor) = write.next.cursor.filter(|at| open.contains(at.step)) {
                let is_new = owner
                    .saga(write.next.id)
                    .is_some_and(|saga| saga.seq != write.next.seq);
                let is_do = cursor.kind == StepKind::Do && cursor.outstanding;
                if is_new && is_do && !owner.tries(write.next.id) {
                    self.judge.sent_to_an_open_breaker(number_of(write.next.id));
                }
                if !cursor.outstanding && write.next.state == State::Running {
                    self.coverage.reached("a command is held back");
                }
            }
            for (_, turned) in process.owner.committed(write, now).turned {
                self.coverage.reached(match turned {
                    Turned::Opened => "a breaker opens",
                    Turned::Closed => "a breaker closes",
                });
            }
        }
        for (one, settlement) in given.iter().zip(&plan.settlements) {
            if let saga::Settlement::Refused(why) = settlement {
                self.coverage.refused(*why);
            }
            let over = self
                .db
                .saga(one.saga)
                .is_none_or(|saga| saga.state.is_end());
            let Some(signal) = one.signal else { continue };
            let settled = process
                .owner
                .settled(one.saga, *settlement, &conflicts, over);
            let row = &mut self.db.signals[signal];
            let stored = &self.db.orders[row.order].saga;
            let is_settled = match settled {
                Settled::Not => false,
                Settled::ForGood => true,
                Settled::IfAt(rev) => rev == stored.rev || stored.state.is_end(),
            };
            if !is_settled {
                if matches!(settled, Settled::IfAt(_)) {
                    outdated.push(one.saga);
                }
                continue;
            }
            row.applied = true;
            let is_nudge = matches!(row.told, Told::Nudge(_));
            if row.early && is_nudge && *settlement == saga::Settlement::Applied {
                self.coverage
                    .reached("a nudge before the wait is looked at in it");
            } else if row.early && is_nudge {
                self.coverage
                    .reached("a nudge before a wait that does not come is settled");
            }
            if matches!(row.told, Told::End | Told::OperatorEnds) {
                self.judge.end_settled(row.order, stored);
            }
            if matches!(settlement, saga::Settlement::Refused(_)) {
                let definition = process.owner.definition(stored.definition);
                let at = Now::new(now, 0);
                let legal = |by: &Arc<Definition>| saga::step(by, stored, &one.input, at).is_ok();
                if definition.is_some_and(legal) {
                    self.judge.told_in_vain(row.order, &one.input);
                }
            }
        }
        let aftermath = process
            .owner
            .finish(&inputs_of(&given), &plan.settlements, &conflicts);
        if !commands.is_empty() {
            self.act_soon(i, Act::Publish(commands));
        }
        for id in &aftermath.send_again {
            if let Some(saga) = self.orchestrators[i].owner.saga(*id) {
                self.judge.read_back(number_of(*id), i, saga.seq);
            }
        }
        self.send_doubtful(i, &aftermath.send_again);
        for id in &outdated {
            if let Some(saga) = self.db.saga(*id) {
                let owner = &mut self.orchestrators[i].owner;
                owner.take_in(saga.clone(), shard_of(*id, SHARDS));
                self.coverage.reached("an outdated owner reads again");
            }
        }
        self.send_again(i, &outdated);
        if !conflicts.is_empty() && rereads < REREADS_MAX {
            let again = given
                .into_iter()
                .filter(|one| conflicts.contains(&one.saga));
            self.orchestrators[i]
                .parts
                .push((again.collect(), rereads + 1));
        }
        self.next_part(i);
    }

    // Sending.

    fn sender(&self, i: usize) -> Option<Sender> {
        let process = &self.orchestrators[i];
        Some(Sender {
            reply_to: process.session?.to_string(),
            incarnation: INCARNATION,
            now_ms: process.clock(self.now),
        })
    }

    /// After a load or a new session: once for each of them.
    pub(super) fn send_again(&mut self, i: usize, sagas: &[SagaId]) {
        for id in sagas {
            if let Some(saga) = self.orchestrators[i].owner.saga(*id) {
                self.judge.excuse(number_of(*id), saga.seq);
            }
        }
        self.send_doubtful(i, sagas);
    }

    fn send_doubtful(&mut self, i: usize, sagas: &[SagaId]) {
        let Some(sender) = self.sender(i) else {
            return;
        };
        self.orchestrators[i].owner.sent_again(sagas, sender.now_ms);
        let owner = &self.orchestrators[i].owner;
        let judge = &mut self.judge;
        let commands = sagas.iter().filter_map(|id| {
            let (definition, saga, send) = owner.current(*id)?;
            if saga.flags.paused {
                judge.sent_paused(number_of(*id));
            }
            Some((Rc::new(sender.command(definition, saga, send)?), Why::Again))
        });
        let commands: Vec<_> = commands.collect();
        if !commands.is_empty() {
            self.act_soon(i, Act::Publish(commands));
        }
    }

    pub(super) fn publish(&mut self, i: usize, commands: Vec<(Rc<Command>, Why)>) {
        if self.broker.away || self.orchestrators[i].session.is_none() {
            return; // they are sent again in time
        }
        for (command, why) in &commands {
            let number = number_of(command.saga_id);
            tell!(
                self,
                Some(number),
                "{} sends {} {:?}, command {}, try {}{}",
                self.called(i),
                command.step,
                command.kind,
                command.seq,
                command.attempt,
                if *why == Why::Again { " (again)" } else { "" }
            );
            let row = &self.db.orders[number].saga;
            if let Some(definition) = self.definitions.get(row.definition) {
                self.judge.can_be_rebuilt(number, row, definition, command);
            }
            self.judge.sent(number, command.seq, *why);
        }
        self.publish_commands(commands.into_iter().map(|(command, _)| command).collect());
    }
}

fn inputs_of(given: &[Given]) -> Vec<(SagaId, Input)> {
    given
        .iter()
        .map(|one| (one.saga, one.input.clone()))
        .collect()
}

fn as_input(reply: &Reply) -> Given {
    let error = reply.error.as_ref();
    Given {
        saga: reply.saga_id,
        input: Input::Reply(ReplyInput {
            seq: reply.seq,
            outcome: reply.outcome,
            code: error.map(|error| error.code.clone()),
            retry_after_ms: error.and_then(|error| error.retry_after_ms),
        }),
        signal: None,
    }
}

fn told(input: &Input) -> String {
    match input {
        Input::Reply(reply) => format!(
            "reply {} ({:?}, {})",
            reply.seq,
            reply.outcome,
            reply.code.as_deref().unwrap_or("-")
        ),
        Input::Migrate { to, .. } => format!("the move to {}", to.label()),
        other => format!("{other:?}"),
    }
}
