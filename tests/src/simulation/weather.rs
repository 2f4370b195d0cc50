//! What lies between the processes: messages on their way, and what befalls all of them at once.

use super::{
    broker::{Body, Queue},
    fault::Fault,
    orchestrator::{Act, PROCESSES, STEP_NAMES},
    world::{Event, World, tell},
};
use contract::{Command, StepKind};
use std::rc::Rc;

/// So long after everything is at rest the latest message has come, and the effect that it asked for has had its
/// time.
const DRAINED_MS: i64 = 120_000;

impl World {
    /// Commands go to the queues of their steps, in one message for each queue.
    pub(super) fn publish_commands(&mut self, commands: Vec<Rc<Command>>) {
        let mut by_queue: Vec<(Queue, Vec<Rc<Command>>)> = Vec::new();
        for command in commands {
            let step = STEP_NAMES
                .iter()
                .position(|name| *name == command.step)
                .unwrap_or(0);
            let queue = Queue::Commands(step, command.goes_as() != StepKind::Do);
            match by_queue.iter_mut().find(|(known, _)| *known == queue) {
                Some((_, batch)) => batch.push(command),
                None => by_queue.push((queue, vec![command])),
            }
        }
        for (queue, batch) in by_queue {
            self.send(queue, Body::Commands(batch));
        }
    }

    /// A message sets out.
    pub(super) fn send(&mut self, queue: Queue, body: Body) {
        if self.strikes(Fault::MessageLost) {
            tell!(self, None, "a message to {queue:?} is lost");
            return;
        }
        if self.strikes(Fault::MessageDoubled) {
            let late = match self.rng.below(2) {
                0 => self.rng.range(0, 20), // both are worked on at once
                _ => self.rng.range(1, 20_000),
            };
            self.after(late, Event::Arrive(queue, body.clone()));
        }
        let way = match self.strikes(Fault::MessageLate) {
            true => self.rng.range(10, 40_000),
            false => self.rng.range(1, 3),
        };
        self.after(way, Event::Arrive(queue, body));
    }

    pub(super) fn arrive(&mut self, queue: Queue, body: Body) {
        if self.broker.away || !self.broker.push(queue, body) {
            return;
        }
        match queue {
            Queue::Commands(step, undo) => self.kick(step, undo),
            Queue::Replies(number) => {
                if let Some(i) = self.broker.owner_of(number) {
                    let life = self.orchestrators[i].life;
                    self.soon(Event::Orchestrator(i, life, Act::Poll));
                }
            }
        }
    }

    /// What befalls everybody.
    pub(super) fn disasters(&mut self) {
        if self.strikes(Fault::BrokerEmptied) {
            tell!(self, None, "the broker is emptied");
            self.broker.empty();
            self.sessions_end();
        }
        if !self.broker.away && self.strikes(Fault::BrokerAway) {
            // Now and then for longer than any step has time.
            let ms = match self.rng.chance(1_500) {
                true => self.rng.range(60_000, 200_000),
                false => self.rng.range(200, 15_000),
            };
            tell!(self, None, "the broker is away for {ms} ms");
            self.broker.away = true;
            self.sessions_end();
            self.after(ms, Event::BrokerBack);
        }
        if self.strikes(Fault::LineCut) {
            let i = self.rng.below(PROCESSES);
            let ms = self.rng.range(200, 60_000);
            tell!(self, None, "{} has no broker for {ms} ms", self.called(i));
            self.cut_until[i] = self.now + ms;
            self.disconnect(i);
            self.after(ms, Event::LineBack(i));
        }
        if self.now >= self.provider_back_at && self.strikes(Fault::ProviderOutage) {
            // Now and then for more than an order's whole time.
            let most = if self.rng.chance(2_500) {
                900_000
            } else {
                200_000
            };
            let ms = self.rng.range(5_000, most);
            self.captures_only = self.rng.chance(3_000);
            let what = ["the provider is away", "captures fail"][usize::from(self.captures_only)];
            tell!(self, None, "{what} for {ms} ms");
            self.provider_back_at = self.now + ms;
        }
        if self.strikes(Fault::ClockForward) {
            // Now and then by more than an order's whole time.
            let most = if self.rng.chance(2_500) {
                900_000
            } else {
                120_000
            };
            let ms = self.rng.range(1_000, most);
            tell!(self, None, "the database's clock goes forward by {ms} ms");
            self.db_offset += ms;
        }
        if self.strikes(Fault::ClockBack) {
            let ms = self.rng.range(1_000, 120_000);
            tell!(self, None, "the database's clock goes back by {ms} ms");
            self.db_offset -= ms;
        }
    }

    fn sessions_end(&mut self) {
        for i in 0..PROCESSES {
            self.disconnect(i);
            self.reconnect(i);
        }
    }

    pub(super) fn broker_back(&mut self) {
        if !self.broker.away {
            return;
        }
        tell!(self, None, "the broker is back");
        self.broker.away = false;
        for i in 0..PROCESSES {
            self.reconnect(i);
        }
        self.kick_all();
    }

    pub(super) fn line_back(&mut self, i: usize) {
        if self.now >= self.cut_until[i] {
            self.reconnect(i);
        }
    }

    /// Whether the broker is empty. Once everything is at rest it has to be, when the latest message has come
    /// and was worked on.
    pub(super) fn is_drained(&mut self) -> bool {
        let left = self.left();
        let late = self.over_at.is_some_and(|at| self.now > at + DRAINED_MS);
        if late && !left.is_empty() {
            let what = format!(
                "everything is at rest, and the broker has {}",
                left.join(", ")
            );
            self.broken("broker-is-transport", None, what);
        }
        left.is_empty()
    }

    /// What the broker has: what is in its queues, and what was taken from them and not acknowledged.
    fn left(&self) -> Vec<String> {
        let queued = self.broker.holds();
        let queued = queued.map(|(queue, count)| format!("{count} in {queue:?}"));
        let workers = self.workers.iter().enumerate().flat_map(|(w, worker)| {
            let held = worker.holds(self.broker.life);
            held.map(move |queue| format!("one of {queue:?} at worker {w}"))
        });
        let orchestrators = (0..PROCESSES).filter(|i| !self.orchestrators[*i].taken.is_empty());
        let orchestrators = orchestrators.map(|i| format!("replies at {}", self.called(i)));
        queued.chain(workers).chain(orchestrators).collect()
    }

    /// Once nothing goes wrong any more, nobody minds what another one minds.
    pub(super) fn check_owners(&mut self) {
        for shard in 0..super::database::SHARDS {
            let holders = self
                .orchestrators
                .iter()
                .filter(|o| o.up && o.owner.holds(shard));
            if holders.count() > 1 {
                self.broken(
                    "bounded-work",
                    None,
                    format!("shard {shard} is minded by two"),
                );
            }
        }
    }
}
