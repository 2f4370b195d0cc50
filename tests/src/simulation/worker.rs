//! A worker process: takes commands in batches, works on them, answers, and acknowledges, one action
//! at a time. Between any two it may die; what it had not acknowledged comes again.

use super::{
    broker::{Body, Queue},
    database::{STEPS, number_of},
    effect::Task,
    fault::Fault,
    local::Opened,
    orchestrator::{Fate, STEP_NAMES},
    world::{Event, INCARNATION, World, tell},
};
use contract::{Command, MessageId, Reply, StepKind, StepName};
use std::{cmp::Reverse, collections::VecDeque, rc::Rc};
use workers::{
    kit::Verdict,
    ledger::plan::{Group, Triage, fold, joins, may_acknowledge, triage},
};

/// Messages that are merged into one batch.
const MERGED: usize = 16;

/// A command with the delivery that it came with.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) delivery: u64,
    pub(super) command: Rc<Command>,
}

/// A batch on its way through a lane.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) step: usize,
    pub(super) undo: bool,
    pub(super) letters: Vec<Letter>,
    pub(super) rounds: VecDeque<Vec<Group>>,
}

/// What a worker does next.
#[derive(Debug)]
pub(super) enum Work {
    /// Look into a queue.
    Take(usize, bool),
    /// Work on the next round of a batch.
    Round(Batch),
    /// Publish answers and close their letters.
    Answer(Vec<(Letter, Verdict)>),
    /// Acknowledge.
    Acknowledge(Vec<u64>),
    /// An effect hears an answer.
    Hear(u64, super::provider::Response),
    /// An effect's request to our own database is tried.
    Store(u64, String),
    /// An effect has taken too long.
    TimeOut(u64),
    /// Record an effect's verdict.
    Record(u64, Verdict),
    /// Start again.
    Start,
}

struct Delivery {
    id: u64,
    queue: Queue,
    body: Body,
    open: usize,
    broker_life: u32,
}

/// The process.
pub(super) struct Worker {
    pub(super) up: bool,
    pub(super) life: u32,
    pub(super) stalled_until: i64,
    lanes: [[bool; 2]; STEPS],
    deliveries: Vec<Delivery>,
    pub(super) numbers: u64,
    pub(super) tasks: Vec<Task>,
    pub(super) waiting: Vec<Waiting>,
}

/// Letters that wait for an effect under way, and the number of the command that began it.
type Waiting = ((usize, usize, StepKind), i32, Vec<Letter>);

impl Worker {
    pub(super) fn new() -> Self {
        Self {
            up: true,
            life: 0,
            stalled_until: 0,
            lanes: [[false; 2]; STEPS],
            deliveries: Vec::new(),
            numbers: 0,
            tasks: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// The queues of what it has not acknowledged in this life of the broker.
    pub(super) fn holds(&self, broker_life: u32) -> impl Iterator<Item = Queue> {
        let deliveries = self.deliveries.iter();
        let held = deliveries.filter(move |one| one.broker_life == broker_life);
        held.map(|one| one.queue)
    }

    /// One letter more of a delivery is answered or dropped; its number, if it was the last.
    fn close(&mut self, delivery: u64) -> Option<u64> {
        let delivery = self.deliveries.iter_mut().find(|one| one.id == delivery)?;
        delivery.open = delivery.open.saturating_sub(1);
        (delivery.open == 0).then_some(delivery.id)
    }

    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

impl World {
    pub(super) fn work(&mut self, w: usize, after: i64, work: Work) {
        let life = self.workers[w].life;
        self.after(after, Event::Worker(w, life, work));
    }

    pub(super) fn work_soon(&mut self, w: usize, work: Work) {
        let ms = self.rng.range(0, 4);
        self.work(w, ms, work);
    }

    /// Something may be in a queue: somebody looks.
    pub(super) fn kick(&mut self, step: usize, undo: bool) {
        let first = self.rng.below(2);
        for w in [first, 1 - first] {
            if self.workers[w].up && !self.workers[w].lanes[step][usize::from(undo)] {
                return self.work_soon(w, Work::Take(step, undo));
            }
        }
    }

    pub(super) fn kick_all(&mut self) {
        for step in 0..STEPS {
            self.kick(step, false);
            self.kick(step, true);
        }
    }

    fn end_worker(&mut self, w: usize) {
        tell!(self, None, "worker {w} dies");
        let worker = &mut self.workers[w];
        let mut new = Worker::new();
        new.up = false;
        new.life = worker.life + 1;
        new.numbers = worker.numbers;
        let old = std::mem::replace(worker, new);
        for delivery in old.deliveries {
            if delivery.broker_life == self.broker.life {
                self.broker.push(delivery.queue, delivery.body);
            }
        }
        let pause = self.rng.range(50, 3_000);
        self.work(w, pause, Work::Start);
        self.kick_all();
    }

    pub(super) fn worker_works(&mut self, w: usize, life: u32, work: Work) {
        if self.workers[w].life != life {
            return;
        }
        if matches!(work, Work::Start) {
            self.workers[w].up = true;
            return self.kick_all();
        }
        let until = self.workers[w].stalled_until;
        if until > self.now {
            return self.at(until + 1, Event::Worker(w, life, work));
        }
        if self.strikes(Fault::WorkerDies) {
            return self.end_worker(w);
        }
        if self.strikes(Fault::WorkerStalls) {
            let ms = self.rng.range(500, 60_000);
            tell!(self, None, "worker {w} stalls for {ms} ms");
            self.workers[w].stalled_until = self.now + ms;
            return self.at(self.now + ms + 1, Event::Worker(w, life, work));
        }
        match work {
            Work::Take(step, undo) => self.take(w, step, undo),
            Work::Round(batch) => self.round(w, batch),
            Work::Answer(answers) => self.answer(w, answers),
            Work::Acknowledge(ids) => {
                self.workers[w]
                    .deliveries
                    .retain(|delivery| !ids.contains(&delivery.id));
            }
            Work::Hear(task, response) => self.hear(w, task, response),
            Work::Store(task, id) => self.store(w, task, &id),
            Work::TimeOut(task) => self.time_out(w, task),
            Work::Record(task, verdict) => self.record(w, task, verdict),
            Work::Start => {}
        }
    }

    fn take(&mut self, w: usize, step: usize, undo: bool) {
        if self.workers[w].lanes[step][usize::from(undo)] {
            return; // it looks again when it has done what it has
        }
        let queue = Queue::Commands(step, undo);
        let now = chrono::DateTime::from_timestamp_millis(self.db_now()).unwrap_or_default();
        let mut letters = Vec::new();
        let mut answers = Vec::new();
        let mut dropped = Vec::new();
        let mut more = false;
        for _ in 0..MERGED {
            let Some(body) = self.broker.pop(queue) else {
                break;
            };
            more = true;
            let delivery = self.workers[w].number();
            if let Body::Commands(commands) = &body {
                for command in commands {
                    let letter = Letter {
                        delivery,
                        command: Rc::clone(command),
                    };
                    match triage(command, &STEP_NAMES[step], INCARNATION, now) {
                        Triage::Process => letters.push(letter),
                        Triage::Answer(verdict) => answers.push((letter, verdict)),
                        Triage::Drop(_) => dropped.push(delivery),
                    }
                }
            }
            let open = match &body {
                Body::Commands(commands) => commands.len(),
                _ => 0,
            };
            let broker_life = self.broker.life;
            self.workers[w].deliveries.push(Delivery {
                id: delivery,
                queue,
                body,
                open,
                broker_life,
            });
        }
        let worker = &mut self.workers[w];
        let complete: Vec<u64> = dropped
            .into_iter()
            .filter_map(|id| worker.close(id))
            .collect();
        if !complete.is_empty() {
            self.work_soon(w, Work::Acknowledge(complete));
        }
        if !answers.is_empty() {
            self.work_soon(w, Work::Answer(answers));
        }
        if letters.is_empty() {
            if more {
                self.work_soon(w, Work::Take(step, undo)); // there may be more than it took
            }
            return;
        }
        let is_outside = is_outside(step);
        if is_outside {
            // The latest of an effect's commands first, as the kit has it.
            let mut places: Vec<usize> = (0..letters.len()).collect();
            places.sort_by_key(|&n| Reverse(letters[n].command.seq));
            places.retain(|&n| self.workers[w].join(step, &letters[n]));
            places.sort_unstable();
            letters = places.into_iter().map(|n| letters[n].clone()).collect();
        }
        let keys: Vec<_> = letters
            .iter()
            .map(|l| (l.command.saga_id, l.command.kind))
            .collect();
        let rounds = fold(&keys).into();
        self.workers[w].lanes[step][usize::from(undo)] = true;
        self.work_soon(
            w,
            Work::Round(Batch {
                step,
                undo,
                letters,
                rounds,
            }),
        );
    }

    fn round(&mut self, w: usize, mut batch: Batch) {
        let Some(round) = batch.rounds.front() else {
            self.workers[w].lanes[batch.step][usize::from(batch.undo)] = false;
            return self.take(w, batch.step, batch.undo);
        };
        let fate = self.fate();
        if fate == Fate::Failed {
            return self.work(w, 20, Work::Round(batch));
        }
        let opened = self.open(batch.step, &batch.letters, round);
        let is_outside = is_outside(batch.step);
        let verdicts = match is_outside {
            true => opened,
            false => self.local(batch.step, opened),
        };
        if fate == Fate::Unheard {
            return self.work(w, 20, Work::Round(batch)); // once more, as if nothing had been
        }
        let round = batch.rounds.pop_front().unwrap_or_default();
        let mut answers = Vec::new();
        for (group, opened) in round.iter().zip(verdicts) {
            match opened {
                Opened::Work(claim) => self.begin_effect(w, batch.step, *claim),
                Opened::Answer(verdict) if is_outside => {
                    let key = (number_of(group.saga_id), batch.step, group.kind);
                    let seq = batch.letters[group.members[0]].command.seq;
                    answers.extend(
                        self.workers[w]
                            .leave(key, seq)
                            .into_iter()
                            .map(|l| (l, verdict.clone())),
                    );
                }
                Opened::Answer(verdict) => {
                    let members = group.members.iter().map(|n| batch.letters[*n].clone());
                    answers.extend(members.map(|letter| (letter, verdict.clone())));
                }
            }
        }
        if !answers.is_empty() {
            self.work_soon(w, Work::Answer(answers));
        }
        self.work_soon(w, Work::Round(batch));
    }

    pub(super) fn answer(&mut self, w: usize, answers: Vec<(Letter, Verdict)>) {
        let mut published = !self.broker.away;
        if self.strikes(Fault::ReplyUnpublished) {
            published = false; // it is being stopped, and this was the last try
        } else if !published {
            return self.work(w, 250, Work::Answer(answers));
        }
        if !may_acknowledge(published) {
            return self.end_worker(w);
        }
        let mut complete = Vec::new();
        let mut by_queue: Vec<(usize, Vec<Rc<Reply>>)> = Vec::new();
        for (letter, verdict) in answers {
            let number = number_of(letter.command.saga_id);
            tell!(
                self,
                Some(number),
                "worker {w} answers {} {:?}, command {}: {:?} {}",
                letter.command.step,
                letter.command.kind,
                letter.command.seq,
                verdict.outcome(),
                verdict.code().unwrap_or_default()
            );
            let queue = letter.command.reply_to.parse().unwrap_or(usize::MAX);
            let reply = Rc::new(reply(&letter.command, verdict));
            match by_queue.iter_mut().find(|(known, _)| *known == queue) {
                Some((_, replies)) => replies.push(reply),
                None => by_queue.push((queue, vec![reply])),
            }
            complete.extend(self.workers[w].close(letter.delivery));
        }
        if published {
            for (queue, replies) in by_queue {
                self.send(Queue::Replies(queue), Body::Replies(replies));
            }
        }
        if !complete.is_empty() {
            self.work_soon(w, Work::Acknowledge(complete));
        }
    }
}

impl Worker {
    /// Adds a letter to its effect; whether it is the first, which has to begin it.
    fn join(&mut self, step: usize, letter: &Letter) -> bool {
        let key = (number_of(letter.command.saga_id), step, letter.command.kind);
        let seq = letter.command.seq;
        let begun = self.waiting.iter_mut().filter(|(known, ..)| *known == key);
        match begun.max_by_key(|(_, begun_by, _)| *begun_by) {
            Some((_, begun_by, letters)) if joins(seq, *begun_by) => {
                letters.push(letter.clone());
                false
            }
            _ => {
                self.waiting.push((key, seq, vec![letter.clone()]));
                true
            }
        }
    }

    /// Takes the letters of an effect that has ended, by the command that began it.
    pub(super) fn leave(&mut self, key: (usize, usize, StepKind), seq: i32) -> Vec<Letter> {
        let one = |(known, begun_by, _): &(_, i32, _)| *known == key && *begun_by == seq;
        let at = self.waiting.iter().position(one);
        at.map_or_else(Vec::new, |at| self.waiting.swap_remove(at).2)
    }
}

/// Whether a step's effect is outside our own database.
fn is_outside(step: usize) -> bool {
    [StepName::PAY, StepName::NOTIFY, StepName::CAPTURE].contains(&STEP_NAMES[step])
}

/// As the kit writes it, but for the reply's own id, which nobody reads.
fn reply(command: &Command, verdict: Verdict) -> Reply {
    let outcome = verdict.outcome();
    let (output, error) = match verdict {
        Verdict::Done(output) => (output, None),
        Verdict::Waiting(output) => (Some(output), None),
        Verdict::Rejected(error) | Verdict::Retry(error) | Verdict::Unknown(error) => {
            (None, Some(error))
        }
    };
    Reply {
        id: MessageId(uuid::Uuid::nil()),
        in_reply_to: command.id,
        saga_id: command.saga_id,
        seq: command.seq,
        step: command.step.clone(),
        kind: command.kind,
        attempt: command.attempt,
        outcome,
        output,
        error,
        incarnation: command.incarnation,
        traceparent: command.traceparent,
    }
}
