//! How orchestrators begin and end, and their sessions with the broker.
//!
//! Who minds the processes starts again what ends. Of one that stalls it may believe that it is gone (its
//! machine cannot be reached), and start another one under its name elsewhere: then two have one name until the
//! elder wakes up and sees, by the epochs of its shards, that it is the elder. From then on it is the younger one
//! that is started again.

use super::{
    database::NAMES,
    fault::Fault,
    orchestrator::{Act, Orchestrator, PROCESSES},
    world::{Event, World, tell},
};
use engine::definitions::Definitions;

/// As the story calls an elder of two with one name.
const ELDERS: [&str; NAMES.len()] = ["a (the elder)", "b (the elder)"];

impl Orchestrator {
    /// One that is not started yet. The first of them have a name each; the others are for whoever is started
    /// under the name of one that stalls.
    pub(super) fn of(place: usize, now: i64, definitions: &Definitions) -> Self {
        let minded = place < NAMES.len();
        Self {
            minded,
            ..Self::new(place % NAMES.len(), now, definitions.clone())
        }
    }
}

impl World {
    /// As the story calls a process.
    pub(super) fn called(&self, i: usize) -> &'static str {
        let process = &self.orchestrators[i];
        match process.minded {
            true => NAMES[process.node],
            false => ELDERS[process.node],
        }
    }

    pub(super) fn start_orchestrator(&mut self, i: usize) {
        let (node, life) = (self.orchestrators[i].node, self.orchestrators[i].life + 1);
        let mut new = Orchestrator::new(node, self.now, self.definitions.clone());
        new.life = life;
        new.up = true;
        new.base = self.db_offset;
        new.seed = self.rng.any();
        new.next_tick = self.now + self.rng.range(1, 300);
        self.orchestrators[i] = new;
        tell!(self, None, "orchestrator {} starts", self.called(i));
        self.connect(i);
    }

    /// Whoever minds the one that stalls may start another one under its name, where there is room.
    pub(super) fn start_another(&mut self, elder: usize) {
        let is_free = |i: &usize| !self.orchestrators[*i].minded && !self.orchestrators[*i].up;
        let free = (0..PROCESSES).find(is_free);
        let minded = self.orchestrators[elder].minded;
        if let Some(i) = free.filter(|_| minded && self.strikes(Fault::NameTwice)) {
            self.orchestrators[elder].minded = false;
            tell!(self, None, "{} is taken for gone", self.called(elder));
            self.orchestrators[i].node = self.orchestrators[elder].node;
            self.start_orchestrator(i);
        }
    }

    pub(super) fn connect(&mut self, i: usize) {
        let process = &mut self.orchestrators[i];
        if process.session.is_some() {
            return;
        }
        if self.broker.away || self.now < self.cut_until[i] {
            process.heed_leap(self.now);
            let clock = process.clock(self.now);
            return process.owner.stand_still(clock); // it will, when the broker is back
        }
        let queue = self.broker.declare(i);
        let process = &mut self.orchestrators[i];
        process.session = Some(queue);
        process.send_all_again = true;
        process.next_tick = self.now + 1;
    }

    /// The session with the broker is over; so is everything that was not acknowledged.
    pub(super) fn disconnect(&mut self, i: usize) {
        if let Some(queue) = self.orchestrators[i].session.take() {
            self.broker.delete(queue);
        }
        let process = &mut self.orchestrators[i];
        process.taken.clear();
        process.heed_leap(self.now);
        let clock = process.clock(self.now);
        process.owner.stand_still(clock);
    }

    pub(super) fn reconnect(&mut self, i: usize) {
        let (up, life) = (self.orchestrators[i].up, self.orchestrators[i].life);
        if up {
            self.after(1, Event::Orchestrator(i, life, Act::Connect));
        }
    }

    /// A younger process has its name: what is stored under it is that one's, and nothing is given back.
    pub(super) fn fenced(&mut self, i: usize) {
        tell!(
            self,
            None,
            "orchestrator {} sees a later epoch of its name, and ends",
            self.called(i)
        );
        self.gone(i);
    }

    pub(super) fn end_orchestrator(&mut self, i: usize, orderly: bool) {
        tell!(
            self,
            None,
            "orchestrator {} {}",
            self.called(i),
            if orderly { "is stopped" } else { "dies" }
        );
        if orderly {
            let process = &self.orchestrators[i];
            self.db.release(process.node, &process.owner.held());
            self.db.sign_off(process.node);
        }
        self.gone(i);
    }

    fn gone(&mut self, i: usize) {
        self.disconnect(i);
        let process = &mut self.orchestrators[i];
        process.up = false;
        process.life += 1;
        let (life, minded) = (process.life, process.minded);
        if minded {
            let pause = self.rng.range(100, 6_000);
            self.after(pause, Event::Orchestrator(i, life, Act::Start));
        }
    }
}
